"""Who lives: nothing is taken from a process that was heard of, and all from one that was not, for good."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from interlock import Governor, LeaseLost, Misuse, current_call, governed
from interlock.errors import Conflict
from interlock.store import leases, owners, recovery, sessions
from interlock.testing import ManualClock
from tests.recovery._left import (
    INSTANT,
    POLICY,
    TERM,
    Process,
    again,
    hold,
    kinds,
    reserved,
    rows,
    sound,
)

pytestmark = pytest.mark.promise(6)

Make = Callable[..., Governor]


@pytest.fixture
def database(either: str) -> str:
    """Run every test here on both databases."""
    return either


def owner_ids(governor: Governor) -> list[str]:
    """Who has a row."""
    return governor.read(
        lambda c: [row.id for row in c.execute(owners.tables_of(c).owners.select())]
    )


def beat(governor: Governor) -> bool:
    """Say that the process lives, as its thread does."""
    return governor.write(owners.beat, governor._store.owner)


def test_the_living_keep_what_they_have(governor: Make, clock: ManualClock) -> None:
    """Broken if anything is taken a moment before the term is over, or from somebody who was heard of meanwhile."""
    left, other = Process(governor(POLICY, clock=clock)), governor(POLICY, clock=clock)
    stream = left.begin(hold)
    clock.advance(TERM - INSTANT)
    before = rows(other)
    assert not other.recover().changed
    assert rows(other) == before
    assert beat(left.governor)
    clock.advance(TERM - INSTANT)
    assert not other.recover().changed
    assert list(stream) == []
    left.leave()
    assert kinds(other, left.session.id)[-2:] == ["call_finished", "session_closed"]
    assert sound(other)


def test_taken_when_the_term_is_over(governor: Make, clock: ManualClock) -> None:
    """Broken if a process is believed to live for longer than its term."""
    left, other = Process(governor(POLICY, clock=clock)), governor(POLICY, clock=clock)
    left.begin(hold)
    clock.advance(TERM)
    assert len(other.recover().doubted) == 1


def test_nobody_declares_itself_lost(governor: Make, clock: ManualClock) -> None:
    """Broken if a process that recovers takes what is its own, having been silent."""
    left = Process(governor(POLICY, clock=clock))
    stream = left.begin(hold)
    clock.advance(TERM)
    assert not left.governor.recover().changed
    assert list(stream) == []
    left.leave()
    assert kinds(left.governor, left.session.id)[-1] == "session_closed"


def test_the_stale_write_nothing(
    governor: Make, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Broken if a process that was given up records an outcome, or closes what others have now; or is not told."""
    left, other = Process(governor(POLICY, clock=clock)), governor(POLICY, clock=clock)
    streams = [left.begin(hold), left.begin(again)]
    clock.advance(TERM)
    other.recover()
    with other.resume_session(left.session.id):
        before = rows(other)
        assert [list(stream) for stream in streams] == [[], []]
        left.leave()
        assert rows(other) == before
        assert list(hold()) == ["k"]
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert len([one for one in said if "could not be recorded" in one]) == 2
    assert len([one for one in said if "is not closed here" in one]) == 1
    assert sound(other)


def test_the_stale_go_on_as_another(governor: Make, clock: ManualClock) -> None:
    """Broken if a process that was given up cannot begin anything, or what it begins is given up, too."""
    left, other = Process(governor(POLICY, clock=clock)), governor(POLICY, clock=clock)
    stale = left.begin(hold)
    was = left.governor._store.owner.id
    clock.advance(TERM)
    other.recover()
    with left.governor.session("next", agent="bot", org="acme") as session:
        stream = hold()
        assert next(stream) == "k"
        assert left.governor._store.owner.id != was
        clock.advance(TERM - INSTANT)
        assert not other.recover().changed
        assert list(stream) == []
    assert kinds(other, session.id)[-2:] == ["call_finished", "session_closed"]
    assert list(stale) == []
    assert len(other.read(lambda c: c.execute(owners.tables_of(c).intents.select()).all())) == 1
    assert sound(other)


