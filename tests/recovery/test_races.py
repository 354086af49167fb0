"""Several who recover at once, and recovery beside those whom it takes for gone: everything is done once."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from interlock import Governor, governed
from interlock.errors import Conflict
from interlock.events import CallRecovered
from interlock.store import owners, recovery
from interlock.store.recovery import Settled
from interlock.testing import ManualClock
from tests.recovery._left import POLICY, TERM, Process, again, ask, hold, kinds, sound, told

pytestmark = pytest.mark.promise(3, 6)

Make = Callable[..., Governor]

WIDE = {**POLICY, "leases": []}
"""A policy under which many calls run at once."""


@pytest.fixture
def database(either: str) -> str:
    """Run every test here on both databases."""
    return either


@governed(idempotent=True)
def takes_long() -> None:
    """Run for about as long as it takes to recover."""
    time.sleep(0.005)


def at_once(governors: list[Governor], do: Callable[[Governor], object]) -> list[object]:
    """What each comes to, all begun at the same moment."""
    barrier = threading.Barrier(len(governors))

    def body(governor: Governor) -> object:
        barrier.wait()
        return do(governor)

    with ThreadPoolExecutor(len(governors)) as pool:
        return list(pool.map(body, governors))


def test_two_settle_the_same_calls(governor: Make, clock: ManualClock) -> None:
    """Broken if two who have found the same calls both make something of one."""
    left = Process(governor(WIDE, clock=clock))
    for number in range(20):
        left.begin((hold, again, ask)[number % 3])
    clock.advance(TERM)
    several = [governor(POLICY, clock=clock) for _ in range(4)]
    several[0].write(recovery.declare)
    found = several[0].read(recovery.left)
    assert len(found) == 20
    done = at_once(several, lambda one: one.write(recovery.settle, found, {}))
    made: Counter[str] = Counter()
    for one in done:
        assert isinstance(one, Settled)
        made.update(call.call_id for call in (*one.doubted, *one.retried))
    assert set(made) == {one.call.call_id for one in found}
    assert set(made.values()) == {1}
    assert len(kinds(several[0], left.session.id)) == 1 + 20 + 20
    assert sound(several[0])


def test_many_recover_at_once(governor: Make, clock: ManualClock) -> None:
    """Broken if a call, a session or an owner is recovered by two of those who recover at the same time."""
    several = [governor(POLICY, clock=clock) for _ in range(4)]
    lefts = [Process(governor(POLICY, clock=clock)) for _ in range(3)]
    for left in lefts:
        left.begin(hold)
        left.begin(again)
    clock.advance(TERM)
    done = at_once(several, lambda one: one.recover())
    for name, n in (("lost", 3), ("doubted", 3), ("retried", 3), ("paused", 3)):
        assert sum(len(getattr(one, name)) for one in done) == n, name
    for left in lefts:
        assert Counter(kinds(several[0], left.session.id)) == {
            "session_opened": 1,
            "call_decided": 2,
            "call_doubted": 1,
            "call_recovered": 1,
            "session_paused": 1,
        }
    assert sound(several[0])


def test_several_resolve_the_same_call(governor: Make, clock: ManualClock) -> None:
    """Broken if two humans both say what became of a call, perhaps not the same."""
    left = Process(governor(POLICY, clock=clock))
    left.begin(hold)
    clock.advance(TERM)
    several = [governor(POLICY, clock=clock) for _ in range(4)]
    [found] = several[0].recover().doubted

    def resolve(one: Governor) -> bool:
        happened = several.index(one) % 2 == 0
        try:
            one.write(recovery.resolve, found.call_id, happened=happened, by="ann")
        except Conflict:
            return False
        return True

    assert sorted(map(bool, at_once(several, resolve))) == [False, False, False, True]
    assert len(told(several[0], left.session.id, CallRecovered)) == 1
    assert sound(several[0])


def test_calls_beside_recovery(
    governor: Make, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Broken if a call is admitted as one of a process that is lost, so that recovery, having returned, missed it."""
    stale, other = governor(POLICY, clock=clock), governor(POLICY, clock=clock)
    ended = threading.Event()
    made: list[str] = []

    def work() -> None:
        while not ended.is_set():
            with stale.session("s", agent="bot", org="acme") as session, session.attach():
                for _ in range(5):
                    try:
                        takes_long()
                    except Exception as error:  # noqa: BLE001 - its session was paused
                        made.append(type(error).__name__)
                        break
                    made.append("ran")

    worker = threading.Thread(target=work)
    worker.start()
    lost: list[str] = []
    missed = 0
    try:
        while (len(lost) < 15 or "could not be recorded" not in caplog.text) and len(lost) < 400:
            clock.advance(TERM)
            lost += other.recover().lost
            missed += other.read(left_of_the_lost, lost)
    finally:
        ended.set()
        worker.join()
    assert missed == 0
    assert len(set(lost)) == len(lost) >= 15
    assert "could not be recorded" in caplog.text, "no call ran while its process was given up"
    assert sound(other)


def left_of_the_lost(connection: owners.Connection, lost: list[str]) -> int:
    """How many calls run in the name of those who are lost."""
    table = owners.tables_of(connection).intents
    query = table.select().where(table.c.owner.in_(lost), table.c.doubted_at.is_(None))
    return len(connection.execute(query).all())
