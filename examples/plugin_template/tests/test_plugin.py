"""The plugin under a real governor, at an hour that the test sets."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from interlock import Denied, Governor, governed
from interlock_template.plugin import QuietHours

OPEN = {"version": 1, "name": "open", "default": "allow"}


@governed(labels=["disturbs"])
def ring(number: str) -> str:
    """Ring somebody up."""
    return f"rang {number}"


@governed
def read(number: str) -> str:
    """Read somebody's record."""
    return f"read {number}"


@pytest.mark.parametrize(("hour", "is_quiet"), [(5, True), (6, False), (21, False), (22, True)])
def test_quiet_hours(hour: int, *, is_quiet: bool) -> None:
    """Broken if people are rung up by night, cannot be by day, or other tools are denied, too."""
    plugin = QuietHours(lambda: datetime(2026, 1, 1, hour, tzinfo=UTC))
    with (
        Governor("sqlite://", policy=OPEN, plugins=[plugin]) as governor,
        governor.session("case-1", agent="support-bot"),
    ):
        assert read("1") == "read 1"
        if is_quiet:
            with pytest.raises(Denied, match="not disturbed"):
                ring("1")
        else:
            assert ring("1") == "rang 1"
