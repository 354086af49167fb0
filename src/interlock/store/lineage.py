"""Lineage: which sessions a session was opened in, and which were opened in it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Select, select

from interlock.store.statements import tables_of


def ancestors(connection: Connection, session_id: str) -> tuple[str, ...]:
    """Return the ids of the sessions that a session was opened in, the innermost first."""
    table = tables_of(connection).sessions
    found: list[str] = []
    parent: str | None = session_id
    while parent is not None:
        row = connection.execute(select(table.c.parent).where(table.c.id == parent)).one_or_none()
        parent = None if row is None else row.parent
        if parent is not None:
            if parent in found:  # somebody has written there: `verify` says so
                break
            found.append(parent)
    return tuple(found)


def descendants(connection: Connection, session_id: str) -> Select[Any]:
    """Return the request for the ids of a session and of all that were opened in it, at any depth."""
    table = tables_of(connection).sessions
    within = select(table.c.id).where(table.c.id == session_id).cte("within", recursive=True)
    below = select(table.c.id).join(within, table.c.parent == within.c.id)
    within = within.union(below)
    return select(within.c.id)
