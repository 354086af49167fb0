"""Operations on sessions: open, close, look up."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, func, insert, select, update

from interlock import events
from interlock._call import Identity
from interlock._clock import new_id
from interlock._state import SessionStatus, status_after
from interlock._verdict import Mode
from interlock.errors import Conflict
from interlock.store import tickets
from interlock.store.events import Chain, append, lock, unknown, write
from interlock.store.statements import now, plain, tables_of


class SessionRow(msgspec.Struct, frozen=True, kw_only=True):
    """
    A session as its row says.

    Attributes:
        id: UUIDv7.
        name: The host's label; need not be unique.
        identity: On whose behalf it runs.
        status: Whether calls are admitted.
        policy: The digest of the policy it was opened under; None without one.
        head, head_hash: The last event's number and hash.
        opened_at, closed_at: Aware UTC; `closed_at` is None while it is open.
    """

    id: str
    name: str
    identity: Identity
    status: SessionStatus
    policy: str | None
    head: int
    head_hash: str
    opened_at: datetime
    closed_at: datetime | None


def open_session(
    connection: Connection,
    name: str,
    identity: Identity,
    *,
    policy: str | None,
    mode: Mode = Mode.ENFORCE,
) -> events.Recorded:
    """Open a session and return its first event; *policy* is the digest of a stored policy, or None."""
    table = tables_of(connection).sessions
    session_id, at = new_id(), now(connection)
    connection.execute(
        insert(table).values(
            id=session_id,
            name=name,
            **msgspec.structs.asdict(identity),
            status=SessionStatus.OPEN.value,
            policy=policy,
            head=0,
            head_hash=events.GENESIS,
            opened_at=at,
        )
    )
    opened = events.SessionOpened(
        name=name, **msgspec.structs.asdict(identity), policy=policy, mode=mode
    )
    chain = Chain(session_id, SessionStatus.OPEN, 0, events.GENESIS)
    return append(connection, chain, [opened], at=at)[0]


def close_session(
    connection: Connection, session_id: str, *, error_type: str | None = None
) -> list[events.Recorded]:
    """
    Close a session: completed, or aborted when *error_type* names what ended it. No call is admitted afterwards.

    What waits for a human in it is cancelled. Returned are the events, the closing last.

    Raises:
        Conflict: there is no such session, or it is closed.
    """
    chain = lock(connection, session_id)
    if chain.status not in {SessionStatus.OPEN, SessionStatus.PAUSED}:
        raise Conflict(f"session {session_id} is {chain.status}, so it cannot be closed")
    at, closed = now(connection), events.SessionClosed(error_type=error_type)
    table = tables_of(connection).sessions
    plain(connection).execute(
        update(table)
        .where(table.c.id == session_id)
        .values(status=status_after(chain.status, closed).value, closed_at=at)
    )
    cancelled = tickets.cancel(plain(connection), session_id, at=at)
    return append(connection, chain, [*cancelled, closed], at=at)


def pause_session(connection: Connection, session_id: str) -> events.Recorded:
    """
    Pause a session: no call is admitted until it is resumed, and what waits for a human goes on waiting.

    Raises:
        Conflict: there is no such session, or it is not open.
    """
    return _moved(
        connection, session_id, SessionStatus.PAUSED, {SessionStatus.OPEN}, events.SessionPaused()
    )


def resume_session(connection: Connection, session_id: str) -> events.Recorded:
    """
    Let a session go on that is paused, or that a dead process has left open.

    Raises:
        Conflict: there is no such session, or it has ended.
    """
    return _moved(
        connection,
        session_id,
        SessionStatus.OPEN,
        {SessionStatus.OPEN, SessionStatus.PAUSED},
        events.SessionResumed(),
    )


def note(
    connection: Connection,
    session_id: str,
    noted: events.AppNoted,
    *,
    trace: events.TraceIds | None = None,
) -> events.Recorded:
    """
    Write into a session's history what its host has noted.

    Raises:
        Conflict: there is no such session, or it has ended.
    """
    chain = lock(connection, session_id)
    if chain.status not in {SessionStatus.OPEN, SessionStatus.PAUSED}:
        raise Conflict(f"session {session_id} is {chain.status}, so nothing can be recorded in it")
    recorded = chain.append(noted, at=now(connection), trace=trace)
    write(connection, [chain])
    return recorded


def _moved(
    connection: Connection,
    session_id: str,
    to: SessionStatus,
    from_: set[SessionStatus],
    event: events.Event,
) -> events.Recorded:
    chain = lock(connection, session_id)
    if chain.status not in from_:
        raise Conflict(f"session {session_id} is {chain.status}, so it cannot become {to}")
    table = tables_of(connection).sessions
    plain(connection).execute(update(table).where(table.c.id == session_id).values(status=to.value))
    return append(connection, chain, [event], at=now(connection))[0]


def get(connection: Connection, session_id: str) -> SessionRow:
    """
    Return one session.

    Raises:
        Conflict: there is none with this id.
    """
    table = tables_of(connection).sessions
    row = connection.execute(select(table).where(table.c.id == session_id)).one_or_none()
    if row is None:
        raise unknown(session_id)
    return _from_row(row)


def newest(
    connection: Connection, *, before: str | None = None, limit: int = 50
) -> list[SessionRow]:
    """Return up to *limit* sessions, newest first, older than the session whose id is *before*."""
    table = tables_of(connection).sessions
    query = select(table).order_by(table.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(table.c.id < before)
    return [_from_row(row) for row in connection.execute(query)]


def count(connection: Connection) -> int:
    """Return how many sessions there are."""
    table = tables_of(connection).sessions
    return connection.execute(select(func.count()).select_from(table)).scalar_one()


def _from_row(row: Row[Any]) -> SessionRow:
    return SessionRow(
        id=row.id,
        name=row.name,
        identity=Identity(agent=row.agent, user=row.user, team=row.team, org=row.org),
        status=SessionStatus(row.status),
        policy=row.policy,
        head=row.head,
        head_hash=row.head_hash,
        opened_at=row.opened_at,
        closed_at=row.closed_at,
    )
