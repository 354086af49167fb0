"""Operations on budgets: reserve, charge, and see how they stand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, bindparam, select, update

from interlock._budget import Account, Amounts, Budget, Claim, Limits, WindowKey
from interlock.store.statements import Prepared, Unless, now, plain, raw, tables_of, value
from interlock.store.tables import AMOUNTS, Tables, from_microseconds, to_microseconds

_COLUMNS = tuple(
    f"{amount}_{part}" for part in ("limit", "reserved", "spent") for amount in AMOUNTS
)


def _is_this(tables: Tables) -> Any:
    table = tables.windows
    return (
        (table.c.budget == value(table.c.budget, "which_budget"))
        & (table.c.scope == value(table.c.scope, "which_scope"))
        & (raw(table.c.starts_at) == value(table.c.starts_at, "which_starts_at"))
    )


_NEW = Unless(lambda tables: tables.windows)
_READ = Prepared(
    lambda tables: select(
        raw(tables.windows.c.ends_at), *(tables.windows.c[name] for name in _COLUMNS)
    ).where(_is_this(tables))
)
_LOCK = Prepared(lambda tables: _READ.build(tables).with_for_update())
# Sums are moved by the database, relative to what stands there, and never set: whatever else goes wrong, no
# update is lost.
_MOVE = Prepared(
    lambda tables: (
        update(tables.windows)
        .where(_is_this(tables))
        .values(
            {
                **{name: value(tables.windows.c[name]) for name in _COLUMNS if "limit" in name},
                **{
                    name: tables.windows.c[name]
                    + bindparam(name, type_=tables.windows.c[name].type)
                    for name in _COLUMNS
                    if "limit" not in name
                },
            }
        )
    )
)


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


class Accounts:
    """The budget windows that a batch of calls touches, locked, and what it moves in them."""

    def __init__(self, connection: Connection) -> None:
        """Lock nothing yet."""
        self._connection = connection
        self._standing: dict[WindowKey, Account] = {}
        self._moved: dict[WindowKey, tuple[Amounts, Amounts]] = {}

    def __getitem__(self, key: WindowKey) -> Account:
        return self._standing[key]

    def under(self, budget: Budget, key: WindowKey) -> Account:
        """Return how a window stands under the limits of *budget*, whatever another policy wrote there last."""
        account = self._standing.get(key)
        if account is None:  # as in `_move`
            return Account(key=key, ends_at=None, limits=budget.limits)
        if account.limits == budget.limits:
            return account
        return msgspec.structs.replace(account, limits=budget.limits)

    def lock(
        self,
        claimed: Sequence[tuple[Claim, WindowKey, datetime | None]],
        held: Iterable[WindowKey],
    ) -> None:
        """
        Lock and read windows, in a fixed order, those *claimed* being made where they are not there.

        Args:
            claimed: What claims, which window, and when that ends.
            held: Windows of which something is held.
        """
        ends = {key: ends_at for _, key, ends_at in claimed}
        limits = {key: claim.budget.limits for claim, key, _ in claimed}
        wanted = sorted({*ends, *held})
        found = self._read(wanted)
        missing = [key for key in wanted if key in ends and key not in found]
        if missing:
            self._make([(key, ends[key]) for key in missing])
            found |= self._read(missing)
        for key, account in found.items():
            allowed = limits.get(key, account.limits)
            if allowed != account.limits:
                account = msgspec.structs.replace(account, limits=allowed)  # noqa: PLW2901
                self._moved[key] = (Amounts(), Amounts())
            self._standing[key] = account

    def reserve(self, windows: Iterable[WindowKey], amounts: Amounts) -> None:
        """Hold *amounts* of each of *windows*."""
        for key in windows:
            self._move(key, reserved=amounts, spent=Amounts())

    def charge(self, windows: Iterable[WindowKey], held: Amounts, charged: Amounts) -> None:
        """Let go of what was *held* of each of *windows*, and book what is *charged* instead."""
        for key in windows:
            self._move(key, reserved=Amounts() - held, spent=charged)

    def write(self) -> None:
        """Write what was moved."""
        if not self._moved:
            return
        _MOVE.run(
            self._connection,
            [
                {
                    **_key(key),
                    **_columns("limit", self._standing[key].limits),
                    **_columns("reserved", reserved),
                    **_columns("spent", spent),
                }
                for key, (reserved, spent) in sorted(self._moved.items())
            ],
        )
        self._moved.clear()

    def _move(self, key: WindowKey, *, reserved: Amounts, spent: Amounts) -> None:
        account = self._standing.get(key)
        if account is None:  # its row is gone; `verify` says so
            return
        self._standing[key] = msgspec.structs.replace(
            account, reserved=account.reserved + reserved, spent=account.spent + spent
        )
        before = self._moved.get(key, (Amounts(), Amounts()))
        self._moved[key] = (before[0] + reserved, before[1] + spent)

    def _read(self, keys: list[WindowKey]) -> dict[WindowKey, Account]:
        rows = _LOCK.rows(
            self._connection,
            [_key(key) for key in keys],
        )
        return {key: _account(key, one[0]) for key, one in zip(keys, rows, strict=True) if one}

    def _make(self, new: list[tuple[WindowKey, datetime | None]]) -> None:
        nothing: dict[str, object] = {
            name: None if name.endswith("limit") else 0 for name in _COLUMNS
        }
        _NEW.run(
            self._connection,
            [
                {
                    "budget": key.budget,
                    "scope": key.scope,
                    "starts_at": key.starts_at,
                    "ends_at": None if ends_at is None else to_microseconds(ends_at),
                    **nothing,
                }
                for key, ends_at in new
            ],
        )


def standing(
    connection: Connection,
    *,
    budget: str | None = None,
    at: datetime | None = None,
    limit: int = 1_000,
) -> list[Account]:
    """
    Return how budgets stand in the windows that are open, by budget and share.

    Args:
        connection: A snapshot of the store.
        budget: Only the budget of this name.
        at: When the windows are to be open; now, when left out.
        limit: How many at most.
    """
    table = tables_of(connection).windows
    instant = at or now(connection)
    query = (
        select(table)
        .where(
            table.c.starts_at <= instant, table.c.ends_at.is_(None) | (table.c.ends_at > instant)
        )
        .order_by(table.c.budget, table.c.scope, table.c.starts_at)
        .limit(limit)
    )
    if budget is not None:
        query = query.where(table.c.budget == budget)
    found = []
    for row in plain(connection).execute(query):
        key = WindowKey(row.budget, row.scope, to_microseconds(row.starts_at))
        ends_at = None if row.ends_at is None else to_microseconds(row.ends_at)
        found.append(_account(key, (ends_at, *(getattr(row, name) for name in _COLUMNS))))
    return found


def of(connection: Connection, claims: Iterable[Claim]) -> list[Account]:
    """Return how the budgets of *claims* stand now, those of which nothing was spent yet among them."""
    at = now(connection)
    found = []
    for claim in claims:
        key, ends_at = claim.window(at)
        row = _READ.row(connection, **_key(key))
        account = _account(key, row) if row else Account(key=key, ends_at=ends_at, limits=Limits())
        found.append(msgspec.structs.replace(account, limits=claim.budget.limits))
    return found


def _key(key: WindowKey) -> dict[str, object]:
    return {
        "which_budget": key.budget,
        "which_scope": key.scope,
        "which_starts_at": key.starts_at,
    }


def _columns(part: str, amounts: Any) -> dict[str, object]:
    return {f"{name}_{part}": getattr(amounts, name) for name in AMOUNTS}


def _account(key: WindowKey, row: Any) -> Account:
    ends_at, *numbers = row
    return Account(
        key=key,
        ends_at=None if ends_at is None else from_microseconds(ends_at),
        limits=Limits(*numbers[0:3]),
        reserved=Amounts(*numbers[3:6]),
        spent=Amounts(*numbers[6:9]),
    )
