"""
Counters: what an event adds to the numbers that health and scorecard are read from.

They are a fold of the events, so they can be recomputed, and they are written in the transaction of the event, so that
nobody has to read a history to tell how many there are of what.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from decimal import Decimal
from enum import StrEnum
from functools import lru_cache

import msgspec

from interlock import events
from interlock._budget import nano
from interlock._state import SessionStatus, status_after
from interlock._ticket import TicketState
from interlock._verdict import Mode, Opinion, Verdict

MOST = 2**63 - 1
"""Where a sum of money stops: what a signed integer of 64 bits holds, nine thousand million dollars."""

ACCURACY = 0.01
"""By how much a percentile of a duration may be off, of itself."""

# The buckets of DDSketch: a value lies within ACCURACY of the middle of its bucket.
# Masson, Rim and Lee, "DDSketch: a fast and fully-mergeable quantile sketch with relative-error guarantees", VLDB 2019.
_GAMMA = (1 + ACCURACY) / (1 - ACCURACY)
_LOG_GAMMA = math.log(_GAMMA)


class What(StrEnum):
    """
    What is counted; the name of a counter says of which.

    SESSIONS: how often one has `MovedAs`. DECISIONS: calls, by `DecidedAs`. FINISHED: calls, by `FinishedAs`, and
    what they cost. ANSWERS: tickets, by `AnsweredAs`. FAULTS: opinions that are failures, by author.
    """

    SESSIONS = "sessions"
    DECISIONS = "decisions"
    FINISHED = "finished"
    ANSWERS = "answers"
    FAULTS = "faults"


class MovedAs(msgspec.Struct, frozen=True, array_like=True):
    """From which status a session moved, None: it was opened, and to which."""

    before: SessionStatus | None
    after: SessionStatus


class DecidedAs(msgspec.Struct, frozen=True, array_like=True):
    """A kind of decision: `by` is who carries the verdict, each as `author` or `author/rule`."""

    verdict: Verdict
    mode: Mode
    admitted: bool
    by: tuple[str, ...]


class FinishedAs(msgspec.Struct, frozen=True, array_like=True):
    """A way in which a call ended, and whether it is known what it cost."""

    outcome: events.Outcome
    priced: bool


class AnsweredAs(msgspec.Struct, frozen=True, array_like=True):
    """What became of a ticket, and the bucket of how long that took; see `bucket`."""

    state: TicketState
    bucket: int


class Count(msgspec.Struct, frozen=True):
    """So many more of something, at least one, and so much more money in nano-dollars."""

    what: What
    name: str
    n: int
    amount: int = 0


def counts(event: events.Event, before: SessionStatus | None) -> list[Count]:
    """Return what *event* adds, in a session that had the status *before*; None: it was not there."""
    match event:
        case events.CallDecided():
            name = _decided(event.verdict, event.mode, event.admitted, _carried(event))
            return [Count(What.DECISIONS, name, 1), *_faults(event.opinions)]
        case events.CallFinished(cost_usd=cost):
            name = _finished(event.outcome, cost is not None)
            return [Count(What.FINISHED, name, 1, _amount(cost)), *_faults(event.reviews)]
        case events.TicketResolved():
            answered = AnsweredAs(event.state, bucket(event.waited_us))
            return [Count(What.ANSWERS, _encoded(answered), 1)]
        case _:
            return _moved(event, before)


def bucket(duration_us: int) -> int:
    """Return the bucket of a duration in microseconds; what is shorter than one falls in with it."""
    return math.ceil(math.log(max(1, duration_us)) / _LOG_GAMMA)


def middle_us(bucket: int) -> int:
    """Return the duration in microseconds from which all in *bucket* differ by `ACCURACY` at most."""
    return round(2 * _GAMMA**bucket / (_GAMMA + 1))


def _moved(event: events.Event, before: SessionStatus | None) -> list[Count]:
    if isinstance(event, events.SessionOpened):
        before = None
    elif before is None:
        return []
    after = status_after(before or SessionStatus.OPEN, event)
    return [] if after is before else [Count(What.SESSIONS, _encoded(MovedAs(before, after)), 1)]


def _carried(decided: events.CallDecided) -> tuple[str, ...]:
    said = (
        f"{one.author}/{one.rule}" if one.rule else one.author
        for one in decided.opinions
        if one.verdict is decided.verdict and not one.observed
    )
    return tuple(dict.fromkeys(said))


def _faults(opinions: Iterable[Opinion]) -> list[Count]:
    return [Count(What.FAULTS, one.author, 1) for one in opinions if one.fault]


def _amount(cost: Decimal | None) -> int:
    return 0 if cost is None else min(MOST, nano(cost))


# A policy has so many rules, and a rule so many verdicts: few names are ever made.
@lru_cache(maxsize=1024)
def _decided(verdict: Verdict, mode: Mode, admitted: bool, by: tuple[str, ...]) -> str:  # noqa: FBT001
    return _encoded(DecidedAs(verdict, mode, admitted, by))


@lru_cache(maxsize=16)
def _finished(outcome: events.Outcome, priced: bool) -> str:  # noqa: FBT001
    return _encoded(FinishedAs(outcome, priced))


def _encoded(name: msgspec.Struct) -> str:
    return msgspec.json.encode(name).decode()
