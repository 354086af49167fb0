"""CounterSums: what the events add up to in every counter, and which rows differ from that."""

from __future__ import annotations

from contextlib import suppress

from sqlalchemy import Connection, select

from interlock import events
from interlock._counters import MOST, counts
from interlock._state import SessionStatus, status_after
from interlock.store.counters import Key, Sums, Tally
from interlock.store.events import Place
from interlock.store.statements import raw, tables_of
from interlock.store.tables import from_microseconds


class CounterSums:
    """What the events add up to in every counter; see `verify_books`."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._tally = Tally()
        self._session_id = ""
        self._status: SessionStatus | None = None

    def hear(self, place: Place, event: events.Event) -> None:
        """Take an event."""
        if place.session_id != self._session_id:
            self._session_id, self._status = place.session_id, None
        with suppress(
            TypeError
        ):  # its time was changed: `verify` says so, and here it shows in the sums
            self._tally.add(place.at_us, counts(event, self._status))
        self._status = status_after(self._status or SessionStatus.OPEN, event)

    def sums(self) -> Sums:
        """Return the sums, by key."""
        return self._tally.sums()

    def compared(self, connection: Connection) -> list[str]:
        """Return a sentence for each counter that is another."""
        problems: list[str] = []
        told, stored = self.sums(), _stored(connection, problems)
        for key in sorted({*told, *stored}, key=str):
            day, what, name = key
            here, there = stored.get(key, (0, 0)), told.get(key, (0, 0))
            if here != there:
                problems.append(
                    f"counter {what} {name} of {from_microseconds(day):%Y-%m-%d} is {_shown(here)}, "
                    f"but adds up to {_shown(there)}"
                )
        return problems


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
