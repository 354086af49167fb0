"""Counters: what they say is what the events add up to, whoever counted, and whatever it is."""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import create_engine, select, update

from interlock import Governor, Identity, governed, hookimpl
from interlock._counters import ACCURACY, MOST, MovedAs, What, bucket, counts, middle_us
from interlock._state import SessionStatus, status_after
from interlock.errors import ApprovalNeeded, BudgetExceeded, InterlockError, Misuse
from interlock.events import (
    Event,
    Outcome,
    SessionClosed,
    SessionOpened,
    SessionPaused,
    SessionResumed,
)
from interlock.store import counters, sessions, tickets
from interlock.store.health import health
from interlock.store.scorecard import scorecard
from interlock.store.statements import tables_of
from interlock.testing import ManualClock
from tests.samples import NOW

Make = Callable[..., Governor]
DAY = timedelta(days=1)
POLICY: dict[str, Any] = {
    "version": 1,
    "name": "desk",
    "default": "deny",
    "rules": [
        {"id": "look", "tools": ["look"], "verdict": "allow"},
        {"id": "pay", "tools": ["pay"], "verdict": "ask"},
        {"id": "wire", "tools": ["wire"], "verdict": "steer", "guidance": "Use pay."},
    ],
    "budgets": [{"name": "looks", "per": "session", "tools": ["look"], "calls": 3}],
}


@governed(cost=Decimal("0.25"))
def look() -> str:
    """Look."""
    return "seen"


@governed
def pay(order: str) -> str:
    """Pay."""
    if order == "bad":
        raise ValueError(order)
    return order


@governed
def wire() -> None:
    """Wire."""


@pytest.fixture
def database(either: str) -> str:
    """Run every test here on both databases."""
    return either


def asked(order: str) -> str:
    """Ask for a payment; return the ticket."""
    with pytest.raises(ApprovalNeeded) as refused:
        pay(order)
    return refused.value.ticket.id


def a_day(governor: Governor, clock: ManualClock) -> None:
    """Do of everything a little, in one session that ends."""
    with governor.session("s", agent="bot"):
        for _ in range(3):
            look()
        with pytest.raises(BudgetExceeded):
            look()
        with pytest.raises(InterlockError):
            wire()
        yes, no, bad, _ = (asked(order) for order in ("o-1", "o-2", "bad", "o-4"))
        clock.advance(timedelta(seconds=10))
        governor.write(tickets.approve, yes, by="ann")
        governor.write(tickets.deny, no, by="ann")
        clock.advance(timedelta(seconds=90))
        governor.write(tickets.approve, bad, by="ann")
        pay("o-1")
        with pytest.raises(ValueError, match="bad"):
            pay("bad")


def test_a_scorecard_says_what_happened(governor: Make, clock: ManualClock) -> None:
    """Broken if any number of a scorecard is not what was done."""
    its = governor(POLICY, clock=clock)
    a_day(its, clock)
    card = its.read(scorecard)

    assert {str(verdict): n for verdict, n in card.decisions.items()} == {
        "allow": 3,
        "deny": 1,
        "steer": 1,
        "ask": 6,
    }
    assert card.admitted == 5
    assert card.unenforced == {}
    assert {(str(one.verdict), one.by, one.calls) for one in card.carried} == {
        ("allow", "policy:desk/look", 3),
        ("deny", "budget:looks", 1),
        ("steer", "policy:desk/wire", 1),
        ("ask", "policy:desk/pay", 6),
    }
    assert [one.calls for one in card.carried] == [6, 3, 1, 1]
    assert card.refusals_by_budget == {"looks": 1}
    assert {str(state): n for state, n in card.approvals.states.items()} == {
        "approved": 2,
        "denied": 1,
        "cancelled": 1,
    }
    assert {str(outcome): n for outcome, n in card.outcomes.items()} == {"returned": 4, "raised": 1}
    assert (card.cost_usd, card.cost_per_success, card.unpriced) == (
        Decimal("0.75"),
        Decimal("0.25"),
        1,
    )
    assert card.faults == {}
    assert {str(status): n for status, n in card.sessions.items()} == {"open": 1, "completed": 1}
    assert (card.since, card.until) == (NOW, NOW + DAY)
    assert its.verify_books() == {}


