"""`interlock mcp`, as a client starts it: a process of its own, with the server's process behind it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client, StdioServerParameters
from ruamel.yaml import YAML

from interlock import Governor
from interlock.cli import main
from interlock.store import events, sessions, tickets

SERVER = str(Path(__file__).parent / "bank.py")
ALLOW = {"tools": ["bank.*"], "verdict": "allow"}
ASK = {"tools": ["bank.pay"], "verdict": "ask"}


class Command:
    """One way to start the proxy."""

    def __init__(self, desk: Any, *rules: Mapping[str, Any]) -> None:
        """Write the policy."""
        self.desk = desk
        self.policy = desk.path / "policy.yaml"
        with self.policy.open("w", encoding="utf-8") as file:
            YAML().dump(desk.policy(*rules), file)
        self.env = {**os.environ, "EFFECTS": str(desk.path / "effects")}

    def arguments(self, *options: str, server: list[str] | None = None) -> list[str]:
        """Return the proxy's command line."""
        behind = ["--", sys.executable, SERVER] if server is None else server
        common = ["--policy", str(self.policy), "--store", self.desk.url, "--name", "bank"]
        return ["-m", "interlock", "mcp", *common, *options, *behind]

    def stdio(self, *options: str) -> StdioServerParameters:
        """Return how a client starts it."""
        return StdioServerParameters(
            command=sys.executable, args=self.arguments(*options), env=self.env
        )

    def run(
        self, *options: str, server: list[str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run it with nobody at its input."""
        return subprocess.run(
            [sys.executable, *self.arguments(*options, server=server)],
            input="",
            capture_output=True,
            text=True,
            check=False,
            env=self.env,
            timeout=60,
        )

    @contextmanager
    def listening(self, *options: str, server: list[str] | None = None) -> Iterator[str]:
        """Start it for HTTP, and give its URL; end it by the signal that operators send."""
        command = self.arguments("--listen", "127.0.0.1:0", *options, server=server)
        process = subprocess.Popen(
            [sys.executable, *command], stderr=subprocess.PIPE, text=True, env=self.env
        )
        said = ""
        try:
            assert process.stderr is not None
            while not (found := re.search(r"http://\S+/mcp", said)):
                line = process.stderr.readline()
                assert line, said
                said += line
            yield found[0]
        finally:
            process.send_signal(signal.SIGTERM)
            said += process.communicate(timeout=30)[1]
        assert (0, said) == (process.returncode, said)


def last_session(url: str) -> Any:
    """Return how the newest session of the books stands."""
    with Governor(url) as governor:
        (found,) = governor.read(sessions.newest, limit=1)
    return found


async def test_stdio(desk: Any, mode: str) -> None:
    """Broken if the command governs nothing, or the books do not say who acted and how the session ended."""
    command = Command(desk, {**ALLOW, "tools": ["bank.look", "bank:resource"]})
    options = ("--agent", "assistant", "--user", "u-17", "--session", "ticket-4711")
    async with Client(command.stdio(*options), mode=mode) as client:
        allowed = await client.call_tool("look", {"order": "o-1"})
        denied = await client.call_tool("pay", {"amount": 5})
        read = await client.read_resource("bank://ledger")
    assert (allowed.is_error, denied.is_error) == (False, True)
    assert "bank.pay is denied" in desk.told(denied)
    assert read.contents[0].text == "all is well"
    assert desk.done == ["look o-1", "ledger"]
    await desk.until(lambda: last_session(desk.url).status == "completed")
    session = last_session(desk.url)
    assert (
        session.name,
        session.identity.agent,
        session.identity.user,
    ) == ("ticket-4711", "assistant", "u-17")


async def test_the_environment_says_how_the_books_are_kept(desk: Any) -> None:
    """Broken if the proxy writes into other tables, or makes other digests, than the other commands read."""
    key, command = "k" * 32, Command(desk, ALLOW)
    command.env |= {"INTERLOCK_TABLE_PREFIX": "gov_", "INTERLOCK_DIGEST_KEY": key}
    async with Client(command.stdio()) as client:
        await client.call_tool("pay", {"amount": 5})
    with Governor(desk.url, table_prefix="gov_", digest_key=key) as governor:
        (session,) = governor.read(sessions.newest, limit=1)
        decided = governor.read(events.history, session.id)[1].event
    assert decided.keyed


async def test_approved_after_the_client_has_ended(desk: Any) -> None:
    """Broken if a yes that comes after the client's end is lost, or is good for more than one call."""
    command = Command(desk, ASK)
    async with Client(command.stdio()) as client:
        waiting = await client.call_tool("pay", {"amount": 900})
    await desk.until(lambda: last_session(desk.url).status == "paused")
    with Governor(desk.url) as governor:
        governor.write(tickets.approve, waiting.meta["interlock/refusal"]["ticket"], by="ann")
    async with Client(command.stdio("--resume", last_session(desk.url).id)) as client:
        results = [await client.call_tool("pay", {"amount": 900}) for _ in range(2)]
    assert [result.is_error for result in results] == [False, True]
    assert desk.done == ["pay 900"]


async def test_wait(desk: Any) -> None:
    """Broken if --wait does not wait for the answer."""
    command = Command(desk, ASK)
    results = []
    async with Client(command.stdio("--wait", "5m")) as client, anyio.create_task_group() as tasks:

        async def call() -> None:
            results.append(await client.call_tool("pay", {"amount": 900}))

        tasks.start_soon(call)
        with Governor(desk.url) as governor:
            await desk.until(lambda: governor.read(tickets.pending) != [])
            (ticket,) = governor.read(tickets.pending)
            governor.write(tickets.approve, ticket.id, by="ann")
    assert [desk.told(result) for result in results] == ["paid 900"]


async def test_http(desk: Any) -> None:
    """Broken if clients of HTTP are not governed, or two of them cannot be served at once, in either era."""
    command = Command(desk, {**ALLOW, "tools": ["bank.look", "bank.steps"]})
    heard: list[float] = []

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        heard.append(progress)

    with command.listening() as url:
        async with Client(url, mode="legacy") as old, Client(url, mode="auto") as new:
            for client in (old, new):
                found = await client.call_tool("look", {"order": "o-1"})
                refused = await client.call_tool("pay", {"amount": 5})
                assert (found.is_error, refused.is_error) == (False, True)
            await old.call_tool("steps", {}, progress_callback=hear)
            await new.call_tool("steps", {}, progress_callback=hear)
    assert desk.done == ["look o-1", "look o-1", "steps", "steps"]
    assert sorted(heard) == [1, 1, 2, 2, 3, 3]
    assert last_session(desk.url).status == "completed"


async def test_http_behind_too(desk: Any) -> None:
    """Broken if a server that is reached by URL is not governed, or a header is not sent to it."""
    command = Command(desk, {**ALLOW, "tools": ["bank.look"]})
    with command.listening(server=["--", sys.executable, SERVER]) as behind:
        command.env["TOKEN"] = "t-1"
        options = ("--url", behind, "--header", "X-Token=TOKEN")
        with command.listening(*options, server=[]) as url:
            for mode in ("legacy", "auto"):
                async with Client(url, mode=mode) as client:
                    found = await client.call_tool("look", {"order": "o-1"})
                    refused = await client.call_tool("pay", {"amount": 5})
                assert (found.is_error, refused.is_error) == (False, True)
    assert desk.done == ["look o-1", "look o-1"]


async def test_http_cancellation(desk: Any) -> None:
    """Broken if a client of HTTP that goes away leaves the server at work."""
    command = Command(desk, ALLOW)
    with command.listening() as url:
        for mode, count in (("legacy", 2), ("auto", 4)):
            async with Client(url, mode=mode) as client, anyio.create_task_group() as tasks:
                tasks.start_soon(client.call_tool, "slow", {})
                await desk.until(lambda least=count - 1: len(desk.done) == least)
                tasks.cancel_scope.cancel()
            await desk.until(lambda least=count: len(desk.done) == least)
    assert desk.done == ["slow began", "slow was cancelled"] * 2


async def test_server_dies(desk: Any) -> None:
    """Broken if a call whose server died hangs, or is not in the books, or the next one pretends to run."""
    command = Command(desk, ALLOW)
    async with Client(command.stdio(), mode="legacy") as client:
        for _ in range(2):
            with pytest.raises(Exception, match=r"Connection closed|not connected"):
                await client.call_tool("die", {})
    assert desk.done == ["die"]
    with Governor(desk.url) as governor:
        reports = list(governor.verify())
    assert [report.problem for report in reports] == [None]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("verdict: maybe", "policy.yaml:"),
        ("verdict", "policy.yaml"),
    ],
)
def test_broken_policy(desk: Any, change: str, said: str) -> None:
    """Broken if a proxy starts without a policy that can be used, or does not say what is wrong with it."""
    command = Command(desk, ALLOW)
    text = command.policy.read_text("utf-8").replace("verdict: allow", change)
    command.policy.write_text(text, "utf-8")
    ran = command.run()
    assert (ran.returncode, ran.stdout) == (2, "")
    assert said in ran.stderr
    assert "Traceback" not in ran.stderr
    assert desk.done == []


