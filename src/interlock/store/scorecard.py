"""scorecard(): what happened in a span of days, in numbers, read from counters and not from the history."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import msgspec
from sqlalchemy import Connection

from interlock._budget import dollars
from interlock._counters import AnsweredAs, Count, DecidedAs, FinishedAs, MovedAs, What, middle_us
from interlock._state import SessionStatus
from interlock._ticket import TicketState
from interlock._verdict import Mode, Verdict
from interlock.errors import Misuse
from interlock.events import Outcome
from interlock.store.counters import DAY, between, named
from interlock.store.statements import now

_BUDGET = "budget:"


class Carried(msgspec.Struct, frozen=True):
    """
    How often somebody carried a verdict.

    Attributes:
        verdict: The verdict.
        by: Who: `author`, or `author/rule`.
        calls: In how many decisions, alone or with others.
    """

    verdict: Verdict
    by: str
    calls: int


class Approvals(msgspec.Struct, frozen=True, kw_only=True):
    """
    What became of tickets, and how long people took to answer.

    Attributes:
        states: How many were approved, denied, cancelled, and have expired.
        p50, p90, p99: Within which time so many of a hundred yeses and noes were given, to 1 % of itself; None: none.
    """

    states: Mapping[TicketState, int]
    p50: timedelta | None
    p90: timedelta | None
    p99: timedelta | None


class Scorecard(msgspec.Struct, frozen=True, kw_only=True):
    """
    What happened from one day to another, both in UTC.

    Attributes:
        since, until: The first moment of the first day, and of the day after the last.
        sessions: How many sessions became what, those that were opened as OPEN.
        decisions: How many calls got each verdict; what was only observed or simulated is not in it.
        admitted: How many of those were let through.
        unenforced: How many calls got each verdict in modes observe and dry_run.
        carried: Who carried the verdicts, the most frequent first.
        refusals_by_budget: How many calls each budget kept from running.
        approvals: What became of tickets.
        outcomes: How many calls ended in each way.
        cost_usd: What calls cost, as far as that is known.
        unpriced: How many calls returned of which it is not known.
        cost_per_success: What the calls cost for each that returned and of which it is known; None: there is none.
        faults: How often each author failed to have an opinion.
    """

    since: datetime
    until: datetime
    sessions: Mapping[SessionStatus, int]
    decisions: Mapping[Verdict, int]
    admitted: int
    unenforced: Mapping[Verdict, int]
    carried: tuple[Carried, ...]
    refusals_by_budget: Mapping[str, int]
    approvals: Approvals
    outcomes: Mapping[Outcome, int]
    cost_usd: Decimal
    unpriced: int
    cost_per_success: Decimal | None
    faults: Mapping[str, int]


def scorecard(
    connection: Connection, *, since: datetime | None = None, until: datetime | None = None
) -> Scorecard:
    """
    Return what happened in whole days of UTC. What it takes does not grow with the history, but with the days.

    Args:
        connection: A snapshot of the store.
        since: A time on the first day; today, if it is not said.
        until: A time on the last day; today, if it is not said.

    Raises:
        Misuse: it ends before it begins, or a time has no zone.
    """
    today = now(connection)
    first, last = _day(since or today), _day(until or today)
    if last < first:
        raise Misuse(
            f"a scorecard cannot end on {last:%Y-%m-%d} and begin on {first:%Y-%m-%d}: say since= and until= in order"
        )
    end = last + DAY
    counted = {what: between(connection, what, since=first, until=end) for what in What}
    decided = [(named(one, DecidedAs), one.n) for one in counted[What.DECISIONS]]
    finished = [(named(one, FinishedAs), one) for one in counted[What.FINISHED]]
    decisions: Counter[Verdict] = Counter()
    unenforced: Counter[Verdict] = Counter()
    carried: Counter[tuple[Verdict, str]] = Counter()
    refused: Counter[str] = Counter()
    for kind, n in decided:
        (decisions if kind.mode is Mode.ENFORCE else unenforced)[kind.verdict] += n
        for by in kind.by:
            carried[kind.verdict, by] += n
            if by.startswith(_BUDGET) and not kind.admitted:
                refused[by.removeprefix(_BUDGET)] += n
    outcomes: Counter[Outcome] = Counter()
    for ended, one in finished:
        outcomes[ended.outcome] += one.n
    cost = sum(one.amount for _, one in finished)
    returned = {ended.priced: one.n for ended, one in finished if ended.outcome is Outcome.RETURNED}
    return Scorecard(
        since=first,
        until=end,
        sessions=_became(counted[What.SESSIONS]),
        decisions=decisions,
        admitted=sum(n for kind, n in decided if kind.admitted and kind.mode is Mode.ENFORCE),
        unenforced=unenforced,
        carried=tuple(Carried(*who, n) for who, n in carried.most_common()),
        refusals_by_budget=dict(refused.most_common()),
        approvals=_approvals([(named(one, AnsweredAs), one.n) for one in counted[What.ANSWERS]]),
        outcomes=outcomes,
        cost_usd=dollars(cost),
        unpriced=returned.get(False, 0),
        cost_per_success=dollars(round(cost / returned[True])) if returned.get(True) else None,
        faults={one.name: one.n for one in counted[What.FAULTS]},
    )


def _became(moves: Iterable[Count]) -> Mapping[SessionStatus, int]:
    became: Counter[SessionStatus] = Counter()
    for one in moves:
        moved: MovedAs = named(one, MovedAs)
        if (
            moved.before is None or moved.after is not SessionStatus.OPEN
        ):  # what was resumed is none more
            became[moved.after] += one.n
    return became


def _approvals(answers: list[tuple[AnsweredAs, int]]) -> Approvals:
    states: Counter[TicketState] = Counter()
    buckets: Counter[int] = Counter()
    for answer, n in answers:
        states[answer.state] += n
        if answer.state in {TicketState.APPROVED, TicketState.DENIED}:
            buckets[answer.bucket] += n
    p50, p90, p99 = (_percentile(buckets, percent) for percent in (50, 90, 99))
    return Approvals(states=states, p50=p50, p90=p90, p99=p99)


def _percentile(buckets: Counter[int], percent: int) -> timedelta | None:
    """Return the shortest time within which *percent* of all are, by the nearest rank."""
    rank, seen = -(-buckets.total() * percent // 100), 0
    for bucket in sorted(buckets):
        seen += buckets[bucket]
        if seen >= rank:
            return timedelta(microseconds=middle_us(bucket))
    return None


def _day(at: datetime) -> datetime:
    if at.tzinfo is None:
        raise Misuse(f"{at} has no time zone, so it is not known which day of UTC it is on")
    return datetime.fromtimestamp(at.timestamp() // DAY.total_seconds() * DAY.total_seconds(), UTC)