def test_how_long_an_answer_took(governor: Make, clock: ManualClock) -> None:
    """Broken if percentiles are of other answers than those of people, or off by more than one percent."""
    its = governor(POLICY, clock=clock)
    a_day(its, clock)
    approvals = its.read(scorecard).approvals
    for found, seconds in ((approvals.p50, 10), (approvals.p90, 100), (approvals.p99, 100)):
        assert found is not None
        assert abs(found.total_seconds() - seconds) <= ACCURACY * seconds
    nobody = its.read(scorecard, since=NOW - DAY, until=NOW - DAY).approvals
    assert (nobody.p50, nobody.p90, nobody.p99) == (None, None, None)


def test_days_are_those_of_utc(governor: Make, clock: ManualClock) -> None:
    """Broken if an event counts for another day than that on which it was written."""
    its = governor(POLICY, clock=clock)
    clock.advance(DAY - timedelta(microseconds=1))
    with its.session("late", agent="bot"):
        look()
        clock.advance(timedelta(microseconds=1))
        look()

    def looked(**span: datetime) -> int:
        return its.read(scorecard, **span).outcomes.get(Outcome.RETURNED, 0)

    assert looked(since=NOW, until=NOW) == 1
    assert looked() == looked(since=NOW + DAY, until=NOW + 2 * DAY) == 1
    assert looked(since=NOW, until=NOW + DAY) == 2
    assert looked(since=NOW + 2 * DAY, until=NOW + 9 * DAY) == 0


def test_a_span_that_is_none_is_refused(governor: Make, clock: ManualClock) -> None:
    """Broken if a span that ends before it begins, or a time without a zone, is taken for something."""
    its = governor(POLICY, clock=clock)
    with pytest.raises(Misuse, match="cannot end on 2025-12-31 and begin on 2026-01-01"):
        its.read(scorecard, since=NOW, until=NOW - DAY)
    with pytest.raises(Misuse, match="has no time zone"):
        its.read(scorecard, since=datetime(2026, 1, 1))  # noqa: DTZ001 - the point


def test_what_is_not_enforced_is_told_apart(governor: Make) -> None:
    """Broken if what a policy would refuse, or a dry run simulates, is counted as refused or as done."""
    its = governor({**POLICY, "mode": "observe"})
    with its.session("watched", agent="bot"):
        wire()
    with governor(POLICY).session("rehearsed", agent="bot", dry_run=True):
        look()
    card = its.read(scorecard)
    assert (card.decisions, card.admitted) == ({}, 0)
    assert {str(verdict): n for verdict, n in card.unenforced.items()} == {"steer": 1, "allow": 1}


def test_who_fails_to_judge_is_counted(governor: Make) -> None:
    """Broken if a failing plugin is not named with how often it failed."""

    class Broken:
        @hookimpl
        def interlock_opinion(self, call: object) -> None:
            raise RuntimeError

    its = governor(POLICY, plugins=[Broken()])
    with its.session("s", agent="bot"):
        for _ in range(3):
            with pytest.raises(InterlockError):
                look()
    assert its.read(scorecard).faults == {f"plugin:{Broken.__qualname__}": 3}


@pytest.fixture
def open_one(governor: Make, clock: ManualClock) -> Iterator[Governor]:
    """A governor with a session in each state, a call that runs, a ticket that waits, one that expired, and a halt."""
    its = governor(POLICY, clock=clock)
    with its.session("done", agent="bot"):
        pass
    with pytest.raises(ZeroDivisionError), its.session("failed", agent="bot"):
        raise ZeroDivisionError
    with its.session("paused", agent="bot") as paused:
        asked("o-1")
        clock.advance(timedelta(minutes=59))
        asked("o-2")
        clock.advance(timedelta(minutes=2))
        paused.pause()
    its.halt(agent="other", reason="drill", by="ann")
    with its.session("open", agent="bot"):
        yield its


