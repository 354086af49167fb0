"""Windows of budgets: every instant is in exactly one, by its zone's calendar, however clocks are changed there."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from interlock._budget import Budget, Claim, Dimension, Limits, WindowKey
from interlock._calendar import Period, window_of

TICK = timedelta(microseconds=1)
HOUR = timedelta(hours=1)
ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/Sao_Paulo",  # clocks were set at midnight: days began at one
    "America/Havana",  # clocks are set back to midnight: it is twice
    "America/St_Johns",  # half an hour, and clocks were set back over midnight
    "Africa/Cairo",
    "Africa/Monrovia",  # 44 minutes and 30 seconds, until 1972
    "Asia/Kolkata",
    "Asia/Kathmandu",  # three quarters
    "Asia/Pyongyang",  # moved by half an hour, twice
    "Australia/Lord_Howe",  # changes clocks by half an hour
    "Pacific/Apia",  # left out a day
    "Pacific/Chatham",
    "Pacific/Kiritimati",
]
CALENDAR = [Period.HOUR, Period.DAY, Period.WEEK, Period.MONTH]

# When somebody changed clocks, and where.
CHANGES = [
    ("Europe/Berlin", datetime(2026, 3, 29, 1, tzinfo=UTC)),
    ("Europe/Berlin", datetime(2026, 10, 25, 1, tzinfo=UTC)),
    ("America/New_York", datetime(2026, 3, 8, 7, tzinfo=UTC)),
    ("America/New_York", datetime(2026, 11, 1, 6, tzinfo=UTC)),
    ("America/Sao_Paulo", datetime(2018, 11, 4, 3, tzinfo=UTC)),
    ("America/Sao_Paulo", datetime(2018, 2, 18, 2, tzinfo=UTC)),
    ("America/Havana", datetime(2026, 3, 8, 5, tzinfo=UTC)),
    ("America/Havana", datetime(2026, 11, 1, 5, tzinfo=UTC)),
    ("America/St_Johns", datetime(2010, 11, 7, 2, 31, tzinfo=UTC)),
    ("America/St_Johns", datetime(2010, 3, 14, 3, 31, tzinfo=UTC)),
    ("Australia/Lord_Howe", datetime(2026, 4, 4, 15, tzinfo=UTC)),
    ("Australia/Lord_Howe", datetime(2026, 10, 3, 15, 30, tzinfo=UTC)),
    ("Pacific/Apia", datetime(2011, 12, 30, 10, tzinfo=UTC)),
    ("Asia/Pyongyang", datetime(2018, 5, 4, 15, tzinfo=UTC)),
    ("Asia/Pyongyang", datetime(2015, 8, 14, 15, tzinfo=UTC)),
    ("Africa/Monrovia", datetime(1972, 1, 7, 0, 44, 30, tzinfo=UTC)),
]

zones = st.sampled_from(ZONES)
periods = st.sampled_from(CALENDAR)
anywhere = st.datetimes(
    datetime(1971, 1, 1),  # noqa: DTZ001 - hypothesis wants the zone apart
    datetime(2100, 1, 1),  # noqa: DTZ001
    timezones=st.just(UTC),
).map(lambda at: at.replace(fold=0))
near = st.builds(
    lambda change, minutes, ticks: (
        change[0],
        change[1] + timedelta(minutes=minutes) + ticks * TICK,
    ),
    st.sampled_from(CHANGES),
    st.integers(-90, 90) | st.integers(-1_500, 1_500),
    st.integers(-1, 1),
)
moments = st.tuples(zones, anywhere) | near
"""A zone, and an instant that is often near a change of its clocks."""


def window(period: Period, zone: str, at: datetime) -> tuple[datetime, datetime]:
    """The window of a period that has an end."""
    begins, ends = window_of(period, zone, at)
    assert begins is not None
    assert ends is not None
    return begins, ends


def label(period: Period, zone: str, at: datetime) -> tuple[object, ...]:
    """What people call the window of *at*; of an hour that clocks repeat, which of the two it is."""
    there = at.astimezone(ZoneInfo(zone))
    if period is Period.WEEK:
        return tuple(there.isocalendar())[:2]
    parts = (there.year, there.month, there.day, there.hour, there.utcoffset())
    return parts[: {Period.MONTH: 2, Period.DAY: 3, Period.HOUR: 5}[period]]


@pytest.mark.promise(3)
@given(periods, moments)
@example(Period.HOUR, ("Australia/Lord_Howe", datetime(2026, 10, 3, 15, 45, tzinfo=UTC)))
@example(Period.HOUR, ("Australia/Lord_Howe", datetime(2026, 4, 4, 15, 15, tzinfo=UTC)))
@example(Period.DAY, ("America/St_Johns", datetime(2010, 11, 7, 3, 0, tzinfo=UTC)))
@example(Period.DAY, ("America/Havana", datetime(2026, 11, 1, 5, 30, tzinfo=UTC)))
@example(Period.DAY, ("Pacific/Apia", datetime(2011, 12, 30, 9, 59, tzinfo=UTC)))
def test_every_instant_is_in_exactly_one_window(
    period: Period, moment: tuple[str, datetime]
) -> None:
    """Broken if windows overlap or leave a gap: what is spent there would count twice, or never."""
    zone, at = moment
    begins, ends = window(period, zone, at)
    assert begins <= at < ends
    for same in (begins, at, ends - TICK, begins + (ends - begins) / 2):
        assert (begins, ends) == window(period, zone, same)
    assert begins == window(period, zone, begins - TICK)[1]
    assert ends == window(period, zone, ends)[0]
    assert (begins.tzinfo, ends.tzinfo) == (UTC, UTC)


@given(periods, zones, anywhere)
def test_a_window_is_what_the_calendar_says(period: Period, zone: str, at: datetime) -> None:
    """Broken if a window is not the hour, day, week or month that clocks show in its zone."""
    begins, ends = window(period, zone, at)
    place = ZoneInfo(zone)
    if begins.astimezone(place).utcoffset() == ends.astimezone(place).utcoffset():
        named = label(period, zone, at)
        assert [named, named] == [label(period, zone, each) for each in (begins, ends - TICK)]
        assert named not in (label(period, zone, begins - TICK), label(period, zone, ends))


@given(periods, moments, st.sampled_from(["Asia/Tokyo", "America/Lima", "UTC"]))
def test_how_an_instant_is_written_does_not_matter(
    period: Period, moment: tuple[str, datetime], other: str
) -> None:
    """Broken if the same moment given in another zone falls into another window."""
    zone, at = moment
    assert window(period, zone, at) == window(period, zone, at.astimezone(ZoneInfo(other)))


def at_utc(text: str) -> datetime:
    """A time in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("period", "zone", "begins", "ends"),
    [
        (Period.HOUR, "UTC", "2026-01-01T10:00", "2026-01-01T11:00"),
        (Period.HOUR, "Asia/Kolkata", "2026-01-01T10:30", "2026-01-01T11:30"),
        (Period.HOUR, "Asia/Kathmandu", "2026-01-01T10:15", "2026-01-01T11:15"),
        # The hour that Berlin has twice is two hours, and the one that it skips is none.
        (Period.HOUR, "Europe/Berlin", "2026-10-25T00:00", "2026-10-25T01:00"),
        (Period.HOUR, "Europe/Berlin", "2026-10-25T01:00", "2026-10-25T02:00"),
        (Period.HOUR, "Europe/Berlin", "2026-03-29T00:00", "2026-03-29T01:00"),
        (Period.HOUR, "Europe/Berlin", "2026-03-29T01:00", "2026-03-29T02:00"),
        # Lord Howe skips half an hour, of which half remains, and repeats one.
        (Period.HOUR, "Australia/Lord_Howe", "2026-10-03T14:30", "2026-10-03T15:30"),
        (Period.HOUR, "Australia/Lord_Howe", "2026-10-03T15:30", "2026-10-03T16:00"),
        (Period.HOUR, "Australia/Lord_Howe", "2026-10-03T16:00", "2026-10-03T17:00"),
        (Period.HOUR, "Australia/Lord_Howe", "2026-04-04T14:00", "2026-04-04T15:00"),
        (Period.HOUR, "Australia/Lord_Howe", "2026-04-04T15:00", "2026-04-04T15:30"),
        (Period.HOUR, "Australia/Lord_Howe", "2026-04-04T15:30", "2026-04-04T16:30"),
        # St John's set its clocks at one past midnight: back, and forward.
        (Period.HOUR, "America/St_Johns", "2010-11-07T02:30", "2010-11-07T02:31"),
        (Period.HOUR, "America/St_Johns", "2010-11-07T02:31", "2010-11-07T03:30"),
        (Period.HOUR, "America/St_Johns", "2010-03-14T03:30", "2010-03-14T03:31"),
        (Period.HOUR, "America/St_Johns", "2010-03-14T03:31", "2010-03-14T04:30"),
        (Period.DAY, "UTC", "2026-12-31T00:00", "2027-01-01T00:00"),
        (Period.DAY, "UTC", "2028-02-29T00:00", "2028-03-01T00:00"),
        (Period.DAY, "UTC", "2027-02-28T00:00", "2027-03-01T00:00"),
        (Period.DAY, "Europe/Berlin", "2026-03-28T23:00", "2026-03-29T22:00"),  # 23 hours
        (Period.DAY, "Europe/Berlin", "2026-10-24T22:00", "2026-10-25T23:00"),  # 25 hours
        (Period.DAY, "America/New_York", "2026-03-08T05:00", "2026-03-09T04:00"),
        (Period.DAY, "America/New_York", "2026-11-01T04:00", "2026-11-02T05:00"),
        (Period.DAY, "Australia/Lord_Howe", "2026-10-03T13:30", "2026-10-04T13:00"),  # 23.5
        (Period.DAY, "Australia/Lord_Howe", "2026-04-04T13:00", "2026-04-05T13:30"),  # 24.5
        (Period.DAY, "America/Sao_Paulo", "2018-11-04T03:00", "2018-11-05T02:00"),
        (Period.DAY, "America/Havana", "2026-11-01T04:00", "2026-11-02T05:00"),
        (Period.DAY, "America/St_Johns", "2010-11-07T02:30", "2010-11-08T03:30"),
        (Period.DAY, "Asia/Kathmandu", "2026-01-01T18:15", "2026-01-02T18:15"),
        (Period.DAY, "Pacific/Apia", "2011-12-29T10:00", "2011-12-30T10:00"),
        (Period.DAY, "Pacific/Apia", "2011-12-30T10:00", "2011-12-31T10:00"),
        (Period.WEEK, "UTC", "2025-12-29T00:00", "2026-01-05T00:00"),  # over the year's end
        (Period.WEEK, "UTC", "2028-02-28T00:00", "2028-03-06T00:00"),
        (Period.WEEK, "Europe/Berlin", "2026-03-22T23:00", "2026-03-29T22:00"),
        (Period.MONTH, "UTC", "2028-02-01T00:00", "2028-03-01T00:00"),
        (Period.MONTH, "UTC", "2026-12-01T00:00", "2027-01-01T00:00"),
        (Period.MONTH, "Europe/Berlin", "2026-02-28T23:00", "2026-03-31T22:00"),
        (Period.MONTH, "Asia/Kolkata", "2026-01-31T18:30", "2026-02-28T18:30"),
    ],
)
def test_known_windows(period: Period, zone: str, begins: str, ends: str) -> None:
    """Broken if a boundary is off by a microsecond or an hour where calendars are hard."""
    expected = at_utc(begins), at_utc(ends)
    assert expected == window(period, zone, expected[0])
    assert expected == window(period, zone, expected[0] + TICK)
    assert expected == window(period, zone, expected[1] - TICK)
    assert expected[0] == window(period, zone, expected[0] - TICK)[1]
    assert expected[1] == window(period, zone, expected[1])[0]


