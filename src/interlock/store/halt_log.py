"""The log of halts: what was engaged and released, each row with its hash chained to the one before."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select

from interlock import events
from interlock._canonical import digest, encode
from interlock.store.statements import as_stored, tables_of
from interlock.store.tables import to_microseconds


def append(  # noqa: PLR0917 - all that a row has
    connection: Connection,
    kind: str,
    halt_id: str,
    target: str,
    reason: str,
    by: str,
    at: datetime,
) -> None:
    """Write down that a halt was engaged or released; whoever calls has locked the halts."""
    table = tables_of(connection).halt_log
    last = connection.execute(
        select(table.c.seq, table.c.hash).order_by(table.c.seq.desc()).limit(1)
    ).one_or_none()
    seq, previous = (1, events.GENESIS) if last is None else (last.seq + 1, last.hash)
    connection.execute(
        insert(table).values(
            seq=seq,
            kind=kind,
            halt_id=halt_id,
            target=target,
            reason=reason,
            by=by,
            at=at,
            previous_hash=previous,
            hash=_seal(seq, previous, kind, halt_id, target, reason, by, to_microseconds(at)),
        )
    )


def last(connection: Connection) -> int:
    """Return the number of the last row of the log of halts: as long as it is the same, the same halts stand."""
    number = select(func.coalesce(func.max(tables_of(connection).halt_log.c.seq), 0))
    return int(connection.execute(number).scalar_one())


def disagreements(connection: Connection) -> list[str]:
    """Recompute the halts from their log; return a sentence for each row that disagrees, whatever its cells hold."""
    tables = tables_of(connection)
    found: list[str] = []
    told: dict[str, tuple[object, ...]] = {}
    previous, expected = events.GENESIS, 1
    for row in connection.execute(as_stored(tables.halt_log).order_by(tables.halt_log.c.seq)):
        place = f"row {row.seq} of the log of halts"
        if row.seq != expected:
            found.append(f"row {expected} of the log of halts is missing")
        if row.previous_hash != previous:
            found.append(f"{place} does not follow from the row before it")
        said = (row.halt_id, row.target, row.reason, row.by, row.at)
        if not _is_sound(row, said):
            found.append(f"{place} was changed after it was written: its hash is another")
        engaged = (row.target, row.reason, row.by, row.at)
        if row.kind == "engaged":
            told[row.halt_id] = (*engaged, None, None, None)
        else:
            known = told.get(row.halt_id, ())
            told[row.halt_id] = (*known[:4], row.at, row.by, row.reason)
        previous = row.hash
        expected = (row.seq if isinstance(row.seq, int) else expected) + 1
    for row in connection.execute(as_stored(tables.halts).order_by(tables.halts.c.id)):
        stored = (row.target, row.reason, row.by, row.engaged_at, row.released_at)
        whole = (*stored, row.released_by, row.release_reason)
        if told.pop(row.id, None) != whole or row.target != f"{row.scope}:{row.name}":
            found.append(f"halt {row.id} is not what the log of halts says")
    return found + [f"halt {halt_id} is missing" for halt_id in sorted(told, key=str)]


def _is_sound(row: Row[Any], said: tuple[Any, ...]) -> bool:
    with suppress(AttributeError, TypeError, ValueError):
        return bool(_seal(row.seq, row.previous_hash, row.kind, *said) == row.hash)
    return False


def _seal(  # noqa: PLR0917 - all that a row has
    seq: int,
    previous: str,
    kind: str,
    halt_id: str,
    target: str,
    reason: str,
    by: str,
    at_us: int,
) -> str:
    name = "interlock.halt.v1"
    return digest(encode([name, previous, seq, kind, halt_id, target, reason, by, at_us]))
