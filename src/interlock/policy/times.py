"""Times: when a condition holds, by the days and clocks of a time zone."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, datetime, time
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema, model_validator

from interlock.policy.values import OneOrMore, Strict, Zone

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

# ISO 8601 has more ways to write both, week dates and zones among them.
_CLOCK = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def _clock(value: object) -> time:
    # YAML 1.1 reads 09:00 as a number in base 60; ours reads 1.2, in which it is text.
    if isinstance(value, time) and value == value.replace(second=0, microsecond=0, tzinfo=None):
        return value
    if isinstance(value, str) and _CLOCK.fullmatch(value):
        return time.fromisoformat(value)
    raise ValueError('write a time of day in quotes, from "00:00" to "23:59"')


def _date(value: object) -> date:
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    if isinstance(value, str) and _DATE.fullmatch(value):
        try:
            return date.fromisoformat(value)
        except ValueError:
            pass
    raise ValueError("write a date as year-month-day, such as 2031-01-31")


Clock = Annotated[
    time,
    BeforeValidator(_clock),
    PlainSerializer(lambda value: f"{value:%H:%M}", return_type=str),
    WithJsonSchema({"type": "string", "pattern": "^([01][0-9]|2[0-3]):[0-5][0-9]$"}),
]
Day = Annotated[
    date,
    BeforeValidator(_date),
    PlainSerializer(lambda value: value.isoformat(), return_type=str),
    WithJsonSchema({"type": "string", "format": "date", "pattern": f"^{_DATE.pattern}$"}),
]


def _aware(value: object) -> datetime:
    try:
        at = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise ValueError('write a time with its offset in quotes, such as "2031-01-31T09:00:00Z"')
    return at


AwareTime = Annotated[
    datetime,
    BeforeValidator(_aware),
    PlainSerializer(lambda value: value.isoformat(), return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]


class TimeRange(Strict):
    """
    When; all that is given must hold.

    From `from` until just before `until`, each day; past midnight where `until` is the earlier, and then the day that
    counts is that of `from`. From the first moment of `not_before` until just before that of `not_after`'s next day.
    """

    _needs_one_of = ("days", "from", "not_before", "not_after")

    days: OneOrMore[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]] | None = None
    from_: Clock | None = Field(default=None, alias="from")
    until: Clock | None = None
    not_before: Day | None = None
    not_after: Day | None = None
    timezone: Zone = "UTC"

    @model_validator(mode="after")
    def _says_something(self) -> TimeRange:
        if self.model_fields_set <= {"timezone"}:
            raise ValueError("no time is said; add days, from and until, not_before or not_after")
        if (self.from_ is None) != (self.until is None):
            raise ValueError("'from' and 'until' go together")
        if self.from_ is not None and self.from_ == self.until:
            raise ValueError("'from' and 'until' are the same; leave both out for the whole day")
        if self.not_before and self.not_after and self.not_before > self.not_after:
            raise ValueError("'not_before' is later than 'not_after'")
        return self

    def test(self) -> Callable[[datetime], bool]:
        """Return a function of an aware time that says whether it is then."""
        place = ZoneInfo(self.timezone)
        days = None if self.days is None else frozenset(map(_DAYS.index, self.days))
        begins, ends = self.from_, self.until
        first, last = self.not_before, self.not_after

        def holds(at: datetime) -> bool:
            local = at.astimezone(place)
            today, clock, weekday = local.date(), local.time(), local.weekday()
            if (first is not None and today < first) or (last is not None and today > last):
                return False
            if begins is not None and ends is not None:
                if begins < ends:
                    if not begins <= clock < ends:
                        return False
                elif clock < ends:
                    weekday = (weekday - 1) % 7
                elif clock < begins:
                    return False
            return days is None or weekday in days

        return holds
