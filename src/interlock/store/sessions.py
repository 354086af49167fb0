"""Operations on sessions: open, close, look up."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import (
    Connection,
    Row,
    Select,
    and_,
    func,
    insert,
    literal,
    outerjoin,
    select,
    update,
)

from interlock import events
from interlock._call import Identity, is_text
from interlock._clock import new_id
from interlock._halt import HaltTarget
from interlock._halt_scope import HaltScope
from interlock._state import SessionState, SessionStatus, fold, shown_status, status_after
from interlock._verdict import Mode
from interlock.errors import Conflict, Misuse
from interlock.store import owners, tickets
from interlock.store.events import Chain, append, lock, unknown, whole_history, write
from interlock.store.exclusive import key_of, taking
from interlock.store.statements import binding, now, plain, tables_of

MAX_REASON = 500
"""Characters of the sentence that says why a session was aborted."""


class SessionRow(msgspec.Struct, frozen=True, kw_only=True):
    """
    A session as its row says.

    Attributes:
        id: UUIDv7.
        name: The host's label; need not be unique.
        identity: On whose behalf it runs.
        status: Whether calls are admitted.
        halt_id: The halt of this very session that stands; None where there is none.
        policy: The digest of the policy it was opened under; None without one.
        head, head_hash: The last event's number and hash.
        opened_at, closed_at: Aware UTC; `closed_at` is None while it is open.
        parent: The session that it was opened in; None where it was in none.
        exclusive: The digest of its key and organisation, of which only one session may be open or paused; None: it is
            not exclusive.
    """

    id: str
    name: str
    identity: Identity
    status: SessionStatus
    halt_id: str | None
    policy: str | None
    head: int
    head_hash: str
    opened_at: datetime
    closed_at: datetime | None
    parent: str | None = None
    exclusive: str | None = None

    @property
    def state(self) -> SessionStatus:
        """The status as it is shown: HALTED where it could go on but for its halt."""
        return shown_status(self.status, self.halt_id)


def open_session(
    connection: Connection,
    name: str,
    identity: Identity,
    *,
    policy: str | None,
    mode: Mode = Mode.ENFORCE,
    parent: str | None = None,
    exclusive: str | None = None,
) -> events.Recorded:
    """
    Open a session and return its first event.

    Args:
        connection: A transaction on the store.
        name: The host's label.
        identity: On whose behalf it runs.
        policy: The digest of a stored policy, or None.
        mode: What becomes of decisions in it.
        parent: The id of the session that it is opened in.
        exclusive: What only one session of an organisation may be open or paused with.

    Raises:
        SessionTaken: one is already.
    """
    table = tables_of(connection).sessions
    owner = _owner(connection)
    session_id, at = new_id(), now(connection)
    row = {
        "id": session_id,
        "name": name,
        **msgspec.structs.asdict(identity),
        "status": SessionStatus.OPEN.value,
        "policy": policy,
        "head": 0,
        "head_hash": events.GENESIS,
        "opened_at": at,
        "owner": owner,
        "owned_at": at,
        "parent": parent,
        "exclusive": key_of(exclusive, identity.org),
    }
    if exclusive is None:
        plain(connection).execute(insert(table).values(row))
    else:
        taking(plain(connection), table, row, f"{exclusive!r}")
    opened = events.SessionOpened(
        name=name,
        **msgspec.structs.asdict(identity),
        policy=policy,
        mode=mode,
        parent=parent,
        exclusive=exclusive,
    )
    chain = Chain(session_id, SessionStatus.OPEN, 0, events.GENESIS)
    return append(connection, chain, [opened], at=at)[0]


def close_session(
    connection: Connection,
    session_id: str,
    *,
    error_type: str | None = None,
    reason: str | None = None,
    by: str | None = None,
) -> list[events.Recorded]:
    """
    Close a session: completed, or aborted when *error_type* or *reason* says why. No call is admitted afterwards.

    What waits for a human in it is cancelled. Returned are the events, the closing last.

    Args:
        connection: A transaction on the store.
        session_id: Its id.
        error_type: The class of the exception that ended it.
        reason: Why it was aborted, a sentence.
        by: Who did it, where it was not the run itself.

    Raises:
        Conflict: there is no such session, or it is closed.
    """
    chain = lock(connection, session_id)
    if chain.status not in {SessionStatus.OPEN, SessionStatus.PAUSED}:
        raise Conflict(f"session {session_id} is {chain.status}, so it cannot be closed")
    at = now(connection)
    closed = events.SessionClosed(error_type=error_type, reason=reason, by=by)
    table = tables_of(connection).sessions
    plain(connection).execute(
        update(table)
        .where(table.c.id == session_id)
        .values(status=status_after(chain.status, closed).value, closed_at=at, **_NOT_OPEN)
    )
    cancelled = tickets.cancel(plain(connection), session_id, at=at)
    return append(connection, chain, [*cancelled, closed], at=at)


def abort_session(
    connection: Connection, session_id: str, *, reason: str, by: str | None = None
) -> list[events.Recorded]:
    """
    End a session as aborted, for a *reason*, whoever runs it: as `close_session`.

    Calls that run in it go on and are recorded; its next call is refused. To stop what runs, halt it.

    Raises:
        Misuse: there is no reason, or it is no text; *by* is given and names nobody.
        Conflict: there is no such session, or it has ended.
    """
    if by is not None and not (is_text(by) and by.strip()):
        raise Misuse("a session is aborted by somebody: by= is empty")
    return close_session(connection, session_id, reason=bounded(reason), by=by)


def bounded(reason: str) -> str:
    """
    Return as much of the sentence *reason* as is kept.

    Raises:
        Misuse: it is none.
    """
    if not is_text(reason) or not reason.strip():
        raise Misuse(
            "a session is aborted for a reason: reason= is missing, or no text that can be stored"
        )
    return reason if len(reason) <= MAX_REASON else f"{reason[: MAX_REASON - 1]}…"


def pause_session(
    connection: Connection, session_id: str, *, reason: str | None = None
) -> events.Recorded:
    """
    Pause a session: no call is admitted until it is resumed, and what waits for a human goes on waiting.

    *reason* says why, where it is not its host who pauses it.

    Raises:
        Conflict: there is no such session, or it is not open.
    """
    return _moved(
        connection,
        session_id,
        SessionStatus.PAUSED,
        {SessionStatus.OPEN},
        events.SessionPaused(reason=reason),
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
    is_open = to is SessionStatus.OPEN
    owner = _owner(connection) if is_open else None
    chain = lock(connection, session_id)
    if chain.status not in from_:
        raise Conflict(f"session {session_id} is {chain.status}, so it cannot become {to}")
    table, at = tables_of(connection).sessions, now(connection)
    held: dict[str, object] = (
        {**_NOT_OPEN, "owner": owner, "owned_at": at} if is_open else _NOT_OPEN
    )
    plain(connection).execute(
        update(table).where(table.c.id == session_id).values(status=to.value, **held)
    )
    return append(connection, chain, [event], at=at)[0]


_NOT_OPEN: dict[str, object] = {"owner": None, "owned_at": None, "stuck_at": None}


def _owner(connection: Connection) -> str | None:
    """Return who opens a session; None in a transaction of the host's, who may never commit it."""
    bound = binding(connection)
    return None if bound.link is None else owners.here(connection, bound.owner)


