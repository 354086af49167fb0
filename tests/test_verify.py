"""Verification: an untouched store is sound, and no row and no column can change unseen."""
# ruff: noqa: S608 - no statement here is made of anything but these tests' own words

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from interlock import Governor
from tests import postgres_server as server
from tests.forging import (
    COVERED,
    UNCOVERED,
    Forger,
    Key,
    fill,
    loosen,
    others,
    problems,
    rewrite,
    run,
)
from tests.samples import NOW

UNMISSED = {"usage", "commands"}
"""Of these a row may be taken out: what has no session is in no chain, and commands may be forgotten."""

TRACED = "(SELECT id FROM sessions WHERE name = 'traced')"
LENGTH = 32
"""How many events the session "traced" has."""


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def original(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """A store with everything in it."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('original') / 'interlock.db'}"
        fill(url)
        yield url
        return
    template = request.getfixturevalue("postgres_template")
    with server.database(request.getfixturevalue("postgres_server"), template=template) as url:
        fill(url)
        loosen(url)
        yield url


@pytest.fixture
def store(original: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A copy of that store, to be tampered with."""
    if original.startswith("sqlite"):
        yield f"sqlite:///{shutil.copy(original.removeprefix('sqlite:///'), tmp_path / 'interlock.db')}"
        return
    admin = request.getfixturevalue("postgres_server")
    with server.database(admin, template=server.name_of(original)) as url:
        yield url


@pytest.mark.promise(6)
def test_the_command_names_calls_that_recovery_has_put_in_doubt(store: str) -> None:
    """Broken if the command fails over a call that recovery has put in doubt, instead of naming it and its tool."""
    with Governor(store) as governor:
        told = {report.name: report.in_doubt for report in governor.verify()}
    command = [sys.executable, "-m", "interlock", "verify", "--db", store]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=50)
    assert done.returncode == 0
    assert [f"call {call_id} of lookup is in doubt" in done.stdout for call_id in told["lost"]] == [
        True
    ]


def test_an_untouched_store_is_sound(store: str) -> None:
    """Broken if verification finds fault where nothing was done, misses a session, or adds one up wrongly."""
    with Governor(store) as governor:
        reports = {report.name: report for report in governor.verify()}
    assert list(reports) == ["doubt", "open", "lost", "traced"]
    assert [report.problem for report in reports.values()] == [None] * 4
    state = reports["traced"].state
    verdicts = {str(verdict): count for verdict, count in state.verdicts.items()}
    assert verdicts == {"allow": 3, "ask": 8, "deny": 1}
    assert (state.head, state.running, state.opened_at) == (LENGTH, {}, NOW)


@pytest.mark.promise(6)
def test_a_call_in_doubt_is_named(store: str) -> None:
    """Broken if a call whose outcome nobody knows is not listed, or is listed as a tampering."""
    with Governor(store) as governor:
        found = {report.name: report.in_doubt for report in governor.verify()}
    intents = "SELECT name, call_id FROM intents JOIN sessions ON id = session_id"
    left = dict(run(store, intents))
    assert set(left) == {"doubt", "lost"}
    assert found == {"doubt": (left["doubt"],), "open": (), "lost": (left["lost"],), "traced": ()}


def after(key: Key, column: str, value: Any) -> Key:
    """The key of a row once one of its own columns was changed."""
    return tuple((name, value if name == column else old) for name, old in key)


@pytest.mark.promise(7)
def test_every_cell_is_covered(store: str) -> None:
    """Broken if there is a column, in any row of any table, that can be changed unseen."""
    unseen: set[tuple[str, str]] = set()
    tried = 0
    with closing(Forger(store)) as forger:
        for table in COVERED:
            for key, held in list(forger.rows(table)):
                for column, value in held.items():
                    for other in others(column, value):
                        if forger.set(table, column, key, other):
                            tried += 1
                            if not forger.problems():
                                unseen.add((table, column))
                            assert forger.set(table, column, after(key, column, other), value)
        assert forger.problems() == []
    assert unseen == UNCOVERED
    assert tried > 500


@pytest.mark.promise(7)
@pytest.mark.parametrize("table", COVERED)
def test_every_row_is_missed(table: str, store: str) -> None:
    """Broken if a row can be taken out unseen that follows from an event."""
    with closing(Forger(store)) as forger:
        rows = list(forger.rows(table))
        assert rows
        for key, held in rows:
            forger.delete(table, key)
            is_missed = forger.problems() != []
            assert is_missed == (
                table not in UNMISSED or bool(held.get("session_id") or held.get("charged"))
            ), key
            assert forger.insert(table, held)
        assert forger.problems() == []


