"""
Whether anything slows as history grows: the same calls and reads on a store of 10,000 events and on one of a million.

Both stores are made of real events: sessions of a thousand events each, a decision and an outcome in turn, numbered and
chained by hash, with usage, budget windows and days of counters in proportion, written in bulk. In each a session of 25
calls is then made, which is replayed, and read by a feed that is so far behind. Then the two are measured in turn, in
one run. `--events N` makes the large one smaller.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from _harness import Cell, Options, Sample, directory, interleaved, show, timed
from _tools import POLICY, refund
from sqlalchemy import Connection, insert, select

from interlock import Governor, Session, events
from interlock._clock import new_id
from interlock.store import budgets, sessions, tickets, usage
from interlock.store.events import history
from interlock.store.scorecard import scorecard
from interlock.store.statements import Prepared, insertion, tables_of
from interlock.store.tables import to_microseconds

FEW = 10_000
MANY = 1_000_000
PER_SESSION = 1_000
PER_WINDOW = 10_000
"""Events for each budget window that is open."""

TOLD = 25
"""Calls of the session that is replayed."""

BUDGETED = POLICY | {
    "budgets": [{"name": "runs", "per": "session", "window": "day", "calls": 10**9}]
}

_EVENTS = Prepared(lambda tables: insertion(tables.events))


def _models(governor: Governor) -> dict[str, list[Any]]:
    """Make one call, and return its two events and the rows about it as the models for all."""
    with governor.session("model", agent="bench", user="u-0") as session:
        refund("o-1", 20)
        governor.record_usage(
            model="gpt-5-mini", input_tokens=100, output_tokens=10, cost_usd="0.001"
        )
    return {
        "events": governor.read(history, session.id)[1:3],
        "sessions": governor.read(_rows, "sessions"),
        "usage": governor.read(_rows, "usage"),
        "windows": governor.read(_rows, "windows"),
        "counters": governor.read(_rows, "counters"),
    }


def _rows(connection: Connection, table: str) -> list[dict[str, Any]]:
    found = connection.execute(select(getattr(tables_of(connection), table)))
    return [dict(row) for row in found.mappings()]


def _write_session(connection: Connection, models: dict[str, list[Any]], number: int) -> None:
    """Write a session of `PER_SESSION` events, and what belongs to it."""
    tables, session_id, at = tables_of(connection), new_id(), datetime.now(UTC)
    previous, rows = events.GENESIS, []
    opened = events.SessionOpened(name="old", agent="bench", user=f"u-{number}")
    told = [one.event for one in models["events"]]
    for seq in range(1, PER_SESSION + 1):
        event = opened if seq == 1 else told[seq % 2]
        recorded = events.link(
            event,
            id=new_id(),
            session_id=session_id,
            seq=seq,
            at=at,
            trace=None,
            previous_hash=previous,
        )
        previous = recorded.hash
        row = {
            name: getattr(recorded, name) for name in recorded.__struct_fields__ if name != "trace"
        }
        row["at"] = to_microseconds(at)
        rows.append(row | {"trace_id": None, "span_id": None, "trace_flags": None})
    session = models["sessions"][0] | {
        "id": session_id,
        "user": f"u-{number}",
        "head": PER_SESSION,
        "head_hash": previous,
    }
    connection.execute(insert(tables.sessions).values(**session))
    _EVENTS.run(connection, rows)
    paid = {name: value for name, value in models["usage"][0].items() if name != "position"}
    connection.execute(
        insert(tables.usage),
        [
            paid
            | {
                "id": new_id(),
                "session_id": session_id,
                "user": f"u-{number}",
                "at": at - timedelta(days=day),
            }
            for day in range(PER_SESSION // 10)
        ],
    )
    if models["windows"] and number % (PER_WINDOW // PER_SESSION) == 0:
        scope = f'["{session_id}"]'
        connection.execute(insert(tables.windows).values(**models["windows"][0] | {"scope": scope}))


def _write_day(connection: Connection, models: dict[str, list[Any]], days_ago: int) -> None:
    """Write the counters of a day gone by."""
    rows = [one | {"day": one["day"] - timedelta(days=days_ago)} for one in models["counters"]]
    connection.execute(insert(tables_of(connection).counters), rows)


class Filled:
    """A store of so many events, and a session in it to go on with."""

    def __init__(self, path: Path, count: int, stack: ExitStack) -> None:
        self._governor = stack.enter_context(Governor(f"sqlite:///{path}", policy=BUDGETED))
        models = _models(self._governor)
        written = max(1, count // PER_SESSION)
        for number in range(written):
            self._governor.write(_write_session, models, number)
            self._governor.write(_write_day, models, number + 1)
        behind = self._governor.feed(after="now")
        next(behind, None)  # it begins when it is first asked
        self._cursor = behind.cursor
        with self._governor.session("told", agent="bench", user="u-0") as told:
            for _ in range(TOLD):
                refund("o-1", 20)
        self._told = told.id
        self._session: Session = stack.enter_context(self._governor.session("now", agent="bench"))
        self._kept = self._governor.checkpoints(path.with_suffix(".jsonl"), key=b"growth" * 3)
        self._old = self._governor.read(sessions.newest, limit=3)[2].id

    def cells(self) -> Iterator[tuple[str, Cell]]:
        """Yield what is measured, by name."""
        today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        yield "governed call", self._calling
        yield "opening a session", partial(timed, self._open)
        yield "listing sessions", self._reading(sessions.newest, limit=50)
        yield "replaying a session", partial(timed, partial(self._governor.replay, self._told))
        yield "page of the feed", partial(timed, self._page)
        yield (
            "page of history",
            self._reading(history, self._old, after=PER_SESSION // 2, limit=100),
        )
        yield (
            "usage of a user",
            self._reading(usage.summary, by=["model"], where={"user": "u-0"}),
        )
        yield "scorecard of a day", self._reading(scorecard, since=today)
        yield "health", partial(timed, self._governor.health)
        yield "budgets standing", self._reading(budgets.standing, limit=50)
        yield "pending tickets", self._reading(tickets.pending)
        yield "checkpoint", partial(timed, self._witness)

    def _open(self) -> None:
        with self._governor.session("next", agent="bench"):
            pass

    def _witness(self) -> None:
        self._session.record("noted")
        self._kept.append()

    def _page(self) -> None:
        feed = self._governor.feed(after=self._cursor, page=2 * TOLD)
        for _ in range(2 * TOLD):
            next(feed)
        feed.close()

    def _calling(self, seconds: float) -> Sample:
        with self._session.attach():
            return timed(partial(refund, "o-1", 20), seconds)

    def _reading(self, operation: Callable[..., object], *args: object, **named: object) -> Cell:
        return partial(timed, partial(self._governor.read, operation, *args, **named))


def main() -> None:
    """Fill, measure and show."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--events", type=int)
    given, sys.argv[1:] = parser.parse_known_args()
    options = Options(__doc__)
    many = given.events or (50_000 if options.quick else MANY)
    with directory() as place, ExitStack() as stack:
        stores = {
            "few": Filled(place / "few.db", FEW, stack),
            "many": Filled(place / "many.db", many, stack),
        }
        cells = {
            f"{name}, {size}": cell
            for size, store in stores.items()
            for name, cell in store.cells()
        }
        results = interleaved(options, dict(sorted(cells.items())))
    names = [name.removesuffix(", few") for name in results if name.endswith(", few")]
    ratios: dict[str, float | None] = {
        f"{name.replace(' ', '_')}.many_over_few": results[f"{name}, many"].typical_s
        / results[f"{name}, few"].typical_s
        for name in names
    }
    show(
        options,
        title=f"{many:,} events beside {FEW:,}",
        method=str(__doc__).strip(),
        results=results,
        ratios=ratios,
        meanings=dict.fromkeys(ratios, "time with many events over time with few: 1 does not slow"),
    )


if __name__ == "__main__":
    main()
