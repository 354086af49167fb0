"""Servers and clients that keep to no rules: the proxy goes on, and nothing runs ungoverned."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import MCPError, StdioServerParameters, stdio_client

HOSTILE = str(Path(__file__).parent / "hostile.py")
ALLOW = {"tools": ["bank.*"], "verdict": "allow"}


@contextmanager
def hostile(desk: Any, *words: str) -> Iterator[Any]:
    """Give what makes a client with a proxy before a hostile server, in a process of its own."""
    parameters = StdioServerParameters(command=sys.executable, args=[HOSTILE, *words])
    with desk.open(ALLOW) as (_, session):
        yield lambda **options: desk.proxied(
            session, connect=lambda: stdio_client(parameters), **options
        )


async def test_flood(desk: Any) -> None:
    """Broken if a server that floods its client with notifications keeps the call from its end."""
    heard: list[float] = []

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        heard.append(progress)

    with hostile(desk) as connected:
        async with connected() as client:
            flooded = await client.call_tool("flood", {}, progress_callback=hear)
            after = await client.call_tool("fine", {})
    assert [desk.told(flooded), desk.told(after)] == ["flooded", "done"]
    assert len(heard) > 100


async def test_huge_result(desk: Any) -> None:
    """Broken if a result of two megabytes stops the proxy, or is cut."""
    with hostile(desk) as connected:
        async with connected() as client:
            result = await client.call_tool("huge", {})
            await client.call_tool("fine", {})
    assert len(desk.told(result)) == 2_000_000


async def test_malformed_frames(desk: Any) -> None:
    """Broken if frames that are none, or answers to nobody's request, end the connection or answer a call."""
    with hostile(desk) as connected:
        async with connected() as client:
            results = [
                desk.told(await client.call_tool(name, {})) for name in ("malformed", "fine")
            ]
    assert results == ["after all that", "done"]
    assert [one for one in desk.booked() if one[1] == "returned"] == [
        ("bank.malformed", "returned"),
        ("bank.fine", "returned"),
    ]


async def test_result_that_is_none(desk: Any) -> None:
    """Broken if what is no result of the protocol reaches the client as one, or the books say it returned."""
    with hostile(desk) as connected:
        async with connected() as client:
            with pytest.raises(MCPError, match="what is no result"):
                await client.call_tool("shapeless", {})
            assert desk.told(await client.call_tool("fine", {})) == "done"
    assert ("bank.shapeless", "raised", "MCPError") in desk.booked()


async def test_number_that_is_none(desk: Any) -> None:
    """Broken if a result that is no JSON stops the proxy."""
    with hostile(desk) as connected:
        async with connected() as client:
            with anyio.move_on_after(5):
                await client.call_tool("nan", {})
            assert desk.told(await client.call_tool("fine", {})) == "done"


async def test_dies_in_the_middle_of_a_frame(desk: Any) -> None:
    """Broken if a call hangs whose server dies while it answers."""
    with hostile(desk) as connected:
        async with connected() as client:
            with pytest.raises(MCPError, match="Connection closed"):
                await client.call_tool("dies", {})
    assert desk.booked()[1] == ("bank.dies", "raised", "MCPError")


async def test_server_is_started_again(desk: Any) -> None:
    """Broken if a client without a connection of its own has no server any more once it has died."""
    with hostile(desk) as connected:
        async with connected(mode="auto") as client:
            with pytest.raises(MCPError, match="Connection closed"):
                await client.call_tool("dies", {})
            assert desk.told(await client.call_tool("fine", {})) == "done"


async def test_endless_list(desk: Any) -> None:
    """Broken if a server whose list of tools never ends keeps calls waiting for ever, or gets one through unlisted."""
    with hostile(desk, "endless") as connected:
        async with connected() as client:
            with pytest.raises(MCPError, match="more than 100 pages"):
                await client.call_tool("fine", {})
    assert desk.booked() == []


async def test_names_are_the_hosts(desk: Any) -> None:
    """Broken if a server gets a call judged by another name by what it calls itself or its tools."""
    with hostile(desk) as connected:
        async with connected() as client:
            await client.call_tool("fine:resource", {})
    assert desk.booked() == [("bank.fine:resource", "allow"), ("bank.fine:resource", "returned")]