def test_health_says_what_is_open(open_one: Governor, clock: ManualClock) -> None:
    """Broken if health misses or invents a session, a ticket that can be answered, a running call or a halt."""
    seen = []

    @governed(name="look")
    def looking() -> None:
        seen.append(open_one.health())

    looking()
    [within] = seen
    assert {str(status): n for status, n in within.sessions.items()} == {
        "open": 1,
        "paused": 1,
        "completed": 1,
        "aborted": 1,
    }
    assert (within.pending, within.pending_since) == (1, clock.now() - timedelta(minutes=2))
    assert (within.running, within.running_since) == (1, clock.now())
    assert within.halts == 1
    assert within.writing is not None
    after = open_one.read(health)
    assert (after.running, after.running_since, after.writing) == (0, None, None)


def test_a_paused_session_goes_on_and_ends(governor: Make) -> None:
    """Broken if a session that is resumed, or closed while it is paused, is counted twice or not at all."""
    its = governor(POLICY)
    with its.session("a", agent="bot") as first:
        first.pause()
    with its.resume_session(first.id):
        assert its.health().sessions == {SessionStatus.OPEN: 1}
    with its.session("b", agent="bot") as second:
        second.pause()
    its.write(sessions.close_session, second.id, error_type="Lost")
    assert its.health().sessions == {SessionStatus.COMPLETED: 1, SessionStatus.ABORTED: 1}
    assert its.verify_books() == {}


def test_a_crowd_waits_and_is_seen(governor: Make) -> None:
    """Broken if how long a transaction waited for its turn is not told."""
    its = governor(POLICY)
    inside, go = threading.Event(), threading.Event()

    def hold(_: object) -> None:
        inside.set()
        go.wait(30)

    holder = threading.Thread(target=its.write, args=(hold,))
    holder.start()
    inside.wait(30)
    waiting = [threading.Thread(target=its.write, args=(lambda _: None,)) for _ in range(3)]
    for thread in waiting:
        thread.start()
    writing = its._machinery.store.writing
    while writing().waiting < len(waiting):
        time.sleep(0.005)
    go.set()
    for thread in (holder, *waiting):
        thread.join()
    while writing().waiting:  # callers are woken before the writer is done with them
        time.sleep(0.005)
    assert writing().lag_us > 0


@given(st.integers(0, 10**15))
def test_a_duration_is_near_the_middle_of_its_bucket(duration_us: int) -> None:
    """Broken if a percentile can be off by more than it says, but for what is lost below one microsecond."""
    shown = middle_us(bucket(duration_us))
    assert abs(shown - max(1, duration_us)) <= math.ceil(ACCURACY * duration_us) + 1


@given(st.lists(st.sampled_from(["paused", "resumed", "closed", "failed"]), max_size=8))
def test_every_session_has_one_status(moves: list[str]) -> None:
    """Broken if whatever happens to a session leaves it counted under another status than it has, or twice."""
    kinds: dict[str, Event] = {
        "paused": SessionPaused(),
        "resumed": SessionResumed(),
        "closed": SessionClosed(),
        "failed": SessionClosed(error_type="E"),
    }
    opened = SessionOpened(name="s", agent="a")
    there: list[SessionStatus | None] = [None]
    status = None
    for event in (opened, *(kinds[move] for move in moves)):
        for one in counts(event, status):
            assert (one.what, one.n, one.amount) == (What.SESSIONS, 1, 0)
            moved = counters.named(one, MovedAs)
            assert moved.before is there[-1]
            there.append(moved.after)
        status = status_after(status or SessionStatus.OPEN, event)
    assert there[-1] is status


def test_no_sum_keeps_an_event_from_being_written(governor: Make) -> None:
    """Broken if costs beyond what the column holds make a call fail, or the sum wrap around."""
    its = governor({"version": 1, "name": "p", "default": "allow"})

    @governed(cost=Decimal(10**15))
    def dear() -> str:
        return "done"

    with its.session("s", agent="bot"):
        assert [dear() for _ in range(3)] == ["done"] * 3
    assert its.read(scorecard).cost_usd == Decimal(MOST).scaleb(-9)
    assert its.verify_books() == {}


