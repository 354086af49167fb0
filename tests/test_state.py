"""What a session's events add up to: in parts or whole, exactly, and as a plain count would have it."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal, localcontext
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock import events
from interlock._state import SessionState, SessionStatus, fold
from interlock.events import GENESIS, Outcome
from tests.samples import NOW, any_event, chained, histories, moments, traces


@given(histories, st.integers(0, 8))
def test_in_parts_or_whole(history: list[Any], cut: int) -> None:
    """Broken if a state that is kept and continued differs from one that is computed anew."""
    recorded = chained(history)
    assert fold(recorded) == fold(recorded[cut:], fold(recorded[:cut]))


@given(st.lists(st.tuples(any_event, moments, traces), min_size=1, max_size=12))
def test_the_state_is_what_a_plain_count_says(history: list[Any]) -> None:
    """Broken if the fold counts an event twice, or not at all."""
    recorded = chained(history)
    state = fold(recorded)
    told = [item.event for item in recorded]
    decided = [event for event in told if isinstance(event, events.CallDecided)]
    finished = [event for event in told if isinstance(event, events.CallFinished)]
    assert (len(told), recorded[-1].hash) == (state.head, state.head_hash)
    assert Counter(event.verdict for event in decided) == state.verdicts
    assert Counter(event.outcome for event in finished) == state.outcomes
    open_calls: dict[str, str] = {}
    in_doubt: dict[str, str] = {}
    for event in told:
        if isinstance(event, events.CallDecided) and event.admitted:
            open_calls[event.call_id] = event.tool
        elif isinstance(event, (events.CallFinished, events.CallDoubted, events.CallRecovered)):
            open_calls.pop(event.call_id, None)
        if isinstance(event, events.CallDoubted):
            in_doubt[event.call_id] = event.tool
        elif isinstance(event, (events.CallFinished, events.CallRecovered)):
            in_doubt.pop(event.call_id, None)
    assert (open_calls, in_doubt) == (state.running, state.in_doubt)
    opened = [event for event in told if isinstance(event, events.SessionOpened)]
    moves = (events.SessionClosed, events.SessionPaused, events.SessionResumed)
    moved = [event for event in told if isinstance(event, moves)]
    assert (opened[-1] if opened else None) == state.opened
    status = SessionStatus.OPEN
    if moved and isinstance(moved[-1], events.SessionPaused):
        status = SessionStatus.PAUSED
    elif moved and isinstance(moved[-1], events.SessionClosed):
        is_well = moved[-1].error_type is None and moved[-1].reason is None
        status = SessionStatus.COMPLETED if is_well else SessionStatus.ABORTED
    assert status is state.status


def finished(cost: Decimal | None) -> tuple[Any, Any, None]:
    """Make a call that ended and cost that much."""
    event = events.CallFinished(
        call_id="c", tool="t", outcome=Outcome.RETURNED, duration_us=1, cost_usd=cost
    )
    return (event, NOW, None)


def test_nothing_has_happened_yet() -> None:
    """Broken if a session without events is anything but open and empty."""
    state = fold([])
    assert (state.head, state.head_hash, state.status) == (0, GENESIS, SessionStatus.OPEN)
    assert (state.cost_usd, state.running, state.opened_at) == (0, {}, None)
    assert state == SessionState()


@pytest.mark.promise(3)
def test_cost_is_summed_exactly_in_any_context() -> None:
    """Broken if what was spent is rounded: by the default 28 digits, or by a context that the host has set."""
    large, small = Decimal(999_999_999_999_999_999), Decimal("0.00000000000000000001")
    history = chained([finished(large), finished(small), finished(None), finished(small)])
    expected = "999999999999999999.00000000000000000002"
    with localcontext(prec=3):
        assert expected == str(fold(history).cost_usd)


@given(st.lists(st.decimals(0, 10**6, places=6), max_size=20))
def test_cost_is_the_sum(costs: list[Decimal]) -> None:
    """Broken if what a session cost is not what its calls cost."""
    micro = sum(int(cost.scaleb(6)) for cost in costs)
    assert Decimal(micro).scaleb(-6) == fold(chained([finished(cost) for cost in costs])).cost_usd


def test_times_are_those_of_the_events() -> None:
    """Broken if opening or closing is dated otherwise than its event."""
    opened = events.SessionOpened(name="n", agent="a")
    state = fold(chained([(opened, NOW, None), (events.SessionClosed(), NOW, None)]))
    assert (NOW, NOW, opened) == (state.opened_at, state.closed_at, state.opened)
