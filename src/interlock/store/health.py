"""health(): how the store is: what is open, what waits, what hangs; read in a time that grows with days, not events."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

import msgspec
from sqlalchemy import Connection, func, select

from interlock._counters import Count, MovedAs, What
from interlock._state import SessionStatus
from interlock._ticket import TicketState
from interlock.store.counters import DAY, between, named
from interlock.store.statements import now, tables_of


class Writing(msgspec.Struct, frozen=True):
    """
    How far a process is behind with what it has to write.

    Attributes:
        waiting: So many transactions are to be written.
        lag_us: How long the one that had waited longest had waited when it was durable, of those that were written
            together last, in microseconds; 0 where nothing had to wait.
    """

    waiting: int
    lag_us: int


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """
    How the store is.

    Attributes:
        at: The store's time.
        sessions: How many sessions have each status.
        pending: How many tickets wait for an answer, and since when the oldest does.
        running: How many calls are admitted and not finished, and since when the oldest is; the process of one that
            recovery has not found yet may be gone.
        in_doubt: How many calls recovery has put in doubt, and since when the first is: humans have to look at them.
        halts: How many halts stand.
        writing: How far this process is behind; None where nobody asked a process.
    """

    at: datetime
    sessions: Mapping[SessionStatus, int]
    pending: int
    pending_since: datetime | None
    running: int
    running_since: datetime | None
    in_doubt: int
    in_doubt_since: datetime | None
    halts: int
    writing: Writing | None = None


def health(connection: Connection) -> Health:
    """Return how the store is, as one snapshot of it shows."""
    tables, at = tables_of(connection), now(connection)
    counted = between(connection, What.SESSIONS, since=None, until=at + DAY)
    tickets, intents, halts = tables.tickets, tables.intents, tables.halts
    pending = connection.execute(
        select(func.count(), func.min(tickets.c.opened_at)).where(
            tickets.c.state == TicketState.PENDING.value, tickets.c.expires_at > at
        )
    ).one()
    doubted = intents.c.doubted_at
    running = connection.execute(
        select(func.count(), func.min(intents.c.admitted_at)).where(doubted.is_(None))
    ).one()
    held = connection.execute(select(func.count(doubted), func.min(doubted))).one()
    standing = select(func.count()).select_from(halts).where(halts.c.released_at.is_(None))
    return Health(
        at=at,
        sessions=_by_status(counted),
        pending=pending[0],
        pending_since=pending[1],
        running=running[0],
        running_since=running[1],
        in_doubt=held[0],
        in_doubt_since=held[1],
        halts=connection.execute(standing).scalar_one(),
    )


def _by_status(counted: Iterable[Count]) -> dict[SessionStatus, int]:
    found = dict.fromkeys(SessionStatus, 0)
    for one in counted:
        moved: MovedAs = named(one, MovedAs)
        found[moved.after] += one.n
        if moved.before is not None:
            found[moved.before] -= one.n
    return {status: n for status, n in found.items() if n}