@pytest.mark.parametrize("column", ["n", "amount"])
def test_a_counter_that_was_changed_is_named(column: str, governor: Make) -> None:
    """Broken if somebody can make the numbers look better than they are."""
    its = governor(POLICY)
    with its.session("s", agent="bot"):
        look()

    def forge(connection: Any) -> None:
        table = tables_of(connection).counters
        where = table.c.what == What.FINISHED.value
        connection.execute(update(table).where(where).values({column: table.c[column] + 1}))

    its.write(forge)
    today = datetime.now(UTC)
    [problem] = its.verify_books()["counters"]
    assert problem.startswith(f'counter finished ["returned",true] of {today:%Y-%m-%d} is ')
    assert problem.endswith("but adds up to 1 and 250000000 nano-dollars")


def test_two_workers_count_beside_each_other(governor: Make, database: str) -> None:
    """Broken if of two processes' worth of writers one loses what the other counted, or they wait for each other."""
    ours = [governor(POLICY), governor(POLICY)]
    for its in ours:
        with its.session("s", agent="bot"):
            look()
    assert {one.read(scorecard).outcomes[Outcome.RETURNED] for one in ours} == {2}

    def shards(connection: Any) -> set[int]:
        return set(connection.execute(select(tables_of(connection).counters.c.shard)).scalars())

    is_sqlite = database.startswith("sqlite")
    assert len(ours[0].read(shards)) == (1 if is_sqlite else 2)


def test_a_hosts_transaction_counts_by_itself(governor: Make, postgres: str) -> None:
    """Broken if a host that does not commit keeps the writer from counting."""
    its = governor(POLICY, url=postgres)
    engine = create_engine(its._machinery.store.url)
    with engine.connect() as connection:
        its.join(connection, sessions.open_session, "theirs", Identity(agent="host"), policy=None)
        with its.session("ours", agent="bot"):  # it would wait for ever
            look()
        connection.commit()
    engine.dispose()
    assert its.health().sessions == {SessionStatus.OPEN: 1, SessionStatus.COMPLETED: 1}
    assert its.verify_books() == {}


def test_days_gone_by_are_joined(governor: Make, clock: ManualClock, database: str) -> None:
    """Broken if joining the rows of workers changes a sum, or touches a day on which somebody may still count."""
    ours = [governor(POLICY, clock=clock) for _ in range(3)]
    for day in range(4):
        clock.advance(DAY if day else timedelta(0))
        for its in ours:
            with its.session(f"day {day}", agent="bot"):
                look()
    its = ours[0]
    before = its.read(scorecard, since=NOW, until=NOW + 3 * DAY)
    saved = its.write(counters.join)
    assert its.read(scorecard, since=NOW, until=NOW + 3 * DAY) == before
    assert its.verify_books() == {}
    # Two days of four are over for good; each had the rows of three workers, of which one is left.
    rows = 0 if database.startswith("sqlite") else 2 * 2 * 4
    assert saved == rows
    assert its.write(counters.join) == 0


def test_what_is_counted_is_what_is_folded(governor: Make) -> None:
    """Broken if after any run of calls the counters are not what the sessions' own states add up to."""
    its = governor(POLICY)
    some = random.Random(7)
    states = []
    for number in range(6):
        with its.session(f"s {number}", agent="bot") as session:
            for _ in range(some.randrange(6)):
                with suppress(InterlockError):
                    some.choice([look, wire, partial(pay, "o-1")])()
        states.append(session.state())
    card = its.read(scorecard)
    for verdict, n in card.decisions.items():
        assert n == sum(state.verdicts.get(verdict, 0) for state in states)
    assert card.outcomes == {
        outcome: n
        for outcome in Outcome
        if (n := sum(state.outcomes.get(outcome, 0) for state in states))
    }
    assert card.cost_usd == sum(state.cost_usd for state in states)
