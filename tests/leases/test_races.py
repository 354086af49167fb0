"""Leases under contention: exact among threads, tasks and processes, also where holders stand still, or die."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from interlock import Governor, events
from interlock.store.events import whole_history
from interlock.store.verify import session_ids
from tests.leases._crew import Crew, log_of
from tests.leases._desk import sound

pytestmark = pytest.mark.promise(3)


@pytest.fixture
def crews() -> Iterator[list[Crew]]:
    """Crews that end with the test."""
    made: list[Crew] = []
    yield made
    for crew in made:
        crew.close()


def granted(governor: Governor) -> list[events.CallDecided]:
    """All calls that took a lease."""
    found: list[events.CallDecided] = []

    def look(connection: Any) -> None:
        for session_id in session_ids(connection, limit=1_000):
            for recorded in whole_history(connection, session_id):
                event = recorded.event
                if isinstance(event, events.CallDecided) and event.leases:
                    found.append(event)

    governor.read(look)
    return found


def expect_one_at_a_time(url: str, crew: Crew) -> None:
    """Nobody wrote after a later holder had, no token was given twice, and the books agree."""
    with Governor(url, policy=crew.policy) as governor:
        for resource, tokens in log_of(governor).items():
            assert tokens == sorted(tokens), resource
        slots = [slot for event in granted(governor) for slot in event.leases]
        assert len({(slot.key, slot.token) for slot in slots}) == len(slots)
        assert sound(governor)


@pytest.mark.parametrize(
    ("how", "count", "processes", "most"),
    [
        ("threads", 8, 1, 1),
        ("threads", 8, 1, 3),
        ("tasks", 64, 1, 1),
        ("threads", 2, 4, 1),
        ("tasks", 16, 4, 2),
    ],
)
def test_never_more_than_so_many(
    either: str, tmp_path: Path, crews: list[Crew], how: str, count: int, processes: int, most: int
) -> None:
    """Broken if threads, tasks or processes hold a lease together that is for fewer of them."""
    # The term is long: none is lost, so all that can go wrong is that too many are let in.
    crew = Crew(
        either,
        tmp_path,
        processes=processes,
        wanted=60,
        how=how,
        count=count,
        most=most,
        term_ms=60_000,
    )
    crews.append(crew)
    crew.begin()
    seen = crew.end()
    assert set(seen) == {"acquired", "LeaseTaken"}
    assert seen["acquired"] >= 60
    with Governor(either, policy=crew.policy) as governor:
        assert most_at_once(governor) == most
        assert sound(governor)
    if most == 1:
        expect_one_at_a_time(either, crew)


def most_at_once(governor: Governor) -> int:
    """How many held one part of a lease at the same time, by the order in which the store wrote it down."""
    moves: list[tuple[Any, Any, int]] = []

    def look(connection: Any) -> None:
        for session_id in session_ids(connection, limit=1_000):
            slots: dict[str, Any] = {}
            for recorded in whole_history(connection, session_id):
                event = recorded.event
                if isinstance(event, events.CallDecided) and event.leases:
                    slots[event.call_id] = event.leases
                    moves.extend((recorded.at, slot.key, 1) for slot in event.leases)
                elif isinstance(event, events.CallFinished):
                    moves.extend(
                        (recorded.at, slot.key, -1) for slot in slots.pop(event.call_id, ())
                    )

    governor.read(look)
    most, held = 0, dict.fromkeys((key for _, key, _ in moves), 0)
    for _, key, by in sorted(moves, key=lambda move: (move[0], move[2])):
        held[key] += by
        most = max(most, held[key])
    return most


def race_with_stops(
    url: str, directory: Path, crews: list[Crew], *, wanted: int, stops: int
) -> None:
    """Have four processes acquire *wanted* times, and stop them inside their tools for longer than a term."""
    crew = Crew(url, directory, processes=4, wanted=wanted, goes_on=True)
    crews.append(crew)
    crew.begin()
    stopped = crew.stop_inside(stops)
    crew.enough()
    seen = crew.end()
    assert set(seen) == {"acquired", "LeaseTaken", "LeaseLost"}
    assert seen["acquired"] + seen["LeaseLost"] >= wanted
    assert stopped >= stops
    # Contention was reached: stale holders came back, tried to write, and were refused.
    assert seen["LeaseLost"] >= stops // 4
    assert seen["LeaseTaken"] > stops
    expect_one_at_a_time(url, crew)


def test_holders_that_stand_still(either: str, tmp_path: Path, crews: list[Crew]) -> None:
    """Broken if a process that was stopped for longer than its lease writes as if it still held it."""
    race_with_stops(either, tmp_path, crews, wanted=200, stops=8)


@pytest.mark.soak
@pytest.mark.timeout(3_600)
def test_ten_thousand_acquisitions(either: str, tmp_path: Path, crews: list[Crew]) -> None:
    """Broken if of 10,000 acquisitions, with stops longer than the lease, two are held at once."""
    race_with_stops(either, tmp_path, crews, wanted=10_000, stops=200)


def test_a_killed_holder(either: str, tmp_path: Path, crews: list[Crew]) -> None:
    """Broken if what a dead process held is never free again, or is before its term is over."""
    crew = Crew(either, tmp_path, processes=2, wanted=40, term_ms=500, works_s=0.01)
    crews.append(crew)
    crew.begin()
    crew.kill_inside()
    seen = crew.end()
    assert set(seen) == {"acquired", "LeaseTaken"}
    assert seen["acquired"] >= 20
    with Governor(either, policy=crew.policy) as governor:
        in_doubt = [call for report in governor.verify() for call in report.in_doubt]
        displaced = {
            (slot.key, token)
            for event in granted(governor)
            for slot in event.leases
            for token in slot.displaced
        }
        assert in_doubt
        taken_over = {
            event.call_id
            for event in granted(governor)
            for slot in event.leases
            if (slot.key, slot.token) in displaced
        }
        assert set(in_doubt) & taken_over
    expect_one_at_a_time(either, crew)
