"""A call that waits for a human holds its lease meanwhile, if the policy says so, on both databases."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from interlock import ApprovalNeeded, Governor, Grant, LeaseTaken, Ticket, events, tool_of
from interlock.store import tickets
from interlock.testing import ManualClock
from tests.callers import history
from tests.leases._desk import decided, deploy, held, outcome, policy, restart, sound

pytestmark = [pytest.mark.anyio, pytest.mark.promise(3, 5)]

Make = Callable[..., Governor]
RULES = [{"id": "ask", "tools": ["deploy"], "verdict": "ask", "expires": "1h"}]
LEASE: dict[str, Any] = {"tools": ["deploy", "restart"], "per": "resource", "while_asking": True}
HOUR = timedelta(hours=1)


@pytest.fixture
def database(either: str) -> str:
    """Run every test here on both databases."""
    return either


@pytest.fixture
def made(governor: Make, clock: ManualClock) -> Governor:
    """A governor whose policy asks about a deployment, and has it hold its service meanwhile."""
    return governor(policy(LEASE, rules=RULES), clock=clock)


def asked(service: str = "api") -> Ticket:
    """Make a call that is asked about, and return its ticket."""
    with pytest.raises(ApprovalNeeded) as refused:
        deploy(service)
    return refused.value.ticket


def test_a_ticket_holds_it(made: Governor) -> None:
    """Broken if what a human is asked about can be done by another meanwhile, or asking again opens the way."""
    with made.session("s", agent="bot"):
        ticket = asked()
        assert asked().id == ticket.id
        assert [slot.token for slot in ticket.leases] == [1]
        with pytest.raises(LeaseTaken, match=f"answer to ticket {ticket.id}") as refused:
            restart()
        [holder] = refused.value.leases[0].holders
        assert (holder.ticket_id, holder.expires_at) == (ticket.id, ticket.expires_at)
        assert outcome(restart, "web") == "done"
    assert sound(made)


def test_a_yes_passes_it_on(made: Governor) -> None:
    """Broken if the call that was approved cannot run because of its own ticket, or another gets in between."""
    with made.session("s", agent="bot") as session:
        ticket = asked()
        made.write(tickets.approve, ticket.id, by="ann")
        assert outcome(restart) == "LeaseTaken"
        seen = deploy("api")
        assert seen == "done"
        assert held(made) == []
        assert outcome(restart) == "done"
    first, *_ = [event.leases for event in decided(made, session.id) if event.leases]
    assert [slot.token for slot in first] == [1]
    [opened] = [e for e in history(made, session.id) if isinstance(e, events.TicketOpened)]
    assert opened.leases == ticket.leases
    assert sound(made)


def test_the_same_slot_and_token(made: Governor, clock: ManualClock) -> None:
    """Broken if the slot that a ticket has kept is given anew, under another token, or for as long as the ticket."""
    with made.session("s", agent="bot") as session:
        made.write(tickets.approve, asked().id, by="ann")
        clock.advance(timedelta(minutes=20))
        deploy("api")
        [slot] = decided(made, session.id)[-1].leases
        assert (slot.token, slot.displaced) == (1, ())
        assert slot.expires_at == clock.now() + timedelta(seconds=30)
        [row] = made.leases() or [None]
        assert row is None
    assert sound(made)


def test_a_no_frees_it(made: Governor) -> None:
    """Broken if what nobody will do any more keeps others from it."""
    with made.session("s", agent="bot"):
        made.write(tickets.deny, asked().id, by="ann")
        assert held(made) == []
        assert outcome(restart) == "done"
    assert sound(made)


@pytest.mark.parametrize("how", ["taken", "swept", "asked again"])
def test_no_answer_frees_it(made: Governor, clock: ManualClock, how: str) -> None:
    """Broken if a request that nobody answers holds its lease for ever, or a moment less than it can be answered."""
    with made.session("s", agent="bot") as session:
        ticket = asked()
        clock.advance(HOUR - timedelta(microseconds=1))
        assert outcome(restart) == "LeaseTaken"
        clock.advance(timedelta(microseconds=1))
        if how == "swept":
            made.write(tickets.expire)
            assert held(made) == []
        elif how == "asked again":
            again = asked()
            assert again.id != ticket.id
            assert [holder.ticket_id for row in made.leases() for holder in row.holders] == [
                again.id
            ]
            assert outcome(restart) == "LeaseTaken"
            assert sound(made)
            return
        assert outcome(restart) == "done"
    assert sound(made)
    assert session.state().running == {}


def test_closing_the_session_frees_it(made: Governor) -> None:
    """Broken if what waited in a session that is over keeps others from it."""
    with made.session("s", agent="bot"):
        asked("api")
        asked("web")
    assert held(made) == []
    with made.session("s", agent="bot"):
        assert [outcome(restart, name) for name in ("api", "web")] == ["done", "done"]
    assert sound(made)


def test_a_paused_session_keeps_it(made: Governor) -> None:
    """Broken if a session that waits for the answer loses what its ticket keeps for it."""
    with pytest.raises(ApprovalNeeded), made.session("s", agent="bot") as session:
        deploy()
    with made.session("t", agent="bot"):
        assert outcome(restart) == "LeaseTaken"
    [waiting] = made.read(tickets.pending)
    made.write(tickets.approve, waiting.id, by="ann")
    with made.resume_session(session.id):
        assert deploy() == "done"
    assert held(made) == []
    assert sound(made)


def test_nobody_is_asked_about_what_is_taken(made: Governor) -> None:
    """Broken if a human is asked about a call that could not hold its lease until they have answered."""
    with made.session("s", agent="bot") as session:
        restart("api", lambda: outcome(deploy, "api"))
        last = decided(made, session.id)[-1]
        assert (str(last.verdict), last.ticket_id) == ("deny", None)
        assert made.read(tickets.pending) == []
    assert sound(made)


def test_not_unless_the_policy_says_so(governor: Make) -> None:
    """Broken if a ticket holds a lease by default, or an approved call runs although its lease is taken by then."""
    made = governor(policy({**LEASE, "while_asking": False}, rules=RULES))
    with made.session("s", agent="bot"):
        ticket = restart("api", asked)
        assert ticket.leases == ()
        made.write(tickets.approve, ticket.id, by="ann")
        assert restart("api", lambda: outcome(deploy)) == "LeaseTaken"
        assert deploy() == "done"
    assert sound(made)


def test_a_quorum_keeps_it(governor: Make) -> None:
    """Broken if the first of two yeses gives the lease away."""
    made = governor(policy(LEASE, rules=[{**RULES[0], "quorum": 2}]))
    with made.session("s", agent="bot"):
        ticket = asked()
        made.write(tickets.approve, ticket.id, by="ann")
        assert outcome(restart) == "LeaseTaken"
        made.write(tickets.approve, ticket.id, by="bob")
        assert deploy() == "done"
    assert sound(made)


def test_a_grant_is_no_way_round(made: Governor) -> None:
    """Broken if a call that a grant stands for runs beside the holder of its lease."""
    with made.session("s", agent="bot"):
        given = Grant(calls=5)
        made.write(tickets.approve, asked().id, by="ann", grant=given)
        assert deploy() == "done"
        assert restart("api", lambda: outcome(deploy)) == "LeaseTaken"
        assert deploy("api", lambda: outcome(restart)) == "LeaseTaken"
    assert sound(made)


def test_a_framework_that_asks_ahead(made: Governor) -> None:
    """Broken if the ticket that is opened ahead of a call holds nothing, or is opened though the lease is taken."""
    arguments = {"service": "api", "inside": None}
    tool = tool_of(deploy)
    assert tool is not None
    with made.session("s", agent="bot") as session:
        assert restart("api", lambda: session.ticket(tool, arguments)) is None
        ticket = session.ticket(tool, arguments)
        assert ticket is not None
        assert outcome(restart) == "LeaseTaken"
        made.write(tickets.approve, ticket.id, by="ann")
        assert deploy() == "done"
    assert sound(made)
