"""Operations on usage: record what a model call took, and sum it up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Literal, TypeAlias

import msgspec
from sqlalchemy import BigInteger, ColumnElement, Connection, func, literal_column, select

from interlock import events
from interlock._budget import Account, Amounts, Claim, Need, dollars, nano
from interlock._call import Identity
from interlock._clock import new_id
from interlock._halt import Order, exceeding, ordered
from interlock._usage import Priced
from interlock.errors import Conflict
from interlock.store.accounts import Accounts
from interlock.store.budgets import Held
from interlock.store.events import append, lock
from interlock.store.statements import Prepared, insertion, now, plain, raw, tables_of
from interlock.store.tables import to_microseconds
from interlock.store.usage_seals import sealed
from interlock.store.windows import Want

Column: TypeAlias = Literal[
    "agent", "user", "team", "org", "provider", "model", "session_id", "day"
]
"""By what usage is summed up."""

_INSERT = Prepared(lambda tables: insertion(tables.usage))

_DAY_US = 86_400_000_000
_HALF: ColumnElement[int] = literal_column(str(10**9), BigInteger())
_COUNTS = (
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "cost_nano",
)


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """
    What was recorded of usage.

    Attributes:
        id: The row's UUIDv7.
        priced: The usage and its price.
        budgets: Those that count it, as they stand with it.
        recorded: Its event, when it is usage in a session.
        orders: What is to be halted because of it.
    """

    id: str
    priced: Priced
    budgets: tuple[Account, ...]
    recorded: events.Recorded | None = None
    orders: tuple[Order, ...] = ()

    @property
    def overspent(self) -> tuple[Account, ...]:
        """The budgets of which more is spent than they allow."""
        return tuple(account for account in self.budgets if account.is_overspent)


class Sum(msgspec.Struct, frozen=True, kw_only=True):
    """
    Usage summed up.

    Attributes:
        of: The values that the rows have in common, in the order in which they were asked for.
        calls: How many there are.
        input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, reasoning_tokens: Sums of what is known.
        cost_usd: The sum of what is known, exactly.
        unpriced: How many have no known price.
    """

    of: tuple[str | None, ...]
    calls: int
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    cost_usd: Decimal
    unpriced: int


def record(
    connection: Connection,
    priced: Priced,
    identity: Identity | None,
    *,
    claims: Sequence[Claim] = (),
    session_id: str | None = None,
) -> Receipt:
    """
    Write down usage that was already paid for, and charge it to the budgets that count it, whatever they allow.

    Args:
        connection: A transaction on the store.
        priced: What was used, and what it costs.
        identity: On whose behalf.
        claims: The budgets, and whose share it is.
        session_id: In which session, if in any.
    """
    chain = None if session_id is None else lock(connection, session_id)
    at = now(connection)
    accounts = Accounts(connection)
    amounts = amounts_of(priced)
    need = Need(amounts.cost, amounts.tokens, amounts.calls)
    wants = [Want.of_claim(claim, at, need) for claim in claims]
    keys = tuple(want.key for want in wants)
    budgets: tuple[Account, ...] = ()
    if wants:
        accounts.lock(wants, at=at)
        if full := [key.budget for key in keys if accounts[key].is_full]:
            raise Conflict(f"budget {full[0]} has counted as much as its books can hold")
        accounts.charge(keys, Amounts(), amounts)
        budgets = accounts.shown(accounts[key] for key in keys)
        accounts.write()
    held = Held(amounts, keys) if keys else None
    usage_id = new_id()
    _INSERT.run(
        connection,
        [row(usage_id, at, priced, identity, session_id=session_id, call_id=None, charged=held)],
    )
    recorded = None
    if chain is not None:
        used = events.UsageRecorded(
            usage_id=usage_id,
            identity=identity,
            model=priced.of.model,
            provider=priced.of.provider,
            usage=priced.of.usage,
            cost_usd=priced.cost_usd,
            priced_by=priced.by,
            windows=keys,
            charged=amounts if keys else None,
        )
        recorded = append(connection, chain, [used], at=at)[0]
    over = {account.key for account in budgets if account.is_overspent_by(amounts)}
    wanted = [
        (claim.budget.halt, *exceeding(claim.budget))
        for claim, key in zip(claims, keys, strict=True)
        if claim.budget.halt is not None and key in over
    ]
    orders = ordered(wanted, identity, session_id=session_id, tool=priced.of.model)
    return Receipt(id=usage_id, priced=priced, budgets=budgets, recorded=recorded, orders=orders)


def write(connection: Connection, rows: Sequence[dict[str, object]]) -> None:
    """Write rows that `row` has made."""
    _INSERT.run(connection, rows)


def row(
    usage_id: str,
    at: datetime,
    priced: Priced,
    identity: Identity | None,
    *,
    session_id: str | None,
    call_id: str | None,
    charged: Held | None,
) -> dict[str, object]:
    """Return the row of *priced*, to be written by `write`."""
    used = priced.of.usage
    told: dict[str, object] = {
        "id": usage_id,
        "at": to_microseconds(at),
        "session_id": session_id,
        "call_id": call_id,
        "agent": None if identity is None else identity.agent,
        "user": None if identity is None else identity.user,
        "team": None if identity is None else identity.team,
        "org": None if identity is None else identity.org,
        "provider": priced.of.provider,
        "model": priced.of.model,
        "input_tokens": used.input_tokens,
        "output_tokens": used.output_tokens,
        "cache_read_tokens": used.cache_read_tokens,
        "cache_write_tokens": used.cache_write_tokens,
        "reasoning_tokens": used.reasoning_tokens,
        "cost_nano": None if priced.cost_usd is None else nano(priced.cost_usd),
        "priced_by": priced.by,
        "charged": None if charged is None else charged.text(),
    }
    return sealed(told)


def amounts_of(priced: Priced) -> Amounts:
    """Return what usage is charged: nothing for what is not known, since it cannot be refused any more."""
    return Amounts(
        cost=0 if priced.cost_usd is None else nano(priced.cost_usd),
        tokens=priced.of.usage.tokens or 0,
        calls=1,
    )


_SAME: Any = literal_column("''")


def summary(
    connection: Connection,
    *,
    by: Iterable[Column] = ("model",),
    since: datetime | None = None,
    until: datetime | None = None,
    where: Mapping[Column, str] | None = None,
    limit: int = 1_000,
) -> list[Sum]:
    """
    Return usage summed up, the dearest first.

    Args:
        connection: A snapshot of the store.
        by: What is kept apart; `day` is the day in UTC, as text.
        since: From when on; aware.
        until: Before when; aware.
        where: Only rows with these values.
        limit: How many sums at most.
    """
    table = tables_of(connection).usage
    day = raw(table.c.at).op("/", return_type=BigInteger())(literal_column(str(_DAY_US)))
    columns: list[Any] = [day if name == "day" else table.c[name] for name in by]
    if since is not None:
        # Else SQLite, to have the groups in order, reads an index of a column from end to end instead of the time's.
        columns = [column if column is day else column.op("||")(_SAME) for column in columns]
    # In two parts, since the sum of what is in a column may be more than a database can add up.
    halves = [
        func.coalesce(func.sum(half), 0)
        for name in _COUNTS
        for half in (
            table.c[name].op("/", return_type=BigInteger())(_HALF),
            table.c[name] % _HALF,
        )
    ]
    query = select(*columns, func.count(), *halves, func.count() - func.count(table.c.cost_nano))
    if since is not None:
        query = query.where(table.c.at >= since)
    if until is not None:
        query = query.where(table.c.at < until)
    for name, value in (where or {}).items():
        query = query.where(table.c[name] == value)
    query = (
        query.group_by(*columns)
        .order_by(halves[-2].desc(), halves[-1].desc(), *columns)
        .limit(limit)
    )
    return [_sum(tuple(row), len(columns), list(by)) for row in plain(connection).execute(query)]


def _sum(row: tuple[Any, ...], width: int, by: list[Column]) -> Sum:
    of = tuple(
        _day(value) if name == "day" else value for name, value in zip(by, row[:width], strict=True)
    )
    calls, *halves, unpriced = row[width:]
    counts = [
        int(high) * 10**9 + int(low) for high, low in zip(halves[::2], halves[1::2], strict=True)
    ]
    *tokens, cost = counts
    return Sum(
        of=of,
        calls=calls,
        **dict(zip(_COUNTS[:-1], tokens, strict=True)),
        cost_usd=dollars(cost),
        unpriced=unpriced,
    )


def _day(days: int) -> str:
    return datetime.fromtimestamp(int(days) * 86_400, tz=UTC).date().isoformat()
