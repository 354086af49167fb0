"""Operations on budgets: see how they stand; and what something holds of them, as it is stored."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, tuple_

from interlock._budget import Account, Amounts, Claim, Limits, WindowKey
from interlock.store import budget_rows as rows
from interlock.store.statements import now, plain, raw, tables_of


class Held(msgspec.Struct, frozen=True, array_like=True):
    """What something holds of budget windows: of each the same amounts, as a column of JSON."""

    amounts: Amounts
    windows: tuple[WindowKey, ...]

    @classmethod
    def read(cls, text: str) -> Held:
        """Return what *text* says."""
        return _held.decode(text)

    def text(self) -> str:
        """Return it as JSON."""
        return msgspec.json.encode(self).decode()


_held = msgspec.json.Decoder(Held)


def standing(
    connection: Connection,
    *,
    budget: str | None = None,
    at: datetime | None = None,
    after: WindowKey | None = None,
    limit: int = 1_000,
) -> list[Account]:
    """
    Return how budgets stand in the windows that are open, by budget, share and beginning.

    Args:
        connection: A snapshot of the store.
        budget: Only the budget of this name.
        at: When the windows are to be open; now, when left out.
        after: Only windows that come after this one: the last of the page before.
        limit: How many at most.
    """
    tables = tables_of(connection)
    table = tables.windows
    instant = at or now(connection)
    keys = (table.c.budget, table.c.scope, raw(table.c.starts_at))
    query = (
        rows.totals(tables)
        .where(
            table.c.starts_at <= instant, table.c.ends_at.is_(None) | (table.c.ends_at > instant)
        )
        .order_by(*keys)
        .limit(limit)
    )
    if budget is not None:
        query = query.where(table.c.budget == budget)
    if after is not None:
        query = query.where(tuple_(*keys) > (after.budget, after.scope, after.starts_at))
    found: Iterable[Any] = plain(connection).execute(query)
    return [rows.account_of(WindowKey(*row[:3]), row[3:]) for row in found]


def of(connection: Connection, claims: Iterable[Claim]) -> list[Account]:
    """Return how the budgets of *claims* stand now, those of which nothing was spent yet among them."""
    at = now(connection)
    found = []
    for claim in claims:
        key, ends_at = claim.window(at)
        row = rows.TOTAL.row(connection, **rows.which(key))
        account = (
            rows.account_of(key, row[3:])
            if row
            else Account(key=key, ends_at=ends_at, limits=Limits())
        )
        found.append(msgspec.structs.replace(account, limits=claim.budget.limits))
    return found
