"""
Two servers on one port: the granted one on 127.0.0.1, an internal one on 127.0.0.2; and a client to run against them.

Names resolve to whatever the test's resolver says. The internal server counts whoever connects, whatever is then said.
"""

from __future__ import annotations

import socket
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import parse_qs, urlsplit

import anyio
import httpx
import msgspec

from interlock import egress

PUBLIC = "127.0.0.1"
INTERNAL = "127.0.0.2"
MODES = ("sync", "asyncio", "trio")
"""The ways in which a client is used."""


class Seen(msgspec.Struct, frozen=True):
    """One request as a server got it, and the number of the connection it came over."""

    method: str
    target: str
    headers: dict[str, str]
    connection: int


class Server(socketserver.ThreadingTCPServer):
    """
    Answers `/to?url=…` with a redirect to there, and everything else with its own address.

    Attributes:
        connections: How many there were.
        seen: The requests, in order.
    """

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: str, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        super().__init__((address, port), _Handler)
        self.connections = 0
        self.seen: list[Seen] = []
        self.tls = tls

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.server_address[1])

    def get_request(self) -> tuple[Any, Any]:
        """Count a connection as soon as there is one."""
        accepted = super().get_request()
        self.connections += 1
        return accepted


class _Handler(socketserver.BaseRequestHandler):
    server: Server

    def handle(self) -> None:
        number = self.server.connections
        with suppress(OSError):
            sock = self.request
            if self.server.tls is not None:
                sock = self.server.tls.wrap_socket(sock, server_side=True)
            with sock, sock.makefile("rwb") as stream:
                while self._answer(stream, number):
                    stream.flush()

    def _answer(self, stream: Any, number: int) -> bool:
        words = stream.readline().decode("latin-1").split()
        if len(words) != 3:
            return False
        headers: dict[str, str] = {}
        while line := stream.readline().decode("latin-1").strip():
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        stream.read(int(headers.get("content-length", 0)))
        self.server.seen.append(Seen(words[0], words[1], headers, number))
        parts = urlsplit(words[1])
        query = parse_qs(parts.query)
        body = str(self.server.server_address[0]).encode()
        if parts.path.endswith("/to"):
            status = query.get("status", ["302"])[0]
            head = f"HTTP/1.1 {status} Elsewhere\r\nLocation: {query['url'][0]}\r\n"
        else:
            head = "HTTP/1.1 200 OK\r\n"
        stream.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode("latin-1", "replace"))
        stream.write(b"" if words[0] == "HEAD" else body)
        return "close" not in headers.get("connection", "")


class Pair(msgspec.Struct):
    """The granted server and the internal one, on the same port."""

    public: Server
    internal: Server

    @property
    def port(self) -> int:
        """Where both listen."""
        return self.public.port


@contextmanager
def serving(tls: ssl.SSLContext | None = None) -> Iterator[Pair]:
    """Run both servers."""
    with Server(PUBLIC, tls=tls) as public, Server(INTERNAL, public.port, tls=tls) as internal:
        threads = [
            threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
            for server in (public, internal)
        ]
        for thread in threads:
            thread.start()
        yield Pair(public, internal)
        for server, thread in zip((public, internal), threads, strict=True):
            server.shutdown()
            thread.join()


class Names:
    """
    A resolver that is told what to answer.

    Attributes:
        answers: The addresses of each name: a list, or a function that is asked at each look-up. Others are internal.
        asked: The names that were looked up, in order.
    """

    def __init__(self, answers: dict[str, list[str] | Callable[[], list[str]]]) -> None:
        self.answers = answers
        self.asked: list[str] = []

    def __call__(self, host: str, port: int) -> Iterable[str]:
        """Resolve *host*."""
        self.asked.append(host)
        found = self.answers.get(host, [INTERNAL])
        if callable(found):
            found = found()
        if not found:
            raise socket.gaierror("no such name")
        return found


Job = tuple[str, str, dict[str, Any]]
"""The method, the URL and the options of one request."""


def send(mode: str, grants: Any, jobs: list[Job], **options: Any) -> list[Any]:
    """Send all of *jobs* in order through one guarded client; return each response, or what was raised instead."""
    if mode == "sync":
        with egress.client(grants, **options) as client:
            return [_sent(client, *job) for job in jobs]
    return anyio.run(_asend, grants, jobs, options, backend=mode)


def _sent(client: httpx.Client, method: str, url: str, options: dict[str, Any]) -> Any:
    try:
        return client.request(method, url, **options)
    except Exception as error:  # noqa: BLE001 - what it raised is what is asked for
        return error


async def _asend(grants: Any, jobs: list[Job], options: dict[str, Any]) -> list[Any]:
    found: list[Any] = []
    async with egress.async_client(grants, **options) as client:
        for method, url, more in jobs:
            try:
                found.append(await client.request(method, url, **more))
            except Exception as error:  # noqa: BLE001 - what it raised is what is asked for
                found.append(error)
    return found


def outcome(answer: Any) -> str:
    """What became of a request: the body of the response, or the name of the error."""
    return str(answer.text) if isinstance(answer, httpx.Response) else type(answer).__name__


NAMES: dict[str, list[str] | Callable[[], list[str]]] = {
    "api.example.com": [PUBLIC],
    "www.example.org": [PUBLIC],
}
"""What a resolver answers in a test that is not about resolving."""


def grant(pair: Pair, host: str = "api.example.com", **fields: Any) -> dict[str, Any]:
    """A grant to read from a host that may be found at the address of the granted server only."""
    return {
        "host": host,
        "capabilities": ["read"],
        "schemes": ["http"],
        "ports": [pair.port],
        "addresses": [PUBLIC],
        **fields,
    }


def url(pair: Pair, path: str = "/", host: str = "api.example.com") -> str:
    """A URL on the port where the servers listen."""
    return f"http://{host}:{pair.port}{path}"


def to(pair: Pair, where: str, **query: Any) -> str:
    """A URL of the granted server that redirects to *where*."""
    return url(pair, f"/to?{httpx.QueryParams({'url': where, **query})}")
