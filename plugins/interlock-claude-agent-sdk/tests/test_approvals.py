"""Tool uses and queries that a person has to approve."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from typing import Any

import anyio
import pytest

from interlock import ApprovalNeeded, Governor, wait
from interlock_claude_agent_sdk import Script, Ungoverned, say, use

DONE = [say("done")]
ASK = {"tools": ["bank.pay"], "verdict": "ask", "approvers": ["payments-oncall"]}


def pay(amount: int = 900) -> list[dict[str, Any]]:
    """Return a turn that pays."""
    return [use("mcp__bank__pay", amount=amount)]


def texts(value: Any) -> list[str]:
    """Return all texts in a request, at any depth."""
    if isinstance(value, dict | list):
        parts = value.values() if isinstance(value, dict) else value
        return [text for part in parts for text in texts(part)]
    return [value] if isinstance(value, str) else []


def interlock(*arguments: str) -> str:
    """Run the command line in a process of its own, as an approver does, and return what it prints."""
    command = [sys.executable, "-m", "interlock", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


@pytest.mark.promise(5)
async def test_approved_in_another_process_runs_once(desk: Any) -> None:
    """Broken if the model is not told of the ticket, or what was approved does not run, or more than once."""
    servers = {"bank": desk.bank()}
    tickets: list[str] = []

    def approve(_: dict[str, Any]) -> list[dict[str, Any]]:
        with Governor(desk.url) as governor:
            tickets.extend(ticket.id for ticket in governor.read(desk.pending))
        interlock("approvals", "approve", tickets[0], "--db", desk.url, "--as", "ann", "--yes")
        return pay()

    turns = pay(), approve, pay(901), pay(), DONE
    with desk.open(ASK), Script(*turns) as script:
        told = await desk.run(script, mcp_servers=servers)
    assert desk.paid == [900]
    assert told[0] == (
        "bank.pay needs approval by payments-oncall: rule rule-0 says ask. It did not run; make the same call again "
        f"once ticket {tickets[0]} is approved. Its arguments must be the very same, all of them. "
        f"A person approves it with `interlock approvals approve {tickets[0]}`."
    )
    assert told[1] == "paid 900"
    assert ["needs approval" in one and tickets[0] not in one for one in told[2:]] == [True, True]


@pytest.mark.promise(5)
async def test_suspended_and_resumed(desk: Any) -> None:
    """Broken if a run that ends to ask loses its ticket, or the session and Claude Code cannot go on with the call."""
    with (
        Script(pay(), DONE) as script,
        pytest.raises(ApprovalNeeded) as raised,
        desk.open(ASK) as (_, session),
    ):
        await desk.run(script, mcp_servers={"bank": desk.bank()}, governed={"stop_to_ask": True})
    assert (desk.paid, len(script.requests)) == ([], 1)
    claude = next(one.data["session_id"] for one in desk.messages if hasattr(one, "data"))

    with Governor(desk.url, policy=desk.policy(ASK), plugins=[desk.recorder]) as governor:
        governor.write(desk.approve, raised.value.ticket.id, by="ann")
        with governor.resume_session(session.id), Script(DONE, pay(), pay(), pay(), DONE) as script:
            told = await desk.run(
                script, "ann said yes", mcp_servers={"bank": desk.bank()}, resume=claude
            )
    assert desk.paid == [900]
    assert told.count("paid 900") == 1
    assert "needs approval" in told[-1]


async def test_a_tool_of_claude_code_changed_by_a_person(desk: Any) -> None:
    """Broken if the model is not told of a change to a call whose result has a shape of its own."""

    def approve(_: dict[str, Any]) -> list[dict[str, Any]]:
        with Governor(desk.url) as governor:
            (ticket,) = governor.read(desk.pending)
            governor.write(desk.approve, ticket.id, by="ann", arguments={"command": "echo B"})
        return [use("Bash", command="echo A", description="d")]

    first = [use("Bash", command="echo A", description="d")]
    rule = {"tools": ["Bash"], "verdict": "ask"}
    with desk.open(rule), Script(first, approve, DONE) as script:
        told = await desk.run(script)
    assert told[1] == "B"
    (told_so,) = [one for one in texts(script.requests[-1]) if "has changed" in one]
    assert 'Note: ann has changed this call before it ran: {"command":"echo B"}' in told_so


@pytest.mark.promise(5)
async def test_changed_by_a_person(desk: Any) -> None:
    """Broken if a call that a person has changed runs as it was made, or the model is not told what has run."""

    def approve(_: dict[str, Any]) -> list[dict[str, Any]]:
        with Governor(desk.url) as governor:
            (ticket,) = governor.read(desk.pending)
            governor.write(desk.approve, ticket.id, by="ann", arguments={"amount": 50})
        return pay()

    with desk.open(ASK), Script(pay(), approve, DONE) as script:
        told = await desk.run(script, mcp_servers={"bank": desk.bank()})
    note = 'Note: ann has changed this call before it ran: {"amount":50}'
    assert (desk.paid, told[1]) == ([50], f"paid 50 {note}")


async def test_denied_by_a_person(desk: Any) -> None:
    """Broken if the model is not told that a person said no, and why."""

    def deny(_: dict[str, Any]) -> list[dict[str, Any]]:
        with Governor(desk.url) as governor:
            (ticket,) = governor.read(desk.pending)
            governor.write(desk.deny, ticket.id, by="ann", comment="too much")
        return pay()

    with desk.open(ASK), Script(pay(), deny, DONE) as script:
        told = await desk.run(script, mcp_servers={"bank": desk.bank()})
    assert desk.paid == []
    assert "too much" in told[1]


async def test_waiting_for_the_answer(desk: Any) -> None:
    """Broken if a call that waits for the answer does not run by it, or runs more than once."""
    with (
        desk.open(ASK, on_ask=wait(timedelta(minutes=1))) as (governor, _),
        Script(pay(), DONE) as script,
    ):
        async with anyio.create_task_group() as tasks:

            async def answer() -> None:
                await desk.until(lambda: governor.read(desk.pending) != [])
                (ticket,) = governor.read(desk.pending)
                governor.write(desk.approve, ticket.id, by="ann")

            tasks.start_soon(answer)
            told = await desk.run(script, mcp_servers={"bank": desk.bank()})
    assert (told, desk.paid) == (["paid 900"], [900])


async def test_a_query_that_needs_a_person(desk: Any) -> None:
    """Broken if a query is asked before a person has said yes, or not after it."""
    rule = {"tools": ["chat"], "verdict": "ask"}
    with desk.open(rule) as (governor, _), Script(DONE) as script:
        with pytest.raises(ApprovalNeeded) as raised:
            await desk.run(script)
        assert script.requests == []
        governor.write(desk.approve, raised.value.ticket.id, by="ann")
        await desk.run(script)
    assert len(script.requests) == 1


async def test_a_query_cannot_be_changed(desk: Any) -> None:
    """Broken if a query is asked as it was made although a person has changed it."""
    rule = {"tools": ["chat"], "verdict": "ask"}
    with desk.open(rule) as (governor, _), Script(DONE) as script:
        with pytest.raises(ApprovalNeeded) as raised:
            await desk.run(script)
        governor.write(
            desk.approve, raised.value.ticket.id, by="ann", arguments={"prompt": "another"}
        )
        with pytest.raises(Ungoverned, match="cannot be changed"):
            await desk.run(script)
    assert script.requests == []
