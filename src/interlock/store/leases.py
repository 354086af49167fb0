"""
Operations on leases: check a fencing token, renew what running calls hold, list who holds what.

They are taken in the transaction that admits a call, and given back in the one that settles it: see `calls`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta

import msgspec
from sqlalchemy import Connection, select, tuple_

from interlock._call import Call
from interlock._lease import LeaseKey, Occupancy, Slot
from interlock._verdict import Opinion, Verdict, combine
from interlock.errors import LeaseLost, Misuse
from interlock.store.slots import Slots, occupancy, seen, slots_of
from interlock.store.statements import now, plain, tables_of


class Renewal(msgspec.Struct, frozen=True):
    """A slot that is to be held for another term."""

    slot: Slot
    term: timedelta


def check(connection: Connection, call: Call | None, *, lease: str | None = None) -> None:
    """
    Make sure that a running call still holds its leases, and will until this transaction ends.

    For a tool that writes into the same database: what it writes in this transaction is then written by the holder, or
    not at all. Nobody takes the lease meanwhile, so the transaction should be short.

    Args:
        connection: The transaction in which the tool writes.
        call: `current_call()`, asked in the tool itself.
        lease: The name of the one that is meant; None: all that it has taken.

    Raises:
        LeaseLost: it was lost, or never taken, or the call has ended; let the transaction be rolled back.
        Misuse: there is no call.
    """
    if call is None:
        raise Misuse("no governed call is running here, so it holds no lease; give current_call()")
    table = tables_of(connection).intents
    found = plain(connection).execute(
        select(table.c.leases).where(
            table.c.session_id == call.session_id, table.c.call_id == call.id
        )
    )
    held = [slot for slot in slots_of(found.scalar()) if lease in {None, slot.lease}]
    if not held:
        what = "a lease" if lease is None else f"lease {lease}"
        raise _lost(call, lease or "", f"it does not hold {what}: it never took it, or has ended")
    for slot in sorted(held, key=lambda one: one.key):
        holder = seen(connection, slot.key).find(slot.token)
        if holder is None or holder.call_id != call.id:
            raise _lost(call, slot.lease, f"lease {slot.lease} was lost, and is another's")
        if holder.expires_at <= now(connection):
            raise _lost(call, slot.lease, f"lease {slot.lease} was lost: it was not renewed")


def renew(connection: Connection, renewals: Sequence[Renewal]) -> list[Slot]:
    """Hold slots for another term each; return those that were lost before."""
    locked = Slots(connection)
    at = locked.lock(one.slot.key for one in renewals) or now(connection)
    lost = [
        one.slot for one in renewals if not locked.renew(one.slot, expires_at=at + one.term, at=at)
    ]
    locked.write()
    return lost


def standing(
    connection: Connection,
    *,
    lease: str | None = None,
    after: LeaseKey | None = None,
    limit: int = 50,
) -> list[Occupancy]:
    """
    Return up to *limit* parts of leases that somebody holds, or held until it expired, by name.

    Args:
        connection: A snapshot of the store.
        lease: Only the lease of this name.
        after: Only parts that come after this one: the last of the page before.
        limit: How many at most.
    """
    table = tables_of(connection).leases
    keys = (table.c.lease, table.c.scope)
    query = (
        select(*keys, table.c.token, table.c.holders)
        .where(table.c.holders.is_not(None))
        .order_by(*keys)
        .limit(limit)
    )
    if lease is not None:
        query = query.where(table.c.lease == lease)
    if after is not None:
        query = query.where(tuple_(*keys) > (after.lease, after.scope))
    rows: Iterable[Sequence[str]] = plain(connection).execute(query)
    return [occupancy(LeaseKey(*row[:2]), row[2:]) for row in rows]


def _lost(call: Call, lease: str, reason: str) -> LeaseLost:
    denial = Opinion(verdict=Verdict.DENY, reason=reason, author=f"lease:{lease}")
    return LeaseLost(
        f"{call.tool.name} may not go on: {reason}. Nothing of this transaction was written; "
        "stop, and look at what was done before the call is made again.",
        decision=combine([denial]),
        call=call,
        lease=lease,
    )
