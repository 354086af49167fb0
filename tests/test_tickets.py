"""Tickets: a human's yes, for this very call, once, in time, and by somebody else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from interlock import (
    ApprovalNeeded,
    Denied,
    Governor,
    Opinion,
    Session,
    Steered,
    Ticket,
    Verdict,
    events,
    governed,
    hookimpl,
    tool_of,
)
from interlock._ticket import TicketState
from interlock.errors import Conflict
from interlock.store import tickets
from interlock.testing import ManualClock, Recorder
from tests.callers import history

Make = Callable[..., Governor]
HOUR, TICK = timedelta(hours=1), timedelta(microseconds=1)
RULE: dict[str, Any] = {
    "id": "refunds",
    "tools": ["refund"],
    "verdict": "ask",
    "approvers": ["ops"],
    "reason": "money leaves",
}
ASK: dict[str, Any] = {"version": 1, "name": "p", "rules": [RULE]}
RAN: list[Any] = []


@governed(secrets=["card"])
def refund(order: str, amount: Any = 900, *, card: str = "4111-planted") -> str:
    """Pay money back."""
    RAN.append((order, amount))
    return f"{order}: {amount}"


class Desk:
    """A session in which refunds are asked about, and the humans who answer."""

    def __init__(self, governor: Governor, session: Session) -> None:
        self.governor = governor
        self.session = session

    def asked(self, *args: Any, **kwargs: Any) -> Ticket:
        """Make a call that is asked about, and return its ticket."""
        with pytest.raises(ApprovalNeeded) as refused:
            refund(*args, **kwargs)
        return refused.value.ticket

    def approve(self, ticket: Ticket, by: str = "ann", **more: Any) -> events.Recorded:
        """Say yes."""
        return self.governor.write(tickets.approve, ticket.id, by=by, **more)

    def deny(self, ticket: Ticket, by: str = "ann", **more: Any) -> events.Recorded:
        """Say no."""
        return self.governor.write(tickets.deny, ticket.id, by=by, **more)

    def state(self, ticket: Ticket) -> TicketState:
        """Where the ticket stands now."""
        return self.governor.read(tickets.get, ticket.id).state


@pytest.fixture
def database(either: str) -> str:
    """Run every test here on both databases."""
    return either


@pytest.fixture
def desk(governor: Make, clock: ManualClock) -> Iterator[Desk]:
    """A desk over a store in memory, at a time that stands still."""
    RAN.clear()
    made = governor(ASK, clock=clock)
    with made.session("case-7", agent="Bot", user="u-17", org="acme") as session:
        yield Desk(made, session)


@pytest.mark.promise(5)
def test_a_yes_lets_the_same_call_through_once(desk: Desk) -> None:
    """Broken if an approved call does not run, or a single yes is good for two."""
    ticket = desk.asked("o-1")
    assert RAN == []
    desk.approve(ticket, comment="fine")
    assert (refund("o-1"), RAN) == ("o-1: 900", [("o-1", 900)])
    assert desk.state(ticket) is TicketState.CLAIMED
    again = desk.asked("o-1")
    assert again.id != ticket.id
    assert RAN == [("o-1", 900)]


def test_a_ticket_says_what_is_asked(desk: Desk, clock: ManualClock) -> None:
    """Broken if a human does not see exactly what would run, or sees a secret."""
    ticket = desk.asked("o-1", 900)
    assert ticket == desk.governor.read(tickets.get, ticket.id)
    assert ticket.arguments == '{"amount":900,"card":{"$secret":true},"order":"o-1"}'
    assert (ticket.tool, ticket.reason, ticket.approvers) == ("refund", "money leaves", ("ops",))
    assert (ticket.session_id, ticket.requested_by) == (desk.session.id, ("Bot", "u-17"))
    assert (ticket.state, ticket.decided_by, ticket.comment) == (TicketState.PENDING, None, None)
    assert (ticket.opened_at, ticket.expires_at) == (clock.now(), clock.now() + HOUR)


def test_an_answer_is_on_record(desk: Desk, clock: ManualClock) -> None:
    """Broken if it cannot be told later who answered what, and when."""
    yes, no = desk.asked("o-1"), desk.asked("o-2")
    clock.advance(timedelta(minutes=5))
    desk.approve(yes, comment="fine")
    desk.deny(no, by="bob")
    for ticket, by, comment in ((yes, "ann", "fine"), (no, "bob", None)):
        stored = desk.governor.read(tickets.get, ticket.id)
        assert (stored.decided_by, stored.decided_at) == (by, clock.now())
        assert stored.comment == comment
    told = [
        e for e in history(desk.governor, desk.session.id) if isinstance(e, events.TicketResolved)
    ]
    assert [(e.ticket_id, e.by, e.state) for e in told] == [
        (yes.id, "ann", TicketState.APPROVED),
        (no.id, "bob", TicketState.DENIED),
    ]
    refund("o-1")
    decided = history(desk.governor, desk.session.id)[-2]
    assert isinstance(decided, events.CallDecided)
    assert (decided.approved_by, decided.ticket_id, decided.admitted) == ("ann", yes.id, True)


def test_asking_again_finds_the_open_ticket(desk: Desk) -> None:
    """Broken if a model that retries floods the approvers."""
    assert desk.asked("o-1") == desk.asked("o-1") == desk.asked(order="o-1", amount=900)
    assert [ticket.arguments for ticket in desk.governor.read(tickets.pending)] == [
        desk.asked("o-1").arguments
    ]


CHANGES: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
    (("o-2", 900), {}),
    (("o-1", 901), {}),
    (("o-1", 900.0), {}),
    (("o-1", "900"), {}),
    (("o-1", True), {}),
    (("o-1", [900]), {}),
    (("o-1", None), {}),
    (("O-1", 900), {}),
    (("o-1 ", 900), {}),
    (("o\u20111", 900), {}),
    (("o-1", 900), {"card": "4112-planted"}),
]


@pytest.mark.promise(5)
@pytest.mark.parametrize("change", CHANGES, ids=ascii)
def test_a_yes_is_for_that_very_call(change: Any, desk: Desk) -> None:
    """Broken if a call with any other argument runs on a yes that was given to this one."""
    ticket = desk.asked("o-1", 900)
    desk.approve(ticket)
    args, kwargs = change
    other = desk.asked(*args, **kwargs)
    assert other.id != ticket.id
    assert (RAN, desk.state(ticket)) == ([], TicketState.APPROVED)
    refund("o-1")
    assert RAN == [("o-1", 900)]


@pytest.mark.promise(5)
def test_a_change_of_the_callers_object_is_another_call(desk: Desk) -> None:
    """Broken if an argument can be changed between the yes and the call."""
    lines = [{"price": 1}]
    desk.approve(desk.asked("o-1", lines))
    lines[0]["price"] = 900
    desk.asked("o-1", lines)
    assert RAN == []
    refund("o-1", [{"price": 1}])
    assert RAN == [("o-1", [{"price": 1}])]


@pytest.mark.promise(5)
@pytest.mark.parametrize(
    "place", [{"agent": "Bot"}, {"agent": "other", "user": "u-17", "org": "acme"}]
)
def test_a_yes_is_for_that_session(place: dict[str, Any], desk: Desk) -> None:
    """Broken if another session, or another agent, can use a yes that is not its own."""
    desk.approve(desk.asked("o-1"))
    with desk.governor.session("case-7", **place):
        desk.asked("o-1")
    assert RAN == []


@pytest.mark.promise(5)
@pytest.mark.parametrize("late", [HOUR, HOUR + TICK, timedelta(days=400)])
def test_a_yes_is_good_until_it_expires(late: timedelta, desk: Desk, clock: ManualClock) -> None:
    """Broken if a yes is good at the instant of its expiry, or not good just before."""
    early, tardy = desk.asked("o-1"), desk.asked("o-2")
    desk.approve(early)
    desk.approve(tardy)
    clock.advance(HOUR - TICK)
    refund("o-1")
    clock.advance(late - HOUR + TICK)
    assert desk.asked("o-2").id != tardy.id
    assert RAN == [("o-1", 900)]


@pytest.mark.promise(5)
@pytest.mark.parametrize("answer", [tickets.approve, tickets.deny])
def test_an_answer_in_time_or_none(answer: Any, desk: Desk, clock: ManualClock) -> None:
    """Broken if a ticket can be answered at the instant of its expiry or later."""
    early, late = desk.asked("o-1"), desk.asked("o-2")
    clock.advance(HOUR - TICK)
    desk.governor.write(answer, early.id, by="ann")
    clock.advance(TICK)
    with pytest.raises(Conflict, match=f"{late.id} has expired"):
        desk.governor.write(answer, late.id, by="ann")
    assert desk.state(late) is TicketState.PENDING
    assert desk.governor.read(tickets.pending) == []


@pytest.mark.promise(5)
@pytest.mark.parametrize(
    "by", ["Bot", "u-17", "bot", "BOT", " Bot ", "U-17", "\uff22ot", "B\uff4ft"]
)
def test_the_requester_cannot_say_yes(by: str, desk: Desk) -> None:
    """Broken if the agent that asks, or the user it works for, can approve, spelled in whatever way."""
    ticket = desk.asked("o-1")
    with pytest.raises(Conflict, match=r"requested ticket .* cannot approve it"):
        desk.approve(ticket, by=by)
    assert desk.state(ticket) is TicketState.PENDING
    desk.deny(ticket, by=by)
    assert desk.state(ticket) is TicketState.DENIED


@pytest.mark.parametrize("by", ["", " ", "\t\n"])
def test_an_answer_needs_a_name(by: str, desk: Desk) -> None:
    """Broken if the record can say that nobody approved."""
    ticket = desk.asked("o-1")
    for answer in (desk.approve, desk.deny):
        with pytest.raises(Conflict, match="needs a name"):
            answer(ticket, by=by)


@pytest.mark.promise(5)
@pytest.mark.parametrize("first", ["approve", "deny"])
@pytest.mark.parametrize("second", ["approve", "deny"])
def test_the_first_answer_stands(first: str, second: str, desk: Desk) -> None:
    """Broken if an answer can be overturned, or given twice."""
    ticket = desk.asked("o-1")
    getattr(desk, first)(ticket)
    stands = {"approve": "approved", "deny": "denied"}[first]
    with pytest.raises(Conflict, match=f"{ticket.id} is already {stands}, by ann"):
        getattr(desk, second)(ticket, by="bob")
    assert str(desk.state(ticket)) == stands


def test_a_claimed_ticket_is_answered(desk: Desk) -> None:
    """Broken if a ticket that was used can be answered again."""
    ticket = desk.asked("o-1")
    desk.approve(ticket)
    refund("o-1")
    for answer in (desk.approve, desk.deny):
        with pytest.raises(Conflict, match="is already claimed, by ann"):
            answer(ticket, by="bob")


def test_a_no_stands_for_the_session(desk: Desk, clock: ManualClock) -> None:
    """Broken if a model can have what was refused by asking again, now or later."""
    desk.deny(desk.asked("o-1"), comment="too much")
    for _ in range(2):
        with pytest.raises(Denied, match="ann said no: too much"):
            refund("o-1")
        clock.advance(timedelta(days=1))
    desk.asked("o-2")
    assert RAN == []


@pytest.mark.promise(5)
@pytest.mark.parametrize("answer", [tickets.approve, tickets.deny])
def test_nothing_is_answered_after_the_session(answer: Any, governor: Make) -> None:
    """Broken if a yes can be given to a session that is over, as if something would come of it."""
    made = governor(ASK)
    with made.session("s", agent="bot") as session:
        desk = Desk(made, session)
        ticket = desk.asked("o-1")
    with pytest.raises(Conflict, match="is already cancelled"):
        made.write(answer, ticket.id, by="ann")
    assert desk.state(ticket) is TicketState.CANCELLED


@pytest.mark.parametrize("answer", [tickets.approve, tickets.deny, tickets.get])
def test_an_unknown_ticket_is_said(answer: Any, desk: Desk) -> None:
    """Broken if a mistyped id is a driver's error, or passes for an answer."""
    more = {} if answer is tickets.get else {"by": "ann"}
    with pytest.raises(Conflict, match="there is no ticket x; `interlock approvals list`"):
        desk.governor.write(answer, "x", **more)


