"""The rows of budgets: the statements that lock, move, fold and sum them up, and what they say as values."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import (
    BigInteger,
    bindparam,
    cast,
    delete,
    func,
    literal_column,
    select,
    update,
)
from sqlalchemy.dialects import postgresql

from interlock._budget import MAX_SUM, Account, Amounts, Limits, WindowKey
from interlock.store.statements import Prepared, Unless, raw, value
from interlock.store.tables import AMOUNTS, Tables, from_microseconds, to_microseconds

FOREVER = 2**63 - 1
"""Later than any time that is stored."""

_KEY = ("budget", "scope", "starts_at")
_SUMS = tuple(f"{amount}_{part}" for part in ("reserved", "spent") for amount in AMOUNTS)
_LIMITS = tuple(f"{amount}_limit" for amount in AMOUNTS)
_LEASED = tuple(f"{amount}_leased" for amount in AMOUNTS)
_ROW = (*_LIMITS, *_SUMS, *_LEASED)
_LEASE = (*_LIMITS, *_SUMS)


class Row(msgspec.Struct, frozen=True):
    """
    The row of a window: all of it but what is in the rows of its leases.

    Attributes:
        account: What it says of limits and of what is reserved and spent here.
        leased: What its leases hold in all: what is reserved and spent of them, and what may yet be.
    """

    account: Account
    leased: Amounts


class Lease(msgspec.Struct, frozen=True):
    """
    What of a window one worker may hand out by itself.

    Attributes:
        worker: Whose it is.
        limit: How much of each; in it is what is reserved and spent.
        reserved: What running calls hold of it.
        spent: What finished calls were charged to it.
    """

    worker: str
    limit: Amounts
    reserved: Amounts = Amounts()
    spent: Amounts = Amounts()

    @property
    def left(self) -> Amounts:
        """What may yet be handed out."""
        return self.limit - self.reserved - self.spent


def _is_this(table: Any) -> Any:
    return (
        (table.c.budget == value(table.c.budget, "which_budget"))
        & (table.c.scope == value(table.c.scope, "which_scope"))
        & (raw(table.c.starts_at) == value(table.c.starts_at, "which_starts_at"))
    )


def _is_mine(table: Any) -> Any:
    return _is_this(table) & (table.c.worker == value(table.c.worker, "which_worker"))


def _same(tables: Tables) -> Any:
    return [tables.windows.c[name] == tables.budget_leases.c[name] for name in _KEY]


def _row(tables: Tables) -> Any:
    table = tables.windows
    return select(raw(table.c.ends_at), *(table.c[name] for name in _ROW)).where(_is_this(table))


def _lease(tables: Tables) -> list[Any]:
    return [tables.budget_leases.c.worker, *(tables.budget_leases.c[name] for name in _LEASE)]


def _moved(table: Any, columns: tuple[str, ...]) -> dict[str, Any]:
    # Sums are moved by the database, relative to what stands there, and never set: whatever else goes wrong, no
    # update is lost.
    return {name: table.c[name] + bindparam(name, type_=table.c[name].type) for name in columns}


def _total(tables: Tables, name: str) -> Any:
    added = func.coalesce(func.sum(tables.budget_leases.c[name]), literal_column("0"))
    return (tables.windows.c[name] + cast(added, BigInteger)).label(name)


def totals(tables: Tables) -> Any:
    """Return the query of each window's key, end, limits, and what is reserved and spent in all of its rows."""
    table = tables.windows
    keys = [raw(table.c[name]).label(name) for name in _KEY]
    limits = [table.c[name] for name in _LIMITS]
    sums = [_total(tables, name) for name in _SUMS]
    joined = table.outerjoin(tables.budget_leases, _all(_same(tables)))
    return (
        select(*keys, raw(table.c.ends_at).label("ends_at"), *limits, *sums)
        .select_from(joined)
        .group_by(*(table.c[name] for name in _KEY))
    )


def _all(conditions: list[Any]) -> Any:
    first, *others = conditions
    for condition in others:
        first &= condition
    return first


def _lent(tables: Tables) -> Any:
    table = tables.budget_leases
    row = {column.name: value(column) for column in table.columns}
    insertion = postgresql.insert(table).values(row)
    added = {name: table.c[name] + insertion.excluded[name] for name in _LEASE}
    return insertion.on_conflict_do_update(
        index_elements=[*_KEY, "worker"], set_={**added, "moved_at": insertion.excluded.moved_at}
    )


