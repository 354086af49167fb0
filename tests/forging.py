"""A store with everything in it, and the means to change it behind the governor's back."""
# ruff: noqa: S608 - no statement here is made of anything but these tests' own words

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from contextvars import copy_context
from datetime import timedelta
from decimal import Decimal
from typing import Any

import msgspec
import psycopg
import pytest
from opentelemetry.sdk.trace import TracerProvider
from sqlalchemy import create_engine, make_url, select

from interlock import ApprovalNeeded, Denied, Governor, Grant, Identity, Usage, events, governed
from interlock.store import append_only, tickets
from interlock.store.commands import once
from interlock.store.events import whole_history
from interlock.store.tables import DEFAULT as TABLES
from interlock.testing import ManualClock
from tests.books import unsound

DRIVERS = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg"}
TABLE_NAMES = [table.name for table in TABLES.all()]
UNCOVERED = {
    ("policies", "stored_at"),
    # Shown, and not decided with.
    ("budget_windows", "ends_at"),
    ("budget_windows", "cost_limit"),
    ("budget_windows", "tokens_limit"),
    ("budget_windows", "calls_limit"),
    # Whose a lease is, and since when it lies idle: the sums are the same.
    ("budget_leases", "worker"),
    ("budget_leases", "moved_at"),
    # Who counted it: the sums are the same.
    ("counters", "shard"),
    # Who runs it, and whether it can be heard of: what others may do about that is an event.
    ("sessions", "owner"),
    ("intents", "owner"),
    # In which order it was recorded: that a checkpoint knows.
    ("usage", "position"),
}
"""What nothing in the history says, and the docstring of verify() leaves out."""

COVERED = sorted({*TABLE_NAMES} - {"owners"})
"""Who is alive is no history: it holds for the moment."""

POLICY: dict[str, Any] = {
    "version": 1,
    "name": "p",
    "rules": [
        {"id": "refunds", "tools": ["refund"], "verdict": "ask", "approvers": ["ops"]},
        {"id": "rest", "tools": ["lookup", "chat"], "verdict": "allow"},
    ],
    "budgets": [{"name": "all", "per": "org", "window": "day", "calls": 100, "cost_usd": 5}],
    "leases": [
        {"name": "desk", "tools": ["lookup", "refund"], "max_concurrent": 9, "while_asking": True}
    ],
    "recovery": {"call_stuck_after": "10s", "session_stuck_after": "10s"},
    "steering": {"retries": 9},  # so that a session remembers something
}
LEND = [
    """
    INSERT INTO budget_leases (
        budget, scope, starts_at, worker, moved_at, cost_limit, cost_reserved, cost_spent,
        tokens_limit, tokens_reserved, tokens_spent, calls_limit, calls_reserved, calls_spent
    )
    SELECT budget, scope, starts_at, 'w-1', starts_at, cost_spent + 10, 0, cost_spent,
        tokens_spent + 10, 0, tokens_spent, calls_spent + 10, 0, calls_spent
    FROM budget_windows WHERE scope = '["acme"]'
    """,
    """
    UPDATE budget_windows SET cost_leased = cost_spent + 10, tokens_leased = tokens_spent + 10,
        calls_leased = calls_spent + 10, cost_spent = 0, tokens_spent = 0, calls_spent = 0
    WHERE scope = '["acme"]'
    """,
]
"""Has a worker lease some of a budget, as many workers at once would."""

_CHANGES = re.compile(r"\s*(UPDATE|DELETE FROM) (?P<table>\w+)")

Key = tuple[tuple[str, Any], ...]
"""The columns of a row's primary key, with their values."""


@governed
def lookup(order: str) -> str:
    """Look an order up."""
    return order


@governed
def refund(order: str) -> str:
    """Pay money back."""
    return order


def fill(url: str, *, lend: str | None = None) -> None:
    """
    Make a store with one closed and traced session, one that is open, and two with calls in doubt.

    What a worker leases is written under the URL *lend*, if that is another.
    """
    clock = ManualClock()
    with Governor(url, policy=POLICY, clock=clock, tracer_provider=TracerProvider()) as governor:
        _everything(governor, clock)
    copy_context().run(_leave_begun, Governor(url, policy=POLICY, clock=clock))
    clock.advance(timedelta(minutes=1))  # and it is taken for gone
    with Governor(url, policy=POLICY, clock=clock) as governor:
        governor.recover()
    copy_context().run(_leave_open, Governor(url, policy=POLICY, clock=clock))
    clock.advance(timedelta(seconds=20))
    with Governor(url, policy=POLICY, clock=clock) as governor:
        governor.recover()  # of what lives it is told that it is stuck
    run(lend or url, *LEND)


