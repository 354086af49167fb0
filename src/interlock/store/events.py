"""Operations on events: append them to a session's chain, read them back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, bindparam, insert, select, update

from interlock import events
from interlock._clock import new_id
from interlock._state import SessionStatus
from interlock.errors import Conflict
from interlock.store import tables

PAGE = 1_000
"""Events read at once: a few hundred kilobytes, so that the longest history fits in little memory."""

# Statements of the hot path are built once: building one costs more than running it.
_LOCK = (
    select(tables.sessions.c.status, tables.sessions.c.head, tables.sessions.c.head_hash)
    .where(tables.sessions.c.id == bindparam("session"))
    .with_for_update()
)
_INSERT = insert(tables.events)
_ADVANCE = (
    update(tables.sessions)
    .where(tables.sessions.c.id == bindparam("session"))
    .values(head=bindparam("seq"), head_hash=bindparam("hash"))
)


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """The end of a session's chain, and whether the session admits calls."""

    session_id: str
    status: SessionStatus
    seq: int
    hash: str


def lock(connection: Connection, session_id: str) -> Head:
    """
    Return the end of a session's chain, its row locked until the transaction ends.

    Raises:
        Conflict: there is no such session.
    """
    row = connection.execute(_LOCK, {"session": session_id}).one_or_none()
    if row is None:
        raise Conflict(
            f"there is no session {session_id}; `interlock sessions` lists those that are"
        )
    return Head(
        session_id=session_id, status=SessionStatus(row.status), seq=row.head, hash=row.head_hash
    )


def append(
    connection: Connection,
    head: Head,
    new: Sequence[events.Event],
    *,
    at: datetime,
    trace: events.TraceIds | None = None,
) -> list[events.Recorded]:
    """
    Append *new* to a session's history, in this order, numbered and chained; return them in their places.

    Args:
        connection: The transaction in which *head* was locked.
        head: The end of the chain; it is used up.
        new: What happened.
        at: The one instant of the transaction, so that what it writes elsewhere agrees with its events.
        trace: The span that shows it.
    """
    seq, previous_hash = head.seq, head.hash
    recorded: list[events.Recorded] = []
    for event in new:
        seq += 1
        recorded.append(
            events.link(
                event,
                id=new_id(),
                session_id=head.session_id,
                seq=seq,
                at=at,
                trace=trace,
                previous_hash=previous_hash,
            )
        )
        previous_hash = recorded[-1].hash
    connection.execute(_INSERT, [_row(item) for item in recorded])
    connection.execute(_ADVANCE, {"session": head.session_id, "seq": seq, "hash": previous_hash})
    return recorded


def history(
    connection: Connection, session_id: str, *, after: int = 0, limit: int = PAGE
) -> list[events.Recorded]:
    """Return up to *limit* events of the session that follow event number *after*, in order."""
    rows = connection.execute(
        select(tables.events)
        .where(tables.events.c.session_id == session_id, tables.events.c.seq > after)
        .order_by(tables.events.c.seq)
        .limit(limit)
    )
    return [from_row(row) for row in rows]


def whole_history(connection: Connection, session_id: str) -> Iterator[events.Recorded]:
    """Yield every event of the session, in order, reading a page at a time."""
    after = 0
    while page := history(connection, session_id, after=after):
        yield from page
        after = page[-1].seq


def from_row(row: Row[Any]) -> events.Recorded:
    """Return the event that *row* of the table holds, as it is stored and unverified."""
    ids = (row.trace_id, row.span_id, row.trace_flags)
    trace = None if ids == (None, None, None) else events.TraceIds(*ids)
    return events.Recorded(
        id=row.id,
        session_id=row.session_id,
        seq=row.seq,
        at=row.at,
        kind=row.kind,
        version=row.version,
        body=row.body,
        trace=trace,
        previous_hash=row.previous_hash,
        hash=row.hash,
    )


def _row(recorded: events.Recorded) -> dict[str, object]:
    trace = recorded.trace
    return {
        "session_id": recorded.session_id,
        "seq": recorded.seq,
        "id": recorded.id,
        "at": recorded.at,
        "kind": recorded.kind,
        "version": recorded.version,
        "body": recorded.body,
        "trace_id": trace.trace_id if trace else None,
        "span_id": trace.span_id if trace else None,
        "trace_flags": trace.flags if trace else None,
        "previous_hash": recorded.previous_hash,
        "hash": recorded.hash,
    }
