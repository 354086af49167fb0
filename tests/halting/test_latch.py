"""A policy's halt that cannot be written down: it binds this process at once, says so, and is written down later."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from interlock import Governor
from interlock.errors import StoreUnavailable
from tests.halting._policies import (
    THREE,
    WHO,
    call,
    halting,
    is_halted,
    no_halt_is_written,
    ordered,
    refused,
)

Make = Callable[..., Governor]
SHAPES = ["sync", "async"]
BUDGET = {"name": "two", "per": "session", "calls": 2, "halt": "agent"}


@pytest.fixture
def database(either: str) -> str:
    """Run every test here on both databases."""
    return either


def _written_down(one: Governor) -> Any:
    while not (found := one.halts()):
        pass
    return found


@pytest.mark.promise(4)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_agent_is_stopped_here_and_everywhere_once_that_can_be(
    shape: str, governor: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """Broken if an agent goes on since its halt cannot be written, or if that is never made up for, or twice."""
    one, two = (governor(halting({**THREE, "halt": "agent"})) for _ in range(2))
    with one.session("a", **WHO) as first, one.session("b", **WHO) as second:
        with no_halt_is_written(two), caplog.at_level(logging.ERROR, "interlock"):
            refused(shape, first)
            assert "agent bot is halted in this process alone" in caplog.text
            assert is_halted(first)
            assert is_halted(second)
            assert two.halts() == []
        [halt] = _written_down(two)
        assert (str(halt.target), halt.by) == ("agent bot", "policy:p")
        assert is_halted(second)
        [told] = ordered(two, first)
        assert (told.halt_id, told.rule) == (halt.id, '{"of":"refused","times":3,"halt":"agent"}')
        two.release(halt.id, reason="repaired", by="ann")
        while is_halted(first):  # the latch is let go right after it was written down
            pass
        assert call(shape, first, "wire") == "Denied"
        assert two.halts() == []
    assert one.verify_books() == {}
    assert [report.problem for report in one.verify() if report.problem] == []


@pytest.mark.promise(4)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_budget_halts_here_too(shape: str, governor: Make) -> None:
    """Broken if only what a session remembers is latched."""
    one, two = governor(halting(budgets=[BUDGET])), governor()
    with one.session("a", **WHO) as first, one.session("b", **WHO) as second:
        with no_halt_is_written(two):
            assert [call(shape, first, "look") for _ in range(3)][2:] == ["BudgetExceeded"]
            assert is_halted(second)
        assert [str(halt.target) for halt in _written_down(two)] == ["agent bot"]
        assert is_halted(second)


@pytest.mark.promise(4)
def test_what_somebody_says_outlasts_what_a_policy_wants(governor: Make) -> None:
    """Broken if a human's halt of the same thing is taken for the policy's, and so is blamed on it."""
    one, two = governor(halting(THREE)), governor()
    with one.session("s", **WHO) as session, no_halt_is_written(two):
        refused("sync", session)
        done = one.halt(session=session.id, reason="drill", by="ann")
        assert (done.durable, done.engaged, done.halt.by) == (False, True, "ann")
    assert [halt.by for halt in _written_down(two)] == ["ann"]


@pytest.mark.promise(4)
def test_what_was_never_written_down_is_said_when_the_process_ends(
    governor: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """Broken if a halt is lost with the process that alone knew of it, and nobody learns of that."""
    one, two = governor(halting({**THREE, "halt": "agent"})), governor()
    with suppress(StoreUnavailable), one.session("s", **WHO) as session:
        refused("sync", session, 2)
        with no_halt_is_written(two):
            refused("sync", session, 1)
            one.close()
            assert "the halt of agent bot was never written down" in caplog.text