def get(connection: Connection, session_id: str) -> SessionRow:
    """
    Return one session.

    Raises:
        Conflict: there is none with this id.
    """
    table = tables_of(connection).sessions
    row = connection.execute(rows(connection).where(table.c.id == session_id)).one_or_none()
    if row is None:
        raise unknown(session_id)
    return from_row(row)


def state(connection: Connection, session_id: str) -> SessionState:
    """
    Return what the events of a session add up to; the whole history is read for it.

    Raises:
        NewerRelease: an event is of a newer release, and something may follow from it.
    """
    return fold(whole_history(connection, session_id))


def newest(
    connection: Connection, *, before: str | None = None, limit: int = 50
) -> list[SessionRow]:
    """Return up to *limit* sessions, newest first, older than the session whose id is *before*."""
    table = tables_of(connection).sessions
    query = rows(connection).order_by(table.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(table.c.id < before)
    return [from_row(row) for row in connection.execute(query)]


def count(connection: Connection) -> int:
    """Return how many sessions there are."""
    table = tables_of(connection).sessions
    return connection.execute(select(func.count()).select_from(table)).scalar_one()


def rows(connection: Connection) -> Select[Any]:
    """Return the request for rows of sessions, each with the halt of it that stands."""
    tables = tables_of(connection)
    sessions, halts = tables.sessions, tables.halts
    target = literal(HaltTarget(HaltScope.SESSION).key) + sessions.c.id
    stands = and_(halts.c.target == target, halts.c.released_at.is_(None))
    return select(sessions, halts.c.id.label("halt_id")).select_from(
        outerjoin(sessions, halts, stands)
    )


def from_row(row: Row[Any]) -> SessionRow:
    """Return the session that *row* of what `rows` asks for holds."""
    return SessionRow(
        id=row.id,
        name=row.name,
        identity=Identity(agent=row.agent, user=row.user, team=row.team, org=row.org),
        status=SessionStatus(row.status),
        halt_id=row.halt_id,
        policy=row.policy,
        head=row.head,
        head_hash=row.head_hash,
        opened_at=row.opened_at,
        closed_at=row.closed_at,
        parent=row.parent,
        exclusive=row.exclusive,
    )
