"""Pausing: a session waits for a human and goes on, in another process too, as what it was opened as."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable
from typing import Any

import pytest

from interlock import ApprovalNeeded, Denied, Governor, Refused, events, governed
from interlock._state import SessionStatus
from interlock.errors import Conflict
from interlock.store import sessions, tickets
from tests.callers import history

pytestmark = pytest.mark.anyio

Make = Callable[..., Governor]
ASK: dict[str, Any] = {
    "version": 1,
    "name": "p",
    "rules": [{"id": "r", "tools": ["refund", "arefund"], "verdict": "ask"}],
}


@governed
def refund(order: str) -> str:
    """Pay money back."""
    return order


@governed
async def arefund(order: str) -> str:
    """Pay money back."""
    return order


@pytest.fixture
def database(either: str) -> str:
    """Run every test here on both databases."""
    return either


def kinds(made: Governor, session_id: str) -> list[str]:
    """What happened in a session."""
    return [events.kind_of(event) for event in history(made, session_id)]


@pytest.mark.promise(5)
def test_an_approval_outlives_the_block(governor: Make) -> None:
    """Broken if leaving the block ends the session, so that nobody can answer, or the answer is of no use."""
    made = governor(ASK)
    session = made.session("s", agent="bot", user="ann", org="acme")
    with pytest.raises(ApprovalNeeded) as refused, session:
        refund("o-1")
    assert made.read(sessions.get, session.id).status is SessionStatus.PAUSED
    made.write(tickets.approve, refused.value.ticket.id, by="bob")
    with made.resume_session(session.id) as again:
        assert (again.id, again.name, again.identity) == (session.id, "s", session.identity)
        assert refund("o-1") == "o-1"
    assert kinds(made, session.id) == [
        "session_opened",
        "call_decided",
        "ticket_opened",
        "session_paused",
        "ticket_resolved",
        "session_resumed",
        "call_decided",
        "call_finished",
        "session_closed",
    ]
    assert [report.problem for report in made.verify()] == [None]


async def test_pausing_among_tasks(governor: Make) -> None:
    """Broken if an async session cannot be paused and resumed."""
    made = governor(ASK)
    session = made.session("s", agent="bot")
    with pytest.raises(ApprovalNeeded) as refused:
        async with session:
            await arefund("o-1")
    made.write(tickets.approve, refused.value.ticket.id, by="bob")
    async with made.resume_session(session.id) as again:
        assert await arefund("o-1") == "o-1"
        await again.apause()
        with pytest.raises(Denied, match="the session is paused"):
            await arefund("o-2")
    assert made.read(sessions.get, session.id).status is SessionStatus.PAUSED


def test_pausing_by_hand(governor: Make) -> None:
    """Broken if a host that pauses without an exception finds its tickets cancelled, or calls still run."""
    made = governor(ASK)
    with made.session("s", agent="bot") as session:
        with pytest.raises(ApprovalNeeded) as refused:
            refund("o-1")
        session.pause()
        with pytest.raises(Refused, match="paused"):
            refund("o-1")
        with pytest.raises(Conflict, match="is paused, so it cannot become paused"):
            session.pause()
    made.write(tickets.approve, refused.value.ticket.id, by="bob")
    with made.resume_session(session.id):
        assert refund("o-1") == "o-1"


def test_a_resumed_session_keeps_its_policy(governor: Make) -> None:
    """Broken if a policy that came meanwhile judges, or counts anew, a run that began under another."""
    made = governor(ASK)
    session = made.session("s", agent="bot", dry_run=True)
    with session:
        session.pause()
    made.reload({"version": 1, "name": "q", "default": "allow"})
    with made.resume_session(session.id) as again:
        assert again.mode == "dry_run"
        assert refund("o-1") is None
        again.pause()
    decided = [e for e in history(made, session.id) if isinstance(e, events.CallDecided)]
    opened = history(made, session.id)[0]
    assert isinstance(opened, events.SessionOpened)
    assert [(e.policy, e.verdict.value) for e in decided] == [(opened.policy, "ask")]


def test_what_is_over_is_not_resumed(governor: Make) -> None:
    """Broken if an ended session, or one that never was, goes on."""
    made = governor(ASK)
    with made.session("s", agent="bot") as session:
        pass
    with pytest.raises(Conflict, match="is completed"), made.resume_session(session.id):
        pass
    with pytest.raises(Conflict, match="there is no session"):
        made.resume_session("nowhere")


WORKER = """
import sys
from interlock import Governor, governed

@governed
def refund(order: str) -> str:
    return order

with Governor(sys.argv[1], policy={"version": 1, "name": "other"}) as governor:
    with governor.resume_session(sys.argv[2]):
        print(refund("o-1"))
"""


@pytest.mark.promise(5)
def test_another_process_goes_on(governor: Make, database: str) -> None:
    """Broken if only the process that was refused can make the call once it is approved."""
    made = governor(ASK)
    session = made.session("s", agent="bot")
    with pytest.raises(ApprovalNeeded) as refused, session:
        refund("o-1")
    made.write(tickets.approve, refused.value.ticket.id, by="bob")
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(WORKER), database, session.id],
        capture_output=True,
        text=True,
        check=True,
        timeout=50,
    )
    assert done.stdout == "o-1\n"
    assert made.read(sessions.get, session.id).status is SessionStatus.COMPLETED
    assert [report.problem for report in made.verify()] == [None]
