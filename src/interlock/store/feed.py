"""
Operations of the feed: which committed events follow a position, and how far that is final.

An event's position is a number that the database gives it when it is inserted, the next one for each. A reader who has
read up to a position must be certain that no event with a smaller one is committed later.

On SQLite there is one writer at a time, which keeps the lock from its first insertion to its commit: who sees a
position sees all before it. On Postgres a position is given before the commit, so a smaller one may become visible
later. But whoever is given one has the lock on the table `events` that every insertion takes, and has it until the
transaction is over and visible. So a position is final when each transaction has ended that had this lock at some
moment after the position was seen; one that took it later was given greater positions. Positions that follow each
other without a gap need no such proof. Within a session the row of the session is locked, so its events become visible
in the order of their numbers on either database.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from sqlalchemy import Connection, Select, Table, func, select, text

from interlock.errors import Conflict
from interlock.events import Recorded
from interlock.store.events import from_row, unknown
from interlock.store.quoting import quoted
from interlock.store.statements import tables_of

WALKED = 4_000
"""Positions that are walked at once where few of the events are wanted; some milliseconds' work."""


class Wanted(msgspec.Struct, frozen=True):
    """
    What is to be read of the feed.

    Attributes:
        session: The id of the only session; None: all.
        kinds: The only kinds of events; empty: all.
        page: How many events are read at once, at most.
    """

    session: str | None = None
    kinds: tuple[str, ...] = ()
    page: int = 500


class Place(msgspec.Struct, frozen=True):
    """
    How far somebody has read.

    Attributes:
        position: The last position that was looked at; an event had it. 0: before the first.
        hash: That event's hash.
        seq: Where one session is read, the number of the last event that was read of it; 0: not known.
    """

    position: int = 0
    hash: str = ""
    seq: int = 0


class Seen(msgspec.Struct, frozen=True):
    """
    What a look has found.

    Attributes:
        found: The events, each with its position, in order.
        place: How far that was.
        doubtful: The last position beyond it that is visible and not known to be final; None: there is none.
    """

    found: list[tuple[int, Recorded]]
    place: Place
    doubtful: int | None = None


def look(connection: Connection, place: Place, wanted: Wanted, *, final: int = 0) -> Seen:
    """
    Return the page of what is committed and follows *place*, as far as that is final; run it on a snapshot.

    Args:
        connection: A transaction that reads.
        place: Where the page begins.
        wanted: What is to be read.
        final: A position up to which everything is known to be final.
    """
    if wanted.session is not None:
        return _look_at_session(connection, place, wanted)
    walked = WALKED if wanted.kinds else wanted.page
    end, last = _reach(connection, place.position, final, walked)
    table = tables_of(connection).events
    query = select(table).where(table.c.position > place.position).order_by(table.c.position)
    if end is not None:
        query = query.where(table.c.position <= end)
    found = _found(connection, query, wanted)
    if len(found) == wanted.page:  # there may be more before the end
        reached = Place(found[-1][0], found[-1][1].hash)
        return Seen(found, reached)
    doubtful = last if end is not None and last > end else None
    return Seen(found, _place_at(connection, place, last if end is None else end, found), doubtful)


def writers(connection: Connection, *others: Table) -> frozenset[str]:
    """
    Return the transactions that may have been given a position and are not over, on Postgres.

    A position of an event, or of a row of *others*.

    Source: PostgreSQL documentation, section 13.3, "Explicit Locking", ROW EXCLUSIVE; and 54.12, "pg_locks".
    """
    numbered = (tables_of(connection).events, *others)
    names = [quoted(table.name, table.schema) for table in numbered]
    found = connection.execute(
        text(
            "SELECT virtualtransaction FROM pg_locks WHERE locktype = 'relation' AND granted "
            "AND mode = 'RowExclusiveLock' "
            "AND relation = ANY (CAST(CAST(:names AS text[]) AS regclass[])) AND database = "
            "(SELECT oid FROM pg_database WHERE datname = current_database())"
        ),
        {"names": names},
    )
    return frozenset(found.scalars())


def latest(connection: Connection) -> Place:
    """Return the place after the last event that is visible."""
    table = tables_of(connection).events
    row = connection.execute(
        select(table.c.position, table.c.hash).where(
            table.c.position == select(func.max(table.c.position)).scalar_subquery()
        )
    ).one_or_none()
    return Place() if row is None else Place(row.position, row.hash)


