"""A clock that is set by hand."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta


class ManualClock:
    """
    A clock that stands still until it is moved. Pass it as `Governor(clock=…)`.

    Attributes:
        start: Where it began.
    """

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        """
        Begin at *start*.

        Raises:
            ValueError: *start* has no time zone.
        """
        if start.tzinfo is None:
            raise ValueError("a clock needs a time zone: datetime(…, tzinfo=UTC)")
        self.start = start.astimezone(UTC)
        self._passed = timedelta(0)
        self._lock = threading.Lock()

    def now(self) -> datetime:
        """Return the time of day, aware and in UTC."""
        return self.start + self._passed

    def monotonic(self) -> float:
        """Return the seconds since `start`."""
        return self._passed.total_seconds()

    def advance(self, by: timedelta) -> None:
        """
        Move on.

        Raises:
            ValueError: *by* is negative: this clock has never gone back, and its readers count on it.
        """
        if by < timedelta(0):
            raise ValueError("a clock only moves on")
        with self._lock:
            self._passed += by
