"""decide(): a pure function; what a human's answer does, and what it cannot do."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock import Opinion, Verdict
from interlock._decide import decide
from interlock._state import SessionStatus
from interlock._ticket import Ticket, TicketState
from interlock._verdict import combine
from tests.samples import NOW, call_of, opinion, opinions, ticket_for

CALL = call_of({"amount": 900})
OTHER = call_of({"amount": 901})
HOUR = timedelta(hours=1)

asks = st.builds(opinion, st.just(Verdict.ASK), approvers=st.sampled_from([(), ("ops",)]))
heard = st.lists(opinions, max_size=5) | st.lists(asks, min_size=1, max_size=2)
tickets = st.none() | st.builds(
    ticket_for,
    st.sampled_from([CALL, OTHER]),
    st.sampled_from(TicketState),
    expires_at=st.sampled_from([NOW - HOUR, NOW, NOW + timedelta(microseconds=1), NOW + HOUR]),
    comment=st.none() | st.just("too much"),
)


def decided(
    given_opinions: list[Opinion],
    ticket: Ticket | None = None,
    *,
    call: Any = CALL,
    status: SessionStatus = SessionStatus.OPEN,
    now: datetime = NOW,
) -> Any:
    """Decide one call in an open session at `NOW`, unless told otherwise."""
    return decide(call, given_opinions, status=status, ticket=ticket, now=now)


@given(heard, tickets, st.sampled_from(SessionStatus))
def test_it_is_a_function_of_what_it_is_given(
    given_opinions: list[Opinion], ticket: Ticket | None, status: SessionStatus
) -> None:
    """Broken if the same question asked again, or in another order, gets another answer: replay relies on it."""
    once = decided(given_opinions, ticket, status=status)
    assert once == decided(given_opinions[::-1], ticket, status=status)


@pytest.mark.promise(2, 5)
@given(heard, tickets, st.sampled_from(SessionStatus))
def test_nothing_is_looser_than_what_was_thought(
    given_opinions: list[Opinion], ticket: Ticket | None, status: SessionStatus
) -> None:
    """Broken if a ticket or a status lets through what the opinions forbid: a yes answers ASK and no more."""
    decision = decided(given_opinions, ticket, status=status)
    assert combine(given_opinions).verdict <= decision.verdict
    if decision.admits:
        assert combine(given_opinions).verdict <= Verdict.ASK


@pytest.mark.promise(5)
@given(heard, tickets)
def test_only_a_live_yes_to_this_very_call_answers(
    given_opinions: list[Opinion], ticket: Ticket | None
) -> None:
    """Broken if an ASK is admitted by a ticket that is pending, denied, used up, expired or another call's."""
    decision = decided(given_opinions, ticket)
    live = (
        ticket is not None
        and ticket.state is TicketState.APPROVED
        and ticket.digest == CALL.digest
        and ticket.expires_at > NOW
    )
    if combine(given_opinions).verdict is Verdict.ASK:
        assert live == decision.admits
        assert ("ann" if live else None) == decision.approved_by
    else:
        assert decision.approved_by is None


@pytest.mark.promise(5)
@pytest.mark.parametrize("verdict", [Verdict.STEER, Verdict.DENY])
def test_a_yes_does_not_answer_what_is_stricter(verdict: Verdict) -> None:
    """Broken if an approval skips a denial or a steering that stands beside the ASK."""
    ticket = ticket_for(CALL, TicketState.APPROVED)
    decision = decided([opinion(Verdict.ASK), opinion(verdict)], ticket)
    assert (decision.verdict, decision.admits, decision.approved_by) == (verdict, False, None)


@pytest.mark.promise(5)
@pytest.mark.parametrize("left", [timedelta(0), timedelta(microseconds=-1), -HOUR])
def test_an_expired_yes_answers_nothing(left: timedelta) -> None:
    """Broken if a yes is good at the instant of its expiry or later."""
    ticket = ticket_for(CALL, TicketState.APPROVED, expires_at=NOW + left)
    assert not decided([opinion(Verdict.ASK)], ticket).admits
    ticket = ticket_for(CALL, TicketState.APPROVED, expires_at=NOW + timedelta(microseconds=1))
    assert decided([opinion(Verdict.ASK)], ticket).admits


@pytest.mark.promise(5)
def test_a_yes_to_another_call_answers_nothing() -> None:
    """Broken if an approval of one amount lets another through."""
    ticket = ticket_for(OTHER, TicketState.APPROVED)
    assert not decided([opinion(Verdict.ASK)], ticket).admits
    assert decided([opinion(Verdict.ASK)], ticket, call=OTHER).admits


@pytest.mark.parametrize("comment", [None, "too much"])
def test_a_humans_no_is_a_denial_with_its_reason(comment: str | None) -> None:
    """Broken if a no is forgotten, or the model does not learn who said it and why."""
    ticket = ticket_for(CALL, TicketState.DENIED, comment=comment, expires_at=NOW - HOUR)
    decision = decided([opinion(Verdict.ASK)], ticket)
    said = "ann said no: too much" if comment else "ann said no"
    assert (Verdict.DENY, said) == (decision.verdict, decision.reason)
    assert [o.author for o in decision.because] == ["approver"]


def test_a_no_does_not_undo_an_allow() -> None:
    """Broken if an old no stops a call that no longer needs to be asked about: policy was changed since."""
    ticket = ticket_for(CALL, TicketState.DENIED)
    assert decided([opinion(Verdict.ALLOW)], ticket).admits


@pytest.mark.promise(1)
@pytest.mark.parametrize("status", [SessionStatus.COMPLETED, SessionStatus.ABORTED])
@given(heard, tickets)
def test_a_closed_session_admits_nothing(
    status: SessionStatus, given_opinions: list[Opinion], ticket: Ticket | None
) -> None:
    """Broken if anything runs in a session that is over."""
    decision = decided(given_opinions, ticket, status=status)
    assert (decision.verdict, decision.admits) == (Verdict.DENY, False)
    assert f"the session is {status}" in decision.reason


@pytest.mark.promise(1)
@given(heard, tickets)
def test_a_call_with_a_fault_is_denied(
    given_opinions: list[Opinion], ticket: Ticket | None
) -> None:
    """Broken if a call that could not be described runs."""
    cycle: list[Any] = []
    cycle.append(cycle)
    faulty = call_of({"lines": cycle})
    decision = decided(given_opinions, ticket, call=faulty)
    assert (decision.verdict, decision.admits) == (Verdict.DENY, False)
    assert faulty.faults[0] in decision.reason


def test_what_was_heard_is_kept() -> None:
    """Broken if the record shows only what decided: an auditor wants all that was said."""
    allow, ask = opinion(Verdict.ALLOW), opinion(Verdict.ASK)
    decision = decided([allow, ask], status=SessionStatus.ABORTED)
    assert {allow, ask} < set(decision.opinions)