@given(moments)
def test_a_total_never_ends(moment: tuple[str, datetime]) -> None:
    """Broken if what was spent in all is forgotten one day."""
    zone, at = moment
    assert window_of(Period.TOTAL, zone, at) == (None, None)
    budget = Budget(name="b", per=(Dimension.ORG,), limits=Limits(calls=1), zone=zone)
    assert Claim(budget, "[null]").window(at) == (WindowKey("b", "[null]", 0), None)


@given(periods, moments)
def test_the_key_of_a_window_is_its_beginning(period: Period, moment: tuple[str, datetime]) -> None:
    """Broken if two windows share a row of the books, or one has two."""
    zone, at = moment
    budget = Budget(
        name="b", per=(Dimension.ORG,), limits=Limits(calls=1), period=period, zone=zone
    )
    key, ends_at = Claim(budget, '["acme"]').window(at)
    begins, ends = window(period, zone, at)
    assert datetime(1970, 1, 1, tzinfo=UTC) + key.starts_at * TICK == begins
    assert ends == ends_at
    assert Claim(budget, '["acme"]').window(ends)[0] != key


@given(anywhere, zones, st.sampled_from([Period.SECOND, Period.MINUTE]))
def test_short_windows_are_the_same_everywhere(at: datetime, zone: str, period: Period) -> None:
    """Broken if a second or a minute depends on the zone, leaves an instant out, or has another length."""
    length = timedelta(seconds=1 if period is Period.SECOND else 60)
    begins, ends = window_of(period, zone, at)
    assert begins is not None
    assert ends is not None
    assert begins <= at < ends
    assert ends - begins == length
    assert window_of(period, "UTC", at) == (begins, ends)
    assert window_of(period, zone, begins) == window_of(period, zone, ends - TICK)
    assert window_of(period, zone, ends)[0] == ends
