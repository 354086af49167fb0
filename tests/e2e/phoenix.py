"""
A real Arize Phoenix, started for the tests on ports of its own and with a directory of its own, and read over HTTP.

Its HTTP port is on the loopback interface. Its gRPC port is on all of them, for which Phoenix has no setting, and
nothing is sent there.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / ".venv-phoenix/bin/phoenix"
PROJECT = "support-desk"
"""Where traces go that are sent with `settings`."""

START_S = 180.0
"""How long a start may take: the first one on a machine compiles 850 MB of Python."""

SETTINGS = {
    "PHOENIX_HOST": "127.0.0.1",
    "PHOENIX_TELEMETRY_ENABLED": "false",
    "PHOENIX_ALLOW_EXTERNAL_RESOURCES": "false",
    "PHOENIX_DISABLE_AGENT_ASSISTANT": "true",
}
"""Nothing of it is to be reached from elsewhere, and it is to reach nothing."""


class Phoenix:
    """One that runs: `url` is where traces are sent and pages are found."""

    def __init__(self, url: str) -> None:
        """Read the one at *url*."""
        self.url = url

    @property
    def settings(self) -> dict[str, str]:
        """What the docs have a reader set so that the demo sends its traces here."""
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.url,
            "OTEL_RESOURCE_ATTRIBUTES": f"openinference.project.name={PROJECT}",
        }

    def spans(self, **wanted: str) -> list[dict[str, Any]]:
        """Return the spans of the demo that have what is *wanted*, such as `attribute="a.b:c"`."""
        return self._get("spans", **wanted)

    def sessions(self) -> list[dict[str, Any]]:
        """Return the sessions of the demo, each with its traces."""
        return self._get("sessions")

    def filtered(self, condition: str) -> list[str]:
        """Return the names of the spans that are left when *condition* is typed into the page's filter."""
        query = """query ($condition: String!) { projects { edges { node {
            spans(first: 1000, filterCondition: $condition) { edges { node { name } } } } } } }"""
        asked = {"query": query, "variables": {"condition": condition}}
        answer = self._ask("/graphql", json.dumps(asked).encode())
        assert "errors" not in answer, answer
        projects = answer["data"]["projects"]["edges"]
        return sorted(
            span["node"]["name"] for one in projects for span in one["node"]["spans"]["edges"]
        )

    def _get(self, what: str, **wanted: str) -> list[dict[str, Any]]:
        query = urlencode({**wanted, "limit": 1000})
        try:
            answer = self._ask(f"/v1/projects/{PROJECT}/{what}?{query}")
        except HTTPError as error:
            if (
                error.code == HTTPStatus.NOT_FOUND
            ):  # until the first span is there, there is no project
                return []
            raise
        assert answer["next_cursor"] is None
        found: list[dict[str, Any]] = answer["data"]
        return found

    def _ask(self, path: str, body: bytes | None = None) -> dict[str, Any]:
        request = Request(self.url + path, body, {"Content-Type": "application/json"})  # noqa: S310
        with urlopen(request, timeout=30) as answer:  # noqa: S310 - our own server
            found: dict[str, Any] = json.load(answer)
        return found


@contextmanager
def running(directory: Path) -> Iterator[Phoenix]:
    """Yield a Phoenix that keeps what it has in *directory*, and end it afterwards."""
    assert PROGRAM.exists(), (
        f"there is no {PROGRAM}: `make e2e-traces` makes it, and runs these tests"
    )
    http, grpc = _free_ports(2)
    settings = SETTINGS | {
        "PHOENIX_PORT": str(http),
        "PHOENIX_GRPC_PORT": str(grpc),
        "PHOENIX_WORKING_DIR": str(directory),
    }
    log = directory / "phoenix.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [PROGRAM, "serve"],
            cwd=directory,
            env=without_settings(os.environ) | settings,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    phoenix = Phoenix(f"http://127.0.0.1:{http}")
    try:
        _wait(phoenix, process, log)
        yield phoenix
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def without_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """Return *environment* without what whoever runs the tests has set for tracing programs of their own."""
    return {
        name: value
        for name, value in environment.items()
        if not name.startswith(("PHOENIX_", "OTEL_"))
    }


def _free_ports(count: int) -> list[int]:
    """Ports that nobody uses, all held before one is let go."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports: list[int] = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _wait(phoenix: Phoenix, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until it answers; fails if it has ended, or has not answered in time."""
    until = time.monotonic() + START_S
    while True:
        try:
            phoenix.sessions()
        except (URLError, ConnectionError):
            assert process.poll() is None, f"Phoenix ended:\n{log.read_text()[-2000:]}"
            assert time.monotonic() < until, f"Phoenix is silent:\n{log.read_text()[-2000:]}"
            time.sleep(0.2)
        else:
            return