def _leave_begun(governor: Governor) -> None:
    """Begin two calls that never end, of which one may be made again."""
    governor.session("lost", agent="bot", org="acme").__enter__()

    def steps(order: str) -> Iterator[str]:
        yield order

    begun = [governed(name="lookup", idempotent=again)(steps)("o-8") for again in (True, False)]
    for stream in begun:
        next(stream)
    governor.close()


def _leave_open(governor: Governor) -> None:
    """Enter sessions and never leave them, as a killed process does; in a context of its own."""
    governor.session("open", agent="bot", exclusive=True).__enter__()
    with_doubt = governor.session("doubt", agent="bot")
    with_doubt.__enter__()

    @governed(name="lookup")
    def last(order: str) -> str:
        governor.close()  # the store is lost before the outcome can be recorded
        return order

    last("o-9")


def _everything(governor: Governor, clock: ManualClock) -> None:
    """Do all that leaves rows, at different times, in a session called "traced"."""
    with governor.session("traced", agent="bot", user="u-17", team="desk", org="acme") as session:
        lookup("o-1")
        most = Usage(input_tokens=90, output_tokens=50, cost_usd=Decimal("0.01"))
        used = Usage(
            input_tokens=80,
            output_tokens=40,
            cache_read_tokens=20,
            cache_write_tokens=10,
            reasoning_tokens=5,
            cost_usd=Decimal("0.007"),
        )
        with session.model_call(model="m-1", provider="p", estimate=most) as call:
            call.record(used)
        governor.record_usage(model="m-2", cost_usd="0.002", input_tokens=7)
        clock.advance(timedelta(seconds=1))
        _, approved, denied, claimed = (_asked(f"o-{number}") for number in range(4))
        clock.advance(timedelta(seconds=1))
        governor.write(once, "c-1", tickets.approve, approved, by="ann", comment="fine")
        governor.write(tickets.deny, denied, by="bob", comment="no")
        more = Grant(calls=3, cost_usd=Decimal(1), resources=("o-*",))
        governor.write(tickets.approve, claimed, by="ann", grant=more)
        edited = _asked("o-4")
        governor.write(tickets.approve, edited, by="ann", arguments={"order": "o-5"})
        clock.advance(timedelta(seconds=1))
        refund("o-3")
        refund("o-4")
        with pytest.raises(Denied):
            refund("o-2")
        governed(name="lookup", idempotency_key="order")(lambda order: order)("o-1")
    clock.advance(timedelta(seconds=1))
    halt = governor.halt(org="globex", reason="drill", by="ann").halt
    governor.halt(tool="wire", reason="drill", by="ann")
    clock.advance(timedelta(seconds=1))
    governor.release(halt.id, reason="over", by="bob")
    who = Identity(agent="bot", user="u-18", team="shop", org="initech")
    for model in ("m-1", "m-2"):
        governor.record_usage(model=model, cost_usd="0.002", input_tokens=7, identity=who)


def _asked(order: str) -> str:
    with pytest.raises(ApprovalNeeded) as refused:
        refund(order)
    return refused.value.ticket.id


def others(column: str, value: Any) -> list[Any]:
    """What a cell could be changed to: what is like it, nothing, and something of a wrong kind."""
    if value is None:
        return ["x", 1]
    if isinstance(value, int):
        return [value + 1, "x", None]
    near = {"status": ["open", "aborted"], "state": ["approved", "pending", "denied", "claimed"]}
    found = [
        *near.get(column, []),
        f"{value[:-1]}x",
        None,
        b"\x00",
    ]  # no longer than a column of Postgres
    return [other for other in found if other != value]


class _Raw:
    """A connection of the driver's, of either database; each statement is a transaction."""

    def __init__(self, url: str) -> None:
        self.is_sqlite = url.startswith("sqlite")
        self._open: set[str] = set()
        if self.is_sqlite:
            self._driver: Any = sqlite3.connect(str(make_url(url).database), isolation_level=None)
            self._driver.execute("PRAGMA synchronous=OFF")
        else:
            self._driver = psycopg.connect(url, autocommit=True)

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> Any:
        """Execute *statement*, whose parameters are written as `?`."""
        if (found := _CHANGES.match(statement)) and found["table"] in append_only.NAMES:
            self._unprotect(found["table"])
        if not self.is_sqlite:
            statement = statement.replace("?", "%s")
        return self._driver.execute(statement, parameters)

    def _unprotect(self, table: str) -> None:
        """Drop the triggers that keep a table as it is, as whoever owns the table can; once."""
        if table in self._open:
            return
        if self.is_sqlite:
            for verb in ("update", "delete"):
                self._driver.execute(f"DROP TRIGGER IF EXISTS tr_{table}_{verb}")
        else:
            self._driver.execute(f"DROP TRIGGER IF EXISTS tr_{table} ON {table}")
        self._open.add(table)

    def close(self) -> None:
        """Let go of the database."""
        self._driver.close()


