"""now(): the store's time, read in the transaction that uses it."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import Connection

from interlock._clock import Clock


def now(connection: Connection) -> datetime:
    """
    Return the time, aware and in UTC.

    It is the clock of the governor that opened *connection*; of a connection of the host's own, this machine's.
    """
    clock: Clock | None = connection.get_execution_options().get("interlock_clock")
    return datetime.now(UTC) if clock is None else clock.now()
