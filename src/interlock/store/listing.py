"""Listing sessions: those of somebody, of a name, in a state, since a time; newest first, a page at a time."""

from __future__ import annotations

from datetime import datetime

import msgspec
from sqlalchemy import ColumnElement, Connection, literal, select, tuple_

from interlock._halt_scope import HaltScope
from interlock._state import SessionStatus
from interlock.store.events import unknown
from interlock.store.sessions import SessionRow, from_row, rows
from interlock.store.statements import tables_of
from interlock.store.tables import Tables, UtcMicroseconds

_COLUMNS = ("name", "agent", "user", "team", "org", "parent")


class Sought(msgspec.Struct, frozen=True, kw_only=True):
    """
    Which sessions are looked for: those for which all holds that is said.

    Attributes:
        state: How they stand, as `SessionRow.state` says.
        name: Their label.
        agent, user, team, org: On whose behalf they run.
        parent: The id of the session that they were opened in.
        since: When they were opened at the earliest.
    """

    state: SessionStatus | None = None
    name: str | None = None
    agent: str | None = None
    user: str | None = None
    team: str | None = None
    org: str | None = None
    parent: str | None = None
    since: datetime | None = None


def find(
    connection: Connection,
    sought: Sought | None = None,
    *,
    before: str | None = None,
    limit: int = 50,
) -> list[SessionRow]:
    """
    Return up to *limit* sessions that are sought, all by default: those opened last first.

    Args:
        connection: A snapshot of the store.
        sought: Which ones.
        before: The id of a session: only those that were opened before it.
        limit: How many at most.

    Raises:
        Conflict: there is no session *before*.
    """
    tables = tables_of(connection)
    table = tables.sessions
    query = rows(connection).where(*_conditions(tables, sought or Sought()))
    if before is not None:
        at = connection.execute(
            select(table.c.opened_at).where(table.c.id == before)
        ).scalar_one_or_none()
        if at is None:
            raise unknown(before)
        place = tuple_(literal(at, UtcMicroseconds()), literal(before))
        query = query.where(tuple_(table.c.opened_at, table.c.id) < place)
    query = query.order_by(table.c.opened_at.desc(), table.c.id.desc()).limit(limit)
    return [from_row(row) for row in connection.execute(query)]


def _conditions(tables: Tables, sought: Sought) -> list[ColumnElement[bool]]:
    table, halts = tables.sessions, tables.halts
    found: list[ColumnElement[bool]] = [
        table.c[name] == value for name in _COLUMNS if (value := getattr(sought, name)) is not None
    ]
    if sought.since is not None:
        found.append(table.c.opened_at >= sought.since)
    goes_on = (SessionStatus.OPEN, SessionStatus.PAUSED)
    if sought.state is SessionStatus.HALTED:  # of those few stand
        halted = select(halts.c.name).where(
            halts.c.scope == HaltScope.SESSION.value, halts.c.released_at.is_(None)
        )
        found += [table.c.id.in_(halted), table.c.status.in_([one.value for one in goes_on])]
    elif sought.state is not None:
        found.append(table.c.status == sought.state.value)
        found += [halts.c.id.is_(None)] if sought.state in goes_on else []
    return found
