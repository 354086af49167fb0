"""
Operations on owners: which process runs what is open, and whether it lives.

An owner is one store that one process has opened. Its row is written with the first session or call that it opens,
renewed while the process lives, and declared lost by `recovery` once it was not renewed for its term. That is never
taken back: a process that was stopped for longer goes on under another id, and has none of what it had opened before.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, exists, func, select, update

from interlock.store.owner import Owner
from interlock.store.statements import Prepared, insertion, now, plain, raw, tables_of, value
from interlock.store.tables import Tables


def lost_at(tables: Tables) -> Any:
    """Return the part of a prepared query that says when `owner` was lost: 0 not yet, null where it has no row."""
    table = tables.owners
    return (
        select(func.coalesce(raw(table.c.lost_at), 0))
        .where(table.c.id == value(table.c.id, "owner"))
        .scalar_subquery()
    )


_ENTER = Prepared(lambda tables: insertion(tables.owners))


def enter(connection: Connection, owner: Owner, *, at: datetime) -> None:
    """Write the row of *owner*, which is not there."""
    _ENTER.run(connection, [owner.row(at)])


def here(connection: Connection, owner: Owner | None) -> str | None:
    """
    Return the id of *owner*, its row written if need be: it is alive until the transaction ends; None for nobody.

    To be called before anything is locked.
    """
    if owner is None:
        return None
    table = tables_of(connection).owners
    connection = plain(connection)
    # Locked, so that nobody declares it lost who then would not see what it opens in this transaction.
    found = connection.execute(
        select(table.c.lost_at).where(table.c.id == owner.id).with_for_update(read=True)
    ).one_or_none()
    if found is not None and found.lost_at is not None:
        owner.renew(owner.id)
        found = None
    if found is None:
        enter(connection, owner, at=now(connection))
    return owner.id


def is_lost(connection: Connection, owner_id: str | None) -> bool:
    """Whether an owner was declared lost."""
    table = tables_of(connection).owners
    found = plain(connection).execute(
        select(table.c.lost_at).where(table.c.id == owner_id, table.c.lost_at.is_not(None))
    )
    return found.first() is not None


def beat(connection: Connection, owner: Owner) -> bool:
    """Say that *owner* lives, for another term; return False where it was declared lost."""
    table, at, mine = tables_of(connection).owners, now(connection), owner.id
    connection = plain(connection)
    renewed = connection.execute(
        update(table)
        .where(table.c.id == mine, table.c.lost_at.is_(None))
        .values(seen_at=at, expires_at=at + owner.term)
    )
    return bool(renewed.rowcount) or not is_lost(connection, mine)


def leave(connection: Connection, owner: Owner) -> None:
    """Remove the row of *owner*, who opens nothing any more, unless something of it is open."""
    tables = tables_of(connection)
    table, intents, sessions = tables.owners, tables.intents, tables.sessions
    plain(connection).execute(
        delete(table).where(
            table.c.id == owner.id,
            table.c.lost_at.is_(None),
            ~exists().where(intents.c.owner == table.c.id, intents.c.doubted_at.is_(None)),
            ~exists().where(sessions.c.owner == table.c.id),
        )
    )
