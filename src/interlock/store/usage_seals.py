"""
Usage outside of sessions: what shows that a row of it was changed, and with a checkpoint that one was taken out.

Usage in a session has an event there, and is in its chain. What has no session is in no chain, since then all who
record would have to wait for each other: each row has a hash of its own, and their order is that of their positions,
so that the digest of all up to a position can be kept elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, func, select

from interlock import _canonical
from interlock.store.statements import as_stored, tables_of

_PAGE = 1_000
_PREFIX = b"interlock.usage.v1\n"
_UNSEALED = ("hash", "position")


def sealed(row: Mapping[str, object]) -> dict[str, object]:
    """Return *row*, which has no hash yet, with its hash if it is of no session."""
    return {**row, "hash": None if row["session_id"] is not None else _seal(row)}


def last(connection: Connection) -> int:
    """Return the last position that is visible; 0: there is no row."""
    number = select(func.coalesce(func.max(tables_of(connection).usage.c.position), 0))
    return int(connection.execute(number).scalar_one())


def digest_between(connection: Connection, after: int, until: int, start: str) -> str:
    """
    Return the digest of all rows outside of sessions with a position up to *until*.

    Args:
        connection: A transaction that reads.
        after: The position up to which *start* has them; 0: it has none.
        until: The last position.
        start: The digest so far; `events.GENESIS` where there is none.
    """
    found = start
    for row in _rows(connection, after, until):
        found = _canonical.digest(_canonical.encode([found, row.id, row.hash]))
    return found


def disagreements(connection: Connection) -> list[str]:
    """
    Return a sentence for each row outside of sessions that is not as it was written.

    That one was taken out does not show in the others: who can write here can also write a row that holds.
    """
    return [
        f"usage {row.id} outside of sessions: it was changed after it was written: its hash is another"
        for row in _rows(connection, 0, last(connection))
        if not _is_sound(row)
    ]


def _rows(connection: Connection, after: int, until: int) -> Iterator[Row[Any]]:
    table = tables_of(connection).usage
    query = as_stored(table).where(table.c.session_id.is_(None), table.c.position <= until)
    query = query.order_by(table.c.position).limit(_PAGE)
    if after:  # else also what somebody has put before the first
        query = query.where(table.c.position > after)
    while rows := connection.execute(query).all():
        yield from rows
        query = query.where(table.c.position > rows[-1].position)


def _is_sound(row: Row[Any]) -> bool:
    told = row._asdict()
    with suppress(ArithmeticError, TypeError, ValueError):  # a cell may hold anything
        return bool(_seal(told) == row.hash)
    return False


def _seal(row: Mapping[str, object]) -> str:
    told = {name: value for name, value in row.items() if name not in _UNSEALED}
    return _canonical.digest(_PREFIX + msgspec.json.encode(told, order="sorted"))
