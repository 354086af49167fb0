"""Windows of time: hours, days, weeks and months by the calendar of a time zone, its changes of clocks included."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from zoneinfo import ZoneInfo

_MICROSECOND = timedelta(microseconds=1)


class Period(StrEnum):
    """How long a window of a budget is, by the calendar of the budget's time zone. TOTAL: it never ends."""

    SECOND = "second"
    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    TOTAL = "total"


# By the clock of the world, so the same in every zone.
_ALIKE = {Period.SECOND: timedelta(seconds=1), Period.MINUTE: timedelta(minutes=1)}


def window_of(
    period: Period, zone: str, at: datetime
) -> tuple[datetime, datetime] | tuple[None, None]:
    """
    Return when the window in which *at* falls begins and ends, aware UTC, by the calendar of *zone*.

    Weeks begin on Monday (ISO 8601). A window begins when its first local second does, so that a day on which clocks
    are changed has 23 or 25 hours. Every instant is in exactly one window, however clocks are changed.
    """
    if period is Period.TOTAL:
        return None, None
    place, at = _zone(zone), at.astimezone(UTC)
    if period in _ALIKE:
        begins = at.replace(second=at.second if period is Period.SECOND else 0, microsecond=0)
        return begins, begins + _ALIKE[period]
    local = at.astimezone(place)
    if period is Period.HOUR:
        return _hour(local, at, place)
    first = local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    if period is Period.WEEK:
        first -= timedelta(days=first.weekday())
    elif period is Period.MONTH:
        first = first.replace(day=1)
    following = _following(first, period)
    begins, ends = _begin(first), _begin(following)
    if at < ends:
        return begins, ends
    # Clocks were set back over midnight: what they show was over once, and is not begun again.
    return ends, _begin(_following(following, period))


def _hour(local: datetime, at: datetime, place: ZoneInfo) -> tuple[datetime, datetime]:
    """By the clock of the world: an hour that clocks repeat is two, one that they skip is none, and half is a half."""
    begins = at - timedelta(
        minutes=local.minute, seconds=local.second, microseconds=local.microsecond
    )
    ends = begins + timedelta(hours=1)
    offset, second = local.utcoffset(), at.replace(microsecond=0)
    if begins.astimezone(place).utcoffset() != offset:
        begins = _change(place, begins, second)
    if (ends - _MICROSECOND).astimezone(place).utcoffset() != offset:
        ends = _change(place, second, ends)
    return begins, ends


def _following(first: datetime, period: Period) -> datetime:
    match period:
        case Period.DAY:
            return first + timedelta(days=1)
        case Period.WEEK:
            return first + timedelta(days=7)
        case _:
            return (first + timedelta(days=32)).replace(day=1)


def _begin(midnight: datetime) -> datetime:
    """Return when clocks first show *midnight* or, where they skip it, what comes next."""
    # A skipped time that is not folded is read by the clocks before the change, so midnight is when they are changed:
    # no zone has skipped midnight from an earlier time of day since 1971.
    return midnight.astimezone(UTC)


def _change(place: ZoneInfo, before: datetime, after: datetime) -> datetime:
    """Return the second, later than *before* and no later than *after*, at which the clocks of *place* are changed."""
    offset = before.astimezone(place).utcoffset()
    while (seconds := (after - before) // timedelta(seconds=1)) > 1:
        middle = before + timedelta(seconds=seconds // 2)
        if middle.astimezone(place).utcoffset() == offset:
            before = middle
        else:
            after = middle
    return after


@lru_cache(maxsize=256)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)
