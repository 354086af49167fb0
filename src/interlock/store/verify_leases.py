"""LeaseHolders: who holds which lease, as the events say, and which rows differ from that."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import NotRequired, TypedDict, Unpack

import msgspec
from sqlalchemy import Connection, select

from interlock import events
from interlock._lease import Holder, LeaseKey, Occupancy, Slot
from interlock._ticket import TicketState
from interlock.store.events import Place
from interlock.store.slots import occupancy
from interlock.store.statements import tables_of


class _Who(TypedDict):
    session_id: str
    call_id: str
    ticket_id: NotRequired[str | None]
    tool: str
    resource: str | None


class LeaseHolders:
    """Who holds which lease, as the events say; see `verify_books`."""

    def __init__(self) -> None:
        """Begin with nobody."""
        self.given: defaultdict[LeaseKey, dict[int, Holder]] = defaultdict(dict)
        self._gone: set[tuple[LeaseKey, int]] = set()
        self._by_call: dict[str, tuple[Slot, ...]] = {}
        self._by_ticket: dict[str, tuple[Slot, ...]] = {}
        self._of_call: dict[str, events.CallDecided] = {}
        self._twice: list[str] = []

    def hear(self, place: Place, event: events.Event) -> None:
        """Take an event."""
        match event:
            case events.CallDecided() if event.admitted:
                waited = self._by_ticket.pop(event.ticket_id or "", ())
                passed = {(slot.key, slot.token) for slot in event.leases}
                self._release(slot for slot in waited if (slot.key, slot.token) not in passed)
                self._take(
                    event.leases,
                    waited,
                    session_id=place.session_id,
                    call_id=event.call_id,
                    tool=event.tool,
                    resource=event.resource,
                )
                self._by_call[event.call_id] = event.leases
            case events.CallDecided():
                self._of_call[event.call_id] = event
            case events.CallFinished() | events.CallDoubted() | events.CallRecovered():
                self._release(self._by_call.pop(event.call_id, ()))
            case events.TicketOpened() if event.leases:
                asked = self._of_call.get(event.call_id)
                self._take(
                    event.leases,
                    session_id=place.session_id,
                    call_id=event.call_id,
                    ticket_id=event.ticket_id,
                    tool=event.tool,
                    resource=None if asked is None else asked.resource,
                )
                self._by_ticket[event.ticket_id] = event.leases
            case events.TicketResolved() if event.state is not TicketState.APPROVED:
                self._release(self._by_ticket.pop(event.ticket_id, ()))
            case _:
                pass

    def compared(self, connection: Connection) -> Iterator[str]:
        """Yield a sentence for each part of a lease of which the last token or the holders are others."""
        yield from self.problems()
        yield from _compared(connection, self)

    def problems(self) -> list[str]:
        """What the events themselves contradict."""
        found = list(self._twice)
        for key in sorted(self.given):
            last = max(self.given[key])
            missing = [token for token in range(1, last + 1) if token not in self.given[key]]
            found += [f"{_named(key)}: token {token} was never given" for token in missing]
        return found

    def occupancy(self, key: LeaseKey) -> Occupancy:
        """How a part stands by all that was heard."""
        given = self.given.get(key, {})
        return Occupancy(
            key=key,
            token=max(given, default=0),
            holders=tuple(given[one] for one in sorted(given) if (key, one) not in self._gone),
        )

    def _take(
        self, slots: Iterable[Slot], waited: tuple[Slot, ...] = (), **who: Unpack[_Who]
    ) -> None:
        passed = {(slot.key, slot.token) for slot in waited}
        for slot in slots:
            if slot.token in self.given[slot.key] and (slot.key, slot.token) not in passed:
                self._twice.append(f"{_named(slot.key)}: token {slot.token} was given twice")
            self.given[slot.key][slot.token] = Holder(
                token=slot.token, expires_at=slot.expires_at, **who
            )
            self._gone.update((slot.key, token) for token in slot.displaced)

    def _release(self, slots: Iterable[Slot]) -> None:
        self._gone.update((slot.key, slot.token) for slot in slots)


def _compared(connection: Connection, told: LeaseHolders) -> Iterator[str]:
    table = tables_of(connection).leases
    missing = set(told.given)
    query = select(table.c.lease, table.c.scope, table.c.token, table.c.holders)
    for row in connection.execute(query.order_by(table.c.lease, table.c.scope)):
        key = LeaseKey(*row[:2])
        missing.discard(key)
        wanted = told.occupancy(key)
        try:
            stored = occupancy(key, row[2:])
        except (msgspec.MsgspecError, TypeError, ValueError):
            yield f"{_named(key)}: its holders cannot be read"
            continue
        if stored.token != wanted.token:
            yield f"{_named(key)}: its last token is {stored.token}, but the events say {wanted.token}"
        yield from _differences(stored, wanted)
    for key in sorted(missing):
        yield f"{_named(key)} is missing"


def _differences(stored: Occupancy, wanted: Occupancy) -> Iterator[str]:
    name = _named(stored.key)
    known = {holder.token: holder for holder in wanted.holders}
    for holder in stored.holders:
        said = known.pop(holder.token, None)
        if said is None:
            yield f"{name}: token {holder.token} is held, but the events say that it is not"
            continue
        renewed = holder.ticket_id is None and holder.expires_at > said.expires_at
        same = msgspec.structs.replace(said, expires_at=holder.expires_at) if renewed else said
        if holder != same:
            yield f"{name}: the holder of token {holder.token} is not what the events say"
    for token in sorted(known):
        yield f"{name}: token {token} is not held, but the events say that it is"


def _named(key: LeaseKey) -> str:
    return f"lease {key.lease}, part {key.scope[:12]}"