def check(connection: Connection, place: Place) -> None:
    """
    Make sure that this store is the one in which somebody has read up to *place*.

    Raises:
        Conflict: another event is there, or the store ends before it.
    """
    if not place.position:
        return
    table = tables_of(connection).events
    there = connection.execute(
        select(table.c.hash).where(table.c.position == place.position)
    ).scalar_one_or_none()
    # Where there is none, an old session may have been removed.
    if not (there or place.hash).startswith(place.hash) or (
        there is None and latest(connection).position <= place.position
    ):
        raise Conflict(
            "the cursor is not of this store as it stands: it is another store's, or this one was restored to an "
            "earlier state. Make the projection anew, from the beginning: feed(after=None)"
        )


def disagreement(connection: Connection, session_id: str) -> str | None:
    """
    Return what is wrong with the positions of a session's events, a sentence; None: nothing that can be known.

    They rise with the events' numbers, and the last one was given to some event before. Which of two sessions' events
    came first is nowhere else recorded, so a change of that alone is not found.
    """
    table = tables_of(connection).events
    query = select(table.c.seq, table.c.position).where(table.c.session_id == session_id)
    before = 0
    for row in connection.execute(query.order_by(table.c.seq)):
        if not isinstance(row.position, int) or row.position <= before:
            return f"event {row.seq} of session {session_id}: position is not after the one before"
        before = row.position
    if before and not _was_given(connection, before):
        return f"the last event of session {session_id}: position was given to none"
    return None


def _look_at_session(connection: Connection, place: Place, wanted: Wanted) -> Seen:
    table = tables_of(connection).events
    query = (
        select(table)
        .where(
            table.c.session_id == wanted.session,
            table.c.seq > place.seq,
            table.c.position > place.position,
        )
        .order_by(table.c.seq)
    )
    found = _found(connection, query, wanted)
    if found:
        position, recorded = found[-1]
        place = Place(position, recorded.hash, recorded.seq)
    elif not place.position:
        sessions = tables_of(connection).sessions
        known = select(sessions.c.id).where(sessions.c.id == wanted.session)
        if connection.execute(known).one_or_none() is None:
            raise unknown(str(wanted.session))
    return Seen(found, place)


def _reach(connection: Connection, after: int, final: int, walked: int) -> tuple[int | None, int]:
    """Return up to which position all is final, None where all that is visible is, and the last that was looked at."""
    table = tables_of(connection).events
    if connection.dialect.name == "sqlite":
        return None, connection.execute(select(func.max(table.c.position))).scalar_one() or 0
    positions: list[int] = list(
        connection.execute(
            select(table.c.position)
            .where(table.c.position > after)
            .order_by(table.c.position)
            .limit(walked)
        ).scalars()
    )
    return _end_of(positions, after, final), positions[-1] if positions else after


def _end_of(positions: Iterable[int], after: int, final: int) -> int:
    """Return the last of *positions*, which rise from *after*, before the first gap that may yet be filled."""
    end = after
    for position in positions:
        if position > max(end + 1, final):
            break
        end = position
    return end


def _found(
    connection: Connection, query: Select[Any], wanted: Wanted
) -> list[tuple[int, Recorded]]:
    if wanted.kinds:
        query = query.where(tables_of(connection).events.c.kind.in_(wanted.kinds))
    rows = connection.execute(query.limit(wanted.page))
    return [(row.position, from_row(row)) for row in rows]


def _place_at(
    connection: Connection, before: Place, position: int, found: list[tuple[int, Recorded]]
) -> Place:
    if position <= before.position:
        return before
    if found and found[-1][0] == position:
        return Place(position, found[-1][1].hash)
    table = tables_of(connection).events
    there = select(table.c.hash).where(table.c.position == position)
    return Place(position, connection.execute(there).scalar_one())


def _was_given(connection: Connection, position: int) -> bool:
    if connection.dialect.name == "postgresql":
        tables = tables_of(connection)
        name = quoted(tables.events.name, tables.schema)
        given = connection.execute(
            text(
                "SELECT pg_sequence_last_value(CAST(pg_get_serial_sequence(:name, 'position') AS regclass))"
            ),
            {"name": name},
        ).scalar_one()
        return given is None or position <= given
    table = tables_of(connection).events
    there = select(table.c.position).where(table.c.position == position - 1)
    return position == 1 or connection.execute(there).one_or_none() is not None
