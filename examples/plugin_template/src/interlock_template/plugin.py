"""The plugin `quiet-hours`: nothing that disturbs people runs while they sleep."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from interlock import Call, Opinion, Verdict, hookimpl

BEGIN, END = 22, 6
"""Hours, UTC."""


def _now() -> datetime:
    return datetime.now(UTC)


class QuietHours:
    """Denies tools with the label `disturbs` by night."""

    def __init__(self, now: Callable[[], datetime] = _now) -> None:
        """Take the time from *now*."""
        self._now = now

    @hookimpl
    def interlock_opinion(self, call: Call) -> Opinion | None:
        """Return DENY or no view. It is called before every decision, so it must not block."""
        hour = self._now().hour
        if "disturbs" not in call.tool.labels or END <= hour < BEGIN:
            return None
        return Opinion(
            verdict=Verdict.DENY,
            reason=f"people are not disturbed from {BEGIN} to {END} o'clock UTC",
            author="quiet-hours",
        )


plugin = QuietHours()
"""What the entry point leads to."""
