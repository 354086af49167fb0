"""Calls that are left open, as by a process that was killed, and what becomes of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextvars import copy_context
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, Table, select

from interlock import Governor, Interrupted, Session, events, governed
from interlock.store import budgets
from interlock.store.events import whole_history
from interlock.store.owner import BEAT, PARTS
from interlock.store.tables import DEFAULT as TABLES_OF
from tests.books import unsound

TERM = BEAT * PARTS
"""After so long a silent process is taken for gone."""

INSTANT = timedelta(microseconds=1)

POLICY: dict[str, Any] = {
    "version": 1,
    "name": "p",
    "default": "allow",
    "budgets": [{"name": "all", "per": "org", "calls": 100, "tokens": 1_000}],
    "leases": [{"name": "desk", "tools": ["hold", "again", "ask"], "max_concurrent": 9}],
}

TABLES = (
    "sessions",
    "events",
    "intents",
    "tickets",
    "budget_windows",
    "budget_leases",
    "leases",
    "usage",
    "owners",
    "counters",
    "halts",
)

asked: list[Interrupted] = []
"""What `probe` was asked."""


def probe(call: Interrupted) -> bool | None:
    """Answer what the call itself says."""
    asked.append(call)
    known: dict[str, bool | None] = {"yes": True, "no": False}
    if call.arguments["key"] == "broken":
        raise ValueError("the other end does not answer")
    return known.get(call.arguments["key"])


@governed(resource="key")
def hold(key: str = "k") -> Iterator[str]:
    """Begin, and go on when asked to."""
    yield key


@governed(idempotent=True)
def again(key: str = "k") -> Iterator[str]:
    """Likewise; it may be made again."""
    yield key


@governed(probe=probe)
def ask(key: str = "k") -> Iterator[str]:
    """Likewise; whether it happened can be asked."""
    yield key


class Process:
    """A governor that stands for a process: it opens a session, begins calls, and is not heard of again."""

    def __init__(self, governor: Governor, name: str = "left") -> None:
        self.governor = governor
        self.session: Session = governor.session(name, agent="bot", org="acme")
        copy_context().run(self.session.__enter__)
        self.streams: list[Iterator[str]] = []

    def begin(self, tool: Any, key: str = "k") -> Iterator[str]:
        """Begin a call, and leave it there."""
        with self.session.attach():
            stream: Iterator[str] = tool(key)
            next(stream)
        self.streams.append(stream)
        return stream

    def leave(self) -> None:
        """Leave the session's block."""
        self.session.__exit__(None, None, None)


def sound(governor: Governor) -> bool:
    """Whether all rows are what the events say."""
    assert unsound(governor) == []
    return True


def kinds(governor: Governor, session_id: str) -> list[str]:
    """What happened in a session, in order."""
    return [one.kind for one in governor.read(lambda c: list(whole_history(c, session_id)))]


def told(governor: Governor, session_id: str, kind: type[Any]) -> list[Any]:
    """The events of a kind, in order."""
    found: list[events.Recorded] = governor.read(lambda c: list(whole_history(c, session_id)))
    return [one.event for one in found if isinstance(one.event, kind)]


def rows(governor: Governor, *tables: str) -> dict[str, list[str]]:
    """All that is in the tables."""
    return {name: governor.read(_all, TABLES_OF.metadata.tables[name]) for name in tables or TABLES}


def _all(connection: Connection, table: Table) -> list[str]:
    return sorted(map(str, connection.execute(select(table))))


def reserved(governor: Governor) -> int:
    """How many calls hold something of the budget."""
    return sum(account.reserved.calls for account in _accounts(governor))


def spent(governor: Governor) -> int:
    """How many calls were charged to it."""
    return sum(account.spent.calls for account in _accounts(governor))


def _accounts(governor: Governor) -> list[Any]:
    return governor.read(budgets.standing)
