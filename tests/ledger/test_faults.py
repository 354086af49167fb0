"""Fail every single request that a budgeted call makes of its database, one run for each, and audit the books."""

from __future__ import annotations

import sqlite3
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from interlock import Governor, Usage, governed, report_usage
from interlock.errors import StoreUnavailable
from tests.faults._points import Points
from tests.ledger._rows import Rows
from tests.races._audit import audit

POLICY: dict[str, Any] = {
    "version": 1,
    "name": "faults",
    "default": "allow",
    "budgets": [
        {"name": "run", "per": "session", "cost_usd": 1_000, "calls": 10_000},
        {"name": "day", "per": "user", "window": "day", "tokens": 10**9},
        {"name": "month", "per": "org", "window": "month", "cost_usd": 1_000},
    ],
}
MOST = Usage(input_tokens=60, output_tokens=40, cost_usd=Decimal("0.30"))
USED = Usage(input_tokens=5, output_tokens=4, cost_usd=Decimal("0.10"))
FAULTS = {
    "refused": {
        "sqlite": lambda: sqlite3.OperationalError("database or disk is full"),
        "postgresql": lambda: psycopg.errors.DiskFull("could not extend file"),
    },
    "undone": {
        "sqlite": lambda: sqlite3.OperationalError("database is locked"),
        "postgresql": lambda: psycopg.errors.SerializationFailure("could not serialize access"),
    },
    "lost": {
        "sqlite": lambda: sqlite3.OperationalError("disk I/O error"),
        "postgresql": lambda: psycopg.OperationalError("server closed the connection"),
    },
}


@pytest.mark.parametrize("late", [False, True], ids=["instead", "afterwards"])
@pytest.mark.parametrize("lasting", [False, True], ids=["once", "from-then-on"])
@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.promise(3, 6)
def test_a_failing_request(either: str, kind: str, lasting: bool, late: bool) -> None:
    """Broken if a fault lets a call run that is not in the books, or leaves there what no open call explains."""
    fault = FAULTS[kind][either.partition(":")[0]]
    happened: list[str] = []
    refused = kept = 0

    @governed(name="act", kind="model", estimate=MOST)
    def act(key: str, model: str = "m") -> str:
        happened.append(key)
        standing.append(rows.open_calls())
        report_usage(USED)
        return key

    standing: list[set[str]] = []
    returned: list[str] = []
    with (
        Governor(either, policy=POLICY) as governor,
        Rows(either) as rows,
        governor.session("faulty", agent="f", user="ann", org="acme"),
    ):
        points = Points(governor)
        with points.failing(None, lambda: None) as seen:
            returned.append(act("undisturbed"))
        for at in range(1, len(seen) + 1):
            before = rows.open_calls()
            standing.clear()
            try:
                with points.failing(at, _raises(fault), after=late, lasting=lasting):
                    returned.append(act(f"k-{at}"))
            except StoreUnavailable:  # and nothing else
                assert happened[-1] != f"k-{at}", "it ran, and its caller was told that it did not"
                refused += 1
            if standing:
                assert len(standing[0] - before) == 1, f"request {at}: it ran without an intent"
            rows.assert_consistent()
            kept += bool(rows.open_calls() - before)
            returned.append(act(f"after-{at}"))
        assert len(happened) == len(set(happened)) == len(returned)
        books = audit(governor)
        assert governor.verify_books() == {}
        spent = {window[0]: row[2]["calls"] for window, row in rows.windows().items()}
    assert set(spent.values()) == {len(books.finished)}
    assert len(books.in_doubt) == kept
    if lasting:
        assert refused >= 4, "the first transaction was never failed"
        assert kept >= 4, "the second transaction was never failed"


def _raises(fault: Any) -> Any:
    def fail() -> None:
        raise fault()

    return fail
