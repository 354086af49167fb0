"""
Operations on counters: add to them within the transaction of an event, read them, join those of days gone by.

On Postgres each worker counts in rows of its own, by `shard`, so that no two wait for each other; so does each
transaction of a host, which may last. Those of past days can be joined.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, TypeAlias

import msgspec
from sqlalchemy import Connection, case, delete, func, select
from sqlalchemy.dialects import postgresql, sqlite

from interlock._counters import MOST, Count, What
from interlock.store.statements import Prepared, binding, insertion, now, plain, raw, tables_of
from interlock.store.tables import Tables, to_microseconds

DAY = timedelta(days=1)
_DAY_US = DAY // timedelta(microseconds=1)

JOINED = 0
"""The shard of counters that nobody counts in any more; SQLite, with its one writer at a time, has no other."""

Key: TypeAlias = tuple[int, str, str]
"""The day's first moment in UTC in microseconds, what is counted, and which of it."""

Sums: TypeAlias = Mapping[Key, tuple[int, int]]
"""How many, and how much money in nano-dollars."""


def new_shard() -> int:
    """Return a shard that nobody else counts in."""
    return secrets.randbits(62) + 1


class Tally:
    """What the events of one transaction add."""

    __slots__ = ("_sums",)

    def __init__(self) -> None:
        """Begin with nothing."""
        self._sums: dict[Key, tuple[int, int]] = {}

    def add(self, at_us: int, counted: Iterable[Count]) -> None:
        """Take what an event adds that happened at that instant, in microseconds since 1970."""
        day = at_us - at_us % _DAY_US
        for one in counted:
            key = (day, one.what.value, one.name)
            n, amount = self._sums.get(key, (0, 0))
            self._sums[key] = n + one.n, min(MOST, amount + one.amount)

    def sums(self) -> Sums:
        """Return the sums, by key, in the order of their keys."""
        return {key: self._sums[key] for key in sorted(self._sums)}


def write(connection: Connection, sums: Sums) -> None:
    """Add *sums* to the counters."""
    bound = binding(connection)
    if connection.dialect.name == "sqlite":
        shard, added = JOINED, _ADD_SQLITE
    else:
        shard, added = bound.shard if bound.link else new_shard(), _ADD_POSTGRES
    added.run(
        connection,
        [
            {"day": day, "what": what, "name": name, "shard": shard, "n": n, "amount": amount}
            for (day, what, name), (n, amount) in sums.items()
        ],
    )


def between(
    connection: Connection, what: What, *, since: datetime | None, until: datetime
) -> list[Count]:
    """Return what was counted on days that begin from *since*, None: ever, and before *until*."""
    table = tables_of(connection).counters
    query = (
        select(table.c.name, func.sum(table.c.n), func.sum(table.c.amount))
        .where(table.c.what == what.value, table.c.day < until)
        .group_by(table.c.name)
        .order_by(table.c.name)
    )
    if since is not None:
        query = query.where(table.c.day >= since)
    return [Count(what, name, int(n), int(sum_)) for name, n, sum_ in connection.execute(query)]


def join(connection: Connection) -> int:
    """Put the counters of each day before yesterday into one row each; return how many rows that saved."""
    table = tables_of(connection).counters
    connection = plain(connection)
    if connection.dialect.name == "sqlite":
        return 0
    at = to_microseconds(now(connection))
    over = (table.c.shard != JOINED) & (raw(table.c.day) < at - at % _DAY_US - _DAY_US)
    key = (raw(table.c.day), table.c.what, table.c.name)
    # Locked in one order, so that two who do this wait for each other once.
    connection.execute(select(*key).where(over).order_by(*key, table.c.shard).with_for_update())
    sums: dict[Key, tuple[int, int]] = {}
    rows = connection.execute(
        delete(table).where(over).returning(*key, table.c.n, table.c.amount)
    ).all()
    for day, what, name, n, amount in rows:
        before = sums.get((day, what, name), (0, 0))
        sums[day, what, name] = before[0] + n, min(MOST, before[1] + amount)
    _ADD_POSTGRES.run(
        connection,
        [
            {"day": day, "what": what, "name": name, "shard": JOINED, "n": n, "amount": amount}
            for (day, what, name), (n, amount) in sorted(sums.items())
        ],
    )
    return len(rows) - len(sums)


def named(count: Count, kind: type[msgspec.Struct]) -> Any:
    """Return what the name of a counter says."""
    return msgspec.json.decode(count.name, type=kind)


def _add(build: Any, tables: Tables) -> Any:
    table = tables.counters
    inserted = insertion(table, build)
    more = inserted.excluded
    return inserted.on_conflict_do_update(
        index_elements=list(table.primary_key.columns),
        set_={
            "n": table.c.n + more.n,
            # It stops there: no number may keep an event from being written.
            "amount": case(
                (table.c.amount > MOST - more.amount, MOST), else_=table.c.amount + more.amount
            ),
        },
    )


_ADD_SQLITE = Prepared(lambda tables: _add(sqlite.insert, tables))
_ADD_POSTGRES = Prepared(lambda tables: _add(postgresql.insert, tables))