@pytest.mark.promise(5)
@pytest.mark.parametrize(
    ("stricter", "kind"),
    [
        ({"rules": []}, Denied),
        ({"rules": [{"id": "no", "tools": ["refund"], "verdict": "deny"}]}, Denied),
        (
            {"rules": [{"id": "w", "tools": ["*"], "verdict": "steer", "guidance": "Wait."}]},
            Steered,
        ),
    ],
)
def test_policy_is_consulted_again(
    stricter: dict[str, Any], kind: type[Exception], governor: Make
) -> None:
    """Broken if a yes outlives the policy that asked for it: a stricter one, loaded since, must hold."""
    RAN.clear()
    asking = governor(ASK)
    with asking.session("s", agent="bot") as session:
        desk = Desk(asking, session)
        ticket = desk.asked("o-1")
        desk.approve(ticket)
        since = governor({**ASK, **stricter})
        session._machinery = since._machinery
        with pytest.raises(kind):
            refund("o-1")
        assert (desk.state(ticket), RAN) == (TicketState.APPROVED, [])
        session._machinery = asking._machinery
        assert refund("o-1") == "o-1: 900"


class Objecting:
    """A plugin that has nothing against a call until it is told to."""

    verdict = Verdict.ALLOW
    expires: timedelta | None = None

    @hookimpl
    def interlock_opinion(self, call: Any) -> Opinion:
        """Say what there is to say."""
        return Opinion(verdict=self.verdict, reason="since then", author="", expires=self.expires)