def test_the_stale_call_as_another(governor: Make, clock: ManualClock) -> None:
    """Broken if a call is admitted in the name of somebody who is lost, so that nobody would ever find it."""
    left, other = Process(governor(POLICY, clock=clock)), governor(POLICY, clock=clock)
    was = left.governor._store.owner.id
    clock.advance(TERM)
    assert other.write(recovery.declare) == [was]  # and is cut off there: the session is still open
    stream = left.begin(hold)
    [intent] = other.read(lambda c: c.execute(owners.tables_of(c).intents.select()).all())
    assert intent.owner == left.governor._store.owner.id != was
    assert not other.recover().doubted
    assert list(stream) == []
    assert sound(other)


def test_found_lost_by_the_heart(governor: Make, clock: ManualClock) -> None:
    """Broken if a process does not learn by its own heartbeat that it was given up."""
    left, other = Process(governor(POLICY, clock=clock)), governor(POLICY, clock=clock)
    clock.advance(TERM)
    other.recover()
    assert not beat(left.governor)


def test_fencing(governor: Make, clock: ManualClock) -> None:
    """Broken if a tool of a process that was given up can still write under the lease that it had."""
    first, other = governor(POLICY, clock=clock), governor(POLICY, clock=clock)

    @governed(name="hold")
    def writes() -> None:
        call = current_call()
        first.write(leases.check, call)
        clock.advance(TERM)
        other.recover()
        with pytest.raises(LeaseLost):
            first.write(leases.check, call)

    with first.session("s", agent="bot", org="acme"):
        writes()
    assert other.health().in_doubt == 1


def test_readers_are_nobody(governor: Make, clock: ManualClock) -> None:
    """Broken if a process that opens nothing has a row, which it would have to renew."""
    reader = governor(POLICY, clock=clock)
    list(reader.verify())
    reader.health()
    reader.recover()
    assert owner_ids(reader) == []


def test_who_leaves_is_gone(governor: Make, clock: ManualClock) -> None:
    """Broken if a process that has ended well leaves a row, or one that has left something open does not."""
    reader = governor(POLICY, clock=clock)
    with Governor(reader._store.url.render_as_string(hide_password=False), policy=POLICY) as well:
        with well.session("s", agent="bot", org="acme"):
            list(hold())
        assert owner_ids(reader) == [well._store.owner.id]
    assert owner_ids(reader) == []
    left = Process(governor(POLICY, clock=clock))
    left.governor.close()
    assert owner_ids(reader) == [left.governor._store.owner.id]
    clock.advance(TERM)
    assert reader.recover().paused == (left.session.id,)


def test_a_fork_is_somebody_else(governor: Make, clock: ManualClock) -> None:
    """Broken if a forked child records the end of its parent's call, or keeps its parent alive."""
    left = Process(governor(POLICY, clock=clock))
    stream = left.begin(hold)
    was = left.governor._store.owner.id
    child = os.fork()
    if child == 0:
        status = 1
        try:
            list(stream)
            status = int(left.governor._store.owner.id == was)
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert "call_finished" not in kinds(left.governor, left.session.id)
    assert reserved(left.governor) == 1
    assert list(stream) == []
    left.leave()
    assert kinds(left.governor, left.session.id)[-2:] == ["call_finished", "session_closed"]


def test_the_heart_beats_by_itself(governor: Make) -> None:
    """Broken if nobody renews the row of a process that lives."""
    left = Process(governor(POLICY, heartbeat=timedelta(milliseconds=20)))
    other = governor(POLICY)

    def seen() -> Any:
        query = owners.tables_of
        return other.read(lambda c: c.execute(query(c).owners.select()).one().seen_at)

    first = seen()
    deadline = time.monotonic() + 20
    while seen() == first:
        assert time.monotonic() < deadline, "it never beat"
        time.sleep(0.01)
    left.leave()


@pytest.mark.parametrize("heartbeat", [timedelta(0), timedelta(seconds=-1)])
def test_a_senseless_heartbeat(governor: Make, heartbeat: timedelta) -> None:
    """Broken if a governor can be made that is given up at once."""
    with pytest.raises(Misuse):
        governor(POLICY, heartbeat=heartbeat)


def test_a_paused_session_is_nobodys(governor: Make, clock: ManualClock) -> None:
    """Broken if a session that waits for a human is taken for one that was left."""
    left, other = Process(governor(POLICY, clock=clock)), governor(POLICY, clock=clock)
    left.session.pause()
    clock.advance(TERM)
    done = other.recover()
    assert (done.lost != (), done.paused) == (True, ())
    with pytest.raises(Conflict):
        other.write(sessions.pause_session, left.session.id)
    assert sound(other)
