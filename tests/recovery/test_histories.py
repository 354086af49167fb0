"""Whatever several processes begin, end, leave and recover, in whatever order: the books agree, and no call is lost."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock import Governor, Refused
from interlock.errors import Conflict
from interlock.events import CallDecided, CallDoubted, CallFinished, CallRecovered, understood
from interlock.store import owners, recovery
from interlock.store.events import whole_history
from interlock.store.owner import BEAT
from interlock.testing import ManualClock
from tests.recovery._left import POLICY, Process, again, ask, hold, reserved, sound

Make = Callable[..., Governor]
TOOLS = (hold, again, ask)
KEYS = ("yes", "no", "unknown")

ACTS = (
    "open",
    "begin",
    "begin",
    "end",
    "leave",
    "beat",
    "wait",
    "wait",
    "recover",
    "resolve",
    "resume",
)


class World:
    """Three processes on one store, each with its sessions and calls."""

    def __init__(
        self, governors: list[Governor], clock: ManualClock, chance: random.Random
    ) -> None:
        self.governors = governors
        self.clock = clock
        self.chance = chance
        self.processes: list[Process] = []
        self.done: Counter[str] = Counter()

    def act(self, name: str) -> None:
        """Do something of that name, if there is anything to do it to."""
        self.done[name] += 1
        governor = self.chance.choice(self.governors)
        process = self.chance.choice(self.processes) if self.processes else None
        match name:
            case "open":
                self.processes.append(Process(governor))
            case "beat":
                governor.write(owners.beat, governor._store.owner)
            case "wait":
                self.clock.advance(BEAT * self.chance.choice((0.5, 1, 2)))
            case "recover":
                tools = [ask] if self.chance.random() < 0.5 else []
                self.done["taken"] += governor.recover(tools=tools).changed
            case "resolve":
                for one in governor.read(recovery.in_doubt, limit=1):
                    happened = self.chance.random() < 0.5
                    governor.write(recovery.resolve, one.call_id, happened=happened, by="ann")
                    self.done["resolved"] += 1
            case _ if process is not None:
                self._of_process(name, process, governor)

    def _of_process(self, name: str, process: Process, governor: Governor) -> None:
        try:
            match name:
                case "begin":
                    process.begin(self.chance.choice(TOOLS), self.chance.choice(KEYS))
                case "end" if process.streams:
                    process.streams.pop(self.chance.randrange(len(process.streams))).close()
                case "leave":
                    self.processes.remove(process)
                    try:
                        process.leave()
                    finally:
                        for stream in process.streams:  # or the collector does, at any moment
                            stream.close()
                case "resume":
                    with governor.resume_session(process.session.id):
                        list(again())
        except (Refused, Conflict):  # it is paused, or closed, by another
            self.done["refused"] += 1


def judge(governor: Governor) -> Counter[str]:
    """Assert that each call has come to exactly one end, or to none that the books do not show."""
    ends: Counter[str] = Counter()
    for report in governor.verify():
        admitted: set[str] = set()
        ended: Counter[str] = Counter()
        doubted: Counter[str] = Counter()
        for one in governor.read(lambda c, s=report.session_id: list(whole_history(c, s))):
            match understood(one.event, "here"):
                case CallDecided(call_id=call_id, admitted=True):
                    admitted.add(call_id)
                case CallFinished(call_id=call_id) | CallRecovered(call_id=call_id):
                    ended[call_id] += 1
                    ends[one.kind] += 1
                case CallDoubted(call_id=call_id):
                    doubted[call_id] += 1
                    assert not ended[call_id]
                case _:
                    pass
        assert set(ended) <= admitted
        assert set(doubted) <= admitted
        assert max((*ended.values(), *doubted.values(), 1)) == 1
        assert set(report.in_doubt) == admitted - {call for call in ended if ended[call]}
        ends["open"] += len(report.in_doubt)
    assert reserved(governor) == ends["open"]
    assert sound(governor)
    return ends


reached: Counter[str] = Counter()


def run(make: Make, acts: list[str], seed: int) -> None:
    """Play *acts*, and judge what is left."""
    clock = ManualClock()
    policy: dict[str, Any] = {
        **POLICY,
        "budgets": [{"name": "all", "per": "org", "calls": 10_000}],
        "leases": [{**POLICY["leases"][0], "max_concurrent": 900}],
    }
    world = World([make(policy, clock=clock) for _ in range(3)], clock, random.Random(seed))
    for name in ("open", "open", *acts):
        world.act(name)
    reached.update(judge(world.governors[0]))
    clock.advance(timedelta(days=1))
    last = make(policy, clock=clock)
    last.recover()
    ends = judge(last)
    reached.update(ends)
    assert ends["open"] == last.health().in_doubt
    assert last.health().running == 0
    assert not last.recover().changed


def search(tmp_path_factory: pytest.TempPathFactory, examples: int) -> None:
    """Look for a history after which something is wrong."""
    reached.clear()

    @settings(max_examples=examples)
    @given(st.lists(st.sampled_from(ACTS), min_size=30, max_size=60), st.integers(0, 2**32))
    def histories(acts: list[str], seed: int) -> None:
        made: list[Governor] = []

        def make(policy: object, **options: Any) -> Governor:
            made.append(Governor(url, policy=policy, **options))
            return made[-1]

        url = f"sqlite:///{tmp_path_factory.mktemp('history') / 'interlock.db'}"
        try:
            run(make, acts, seed)
        finally:
            for one in made:
                one.close()

    for _ in range(5):  # a few may leave one of them out
        histories()
        if len(+reached) == 3:
            break
    assert set(+reached) == {"call_finished", "call_recovered", "open"}


@pytest.mark.promise(6)
def test_random_histories(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Broken if there is an order in which recovery loses a call, ends one twice, or leaves books that disagree."""
    search(tmp_path_factory, 5)


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.promise(6)
def test_very_many_random_histories(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Broken as above, if more rarely: in 300 histories."""
    search(tmp_path_factory, 300)


@pytest.mark.promise(6)
def test_long_histories(governor: Make, either: str) -> None:
    """Broken as above, on both databases."""
    chance = random.Random(1)

    def make(policy: object, **options: Any) -> Governor:
        return governor(policy, url=either, **options)

    run(make, [chance.choice(ACTS) for _ in range(80)], 1)
