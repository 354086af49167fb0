"""
Eight workers on one budget: governed calls a second of eight processes on Postgres whose calls one window counts.

Timed in turn, in one run, each on a database of its own, with one caller in each process and with eight:

- raw: one insert of an event-sized row and its commit, by the driver alone, one caller.
- leased: `@governed` around a function that does nothing, both records durable; each process in a session of its own,
  all of them on one budget, of which a worker leases what it hands out.
- one row: the same without leases, so that every transaction holds the budget's row until its commit.
- no budget: the same without a budget, which is the most that leases can reach.
"""

from __future__ import annotations

import statistics
import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from _crowds import Processes, serve
from _floor import raw_commit
from _harness import Cell, Options, interleaved, show, timed
from _tools import POLICY, refund

from interlock import Governor
from interlock.store import engine, schema
from interlock.store.engine import Store

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests import postgres_server

PROCESSES = 8
CALLERS = (1, 8)
KINDS = ("one row", "leased", "no budget")
BUDGET = {"name": "org", "per": "org", "window": "month", "calls": 10**9, "cost_usd": 10**6}


def migrated(url: str) -> str:
    """Make the tables of the database at *url*."""
    store = Store(url, clock=None, ensure=False)
    store.write(schema.upgrade)
    store.close()
    return url


def work(kind: str, url: str, callers: int) -> None:
    """Be one of the processes."""
    policy = POLICY if kind == "no budget" else {**POLICY, "budgets": [BUDGET]}
    if kind == "one row":
        engine.Worker = lambda: None  # type: ignore[assignment,misc]  # who nobody knows is leased nothing
    with (
        Governor(url, policy=policy) as governor,
        governor.session("bench", agent="bench", org="acme") as session,
    ):

        def once() -> None:
            with session.attach():
                refund("o-1", 20)

        serve(once, callers)


def main() -> None:
    """Measure and show."""
    if sys.argv[1:] and sys.argv[1] in KINDS:
        kind, url, callers = sys.argv[1:]
        work(kind, url, int(callers))
        return
    options = Options(__doc__)
    with ExitStack() as stack:
        admin = stack.enter_context(postgres_server.server())

        def fresh() -> str:
            return stack.enter_context(postgres_server.database(admin))

        cells: dict[str, Cell] = {"raw": partial(timed, raw_commit(fresh()))}
        crowds: dict[str, Processes] = {}
        urls: dict[str, str] = {}
        for each in CALLERS:
            for kind in KINDS:
                name = f"{kind}, {each} in each"
                url = urls[name] = migrated(fresh())
                crowds[name] = Processes(PROCESSES, Path(__file__), kind, url, str(each))
                cells[name] = crowds[name].cell
        results = interleaved(options, cells)
        for name, crowd in crowds.items():
            crowd.close()
            with Governor(urls[name]) as governor:
                assert governor.verify_books() == {}
    ratios: dict[str, float] = {}
    meanings: dict[str, str] = {}
    for each in CALLERS:
        key = f"postgres.one_budget{PROCESSES}x{each}"
        rate = {kind: results[f"{kind}, {each} in each"].rate for kind in KINDS}
        found = {
            "over_raw_commit": (
                rate["leased"] / results["raw"].rate,
                "calls a second over raw commits a second",
            ),
            "over_one_row": (
                rate["leased"] / rate["one row"],
                "calls a second over those without leases",
            ),
            "of_no_budget": (
                rate["leased"] / rate["no budget"],
                "calls a second over those that no budget counts",
            ),
            "slowest_share": (
                statistics.median(crowds[f"leased, {each} in each"].shares),
                "what the slowest process did over what the average one did",
            ),
        }
        ratios |= {f"{key}.{name}": ratio for name, (ratio, _) in found.items()}
        meanings |= {f"{key}.{name}": meaning for name, (_, meaning) in found.items()}
    show(
        options,
        title="One budget, eight workers",
        method=str(__doc__).strip(),
        results=results,
        ratios=ratios,
        meanings=meanings,
    )


if __name__ == "__main__":
    main()