COLUMNS = "at, kind, version, body, trace_id, span_id, trace_flags, previous_hash, hash"
FORGERIES: dict[str, tuple[str, list[str]]] = {
    "deleted tail": (
        "event 6 of",
        [f"DELETE FROM events WHERE session_id = {TRACED} AND seq > 5"],
    ),
    "deleted first": (
        "event 1 of",
        [f"DELETE FROM events WHERE session_id = {TRACED} AND seq = 1"],
    ),
    "deleted history": ("event 1 of", [f"DELETE FROM events WHERE session_id = {TRACED}"]),
    "renumbered after a deletion": (
        "event 3 of",
        [
            f"DELETE FROM events WHERE session_id = {TRACED} AND seq = 3",
            f"UPDATE events SET seq = -seq WHERE session_id = {TRACED} AND seq > 3",
            f"UPDATE events SET seq = -seq - 1 WHERE session_id = {TRACED} AND seq < 0",
            f"UPDATE sessions SET head = head - 1 WHERE id = {TRACED}",
        ],
    ),
    "swapped": (
        "event 2 of",
        [
            f"UPDATE events SET seq = -1 WHERE session_id = {TRACED} AND seq = 2",
            f"UPDATE events SET seq = 2 WHERE session_id = {TRACED} AND seq = 3",
            f"UPDATE events SET seq = 3 WHERE session_id = {TRACED} AND seq = -1",
        ],
    ),
    "copied body": (
        "event 2 of",
        [
            (
                "UPDATE events SET body = (SELECT body FROM events WHERE seq = 3 AND session_id ="
                f" {TRACED}) WHERE seq = 2 AND session_id = {TRACED}"
            )
        ],
    ),
    "repeated at the end": (
        f"event {LENGTH + 1} of",
        [
            (
                f"INSERT INTO events (session_id, seq, id, {COLUMNS})"
                f" SELECT session_id, {LENGTH + 1}, 'e', {COLUMNS}"
                f" FROM events WHERE seq = {LENGTH} AND session_id = {TRACED}"
            )
        ],
    ),
    "moved to another session": (
        f"event {LENGTH + 1} of",
        [
            (
                f"UPDATE events SET session_id = {TRACED}, seq = {LENGTH + 1} WHERE seq = 1"
                " AND session_id = (SELECT id FROM sessions WHERE name = 'open')"
            )
        ],
    ),
    "a ticket nobody opened": (
        "was never opened",
        [
            (
                "INSERT INTO tickets SELECT 'forged', session_id, call_id, tool, digest, policy, arguments, resource,"
                " reason, asked, approvers, quorum, approvals, requested_by, 'approved', opened_at, expires_at,"
                " edited, edited_by, 'ann', opened_at, NULL, NULL FROM tickets LIMIT 1"
            )
        ],
    ),
    "an intent nobody decided": (
        "has an intent but no event",
        [
            (
                "INSERT INTO intents "
                f"SELECT {TRACED}, 'forged', 'lookup', 1, NULL, NULL, 'x', 'hold', NULL, NULL"
            )
        ],
    ),
    "a forged yes": (
        "state is not what the events say",
        ["UPDATE tickets SET state = 'approved', decided_by = 'ann' WHERE state = 'cancelled'"],
    ),
    "a session without a row": (
        "is missing, and other rows are about it",
        [f"DELETE FROM sessions WHERE id = {TRACED}"],
    ),
    "another policy": (
        "was changed: its document has another digest",
        ["UPDATE policies SET document = replace(document, 'ask', 'allow')"],
    ),
    "a session reopened": (
        "status is not what the events say",
        [f"UPDATE sessions SET status = 'open', closed_at = NULL WHERE id = {TRACED}"],
    ),
}


@pytest.mark.promise(7)
@pytest.mark.parametrize("name", FORGERIES)
def test_a_forgery_is_named(name: str, store: str) -> None:
    """Broken if what somebody with write access would do is not seen, or is described as something else."""
    expected, statements = FORGERIES[name]
    run(store, *statements)
    found = problems(store)
    assert any(expected in problem for problem in found), found
    assert all("\n" not in problem for problem in found)


@pytest.mark.promise(7)
def test_one_forgery_does_not_hide_another(store: str) -> None:
    """Broken if a row that cannot be read stops verification before it gets to the others."""
    run(
        store,
        "UPDATE sessions SET status = 'nonsense' WHERE name = 'doubt'",
        f"UPDATE events SET body = replace(body, 'o-1', 'o-9') WHERE session_id = {TRACED}",
    )
    first, second = problems(store)
    assert "cannot be read" in first
    assert "was changed after it was written" in second


@pytest.mark.promise(7)
def test_an_event_with_a_hash_that_fits_is_seen_by_the_next(store: str) -> None:
    """Broken if somebody who recomputes the hash of what was changed gets away without the events after it."""
    rewrite(store, "traced", old="o-1", new="o-9", up_to=3)
    [problem] = problems(store)
    assert "event 4 of" in problem
    assert "does not follow from the event before it" in problem


@pytest.mark.promise(7)
def test_a_rewritten_chain_shows_in_its_head(store: str) -> None:
    """Broken if a change, every hash recomputed after it, keeps the head of the chain that spans bear witness to."""
    head = f"SELECT head_hash FROM sessions WHERE id = {TRACED}"
    before = run(store, head)
    rewrite(store, "traced", old="o-1", new="o-9")
    assert "ticket" in problems(store)[0]  # the tickets' own arguments now say otherwise
    assert run(store, head) != before