@pytest.mark.promise(2, 5)
def test_plugins_are_consulted_again(governor: Make) -> None:
    """Broken if a yes skips a plugin's objection that came up since."""
    plugin = Objecting()
    RAN.clear()
    made = governor(ASK, plugins=[plugin])
    with made.session("s", agent="bot") as session:
        desk = Desk(made, session)
        desk.approve(desk.asked("o-1"))
        plugin.verdict = Verdict.DENY
        with pytest.raises(Denied, match="since then"):
            refund("o-1")
        assert RAN == []


@pytest.mark.parametrize(
    ("expires", "lives"),
    [
        (timedelta(0), timedelta(0)),
        (timedelta(-1), timedelta(0)),
        (timedelta.max, tickets.MAX_LIFETIME),
        (timedelta.min, timedelta(0)),
        (timedelta(minutes=1), timedelta(minutes=1)),
        (None, HOUR),
    ],
    ids=str,
)
def test_any_lifetime_gives_a_time(expires: Any, lives: timedelta, governor: Make) -> None:
    """Broken if a plugin's odd lifetime breaks the admission, or none at all is taken for a long one."""
    plugin = Objecting()
    plugin.verdict, plugin.expires = Verdict.ASK, expires
    allowing = {"version": 1, "name": "p", "default": "allow"}
    made = governor(allowing, clock=ManualClock(), plugins=[plugin])
    with made.session("s", agent="bot") as session:
        ticket = Desk(made, session).asked("o-1")
    assert lives == ticket.expires_at - ticket.opened_at


def test_looking_ahead_uses_nothing_up(governor: Make, recorder: Recorder) -> None:
    """Broken if a framework that looks ahead spends the yes that the call itself needs."""
    made = governor(ASK, plugins=[recorder])
    tool = tool_of(refund)
    assert tool is not None
    arguments = {"order": "o-1", "amount": 900, "card": "4111-planted"}
    RAN.clear()
    with made.session("s", agent="bot") as session:
        desk = Desk(made, session)
        ticket = session.ticket(tool, arguments)
        assert ticket is not None
        assert ticket == session.ticket(tool, arguments) == desk.asked("o-1")
        desk.approve(ticket)
        for _ in range(2):
            ahead = session.ticket(tool, arguments)
            assert ahead is not None
            assert ahead.state is TicketState.APPROVED
        refund("o-1")
    opened = [event for event in recorder.events if isinstance(event, events.TicketOpened)]
    assert [event.ticket_id for event in opened] == [ticket.id]
