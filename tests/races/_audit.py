"""The auditor of concurrent, killed and faulted runs: what the database holds, read without Interlock and with it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from itertools import pairwise
from typing import Any, NamedTuple

import psycopg
from sqlalchemy import URL

from interlock import Governor
from interlock.store import calls
from interlock.store.verify import Report

_EVENTS = "SELECT session_id, seq, id, at, kind, body FROM events ORDER BY session_id, seq"


class Fact(NamedTuple):
    """One row of the table `events`, its body decoded by the standard library."""

    session_id: str
    seq: int
    id: str
    at: int
    kind: str
    body: dict[str, Any]


class Books(NamedTuple):
    """
    What the database holds.

    Attributes:
        facts: Every event, by session and number.
        decided, admitted, finished: Ids of calls with such an event.
        in_doubt: Ids of calls with an open intent.
        reports: What verifying each session found.
    """

    facts: list[Fact]
    decided: set[str]
    admitted: set[str]
    finished: set[str]
    in_doubt: set[str]
    reports: list[Report]

    def of_kind(self, *kinds: str) -> list[Fact]:
        """The events of these kinds."""
        return [fact for fact in self.facts if fact.kind in kinds]


def audit(governor: Governor) -> Books:
    """
    Read the books of *governor*, which must not be in memory, and assert all that must hold in every state of them.

    No number is missing or taken twice; no call is decided or finished twice, or finished without having been
    admitted; the open intents are exactly the calls admitted and not finished; every chain verifies, and the counters
    are what the events add up to.
    """
    facts, intents = _read(governor._machinery.store.url)
    _assert_gapless(facts)
    assert len({fact.id for fact in facts}) == len(facts), "an event's id was given twice"
    decided = [f.body["call_id"] for f in facts if f.kind == "call_decided"]
    finished = [f.body["call_id"] for f in facts if f.kind == "call_finished"]
    admitted = {f.body["call_id"] for f in facts if f.kind == "call_decided" and f.body["admitted"]}
    assert len(set(decided)) == len(decided), "a call was decided twice"
    assert len(set(finished)) == len(finished), "a call finished twice"
    assert set(finished) <= admitted, "a call finished that was never admitted"
    assert intents == admitted - set(finished), "the intents are not the calls in progress"
    reports = list(governor.verify())
    assert [report.problem for report in reports if report.problem] == []
    assert {report.session_id for report in reports} == {fact.session_id for fact in facts}
    assert {call for report in reports for call in report.in_doubt} == intents
    assert governor.verify_books() == {}
    listed = governor.read(calls.in_doubt, limit=len(intents) + 1)
    assert {call for call, _, _ in listed} == intents
    return Books(facts, set(decided), admitted, set(finished), intents, reports)


def switches(facts: Iterable[Fact], owner: dict[str, int]) -> int:
    """How often, in the order of writing, a call's event follows one of another owner: 0 when nobody interleaved."""
    owners = [owner[f.body["call_id"]] for f in sorted(facts, key=lambda f: (f.at, f.seq))]
    return sum(1 for before, after in pairwise(owners) if before != after)


def _read(url: URL) -> tuple[list[Fact], set[str]]:
    with closing(_connect(url)) as connection:
        cursor = connection.cursor()
        cursor.execute("BEGIN")
        if url.get_backend_name() == "postgresql":
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        rows = cursor.execute(_EVENTS).fetchall()
        intents = {row[0] for row in cursor.execute("SELECT call_id FROM intents")}
    return [Fact(*row[:5], json.loads(row[5])) for row in rows], intents


def _connect(url: URL) -> Any:
    if url.get_backend_name() == "sqlite":
        return sqlite3.connect(str(url.database))
    plain = url.set(drivername="postgresql").render_as_string(hide_password=False)
    return psycopg.connect(plain, autocommit=True)


def _assert_gapless(facts: list[Fact]) -> None:
    numbers: dict[str, list[int]] = {}
    for fact in facts:
        numbers.setdefault(fact.session_id, []).append(fact.seq)
    for session_id, found in numbers.items():
        assert found == list(range(1, len(found) + 1)), f"session {session_id} has a gap"