async def test_server_of_the_older_era(desk: Any) -> None:
    """Broken if a server is sent what its version of the protocol does not have, or not what the client sent."""
    with hostile(desk) as connected:
        async with connected(mode="auto") as client:
            result = await client.call_tool("meta", {}, meta={"mine": 1})
    assert desk.told(result) == "mine progressToken"


class Lines:
    """A client by hand: it writes lines to the proxy's process and reads what comes back."""

    def __init__(self, desk: Any) -> None:
        """Start the proxy, before the bank, with a policy that allows looking."""
        policy = desk.path / "policy.yaml"
        policy.write_text(json.dumps(desk.policy({**ALLOW, "tools": ["bank.look"]})), "utf-8")
        server = str(Path(__file__).parent / "bank.py")
        options = ["--policy", str(policy), "--store", desk.url, "--name", "bank"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "interlock", "mcp", *options, "--", sys.executable, server],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "EFFECTS": str(desk.path / "effects")},
        )

    def write(self, *messages: Any) -> None:
        """Write each on a line."""
        assert self.process.stdin is not None
        for one in messages:
            self.process.stdin.write((one if isinstance(one, str) else json.dumps(one)) + "\n")
        self.process.stdin.flush()

    def call(self, number: Any, name: Any, arguments: Any) -> dict[str, Any]:
        """Return a request to call a tool."""
        params = {"name": name, "arguments": arguments}
        return {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}

    def answer(self, number: Any) -> dict[str, Any]:
        """Read until the answer to a request."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            message: dict[str, Any] = json.loads(line)
            if message.get("id") == number and "method" not in message:
                return message
        raise AssertionError("the proxy has ended")

    def end(self) -> tuple[int, str]:
        """Close the input, and return the exit code and what was said on standard error."""
        said = self.process.communicate(timeout=30)[1]
        return self.process.returncode, said


def test_hostile_client(desk: Any) -> None:
    """Broken if a client that keeps to no rules gets anything to run that is not allowed, or ends the proxy."""
    lines = Lines(desk)
    about = {"capabilities": {}, "clientInfo": {"name": "x", "version": "1"}}
    begin = {"protocolVersion": "2025-11-25", **about}
    lines.write(
        "no json",
        "[" * 5_000,
        '{"jsonrpc": "1.0"}',
        lines.call(1, "pay", {"amount": 1}),  # before it has said who it is
        {"jsonrpc": "2.0", "id": 2, "method": "initialize", "params": begin},
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        lines.call(3, "pay", {"amount": 3}),
        lines.call(3, "pay", {"amount": 3}),
        lines.call(4, {"name": "look"}, {}),
        lines.call(5, "look", "o-1"),
        lines.call(6, "look\0", {"order": "o-1"}),
        lines.call(7, "x" * 100_000, {}),
        '{"jsonrpc": "2.0", "id": 8, "method": "tools/call", "params": {"name": "look", "arguments": {"order": NaN}}}',
        '{"jsonrpc": "2.0", "id": 9, "method": "tools/call", "params": {"name": "look", "arguments": '
        + '{"a":' * 500
        + "1"
        + "}" * 500
        + "}}",
        lines.call(10, "look", {"order": "x" * 500_000}),
        {"jsonrpc": "2.0", "id": 11, "method": "sampling/createMessage", "params": {}},
        {"jsonrpc": "2.0", "id": 12, "method": "tools/secret", "params": {}},
        {
            "jsonrpc": "2.0",
            "method": "tools/call",
            "params": {"name": "pay", "arguments": {"amount": 13}},
        },
        {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": []}},
        {"jsonrpc": "2.0", "id": 14, "result": {"content": []}},
        lines.call(15, "look", {"order": "o-15"}),
    )
    last = lines.answer(15)
    code, said = lines.end()
    assert "o-15" in json.dumps(last["result"])
    assert code == 0, said
    assert [one for one in desk.done if not one.startswith("look ")] == []
    assert "look o-15" in desk.done  # calls of one client run at once, so not always as the last
