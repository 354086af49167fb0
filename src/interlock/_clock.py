"""Clock: where time enters, and the ids that carry it."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol

import uuid_utils


class Clock(Protocol):
    """A source of time. Everything that reads the time reads it here, so that tests and replay can set it."""

    def now(self) -> datetime:
        """Return the time of day, aware and in UTC, to the microsecond."""
        ...

    def monotonic(self) -> float:
        """Return seconds that only ever grow, for durations."""
        ...


class SystemClock:
    """The clock of this machine."""

    def now(self) -> datetime:
        """Return the time of day, aware and in UTC, to the microsecond."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return seconds since an unspecified start."""
        return time.perf_counter()


def new_id() -> str:
    """
    Return a new UUIDv7 as 36 lower-case characters.

    Ids of one process sort in the order of their making; ids of several processes nearly so.
    Source: RFC 9562, section 5.7.
    """
    return str(uuid_utils.uuid7())
