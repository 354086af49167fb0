"""Times: days, clocks and dates of a zone, where clocks are changed too."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.errors import PolicyError
from tests.language._asking import CANNOT_TELL, policy, said

BERLIN, NEW_YORK, KOLKATA = "Europe/Berlin", "America/New_York", "Asia/Kolkata"
DAYS = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]

# A condition, and instants in UTC with whether it holds then.
INSTANTS: list[tuple[dict[str, Any], dict[str, bool]]] = [
    # from its first minute until just before its last
    (
        {"from": "09:00", "until": "17:00"},
        {
            "2026-01-01T08:59:59.999999": False,
            "2026-01-01T09:00": True,
            "2026-01-01T16:59:59.999999": True,
            "2026-01-01T17:00": False,
        },
    ),
    # another zone, summer and winter
    (
        {"from": "09:00", "until": "17:00", "timezone": BERLIN},
        {
            "2026-01-01T08:00": True,
            "2026-01-01T16:00": False,
            "2026-07-01T06:59": False,
            "2026-07-01T07:00": True,
            "2026-07-01T15:00": False,
        },
    ),
    (
        {"from": "09:00", "until": "17:00", "timezone": KOLKATA},
        {"2026-01-01T03:29": False, "2026-01-01T03:30": True, "2026-01-01T11:30": False},
    ),
    # past midnight
    (
        {"from": "22:00", "until": "06:00"},
        {
            "2026-01-01T21:59": False,
            "2026-01-01T22:00": True,
            "2026-01-02T00:00": True,
            "2026-01-02T05:59": True,
            "2026-01-02T06:00": False,
        },
    ),
    # past midnight, and the day is that of `from`: 2026-01-02 is a Friday
    (
        {"days": ["fri"], "from": "22:00", "until": "06:00"},
        {
            "2026-01-02T05:00": False,
            "2026-01-02T22:00": True,
            "2026-01-03T05:59": True,
            "2026-01-03T22:00": False,
            "2026-01-09T03:00": False,
        },
    ),
    ({"days": ["sun"], "from": "22:00", "until": "06:00"}, {"2026-01-05T01:00": True}),
    ({"from": "22:00", "until": "00:00"}, {"2026-01-01T23:59": True, "2026-01-01T00:00": False}),
    # days by themselves, in the zone
    ({"days": "fri"}, {"2026-01-01T23:59": False, "2026-01-02T00:00": True}),
    (
        {"days": ["sat", "sun"], "timezone": NEW_YORK},
        {"2026-01-03T04:59": False, "2026-01-03T05:00": True, "2026-01-05T04:59": True},
    ),
    # dates, both included, in the zone
    (
        {"not_before": "2026-03-01", "not_after": "2026-03-02", "timezone": BERLIN},
        {
            "2026-02-28T22:59": False,
            "2026-02-28T23:00": True,
            "2026-03-02T22:59": True,
            "2026-03-02T23:00": False,
        },
    ),
    # a leap day, and the end of February in a year without one
    (
        {"not_before": "2028-02-29", "not_after": "2028-02-29"},
        {"2028-02-28T23:59": False, "2028-02-29T12:00": True, "2028-03-01T00:00": False},
    ),
    # clocks go forward: 02:00 to 03:00 is not there
    (
        {"from": "02:00", "until": "03:00", "timezone": BERLIN},
        {"2026-03-29T00:59": False, "2026-03-29T01:00": False, "2026-03-28T01:00": True},
    ),
    (
        {"from": "02:30", "until": "04:00", "timezone": BERLIN},
        {"2026-03-29T00:59": False, "2026-03-29T01:00": True, "2026-03-29T02:00": False},
    ),
    # clocks go back: 02:00 to 03:00 is there twice
    (
        {"from": "02:00", "until": "03:00", "timezone": BERLIN},
        {
            "2026-10-24T23:59": False,
            "2026-10-25T00:00": True,
            "2026-10-25T01:00": True,
            "2026-10-25T01:59": True,
            "2026-10-25T02:00": False,
        },
    ),
    # a zone that skips midnight when clocks go forward
    (
        {"from": "00:00", "until": "01:30", "days": ["fri"], "timezone": "Africa/Cairo"},
        {"2023-04-27T21:59": False, "2023-04-27T22:00": True, "2023-04-27T22:30": False},
    ),
    # a whole day that a zone left out
    (
        {"not_before": "2011-12-30", "not_after": "2011-12-30", "timezone": "Pacific/Apia"},
        {"2011-12-30T09:59": False, "2011-12-30T10:00": False},
    ),
]


@pytest.mark.parametrize("number", range(len(INSTANTS)))
def test_it_is_then_or_it_is_not(number: int) -> None:
    """Broken if a bound is off by a moment, a day or an offset."""
    when, expected = INSTANTS[number]
    found = {
        text: said({"time": when}, at=datetime.fromisoformat(text).replace(tzinfo=UTC))
        for text in expected
    }
    assert expected == found


def test_a_time_that_nobody_has_read_cannot_be_told() -> None:
    """Broken if a rule for office hours is passed over, or applied, without a look at the clock."""
    for when in ({"time": {"days": "mon"}}, {"not": {"time": {"days": "mon"}}}):
        assert said(when, at=None) == CANNOT_TELL


@given(
    st.sampled_from([BERLIN, NEW_YORK, KOLKATA, "UTC", "Australia/Lord_Howe", "Pacific/Apia"]),
    st.datetimes(datetime(2000, 1, 1), datetime(2035, 1, 1)),  # noqa: DTZ001 - the zone is given below
    st.times().map(lambda clock: clock.replace(second=0, microsecond=0)),
    st.times().map(lambda clock: clock.replace(second=0, microsecond=0)),
    st.sets(st.sampled_from(DAYS), min_size=1),
)
def test_a_range_and_the_rest_of_the_day_are_all_of_it(
    zone: str, naive: datetime, begins: time, ends: time, days: set[str]
) -> None:
    """Broken if an instant is in a range and in what is left of the day, or in neither."""
    if begins == ends:
        return
    at = naive.replace(tzinfo=UTC)
    first, second = f"{begins:%H:%M}", f"{ends:%H:%M}"
    inside = said({"time": {"from": first, "until": second, "timezone": zone}}, at=at)
    outside = said({"time": {"from": second, "until": first, "timezone": zone}}, at=at)
    assert inside != outside
    local = at.astimezone(ZoneInfo(zone))
    past_midnight = ends < begins and local.time() < ends
    day = DAYS[(local - timedelta(days=past_midnight)).weekday()] if inside else None
    when = {"days": sorted(days), "from": first, "until": second, "timezone": zone}
    assert (inside is True and day in days) == said({"time": when}, at=at)


NO_TIMES: list[dict[str, Any]] = [
    {},
    {"timezone": "UTC"},
    {"from": "09:00"},
    {"until": "09:00"},
    {"from": "09:00", "until": "09:00"},
    {"days": []},
    {"days": ["monday"]},
    {"days": "Mon"},
    {"days": None},
    {"not_before": "2026-02-02", "not_after": "2026-02-01"},
    {"days": "mon", "timezone": "Mars/Olympus"},
    {"days": "mon", "timezone": ""},
    {"days": "mon", "timezone": "../etc/passwd"},
    {"days": "mon", "timezone": None},
    {"days": "mon", "timezone": 5},
    *[
        {"from": clock, "until": "23:00"}
        for clock in (
            *["24:00", "9:00", "09:60", "0900Z", "T0900", "09,00", "09:0", " 9:00", "-1:00"],
            *["09:00:00", "09:00Z", "\u0660\u0669:00", 540, 9.0, None, True, ["09:00"]],
        )
    ],
    *[
        {"not_before": day}
        for day in (
            *["2026-02-29", "2026-1-1", "20260101", "2026-W01-1", "01/02/2026", "", 20260101],
            *["0000-01-01", "2026-01-01T00:00", datetime(2026, 1, 1, tzinfo=UTC), None, True],
        )
    ],
]


@pytest.mark.promise(1)
@pytest.mark.parametrize("wrong", NO_TIMES, ids=str)
def test_what_is_no_time_is_an_error(wrong: dict[str, Any]) -> None:
    """Broken if a time that nobody can be sure how to read is read somehow."""
    with pytest.raises(PolicyError, match=r"^policy: rules\.0\.when\.time"):
        policy({"time": wrong})


def test_dates_and_clocks_of_python_are_taken() -> None:
    """Broken if a policy that is built in Python has to write dates and clocks as text."""
    written = {"from": "09:00", "until": "17:00", "not_before": "2026-01-01"}
    built = {"from": time(9), "until": time(17), "not_before": date(2026, 1, 1)}
    assert policy({"time": written}).digest == policy({"time": built}).digest
