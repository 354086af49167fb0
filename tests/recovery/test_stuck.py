"""What lives and takes longer than the policy finds good: it is told of once, and halted where that is asked."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from interlock import Governor, HaltedError
from interlock.errors import PolicyError
from interlock.events import CallStuck, SessionStuck
from interlock.policy import Policy
from interlock.testing import ManualClock
from tests.recovery._left import INSTANT, POLICY, Process, hold, kinds, rows, sound, told

Make = Callable[..., Governor]

SHORT = timedelta(seconds=10)
STUCK: dict[str, Any] = {"call_stuck_after": "10s", "session_stuck_after": "20s"}


@pytest.fixture
def database(either: str) -> str:
    """Run every test here on both databases."""
    return either


def escalating(**more: str) -> dict[str, Any]:
    """A policy that finds things stuck."""
    return {**POLICY, "recovery": {**STUCK, **more}}


def test_told_once(governor: Make, clock: ManualClock) -> None:
    """Broken if what is stuck is not told of, or too early, or again and again."""
    left, other = Process(governor(POLICY, clock=clock)), governor(escalating(), clock=clock)
    opened_at = clock.now()
    stream = left.begin(hold)
    clock.advance(SHORT - INSTANT)
    assert not other.recover().changed
    clock.advance(INSTANT)
    done = other.recover()
    assert [one.tool for one in done.stuck_calls] == ["hold"]
    assert (done.stuck_sessions, done.halted, done.lost) == ((), (), ())
    [stuck] = told(other, left.session.id, CallStuck)
    assert stuck.since == opened_at
    clock.advance(SHORT)
    done = other.recover()
    assert (done.stuck_calls, done.stuck_sessions) == ((), (left.session.id,))
    [session_stuck] = told(other, left.session.id, SessionStuck)
    assert session_stuck.since == opened_at
    before = rows(other)
    assert not other.recover().changed
    assert rows(other) == before
    assert list(stream) == []  # nothing was taken from it
    left.leave()
    assert kinds(other, left.session.id)[-2:] == ["call_finished", "session_closed"]
    assert sound(other)


def test_a_dry_run_tells_nobody(governor: Make, clock: ManualClock) -> None:
    """Broken if a dry run writes what is stuck, or does not say it."""
    left, other = Process(governor(POLICY, clock=clock)), governor(escalating(), clock=clock)
    left.begin(hold)
    clock.advance(2 * SHORT)
    before = rows(other)
    would = other.recover(dry_run=True)
    assert ([one.tool for one in would.stuck_calls], would.stuck_sessions) == (
        ["hold"],
        (left.session.id,),
    )
    assert rows(other) == before


def test_halted(governor: Make, clock: ManualClock) -> None:
    """Broken if a session that is stuck goes on though the policy says that it is to be halted."""
    left = Process(governor(POLICY, clock=clock))
    other = governor(escalating(on_stuck="halt"), clock=clock)
    left.begin(hold)
    clock.advance(SHORT)
    done = other.recover()
    assert done.halted == (left.session.id,)
    [halt] = other.halts()
    assert (halt.by, halt.target.name) == ("policy:p", left.session.id)
    with pytest.raises(HaltedError), left.session.attach():
        next(hold())
    assert not other.recover().changed
    assert kinds(other, left.session.id).count("call_stuck") == 1
    assert sound(other)


def test_resuming_begins_anew(governor: Make, clock: ManualClock) -> None:
    """Broken if a session is stuck that waited for a human, or is not told of a second time once it goes on."""
    left, other = Process(governor(POLICY, clock=clock)), governor(escalating(), clock=clock)
    clock.advance(2 * SHORT)
    assert other.recover().stuck_sessions == (left.session.id,)
    left.session.pause()
    clock.advance(2 * SHORT)
    assert other.recover().stuck_sessions == ()
    with other.resume_session(left.session.id):
        assert other.recover().stuck_sessions == ()
        clock.advance(2 * SHORT)
        assert other.recover().stuck_sessions == (left.session.id,)
    assert sound(other)


@pytest.mark.parametrize(
    "section",
    [
        {},
        {"on_stuck": "halt"},
        {"call_stuck_after": 5},
        {**STUCK, "on_stuck": "kill"},
        {**STUCK, "else": "1s"},
    ],
)
def test_senseless_sections(section: dict[str, Any]) -> None:
    """Broken if a policy can ask for what means nothing."""
    with pytest.raises(PolicyError):
        Policy.build({**POLICY, "recovery": section})