MAKE = Unless(lambda tables: tables.windows)
LOCK = Prepared(lambda tables: _row(tables).with_for_update())
TOTAL = Prepared(lambda tables: totals(tables).where(_is_this(tables.windows)))
MOVE = Prepared(
    lambda tables: (
        update(tables.windows)
        .where(_is_this(tables.windows))
        .values(
            {
                **{name: value(tables.windows.c[name]) for name in _LIMITS},
                **_moved(tables.windows, (*_SUMS, *_LEASED)),
            }
        )
    )
)
LOCK_LEASE = Prepared(
    lambda tables: (
        select(
            raw(tables.windows.c.ends_at),
            *(tables.windows.c[name].label(f"window_{name}") for name in _LIMITS),
            *_lease(tables),
        )
        .select_from(tables.budget_leases.join(tables.windows, _all(_same(tables))))
        .where(_is_mine(tables.budget_leases))
        .with_for_update(of=tables.budget_leases)
    )
)
"""This worker's lease, and under which limits it was leased; locks nothing but the lease."""
LOCK_LEASES = Prepared(
    lambda tables: (
        select(*_lease(tables))
        .where(
            _is_this(tables.budget_leases),
            (tables.budget_leases.c.worker == value(tables.budget_leases.c.worker, "which_worker"))
            | (
                raw(tables.budget_leases.c.moved_at)
                <= value(tables.budget_leases.c.moved_at, "which_idle_since")
            ),
        )
        .order_by(tables.budget_leases.c.worker)
        .with_for_update()
    )
)
"""This worker's lease and those that nobody has moved since some time, of a window whose row is locked."""
MOVE_LEASE = Prepared(
    lambda tables: (
        update(tables.budget_leases)
        .where(_is_mine(tables.budget_leases))
        .values(
            {
                "moved_at": value(tables.budget_leases.c.moved_at),
                **_moved(tables.budget_leases, _SUMS),
            }
        )
    )
)
FOLD = Prepared(lambda tables: delete(tables.budget_leases).where(_is_mine(tables.budget_leases)))
LEND = Prepared(_lent)


def which(key: WindowKey, **more: object) -> dict[str, object]:
    """Return the parameters that say which window, or which lease of it."""
    return {
        "which_budget": key.budget,
        "which_scope": key.scope,
        "which_starts_at": key.starts_at,
        **{f"which_{name}": value for name, value in more.items()},
    }


def columns(part: str, amounts: Amounts | Limits) -> dict[str, object]:
    """Return the parameters for the columns of that part."""
    return {
        f"cost_{part}": amounts.cost,
        f"tokens_{part}": amounts.tokens,
        f"calls_{part}": amounts.calls,
    }


def empty(key: WindowKey, ends_at: datetime | None) -> dict[str, object]:
    """Return the row of a window of which nothing is taken yet."""
    return {
        "budget": key.budget,
        "scope": key.scope,
        "starts_at": key.starts_at,
        "ends_at": None if ends_at is None else to_microseconds(ends_at),
        **columns("limit", Limits()),
        **columns("reserved", Amounts()),
        **columns("spent", Amounts()),
        **columns("leased", Amounts()),
    }


def lent(key: WindowKey, worker: str, at: datetime, lease: Lease) -> dict[str, object]:
    """Return the row of a lease, which is added to the one that is there."""
    return {
        "budget": key.budget,
        "scope": key.scope,
        "starts_at": key.starts_at,
        "worker": worker,
        "moved_at": to_microseconds(at),
        **columns("limit", lease.limit),
        **columns("reserved", lease.reserved),
        **columns("spent", lease.spent),
    }


def account_of(key: WindowKey, row: Any) -> Account:
    """Return what a row says that has an end, limits, and what is reserved and spent."""
    ends_at, *numbers = row
    return Account(
        key=key,
        ends_at=None if ends_at is None else from_microseconds(ends_at),
        limits=Limits(*numbers[0:3]),
        reserved=Amounts(*numbers[3:6]),
        spent=Amounts(*numbers[6:9]),
    )


def row_of(key: WindowKey, row: Any) -> Row:
    """Return what came of `LOCK`."""
    return Row(account_of(key, row[:10]), Amounts(*row[10:13]))


def lease_of(row: Any) -> Lease:
    """Return what came of `LOCK_LEASES`."""
    worker, *numbers = row
    return Lease(worker, Amounts(*numbers[0:3]), Amounts(*numbers[3:6]), Amounts(*numbers[6:9]))


def leased_of(row: Any) -> tuple[datetime | None, Limits, Lease]:
    """Return what came of `LOCK_LEASE`: when the window ends, under which limits it was leased, and the lease."""
    ends_at = None if row[0] is None else from_microseconds(row[0])
    return ends_at, Limits(*row[1:4]), lease_of(row[4:])


def ceiling(limits: Limits) -> Amounts:
    """Return how much may be taken of a window in all: what is not limited has the limit of the books."""
    return Amounts(
        *(
            MAX_SUM - 1 if limit is None else min(limit, MAX_SUM - 1)
            for limit in (limits.cost, limits.tokens, limits.calls)
        )
    )


def fits(wanted: Amounts, room: Amounts) -> bool:
    """Whether there is so much of each."""
    return wanted.cost <= room.cost and wanted.tokens <= room.tokens and wanted.calls <= room.calls
