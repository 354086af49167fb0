"""For tests of hosts, plugins and adapters: a clock that is set by hand, and a plugin that keeps what was recorded."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

from interlock.events import Event, Recorded
from interlock.hookspecs import hookimpl


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


class Recorder:
    """A plugin that keeps every recorded event, in the order in which it saw them. Pass it in `Governor(plugins=…)`."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.recorded: list[Recorded] = []

    @hookimpl
    def interlock_recorded(self, recorded: Recorded) -> None:
        """Keep *recorded*."""
        self.recorded.append(recorded)

    @property
    def events(self) -> list[Event]:
        """The events themselves, decoded."""
        return [recorded.event for recorded in self.recorded]