@pytest.mark.parametrize(
    ("options", "server", "said"),
    [
        ((), [], "name the server"),
        (("--url", "http://127.0.0.1:1/mcp"), None, "and not both"),
        ((), ["--", "no-such-program"], "there is no program 'no-such-program'"),
        (("--listen", "0.0.0.0:0"), None, "can be reached from other machines"),
        (("--listen", "here"), None, "is no address"),
        (("--wait", "soon"), None, "is no time"),
        (("--header", "A=B"), None, "--header"),
        (("--name", "a.b"), None, "name of a server"),
        (("--resume", "nobody"), None, "nobody"),
        (("--resume", "nobody", "--user", "u-17"), None, "has its own name"),
        (("--store", "sqlite:////nowhere/at/all.db"), None, "cannot"),
    ],
)
def test_what_cannot_be_done(
    desk: Any,
    options: tuple[str, ...],
    server: list[str] | None,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Broken if the command starts though it cannot do as it was told, or does not say why it does not."""
    words = Command(desk, ALLOW).arguments(*options, server=server)[2:]
    monkeypatch.setattr("sys.argv", ["interlock", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    shown = capsys.readouterr()
    assert (ended.value.code, shown.out) == (2, "")
    assert said in shown.err


@pytest.mark.promise(1)
def test_dead_canary(desk: Any) -> None:
    """Broken if the proxy serves though what it governs by does not work with the package that is installed."""
    (desk.path / "sitecustomize.py").write_text(
        "import mcp.server.lowlevel.server as server\n"
        "server.Server.add_request_handler = lambda *_: None\n",
        "utf-8",
    )
    command = Command(desk, ALLOW)
    command.env["PYTHONPATH"] = os.pathsep.join([str(desk.path), os.environ.get("PYTHONPATH", "")])
    ran = command.run()
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "the canary is dead" in ran.stderr
    assert desk.done == []


def test_port_is_taken(desk: Any) -> None:
    """Broken if a port that cannot be had ends the command with anything but a sentence."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ran = Command(desk, ALLOW).run("--listen", f"127.0.0.1:{port}")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "cannot listen on" in ran.stderr
    assert "Traceback" not in ran.stderr


def begun(command: Command, **options: Any) -> tuple[subprocess.Popen[str], dict[str, Any]]:
    """Start the proxy over stdio, initialize it, and return its process and what it answered."""
    process = subprocess.Popen(
        [sys.executable, *command.arguments(**options)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=command.env,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    client = {"name": "x", "version": "1"}
    params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client}
    request = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}
    process.stdin.write(json.dumps(request) + "\n")
    process.stdin.flush()
    return process, json.loads(process.stdout.readline())


def test_server_does_not_start(desk: Any) -> None:
    """Broken if a client is not told that there is no server behind, or the command ends as if all were well."""
    broken = ["--", sys.executable, "-c", "raise SystemExit(3)"]
    process, answer = begun(Command(desk, ALLOW), server=broken)
    said = process.communicate(timeout=30)[1]
    assert "the MCP server cannot be reached" in answer["error"]["message"]
    assert process.returncode == 2
    assert "the MCP server cannot be reached" in said


def test_told_to_end(desk: Any) -> None:
    """Broken if a proxy over stdio that is told to end leaves its session open, or waits for its client."""
    process, answer = begun(Command(desk, ALLOW))
    assert "result" in answer  # it listens for signals, too; earlier it would just be ended by one
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 0
    process.communicate()
    assert last_session(desk.url).status == "completed"


async def test_secrets_of_the_books_stay(desk: Any) -> None:
    """Broken if the server behind is given the environment of Interlock, with the password of the books."""
    script = desk.path / "server.py"
    script.write_text(
        "import os, sys\n"
        "from mcp.server.mcpserver import MCPServer\n"
        "server = MCPServer('env')\n"
        "@server.tool()\n"
        "def names() -> str:\n"
        "    return ' '.join(k for k in os.environ if k.startswith(('INTERLOCK', 'EFFECTS')))\n"
        "server.run('stdio')\n",
        "utf-8",
    )
    command = Command(desk, ALLOW)
    command.env["INTERLOCK_DB"] = desk.url
    parameters = command.stdio()
    parameters.args[-1] = str(script)
    async with Client(parameters) as client:
        result = await client.call_tool("names", {})
    assert desk.told(result) == "EFFECTS"
