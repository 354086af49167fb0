"""Every read of the store finds its rows by an index, on both databases: nothing slows as history grows."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, event, text

from interlock import Governor, Session, governed
from interlock.errors import ApprovalNeeded
from interlock.store import budgets, calls, events, feed, sessions, tickets, usage, verify
from interlock.store.engine import Store
from interlock.store.feed import Place, Wanted
from interlock.store.statements import now

GROWING = ("events", "sessions", "tickets", "usage", "intents")
"""Tables that have more rows the longer a store is used."""

POLICY: dict[str, Any] = {
    "version": 1,
    "name": "plans",
    "default": "allow",
    "rules": [{"id": "ask", "tools": ["wire"], "verdict": "ask", "approvers": ["ann"]}],
    "budgets": [{"name": "runs", "per": "session", "calls": 20}],
}


@governed
def look() -> None:
    """Run."""


@governed
def wire() -> None:
    """Never run."""


def _history(connection: Connection, session: Session) -> None:
    events.history(connection, session.id, after=1)
    events.head(connection, session.id)
    list(events.remembered(connection, events.head(connection, session.id)))


def _sessions(connection: Connection, session: Session) -> None:
    sessions.get(connection, session.id)
    sessions.newest(connection)
    sessions.newest(connection, before=session.id)
    verify.session_ids(connection)


def _tickets(connection: Connection, session: Session) -> None:
    (ticket,) = tickets.pending(connection)
    tickets.pending(connection, after=ticket.id)
    tickets.get(connection, ticket.id)


def _usage(connection: Connection, session: Session) -> None:
    day = now(connection) - timedelta(days=1)
    for column in ("user", "team", "org", "agent", "model"):
        usage.summary(connection, by=["day"], where={column: "x"}, since=day)  # type: ignore[dict-item,list-item]
    usage.summary(connection, since=day)


def _calls(connection: Connection, session: Session) -> None:
    calls.in_doubt(connection, session_id=session.id)
    budgets.standing(connection)


def _feed(connection: Connection, session: Session) -> None:
    place = feed.latest(connection)
    feed.check(connection, place)
    for wanted in (Wanted(), Wanted(kinds=("call_decided",)), Wanted(session=session.id)):
        feed.look(connection, Place(1, "x"), wanted)
    feed.disagreement(connection, session.id)


def _verified(connection: Connection, session: Session) -> None:
    verify.verify(connection, session.id)


@pytest.fixture
def used(either: str) -> Any:
    """A governor whose store has a session with calls, a ticket and usage; and that session."""
    with (
        Governor(either, policy=POLICY) as governor,
        governor.session("s", agent="a", user="x") as session,
    ):
        look()
        with pytest.raises(ApprovalNeeded):
            wire()
        governor.record_usage(model="m", input_tokens=1, output_tokens=1, cost_usd=0)
        yield governor, session


@pytest.mark.parametrize("read", [_history, _sessions, _tickets, _usage, _calls, _feed, _verified])
def test_a_read_uses_an_index(
    used: tuple[Governor, Session], read: Callable[[Connection, Session], None]
) -> None:
    """Broken if a page of history, a sum of a day, or a list of what waits costs more the more was ever written."""
    governor, session = used
    asked: list[tuple[str, Any]] = []
    store = governor._machinery.store
    event.listen(
        store.database.reading,
        "before_cursor_execute",
        lambda _c, _u, statement, parameters, *_: asked.append((statement, parameters)),
    )
    governor.read(read, session)
    reads = [one for one in asked if re.search(r"\bFROM\b", one[0])]
    assert reads, "nothing was read"
    assert [found for one in reads for found in governor.read(_scans, store, *one)] == []


@pytest.mark.parametrize("either", ["sqlite"], indirect=True)
def test_a_call_uses_an_index(used: tuple[Governor, Session]) -> None:
    """Broken if what a governed call looks up or changes costs more the more was ever written."""
    governor, _ = used
    store = governor._machinery.store
    prepared = [
        one.text
        for one in store._binding._compiled.values()
        if re.search(r"\b(FROM|UPDATE)\b", one.text)
    ]
    assert any(one.startswith("UPDATE sessions") for one in prepared), "no call was made"
    found = [
        scan
        for one in prepared
        for scan in governor.read(_scans, store, one, (None,) * one.count("?"))
    ]
    assert found == []


def _scans(connection: Connection, store: Store, statement: str, parameters: Any) -> list[str]:
    """Return how *statement* reads growing tables from end to end, if it does."""
    is_lite = store.url.get_backend_name() == "sqlite"
    if (
        not is_lite
    ):  # of few rows it would rather read all; which indexes could serve is what counts
        connection.execute(text("SET LOCAL enable_seqscan = off"))
    asked = f"EXPLAIN {'QUERY PLAN ' if is_lite else ''}{statement}"
    plan = [str(row[-1]) for row in connection.exec_driver_sql(asked, parameters)]
    # Through an index from end to end is no better, but for a page of what is listed in the order of its key.
    scan = re.compile(r"^SCAN (?!sessions USING )(\w+)" if is_lite else r"Seq Scan on (\w+)")
    return [
        f"{line.strip()}: {statement}"
        for line in plan
        if (found := scan.search(line)) and found[1] in GROWING
    ]
