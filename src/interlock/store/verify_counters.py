"""disagreements(): recompute every counter from the events, and name those that differ."""

from __future__ import annotations

from contextlib import suppress

from sqlalchemy import Connection, select

from interlock._counters import MOST, counts
from interlock._state import SessionStatus, status_after
from interlock.errors import NewerRelease
from interlock.store.counters import Key, Sums, Tally
from interlock.store.events import known
from interlock.store.statements import raw, tables_of
from interlock.store.tables import from_microseconds


def disagreements(connection: Connection) -> list[str]:
    """
    Return a sentence for each counter that is not what the events add up to.

    Reads the whole history, a page at a time. Not checked is who counted what: the sums are those of all shards. That
    the events themselves are unchanged is the business of `verify`.
    Run it on a snapshot.
    """
    try:
        told = _told(connection)
    except NewerRelease as newer:
        return [f"the counters: {newer}"]
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
    tally, session_id = Tally(), ""
    status: SessionStatus | None = None
    for place, event in known(connection):
        if place.session_id != session_id:
            session_id, status = place.session_id, None
        with suppress(
            TypeError
        ):  # its time was changed: `verify` says so, and here it shows in the sums
            tally.add(place.at_us, counts(event, status))
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
