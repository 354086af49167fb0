"""
Slots: the parts of leases that a batch of calls touches, locked, and what it takes and gives back of them.

A part is one row: the last token, and who holds a slot. Rows are locked in one order, after sessions and before
budgets: a host may hold one for as long as its own transaction lasts, and who waits for it then keeps nobody from a
budget. The time is read once they are locked, so that by the times of the events, too, nobody takes a slot before
another has given it back.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, select, update

from interlock._call import Call
from interlock._lease import Holder, LeaseClaim, LeaseKey, Occupancy, Slot
from interlock._ticket import Ticket
from interlock.store.statements import Prepared, Unless, ask_time, read, told, value
from interlock.store.tables import Tables

_holders = msgspec.json.Decoder(tuple[Holder, ...])
_slots = msgspec.json.Decoder(tuple[Slot, ...])


def _is_this(tables: Tables) -> Any:
    table = tables.leases
    return (table.c.lease == value(table.c.lease, "which_lease")) & (
        table.c.scope == value(table.c.scope, "which_scope")
    )


def _row(tables: Tables) -> Any:
    table = tables.leases
    return select(table.c.token, table.c.holders).where(_is_this(tables))


_MAKE = Unless(lambda tables: tables.leases)
_LOCK = Prepared(lambda tables: _row(tables).with_for_update())
_SHARE = Prepared(lambda tables: _row(tables).with_for_update(read=True))
_MOVE = Prepared(
    lambda tables: (
        update(tables.leases)
        .where(_is_this(tables))
        .values(token=value(tables.leases.c.token), holders=value(tables.leases.c.holders))
    )
)


class Slots:
    """The parts of leases that a transaction has locked."""

    def __init__(self, connection: Connection) -> None:
        """Lock nothing yet."""
        self._connection = connection
        self._rows: dict[LeaseKey, Occupancy] = {}
        self._moved: dict[LeaseKey, None] = {}

    def lock(self, keys: Iterable[LeaseKey], *, wanted: Iterable[LeaseKey] = ()) -> datetime | None:
        """
        Lock and read *keys*, and those *wanted*, whose rows are made if need be.

        Returns:
            The store's time then; None: nothing had to be locked.
        """
        new = sorted(set(wanted) - self._rows.keys())
        all_ = sorted({*keys, *new} - self._rows.keys())
        if not all_:  # nearly always
            return None
        # Before any is locked: one that somebody else makes while others are would be locked after those.
        _MAKE.run(
            self._connection,
            [{"lease": key.lease, "scope": key.scope, "token": 0, "holders": None} for key in new],
        )
        found, time = read(
            self._connection,
            (_LOCK, [_which(key) for key in all_]),
            ask_time(self._connection),
        )
        for key, row in zip(all_, found, strict=True):
            self._rows[key] = occupancy(key, row[0]) if row else Occupancy(key=key)
        return told(self._connection, time)

    def full(
        self, claims: Iterable[LeaseClaim], ticket: Ticket | None, at: datetime
    ) -> tuple[Occupancy, ...]:
        """Return the parts of which no slot is left *at* that instant, but for those that *ticket* holds already."""
        return tuple(
            row
            for claim in claims
            for row in [self._rows[claim.key]]
            if len(row.living(at)) >= claim.lease.max_concurrent and _of(ticket, row) is None
        )

    def take(
        self, claims: Iterable[LeaseClaim], call: Call, *, ticket: Ticket | None, at: datetime
    ) -> tuple[Slot, ...]:
        """Take a slot of each part for *call*, or have *ticket* pass on the one that it holds; return them."""
        slots: list[Slot] = []
        for claim in claims:
            row = self._rows[claim.key]
            holder = _holder(call, expires_at=at + claim.lease.expires)
            passed = _of(ticket, row)
            if passed is None:
                row, slot = row.taken(holder, at=at)
            else:
                row = row.put(msgspec.structs.replace(holder, token=passed.token))
                slot = msgspec.structs.replace(passed, expires_at=holder.expires_at, displaced=())
            self._put(row)
            slots.append(slot)
        if ticket is not None:
            kept = {(slot.key, slot.token) for slot in slots}
            self.release(
                [slot for slot in ticket.leases if (slot.key, slot.token) not in kept], at=at
            )
        return tuple(slots)

    def hold(
        self, claims: Iterable[LeaseClaim], call: Call, ticket: Ticket, *, at: datetime
    ) -> tuple[Slot, ...]:
        """Take a slot of each part for *ticket*, for as long as it can be answered; return them."""
        holder = _holder(call, expires_at=ticket.expires_at, ticket_id=ticket.id)
        slots: list[Slot] = []
        for claim in claims:
            row, slot = self._rows[claim.key].taken(holder, at=at)
            self._put(row)
            slots.append(slot)
        return tuple(slots)

    def release(self, slots: Sequence[Slot], *, at: datetime) -> tuple[str, ...]:
        """Give *slots* back; return the names of the leases of those that were lost before."""
        self.lock(slot.key for slot in slots)
        lost: list[str] = []
        for slot in slots:
            row = self._rows[slot.key]
            holder = row.find(slot.token)
            if holder is None or holder.expires_at <= at:
                lost.append(slot.lease)
            if holder is not None:
                self._put(row.without(slot.token))
        return tuple(lost)

    def renew(self, slot: Slot, *, expires_at: datetime, at: datetime) -> bool:
        """Hold a slot until *expires_at*; False: it was lost before."""
        row = self._rows[slot.key]
        holder = row.find(slot.token)
        if holder is None or holder.expires_at <= at:
            return False
        self._put(row.put(msgspec.structs.replace(holder, expires_at=expires_at)))
        return True

    def write(self) -> None:
        """Write what was changed."""
        moved = [self._rows[key] for key in sorted(self._moved)]
        self._moved.clear()
        _MOVE.run(
            self._connection,
            [
                {
                    **_which(row.key),
                    "token": row.token,
                    "holders": msgspec.json.encode(row.holders).decode() if row.holders else None,
                }
                for row in moved
            ],
        )

    def _put(self, row: Occupancy) -> None:
        self._rows[row.key] = row
        self._moved[row.key] = None


def free(connection: Connection, slots: Sequence[Slot], *, at: datetime) -> None:
    """Give *slots* back that tickets held which are over; nothing may be locked afterwards."""
    if slots:
        locked = Slots(connection)
        locked.release(slots, at=at)
        locked.write()


def seen(connection: Connection, key: LeaseKey) -> Occupancy:
    """Return a part as it stands, and stands until the transaction ends."""
    row = _SHARE.row(connection, **_which(key))
    return Occupancy(key=key) if row is None else occupancy(key, row)


def occupancy(key: LeaseKey, row: Sequence[Any]) -> Occupancy:
    """
    Return the part of a lease whose row holds this token and these holders.

    Raises:
        msgspec.DecodeError: they cannot be read.
    """
    token, holders = row
    return Occupancy(key=key, token=token, holders=_holders.decode(holders) if holders else ())


def text_of(slots: Sequence[Slot]) -> str | None:
    """Return *slots* as they are stored with who holds them; None for none."""
    return msgspec.json.encode(slots).decode() if slots else None


def slots_of(text: str | None) -> tuple[Slot, ...]:
    """
    Return the slots that `text_of` wrote.

    Raises:
        msgspec.DecodeError: they cannot be read.
    """
    return _slots.decode(text) if text else ()


def _of(ticket: Ticket | None, row: Occupancy) -> Slot | None:
    """Return the slot of this part that *ticket* holds."""
    if ticket is None:
        return None
    for slot in ticket.leases:
        holder = row.find(slot.token)
        if slot.key == row.key and holder is not None and holder.ticket_id == ticket.id:
            return slot
    return None


def _holder(call: Call, *, expires_at: datetime, ticket_id: str | None = None) -> Holder:
    return Holder(
        token=0,
        session_id=call.session_id,
        call_id=call.id,
        ticket_id=ticket_id,
        tool=call.tool.name,
        resource=call.resource if call.recorded_resource is None else call.recorded_resource,
        expires_at=expires_at,
    )


def _which(key: LeaseKey) -> dict[str, object]:
    return {"which_lease": key.lease, "which_scope": key.scope}
