"""Operations on what is stuck: calls and sessions of living processes that take longer than a policy finds good."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import msgspec
from sqlalchemy import Connection, select, tuple_, update

from interlock import events
from interlock._call import Recovery
from interlock._recovery import InDoubt
from interlock._state import SessionStatus
from interlock.store.events import ask_heads, chains, write
from interlock.store.statements import now, plain, read, tables_of

PAGE = 500
"""Calls, or sessions, that are told of in one transaction."""


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What one transaction has told of; `recorded` are the events."""

    calls: tuple[InDoubt, ...] = ()
    sessions: tuple[str, ...] = ()
    recorded: tuple[events.Recorded, ...] = ()


def calls(connection: Connection, longer_than: timedelta, *, limit: int = PAGE) -> list[InDoubt]:
    """Return up to *limit* calls of living processes that run for longer, and were not told of, oldest first."""
    table = tables_of(connection).intents
    query = _calls(connection, longer_than).order_by(table.c.admitted_at, table.c.call_id)
    return [_found(row) for row in plain(connection).execute(query.limit(limit))]


def sessions(connection: Connection, longer_than: timedelta, *, limit: int = PAGE) -> list[str]:
    """Return the ids of up to *limit* sessions that are open for longer, likewise."""
    table = tables_of(connection).sessions
    query = _sessions(connection, longer_than).order_by(table.c.id).limit(limit)
    return [row.id for row in plain(connection).execute(query)]


def tell_of_calls(connection: Connection, found: Sequence[InDoubt], longer_than: timedelta) -> Told:
    """Write into their sessions that calls are stuck, where that is still so and was not written before."""
    ids = {one.session_id for one in found}
    ends = chains(ids, read(connection, ask_heads(ids))[0])
    table, at = tables_of(connection).intents, now(connection)
    key = tuple_(table.c.session_id, table.c.call_id)
    query = _calls(connection, longer_than).where(
        key.in_([(one.session_id, one.call_id) for one in found])
    )
    told: list[InDoubt] = []
    recorded: list[events.Recorded] = []
    for row in plain(connection).execute(query.order_by(table.c.session_id, table.c.call_id)):
        chain = ends[row.session_id]
        if chain is not None:
            stuck = events.CallStuck(call_id=row.call_id, tool=row.tool, since=row.admitted_at)
            recorded.append(chain.append(stuck, at=at))
            told.append(_found(row))
    write(connection, ends.values())
    if told:
        theirs = key.in_([(one.session_id, one.call_id) for one in told])
        plain(connection).execute(update(table).where(theirs).values(stuck_at=at))
    return Told(calls=tuple(told), recorded=tuple(recorded))


def tell_of_sessions(
    connection: Connection, session_ids: Sequence[str], longer_than: timedelta
) -> Told:
    """Write into sessions that they are stuck, where that is still so and was not written before."""
    ends = chains(session_ids, read(connection, ask_heads(session_ids))[0])
    table, at = tables_of(connection).sessions, now(connection)
    query = _sessions(connection, longer_than).where(table.c.id.in_(session_ids))
    told: list[str] = []
    recorded: list[events.Recorded] = []
    for row in plain(connection).execute(query.order_by(table.c.id)):
        chain = ends[row.id]
        if chain is not None and chain.status is SessionStatus.OPEN:
            recorded.append(chain.append(events.SessionStuck(since=row.owned_at), at=at))
            told.append(row.id)
    write(connection, ends.values())
    if told:
        plain(connection).execute(update(table).where(table.c.id.in_(told)).values(stuck_at=at))
    return Told(sessions=tuple(told), recorded=tuple(recorded))


def _calls(connection: Connection, longer_than: timedelta) -> Any:
    tables = tables_of(connection)
    table, owners = tables.intents, tables.owners
    return (
        select(table)
        .join(owners, owners.c.id == table.c.owner)
        .where(
            owners.c.lost_at.is_(None),
            table.c.doubted_at.is_(None),
            table.c.stuck_at.is_(None),
            table.c.admitted_at <= now(connection) - longer_than,
        )
    )


def _sessions(connection: Connection, longer_than: timedelta) -> Any:
    tables = tables_of(connection)
    table, owners = tables.sessions, tables.owners
    return (
        select(table.c.id, table.c.owned_at)
        .join(owners, owners.c.id == table.c.owner)
        .where(
            owners.c.lost_at.is_(None),
            table.c.stuck_at.is_(None),
            table.c.owned_at <= now(connection) - longer_than,
        )
    )


def _found(row: Any) -> InDoubt:
    return InDoubt(
        call_id=row.call_id,
        session_id=row.session_id,
        tool=row.tool,
        admitted_at=row.admitted_at,
        rule=Recovery(row.recovery),
    )
