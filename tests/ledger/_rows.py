"""The rows of the ledger, read by the driver alone."""

from __future__ import annotations

import json
import sqlite3
from types import TracebackType
from typing import Any, Self

import psycopg
from sqlalchemy import make_url

from tests.ledger._reference import AMOUNTS, Triple, Window

_TABLES = ("usage", "budget_windows", "tickets", "intents", "events", "sessions", "policies")
_COLUMNS = [f"{name}_{part}" for part in ("limit", "reserved", "spent") for name in AMOUNTS]


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
        self._connection.execute("BEGIN")
        for table in _TABLES:
            self._connection.execute(f"DELETE FROM {table}")  # noqa: S608 - names of ours
        self._connection.execute("COMMIT")

    def windows(self) -> dict[Window, tuple[dict[str, int | None], Triple, Triple]]:
        """Return limits, reserved and spent of each window."""
        query = f"SELECT budget, scope, starts_at, {', '.join(_COLUMNS)} FROM budget_windows"  # noqa: S608
        found = {}
        for budget, scope, starts_at, *numbers in self._connection.execute(query):
            three = [dict(zip(AMOUNTS, numbers[n : n + 3], strict=True)) for n in (0, 3, 6)]
            found[budget, tuple(json.loads(scope)), starts_at] = tuple(three)
        return found  # type: ignore[return-value]

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
