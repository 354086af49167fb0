"""A store with everything in it, and the means to change it behind the governor's back."""
# ruff: noqa: S608 - no statement here is made of anything but these tests' own words

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from contextvars import copy_context
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from opentelemetry.sdk.trace import TracerProvider
from sqlalchemy import create_engine, select

from interlock import ApprovalNeeded, Denied, Governor, events, governed
from interlock.store import tables, tickets
from interlock.store.events import whole_history
from interlock.testing import ManualClock

TABLES = ["sessions", "events", "intents", "tickets", "policies"]
POLICY: dict[str, Any] = {
    "version": 1,
    "name": "p",
    "rules": [
        {"id": "refunds", "tools": ["refund"], "verdict": "ask", "approvers": ["ops"]},
        {"id": "rest", "tools": ["lookup"], "verdict": "allow"},
    ],
}
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


def fill(path: Path) -> None:
    """Make a store with one closed and traced session, one that is open, and one with a call in doubt."""
    url, clock = f"sqlite:///{path}", ManualClock()
    with Governor(url, policy=POLICY, clock=clock, tracer_provider=TracerProvider()) as governor:
        _everything(governor, clock)
    copy_context().run(_leave_open, Governor(url, policy=POLICY, clock=clock))


def _leave_open(governor: Governor) -> None:
    """Enter sessions and never leave them, as a killed process does; in a context of its own."""
    governor.session("open", agent="bot").__enter__()
    with_doubt = governor.session("doubt", agent="bot")
    with_doubt.__enter__()

    @governed(name="lookup")
    def last(order: str) -> str:
        governor.close()  # the store is lost before the outcome can be recorded
        return order

    last("o-9")


def _everything(governor: Governor, clock: ManualClock) -> None:
    """Do all that leaves rows, at different times, in a session called "traced"."""
    with governor.session("traced", agent="bot", user="u-17", team="desk", org="acme"):
        lookup("o-1")
        clock.advance(timedelta(seconds=1))
        _, approved, denied, claimed = (_asked(f"o-{number}") for number in range(4))
        clock.advance(timedelta(seconds=1))
        governor.write(tickets.approve, approved, by="ann", comment="fine")
        governor.write(tickets.deny, denied, by="bob", comment="no")
        governor.write(tickets.approve, claimed, by="ann")
        clock.advance(timedelta(seconds=1))
        refund("o-3")
        with pytest.raises(Denied):
            refund("o-2")


def _asked(order: str) -> str:
    with pytest.raises(ApprovalNeeded) as refused:
        refund(order)
    return refused.value.ticket.id


def run(store: Path, *statements: str) -> list[tuple[Any, ...]]:
    """Run statements on the store; return the rows of the last one."""
    with closing(sqlite3.connect(store)) as raw, raw:
        found: list[tuple[Any, ...]] = []
        for statement in statements:
            found = raw.execute(statement).fetchall()
        return found


def problems(store: Path) -> list[str]:
    """What verification finds, session by session."""
    with Governor(f"sqlite:///{store}") as governor:
        return [report.problem for report in governor.verify() if report.problem is not None]


class Forger:
    """Changes one row of a store at a time, and puts it back."""

    def __init__(self, store: Path) -> None:
        self._raw = sqlite3.connect(store, isolation_level=None)
        self._raw.execute("PRAGMA synchronous=OFF")
        self._governor = Governor(f"sqlite:///{store}")

    def close(self) -> None:
        """Let go of the store."""
        self._raw.close()
        self._governor.close()

    def rows(self, table: str) -> Iterator[tuple[Key, dict[str, Any]]]:
        """Every row of a table: its key and all that it holds."""
        columns = self._raw.execute(f"PRAGMA table_info({table})").fetchall()
        names = [column[1] for column in columns]
        keys = {column[1] for column in columns if column[5]}
        for row in self._raw.execute(f"SELECT * FROM {table}").fetchall():
            held = dict(zip(names, row, strict=True))
            yield tuple((name, held[name]) for name in names if name in keys), held

    def set(self, table: str, column: str, key: Key, value: Any) -> bool:
        """Write one cell; False if the database itself does not take the value."""
        statement = f'UPDATE {table} SET "{column}" = ? WHERE {_where(key)}'
        try:
            done = self._raw.execute(statement, (value, *(item for _, item in key)))
        except sqlite3.IntegrityError:
            return False
        assert done.rowcount == 1
        return True

    def delete(self, table: str, key: Key) -> None:
        """Take one row out."""
        done = self._raw.execute(
            f"DELETE FROM {table} WHERE {_where(key)}", [item for _, item in key]
        )
        assert done.rowcount == 1

    def insert(self, table: str, row: dict[str, Any]) -> None:
        """Put one row in."""
        marks = ", ".join("?" for _ in row)
        self._raw.execute(f"INSERT INTO {table} VALUES ({marks})", list(row.values()))

    def problems(self) -> list[str]:
        """What verification finds."""
        return [report.problem for report in self._governor.verify() if report.problem]


def _where(key: Key) -> str:
    return " AND ".join(f'"{name}" = ?' for name, _ in key)


def rewrite(store: Path, session: str, old: str, new: str, *, up_to: int | None = None) -> None:
    """
    Change a text in the events of a session, and recompute the chain, as who knows how it is made can.

    With *up_to*, stop after the event of that number: the next one then follows from nothing.
    """
    engine = create_engine(f"sqlite:///{store}")
    with engine.begin() as connection:
        query = select(tables.sessions.c.id).where(tables.sessions.c.name == session)
        session_id = connection.execute(query).scalar_one()
        head = events.GENESIS
        for recorded in list(whole_history(connection, session_id))[:up_to]:
            changed = msgspec.structs.replace(
                recorded, body=recorded.body.replace(old, new), previous_hash=head
            )
            head = events.seal(changed)
            connection.execute(
                tables.events.update()
                .where(tables.events.c.id == recorded.id)
                .values(body=changed.body, previous_hash=changed.previous_hash, hash=head)
            )
        if up_to is None:
            connection.execute(
                tables.sessions.update()
                .where(tables.sessions.c.id == session_id)
                .values(head_hash=head)
            )
    engine.dispose()
