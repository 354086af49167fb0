"""Races against a halt: eight processes that call while somebody halts, and that have a policy halt."""

import random
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import Connection, select

from interlock import Governor, events
from interlock._halt import Halted, HaltTarget
from interlock.store import halts
from interlock.store.events import from_row
from interlock.store.statements import tables_of
from tests.callers import history
from tests.policies import document, rule
from tests.races import _worker as worker
from tests.races._audit import audit
from tests.races._crew import Crew

Make = Callable[..., Governor]
OVER = "the race is over"
THREADS = 2


@pytest.fixture
def database(either: str) -> str:
    """Run every race here on both databases."""
    return either


def _heads(connection: Connection) -> dict[str, int]:
    table = tables_of(connection).sessions
    return {row.id: row.head for row in connection.execute(select(table.c.id, table.c.head))}


def _halt_and_look(connection: Connection, reason: str) -> tuple[Halted, dict[str, int]]:
    """Halt as `Governor.halt` does, and read in its very transaction how far each session has come."""
    halted = halts.engage(connection, HaltTarget.of(org="acme"), reason=reason, by="ann")
    return halted, _heads(connection)


def _decided_since(connection: Connection, heads: dict[str, int]) -> dict[str, list[bool]]:
    """Return of each session whether what was decided after that was admitted, in order."""
    table = tables_of(connection).events
    found: dict[str, list[bool]] = {}
    for session_id, head in heads.items():
        query = select(table).where(
            table.c.session_id == session_id, table.c.seq > head, table.c.kind == "call_decided"
        )
        rows = connection.execute(query.order_by(table.c.seq))
        decided = [from_row(row).event for row in rows]
        found[session_id] = [d.admitted for d in decided if isinstance(d, events.CallDecided)]
    return found


def _wait_for_calls(one: Governor, heads: dict[str, int], more: int) -> None:
    """Return once so many events were added."""
    while sum(one.read(_heads).values()) < sum(heads.values()) + more:
        pass


def _no_admission_after_a_halt(one: Governor, database: str, crew: Crew, rounds: int) -> int:
    """Halt and release again and again; return how many calls were under way at the moments of halting."""
    under_way, seed = 0, random.randrange(2**32)
    chance = random.Random(seed)
    order = {"url": database, "policy": worker.ALLOW, "session": None, "who": {"org": "acme"}}
    with ThreadPoolExecutor(1) as pool:
        racing: Future[Any] = pool.submit(
            crew.all, "call_until_halted", **order, threads=THREADS, reason=OVER
        )
        try:
            while len(one.read(_heads)) < len(crew) * THREADS:
                assert not racing.done(), racing.result()
            for number in range(rounds):
                halted, heads = one.write(_halt_and_look, "drill")
                under_way += halted.running or 0
                while not all((found := one.read(_decided_since, heads)).values()):
                    assert not racing.done(), racing.result()
                admitted = [session for session, came in found.items() if any(came)]
                assert admitted == [], f"round {number}, seed {seed}"
                one.release(halted.halt.id, reason="go on", by="ann")
                _wait_for_calls(one, one.read(_heads), len(heads) + chance.randrange(64))
        finally:
            for halt in one.halts():
                one.release(halt.id, reason="go on", by="ann")
            one.halt(system=True, reason=OVER, by="ann")
        answers = racing.result()
    assert {error for answer in answers for error in answer["errors"]} == {"HaltedError"}
    assert all(answer["returned"] for answer in answers)
    return under_way


@pytest.mark.promise(4)
def test_nothing_is_admitted_after_a_halt(governor: Make, database: str, crew: Crew) -> None:
    """Broken if, of eight processes that call as fast as they can, one gets a call in after the halt."""
    one = governor(worker.ALLOW)
    under_way = _no_admission_after_a_halt(one, database, crew, 6)
    assert under_way > 0, "no halt came while a call was under way: no race was run"
    audit(one)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.promise(4)
def test_nothing_is_admitted_after_a_thousand_halts(
    governor: Make, database: str, crew: Crew
) -> None:
    """Broken if at one of 1,000 random instants one of eight processes gets a call in after the halt."""
    one = governor(worker.ALLOW)
    under_way = _no_admission_after_a_halt(one, database, crew, 1_000)
    assert under_way > 500
    audit(one)


@pytest.mark.promise(4)
def test_of_many_sessions_exactly_the_right_ones_stop(
    governor: Make, database: str, crew: Crew
) -> None:
    """Broken if of 100 sessions of 10 agents in 5 organisations one too many or too few is stopped, in any process."""
    one = governor(worker.ALLOW)
    sessions = []
    for number in range(100):
        who = {"agent": f"a-{number % 10}", "org": f"o-{number // 10 % 5}", "user": f"u-{number}"}
        sessions.append((one.write(one.session("race", **who)._open).session_id, who))
    one.halt(agent="a-3", reason="drill", by="ann")
    one.halt(org="o-2", reason="drill", by="ann")
    one.halt(user="u-51", reason="drill", by="ann")
    one.halt(session=sessions[88][0], reason="drill", by="ann")
    lifted = one.halt(org="o-4", reason="drill", by="ann")
    one.release(lifted.halt.id, reason="over", by="ann")
    expected = {
        session_id
        for number, (session_id, who) in enumerate(sessions)
        if who["agent"] == "a-3" or who["org"] == "o-2" or number in {51, 88}
    }
    assert len(expected) == 10 + 20 - 2 + 2
    random.shuffle(sessions)
    shares = [sessions[start::4] for start in (0, 1, 2, 3)] * 2  # each is called by two
    answers = crew.together(
        [{"do": "call_in_each", "url": database, "sessions": share} for share in shares]
    )
    for share, answer in zip(shares, answers, strict=True):
        stopped = expected & {session_id for session_id, _ in share}
        assert (set(answer["stopped"]), answer["errors"]) == (stopped, {})
        assert len(answer["returned"]) == len(share) - len(stopped)


@pytest.mark.promise(4)
def test_many_who_are_refused_at_once_halt_once(governor: Make, database: str, crew: Crew) -> None:
    """Broken if of eight processes that together reach the refusal too many each halts, or none does."""
    policy = document(
        rule("no", "act", verdict="deny"), halts=[{"after_refusals": 40, "halt": "agent"}]
    )
    one = governor(policy)
    with one.session("shared", agent="racer") as shared:
        with ThreadPoolExecutor(1) as pool:
            order = {"url": database, "policy": policy, "session": shared.id, "who": {}}
            racing = pool.submit(
                crew.all,
                "call_until_halted",
                **order,
                threads=8,
                reason="40 calls in a row were refused",
            )
            answers = racing.result()
        [halt] = one.halts(released=True)
        assert (str(halt.target), halt.by) == ("agent racer", "policy:p")
        told = [e for e in history(one, shared.id) if isinstance(e, events.HaltOrdered)]
        assert [one.halt_id for one in told] == [halt.id]
    errors = sum((Counter(answer["errors"]) for answer in answers), Counter[str]())
    assert set(errors) == {"Denied", "HaltedError"}
    assert (errors["HaltedError"], errors["Denied"] >= 40) == (64, True)
    assert sum("Denied" in answer["errors"] for answer in answers) > 1, "one process was alone"
    assert one.verify_books() == {}
    audit(one)
