"""disagreements(): recompute every counter from the events, and name those that differ."""

from __future__ import annotations

from contextlib import suppress

import msgspec
from sqlalchemy import Connection, select, tuple_

from interlock import events
from interlock._counters import MOST, counts
from interlock._state import SessionStatus, status_after
from interlock.store.counters import Key, Sums, Tally
from interlock.store.events import PAGE
from interlock.store.statements import raw, tables_of
from interlock.store.tables import from_microseconds


def disagreements(connection: Connection) -> list[str]:
    """
    Return a sentence for each counter that is not what the events add up to.

    Reads the whole history, a page at a time. Not checked is who counted what: the sums are those of all shards. That
    the events themselves are unchanged is the business of `verify`.
    Run it on a snapshot.
    """
    told = _told(connection)
    problems: list[str] = []
    stored = _stored(connection, problems)
    for key in sorted({*told, *stored}, key=str):
        day, what, name = key
        here, there = stored.get(key, (0, 0)), told.get(key, (0, 0))
        if here != there:
            problems.append(
                f"counter {what} {name} of {from_microseconds(day):%Y-%m-%d} is {_shown(here)}, "
                f"but adds up to {_shown(there)}"
            )
    return problems


def _told(connection: Connection) -> Sums:
    table = tables_of(connection).events
    place = tuple_(table.c.session_id, table.c.seq)
    query = (
        select(table.c.session_id, table.c.seq, raw(table.c.at), table.c.body)
        .order_by(table.c.session_id, table.c.seq)
        .limit(PAGE)
    )
    tally, after = Tally(), ("", 0)
    status: SessionStatus | None = None
    while rows := connection.execute(query.where(place > after)).all():
        for session_id, seq, at_us, body in rows:
            if session_id != after[0]:
                status = None
            after = session_id, seq
            # One that cannot be read was changed: `verify` names it, and here it shows in the sums.
            with suppress(msgspec.MsgspecError, TypeError, ValueError):
                event = events.decode(body)
                tally.add(at_us, counts(event, status))
                status = status_after(status or SessionStatus.OPEN, event)
    return tally.sums()


def _stored(connection: Connection, problems: list[str]) -> dict[Key, tuple[int, int]]:
    table = tables_of(connection).counters
    found: dict[Key, tuple[int, int]] = {}
    for day, what, name, n, amount in connection.execute(
        select(raw(table.c.day), table.c.what, table.c.name, table.c.n, table.c.amount)
    ):
        if not all(isinstance(number, int) for number in (day, n, amount)):
            problems.append(f"counter {what} {name} cannot be read")
            continue
        before = found.get((day, what, name), (0, 0))
        found[day, what, name] = before[0] + n, min(MOST, before[1] + amount)
    return found


def _shown(sums: tuple[int, int]) -> str:
    n, amount = sums
    return f"{n} and {amount} nano-dollars" if amount else str(n)
