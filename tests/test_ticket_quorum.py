"""Who must say yes: so many, of those who are asked, each once; and what becomes of a ticket that nobody answers."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from interlock import ApprovalNeeded, Governor, Ticket, events, governed
from interlock._ticket import TicketState
from interlock.errors import Conflict, PolicyError
from interlock.policy import Policy
from interlock.store import policies, tickets
from interlock.testing import ManualClock
from tests.callers import history

Make = Callable[..., Governor]


def policy(**more: Any) -> dict[str, Any]:
    """A policy that asks about wires."""
    head = {key: more.pop(key) for key in ("groups",) if key in more}
    rule = {"id": "wires", "tools": ["wire"], "verdict": "ask", **more}
    return {"version": 1, "name": "p", **head, "rules": [rule]}


TWO = policy(
    approvers=["finance", "cfo"], quorum=2, groups={"finance": ["ann", "bob"], "cfo": ["eve"]}
)


@governed
def wire(amount: int) -> int:
    """Send money."""
    return amount


@pytest.fixture
def database(either: str) -> str:
    """Run every test here on both databases."""
    return either


def asked(amount: int = 900) -> Ticket:
    """Make a call that is asked about, and return its ticket."""
    with pytest.raises(ApprovalNeeded) as refused:
        wire(amount)
    return refused.value.ticket


@pytest.mark.promise(5)
def test_one_yes_of_two_is_none(governor: Make) -> None:
    """Broken if a call runs before as many have said yes as must, or runs twice afterwards."""
    made = governor(TWO)
    with made.session("s", agent="bot") as session:
        ticket = asked()
        assert ticket.quorum == 2
        made.write(tickets.approve, ticket.id, by="ann", comment="fine")
        assert asked() == made.read(tickets.get, ticket.id)
        made.write(tickets.approve, ticket.id, by="eve")
        stored = made.read(tickets.get, ticket.id)
        assert (stored.state, stored.decided_by) == (TicketState.APPROVED, "ann, eve")
        assert [(one.by, one.comment) for one in stored.approvals] == [
            ("ann", "fine"),
            ("eve", None),
        ]
        assert wire(900) == 900
        assert asked().id != ticket.id
    told = [event for event in history(made, session.id) if isinstance(event, _ANSWERS)]
    assert [(type(event).__name__, event.by) for event in told] == [
        ("TicketApproved", "ann"),
        ("TicketResolved", "eve"),
        ("TicketResolved", "interlock"),
    ]
    assert [report.problem for report in made.verify()] == [None]


_ANSWERS = (events.TicketApproved, events.TicketResolved)


@pytest.mark.promise(5)
@pytest.mark.parametrize("name", ["ann", "ANN", " ann ", "\uff41nn"])
def test_nobody_says_yes_twice(governor: Make, name: str) -> None:
    """Broken if one person is a quorum, in whatever spelling."""
    made = governor(TWO)
    with made.session("s", agent="bot"):
        ticket = asked()
        made.write(tickets.approve, ticket.id, by="ann")
        with pytest.raises(Conflict, match=r"has approved ticket .* already"):
            made.write(tickets.approve, ticket.id, by=name)
        assert len(made.read(tickets.get, ticket.id).approvals) == 1


@pytest.mark.promise(5)
def test_only_who_is_asked_says_yes(governor: Make) -> None:
    """Broken if a yes counts of somebody outside the groups, or one inside is turned away."""
    made = governor(TWO)
    with made.session("s", agent="bot"):
        ticket = asked()
        with pytest.raises(Conflict, match="mallory is none of those"):
            made.write(tickets.approve, ticket.id, by="mallory")
        with pytest.raises(Conflict, match="mallory is none of those"):
            made.write(tickets.approve, ticket.id, by="mallory", groups=["sales"])
        made.write(tickets.approve, ticket.id, by="zoe", groups=["sales", "Finance"])
        made.write(tickets.approve, ticket.id, by="cfo")
        assert wire(900) == 900


def test_without_groups_the_host_knows(governor: Make) -> None:
    """Broken if a policy without groups lets nobody answer, or what the host says of groups is not heard."""
    made = governor(policy(approvers=["finance"]))
    with made.session("s", agent="bot"):
        ticket = asked()
        with pytest.raises(Conflict, match="none of those"):
            made.write(tickets.approve, ticket.id, by="ann", groups=[])
        made.write(tickets.approve, ticket.id, by="ann")
        assert wire(900) == 900


@pytest.mark.promise(5)
def test_one_no_is_enough(governor: Make) -> None:
    """Broken if a no is outvoted."""
    made = governor(TWO)
    with made.session("s", agent="bot"):
        ticket = asked()
        made.write(tickets.approve, ticket.id, by="ann")
        made.write(tickets.deny, ticket.id, by="bob", comment="too much")
        with pytest.raises(Conflict, match="already denied, by bob"):
            made.write(tickets.approve, ticket.id, by="eve")
    assert [report.problem for report in made.verify()] == [None]


@pytest.mark.promise(5)
def test_another_policy_asks_anew(governor: Make) -> None:
    """Broken if a yes that was given under one policy is good under another."""
    made = governor(policy(reason="one"))
    with made.session("s", agent="bot") as session:
        ticket = asked()
        made.write(tickets.approve, ticket.id, by="ann")
        other = made.reload(policy(reason="another"))
        made.write(policies.keep, other.digest, name=other.name, document=other.text)
        session._machinery = made._machinery
        assert asked().id != ticket.id
    assert [report.problem for report in made.verify()] == [None]


@pytest.mark.promise(5)
@pytest.mark.parametrize("answered", [False, True])
def test_time_passes(governor: Make, *, answered: bool) -> None:
    """Broken if an expired ticket stays open in the books, or is not on record as expired."""
    clock = ManualClock()
    made = governor(policy(expires="1h"), clock=clock)
    with made.session("s", agent="bot") as session:
        one, other, late = asked(1), asked(2), asked(3)
        if answered:
            made.write(tickets.approve, one.id, by="ann")
        clock.advance(timedelta(hours=1))
        assert asked(1).id != one.id
        assert made.read(tickets.get, one.id).state is TicketState.EXPIRED
        with pytest.raises(Conflict, match="has expired"):
            made.write(tickets.approve, other.id, by="ann")
        assert len(made.write(tickets.expire)) == 2
        assert made.write(tickets.expire) == []
        assert made.read(tickets.get, late.id).state is TicketState.EXPIRED
    states = [made.read(tickets.get, one.id).state for one in (one, other, late)]
    assert states == [TicketState.EXPIRED] * 3
    ended = [e for e in history(made, session.id) if isinstance(e, events.TicketResolved)]
    kinds = [event.state for event in ended if event.by == tickets.NOBODY]
    assert kinds == [TicketState.EXPIRED] * 3 + [TicketState.CANCELLED]
    assert [report.problem for report in made.verify()] == [None]


@pytest.mark.parametrize("quorum", [0, -1, 101, True, "two"])
def test_a_senseless_quorum_is_refused(quorum: Any) -> None:
    """Broken if nobody, or nobody knows how many, must say yes."""
    with pytest.raises(PolicyError) as refused:
        Policy.build(policy(quorum=quorum))
    assert refused.value.key == "rules.0.quorum"
