"""The rows of the ledger, read by the driver alone."""

from __future__ import annotations

import json
import sqlite3
from types import TracebackType
from typing import Any, Self

import psycopg
from sqlalchemy import make_url

from interlock.store import append_only
from tests.ledger._reference import AMOUNTS, Triple, Window

_TABLES = (
    "counters",
    "usage",
    "budget_leases",
    "budget_windows",
    "tickets",
    "intents",
    "events",
    "sessions",
    "policies",
)
_LIMITS = [f"{name}_limit" for name in AMOUNTS]
_SUMS = [f"{name}_{part}" for part in ("reserved", "spent") for name in AMOUNTS]
_ALL_ROWS = f"""
    SELECT budget, scope, starts_at, {", ".join(_LIMITS)}, {", ".join(_SUMS)} FROM budget_windows
    UNION ALL
    SELECT budget, scope, starts_at, NULL, NULL, NULL, {", ".join(_SUMS)} FROM budget_leases
"""  # noqa: S608 - names of ours


class Rows:
    """A connection of our own to the database at `url`, beside whoever works with it."""

    def __init__(self, url: str) -> None:
        self.url = url
        parsed = make_url(url)
        self._connection: Any = (
            sqlite3.connect(str(parsed.database), isolation_level=None, timeout=30)
            if parsed.get_backend_name() == "sqlite"
            else psycopg.connect(url, autocommit=True)
        )

    def clear(self) -> None:
        """Delete everything, as only a test may."""
        if isinstance(self._connection, sqlite3.Connection):
            for name in append_only.NAMES:
                self._connection.execute(f"DROP TRIGGER IF EXISTS tr_{name}_delete")
        else:
            for name in append_only.NAMES:
                self._connection.execute(f"DROP TRIGGER IF EXISTS tr_{name} ON {name}")
        self._connection.execute("BEGIN")
        for table in _TABLES:
            self._connection.execute(f"DELETE FROM {table}")  # noqa: S608 - names of ours
        self._connection.execute("COMMIT")

    def windows(self) -> dict[Window, tuple[dict[str, int | None], Triple, Triple]]:
        """Return limits, reserved and spent of each window, over all of its rows."""
        found: dict[Window, list[dict[str, Any]]] = {}
        for budget, scope, starts_at, *numbers in self._connection.execute(_ALL_ROWS):
            three = [dict(zip(AMOUNTS, numbers[n : n + 3], strict=True)) for n in (0, 3, 6)]
            key = budget, tuple(json.loads(scope)), starts_at
            if key not in found:  # the row of the window itself comes first
                found[key] = three
                continue
            for total, more in zip(found[key][1:], three[1:], strict=True):
                for name, amount in more.items():
                    total[name] += amount
        return {key: (three[0], three[1], three[2]) for key, three in found.items()}

    def leases(self, budget: str) -> dict[str, tuple[Triple, Triple]]:
        """Return what each worker may hand out of *budget* by itself, and what it has handed out of that."""
        query = f"SELECT worker, {', '.join(_LIMITS)}, {', '.join(_SUMS)} FROM budget_leases WHERE budget = '{budget}'"  # noqa: S608
        found: dict[str, tuple[Triple, Triple]] = {}
        for worker, *numbers in self._connection.execute(query):
            limit, reserved, spent = (numbers[n : n + 3] for n in (0, 3, 6))
            taken = [one + other for one, other in zip(reserved, spent, strict=True)]
            found[worker] = (
                dict(zip(AMOUNTS, limit, strict=True)),
                dict(zip(AMOUNTS, taken, strict=True)),
            )
        return found

    def changed(self, table: str) -> tuple[int, int, int]:
        """Return how many rows of *table* of a Postgres database were ever inserted, updated and deleted."""
        self._connection.execute("SELECT pg_stat_clear_snapshot()")
        query = f"SELECT n_tup_ins, n_tup_upd, n_tup_del FROM pg_stat_user_tables WHERE relname = '{table}'"  # noqa: S608
        inserted, updated, deleted = self.one(query)
        return inserted, updated, deleted

    def held(self) -> dict[str, tuple[Triple, list[Window]]]:
        """Return what each open call holds, of those that hold anything, and of which windows."""
        query = "SELECT call_id, reserved FROM intents WHERE reserved IS NOT NULL"
        found = {}
        for call_id, text in self._connection.execute(query):
            amounts, windows = json.loads(text)
            keys = [(budget, tuple(json.loads(scope)), at) for budget, scope, at in windows]
            found[call_id] = {name: amounts.get(name, 0) for name in AMOUNTS}, keys
        return found

    def open_calls(self) -> set[str]:
        """Return the ids of all open calls."""
        return {row[0] for row in self._connection.execute("SELECT call_id FROM intents")}

    def assert_consistent(self) -> None:
        """Assert that what is reserved of each window is what open calls hold of it."""
        sums: dict[Window, Triple] = {}
        for amounts, windows in self.held().values():
            for window in windows:
                before = sums.get(window, dict.fromkeys(AMOUNTS, 0))
                sums[window] = {name: before[name] + amounts[name] for name in AMOUNTS}
        for window, (_, reserved, _) in self.windows().items():
            assert sums.pop(window, dict.fromkeys(AMOUNTS, 0)) == reserved, window
        assert sums == {}

    def one(self, query: str) -> tuple[Any, ...]:
        """Return the one row of *query*."""
        (row,) = self._connection.execute(query).fetchall()
        return tuple(row)

    def close(self) -> None:
        """Let go of the database."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()