def run(store: str, *statements: str) -> list[tuple[Any, ...]]:
    """Run statements on the store; return the rows of the last one."""
    with closing(_Raw(store)) as raw:
        for statement in statements:
            done = raw.execute(statement)
        return list(done.fetchall()) if done.description else []


def loosen(store: str) -> None:
    """Take the foreign keys away, as whoever owns the tables can; SQLite looks after them only when told to."""
    for table in TABLES.all():
        for column in table.columns:
            if column.foreign_keys:
                key = f"{table.name}_{column.name}_fkey"
                run(store, f"ALTER TABLE {table.name} DROP CONSTRAINT {key}")


def problems(store: str) -> list[str]:
    """What verification finds, session by session."""
    with Governor(store) as governor:
        return unsound(governor)


class Forger:
    """Changes one row of a store at a time, and puts it back."""

    def __init__(self, store: str) -> None:
        self._raw = _Raw(store)
        self._governor = Governor(store)

    def close(self) -> None:
        """Let go of the store."""
        self._raw.close()
        self._governor.close()

    def rows(self, table: str) -> Iterator[tuple[Key, dict[str, Any]]]:
        """Every row of a table: its key and all that it holds."""
        columns = TABLES.metadata.tables[table].columns
        names = [column.name for column in columns]
        keys = {column.name for column in columns if column.primary_key}
        for row in self._raw.execute(f"SELECT * FROM {table}").fetchall():
            held = dict(zip(names, row, strict=True))
            yield tuple((name, held[name]) for name in names if name in keys), held

    def set(self, table: str, column: str, key: Key, value: Any) -> bool:
        """Write one cell; False if the database itself does not take the value."""
        if isinstance(value, bytes) and not self._raw.is_sqlite:
            return False  # it would take their hexadecimal digits instead
        statement = f'UPDATE {table} SET "{column}" = ? WHERE {_where(key)}'
        try:
            done = self._raw.execute(statement, (value, *(item for _, item in key)))
        except (sqlite3.IntegrityError, psycopg.Error):
            return False
        assert done.rowcount == 1
        return True

    def delete(self, table: str, key: Key) -> None:
        """Take one row out."""
        done = self._raw.execute(
            f"DELETE FROM {table} WHERE {_where(key)}", [item for _, item in key]
        )
        assert done.rowcount == 1

    def insert(self, table: str, row: dict[str, Any]) -> bool:
        """Put one row in; False if the database itself does not take it."""
        names, marks = ", ".join(f'"{name}"' for name in row), ", ".join("?" for _ in row)
        try:
            self._raw.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", list(row.values()))
        except (sqlite3.IntegrityError, psycopg.Error):
            return False
        return True

    def problems(self) -> list[str]:
        """What verification finds."""
        return unsound(self._governor)


def _where(key: Key) -> str:
    return " AND ".join(f'"{name}" = ?' for name, _ in key)


def rewrite(store: str, session: str, old: str, new: str, *, up_to: int | None = None) -> None:
    """
    Change a text in the events of a session, and recompute the chain, as who knows how it is made can.

    With *up_to*, stop after the event of that number: the next one then follows from nothing.
    """
    engine = create_engine(
        make_url(store).set(drivername=DRIVERS[make_url(store).get_backend_name()])
    )
    with engine.begin() as connection:
        append_only.unprotect(connection)
        query = select(TABLES.sessions.c.id).where(TABLES.sessions.c.name == session)
        session_id = connection.execute(query).scalar_one()
        head = events.GENESIS
        for recorded in list(whole_history(connection, session_id))[:up_to]:
            changed = msgspec.structs.replace(
                recorded, body=recorded.body.replace(old, new), previous_hash=head
            )
            head = events.seal(changed)
            connection.execute(
                TABLES.events.update()
                .where(TABLES.events.c.id == recorded.id)
                .values(body=changed.body, previous_hash=changed.previous_hash, hash=head)
            )
        if up_to is None:
            connection.execute(
                TABLES.sessions.update()
                .where(TABLES.sessions.c.id == session_id)
                .values(head_hash=head)
            )
    engine.dispose()
