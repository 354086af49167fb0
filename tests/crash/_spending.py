"""Calls that spend of budgets at three levels, and the audit that nothing of it was lost."""

from __future__ import annotations

from collections import Counter
from typing import Any

from interlock import Governor
from interlock.store import schema
from interlock.store.engine import Store
from tests.ledger._rows import Rows
from tests.races._audit import Books, audit

BUDGETS = [
    {"name": "run", "per": "session", "calls": 1_000_000},
    {"name": "day", "per": "user", "window": "day", "calls": 1_000_000},
    {"name": "month", "per": "org", "window": "month", "calls": 1_000_000, "cost_usd": 1_000_000},
]
POLICY: dict[str, Any] = {"version": 1, "name": "crash", "default": "allow", "budgets": BUDGETS}
WHO = {"agent": "v", "user": "ann", "org": "acme"}


def assert_books(url: str) -> Books:
    """Every level has spent what finished calls were charged, and holds what open ones do."""
    with Governor(url, policy=POLICY) as governor, Rows(url) as rows:
        books = audit(governor)
        assert governor.verify_books() == {}
        rows.assert_consistent()
        sums: dict[str, Counter[str]] = {str(budget["name"]): Counter() for budget in BUDGETS}
        for window, (_, reserved, spent) in rows.windows().items():
            sums[window[0]].update(reserved=reserved["calls"], spent=spent["calls"])
    expected = +Counter(reserved=len(books.in_doubt), spent=len(books.finished))
    for name, found in sums.items():
        assert expected == +found, f"budget {name}"
    return books


def upgrade(url: str) -> None:
    """Make our tables in the database at *url*."""
    store = Store(url, clock=None, ensure=False)
    try:
        store.write(schema.upgrade)
    finally:
        store.close()
