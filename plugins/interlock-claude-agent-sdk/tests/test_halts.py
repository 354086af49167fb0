"""Halts: what runs is interrupted, and nothing is asked or run afterwards. And what a host breaks off."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import anyio
import claude_agent_sdk
import pytest
from claude_agent_sdk import create_sdk_mcp_server
from claude_agent_sdk import tool as sdk_tool

from interlock import HaltedError
from interlock_claude_agent_sdk import GovernedClient, Script, govern, query, say, use

DONE = [say("done")]
LONG = "touch begun; sleep 50; touch A"
"""Longer than a test may take by far."""


async def halt_when(desk: Any, is_so: Callable[[], bool], session: Any) -> None:
    """Halt a session from a process of its own, once something is so."""
    await desk.until(is_so)
    await anyio.to_thread.run_sync(halt, desk, session)


def halt(desk: Any, session: Any) -> None:
    """Halt a session from a process of its own."""
    command = [
        "halt",
        "--session",
        session.id,
        "--reason",
        "enough",
        "--as",
        "ann",
        "--db",
        desk.url,
        "-y",
    ]
    subprocess.run(
        [sys.executable, "-m", "interlock", *command], check=True, capture_output=True, timeout=60
    )


@pytest.mark.promise(4)
async def test_a_halt_interrupts_a_tool(desk: Any) -> None:
    """Broken if a tool runs on that another process has halted, or the host is not told, or the books do not know."""
    long = use("Bash", command=LONG, description="d")
    with desk.open(default="allow") as (_, session), Script([long], DONE) as script:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(halt_when, desk, lambda: "begun" in desk.left, session)
            with pytest.raises(HaltedError, match="enough"):
                await desk.run(script)
    assert (desk.left, len(script.requests)) == (["begun"], 1)
    assert ("Bash", "cancelled") in [one[:2] for one in desk.booked()]
    assert ("chat", "cancelled") in [one[:2] for one in desk.booked(queries=True)]


@pytest.mark.promise(4)
async def test_a_halt_interrupts_a_model(desk: Any) -> None:
    """Broken if a model is waited for in a session that was halted."""
    asked: list[bool] = []
    answer = threading.Event()

    def slow(_: dict[str, Any]) -> list[dict[str, Any]]:
        asked.append(True)
        answer.wait(50)
        return [desk.touch("A")]

    with desk.open(default="allow") as (_, session), Script(slow, DONE) as script:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(halt_when, desk, lambda: bool(asked), session)
            with pytest.raises(HaltedError, match="enough"):
                await desk.run(script)
        answer.set()
    assert desk.left == []
    assert ("chat", "cancelled") in [one[:2] for one in desk.booked(queries=True)]


@pytest.mark.promise(4)
async def test_nothing_begins_after_a_halt(desk: Any) -> None:
    """Broken if in a halted session a tool is run, or a model is asked."""

    def halted(_: dict[str, Any]) -> list[dict[str, Any]]:
        governor.halt(session=session.id, reason="enough", by="ann")
        return [desk.touch("A")]

    with desk.open(default="allow") as (governor, session), Script(halted, DONE) as script:
        for _ in range(2):
            with pytest.raises(HaltedError, match="enough"):
                await desk.run(script)
    assert (desk.left, len(script.requests)) == ([], 1)


@pytest.mark.promise(4)
async def test_a_tool_that_is_halted(desk: Any) -> None:
    """Broken if a halted tool runs, or keeps the run from going on with others."""

    def halted(_: dict[str, Any]) -> list[dict[str, Any]]:
        governor.halt(tool="Bash", reason="enough", by="ann")
        return [desk.touch("A"), use("mcp__bank__pay", amount=5)]

    with desk.open(default="allow") as (governor, _), Script(halted, DONE) as script:
        told = await desk.run(script, mcp_servers={"bank": desk.bank()})
    assert (desk.left, desk.paid) == ([], [5])
    assert told[0].startswith("Bash was not run: ")
    assert "enough" in told[0]


async def test_a_host_that_breaks_off(desk: Any) -> None:
    """Broken if what runs when a host leaves is left without an outcome in the books."""
    long = use("Bash", command=LONG, description="d")
    with desk.open(default="allow"), Script([long], DONE) as script:
        with anyio.move_on_after(60) as scope:
            async with anyio.create_task_group() as tasks:

                async def leave() -> None:
                    await desk.until(lambda: "begun" in desk.left)
                    scope.cancel()

                tasks.start_soon(leave)
                async for _ in query(prompt="go", options=govern(desk.options(script))):
                    pass
    assert desk.left == ["begun"]
    outcomes = [one[:2] for one in desk.booked(queries=True)]
    assert [(tool, "cancelled") in outcomes for tool in ("Bash", "chat")] == [True, True]


async def test_a_host_that_interrupts(desk: Any) -> None:
    """Broken if a tool that the host interrupts is not booked as cancelled, or the client is of no use afterwards."""
    long = use("Bash", command=LONG, description="d")
    with desk.open(default="allow"), Script([long], DONE) as script:
        async with (
            GovernedClient(govern(desk.options(script))) as client,
            anyio.create_task_group() as tasks,
        ):
            await client.query("go")

            async def interrupt() -> None:
                await desk.until(lambda: "begun" in desk.left)
                await client.interrupt()

            tasks.start_soon(interrupt)
            [_ async for _ in client.receive_response()]
            assert ("Bash", "cancelled") in [one[:2] for one in desk.booked()]
            await client.query("go on")
            messages = [message async for message in client.receive_response()]
    assert messages[-1].result == "done"


async def test_a_host_that_interrupts_a_tool_of_this_process(desk: Any) -> None:
    """Broken if a tool of this process that the host interrupts runs on, or is not booked as cancelled."""
    ended: list[str] = []
    begun = anyio.Event()

    @sdk_tool("wait", "Waits.", {})
    async def wait(_: dict[str, Any]) -> dict[str, Any]:
        begun.set()
        try:
            await anyio.sleep(50)
        except BaseException as error:
            ended.append(type(error).__name__)
            raise
        return {"content": []}

    servers = {"bank": create_sdk_mcp_server("bank", tools=[wait])}
    with desk.open(default="allow"), Script([use("mcp__bank__wait")], DONE) as script:
        async with (
            GovernedClient(govern(desk.options(script, mcp_servers=servers))) as client,
            anyio.create_task_group() as tasks,
        ):
            await client.query("go")

            async def interrupt() -> None:
                await begun.wait()
                await client.interrupt()

            tasks.start_soon(interrupt)
            [_ async for _ in client.receive_response()]
            assert [one[:2] for one in desk.booked()] == [
                ("bank.wait", "allow"),
                ("bank.wait", "cancelled"),
            ]
            await desk.until(lambda: ended == ["CancelledError"])


@pytest.mark.promise(4)
async def test_a_halt_ends_a_tool_of_this_process(desk: Any) -> None:
    """Broken if a tool of this process runs on after a halt where Claude Code cannot be interrupted."""
    ended: list[str] = []

    @sdk_tool("wait", "Waits.", {})
    async def wait(_: dict[str, Any]) -> dict[str, Any]:
        ended.append("begun")
        try:
            await anyio.sleep(50)
        except BaseException as error:
            ended.append(type(error).__name__)
            raise
        return {"content": []}

    servers = {"bank": create_sdk_mcp_server("bank", tools=[wait])}
    turns = [use("mcp__bank__wait")], [desk.touch("A")], DONE
    with desk.open(default="allow") as (_, session), Script(*turns) as script:
        options = govern(desk.options(script, mcp_servers=servers), accept=["usage"])
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(halt_when, desk, lambda: ended == ["begun"], session)
            with contextlib.suppress(claude_agent_sdk.ResultError):
                [_ async for _ in claude_agent_sdk.query(prompt="go", options=options)]
    assert ended == ["begun", "CancelledError"]
    assert desk.left == []
    assert ("bank.wait", "cancelled") in [one[:2] for one in desk.booked()]
