"""Leases under halts: who is stopped gives its slot back, and who waits for a human keeps it, on both databases."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from interlock import ApprovalNeeded, Governor, HaltedError
from interlock.store import tickets
from tests.leases._desk import adeploy, deploy, finished, held, outcome, policy, restart, sound

pytestmark = [pytest.mark.anyio, pytest.mark.promise(3, 4)]

Make = Callable[..., Governor]
ASKING = policy(
    {"tools": ["deploy", "restart"], "while_asking": True},
    rules=[{"id": "ask", "tools": ["deploy"], "verdict": "ask"}],
)


@pytest.fixture
def database(either: str) -> str:
    """Run every test here on both databases."""
    return either


def test_a_call_that_cannot_be_interrupted(governor: Make) -> None:
    """Broken if a halted call's slot is given away while it still runs, or kept once its result was withheld."""
    made = governor(policy({"tools": ["deploy", "restart"]}))

    def inside() -> None:
        made.halt(agent="bot", reason="drill", by="ann")
        with made.session("t", agent="other"):
            assert outcome(restart) == "LeaseTaken"

    with made.session("s", agent="bot") as session:
        with pytest.raises(HaltedError) as halted:
            deploy("api", inside)
        assert halted.value.ran
    with made.session("t", agent="other"):
        assert restart() == "done"
    assert finished(made, session.id)[0].leases_lost == ()
    assert held(made) == []
    assert sound(made)


async def test_a_call_that_is_cancelled(governor: Make) -> None:
    """Broken if a coroutine that a halt cancels keeps its slot."""
    made = governor(policy())

    async def inside() -> None:
        await made.ahalt(agent="bot", reason="drill", by="ann")
        await asyncio.Event().wait()

    async with made.session("s", agent="bot"):
        with pytest.raises(HaltedError):
            await adeploy("api", inside)
    assert held(made) == []
    async with made.session("t", agent="other"):
        assert await adeploy() == "done"
    assert sound(made)


def asked(made: Governor) -> Any:
    """Make a call in the session around that is asked about, then halt its agent; return its ticket and the halt."""
    with pytest.raises(ApprovalNeeded) as refused:
        deploy()
    return refused.value.ticket, made.halt(agent="bot", reason="drill", by="ann").halt


def elsewhere(made: Governor) -> str:
    """What another agent hears that wants the same."""
    with made.session("t", agent="other"):
        return outcome(restart)


def test_a_ticket_keeps_it_until_the_release(governor: Make) -> None:
    """Broken if a halt gives away what a ticket keeps, so that its call cannot run once the halt is released."""
    made = governor(ASKING)
    with made.session("s", agent="bot"):
        ticket, halt = asked(made)
        with pytest.raises(HaltedError):
            deploy()
        assert elsewhere(made) == "LeaseTaken"
        made.release(halt.id, reason="over", by="ann")
        made.write(tickets.approve, ticket.id, by="ann")
        assert deploy() == "done"
    assert elsewhere(made) == "done"
    assert sound(made)


def test_a_no_frees_it_under_a_halt(governor: Make) -> None:
    """Broken if nobody can free what a halted agent's ticket keeps."""
    made = governor(ASKING)
    with made.session("s", agent="bot"):
        ticket, _ = asked(made)
        made.write(tickets.deny, ticket.id, by="ann")
        assert elsewhere(made) == "done"
    assert sound(made)


def test_a_halted_session_that_is_over_frees_it(governor: Make) -> None:
    """Broken if what a halted session's ticket keeps outlasts the session."""
    made = governor(ASKING)
    with made.session("s", agent="bot"):
        asked(made)
    assert elsewhere(made) == "done"
    assert sound(made)
