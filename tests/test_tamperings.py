"""
Tampering at random: what verification finds by itself, and what only a checkpoint finds that is kept elsewhere.

Whoever edits, deletes, inserts or swaps rows is found without a checkpoint. Whoever knows all that follows from an
event, and mends it, is not: that is the subset that the page on checkpoints names, each of which a checkpoint finds.
"""
# ruff: noqa: S608 - no statement here is made of anything but these tests' own words

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from sqlalchemy import Connection, insert

from interlock import Governor, governed
from interlock._clock import new_id
from interlock.store import append_only, counters, usage_seals
from interlock.store.events import known
from interlock.store.statements import as_stored, tables_of
from interlock.store.tables import from_microseconds
from interlock.store.verify_counters import CounterSums
from tests import postgres_server as server
from tests.books import unsound
from tests.conftest import ALLOW_ALL
from tests.forging import COVERED, UNCOVERED, Forger, fill, loosen, others, rewrite, run

pytestmark = pytest.mark.promise(7)

KEY = b"a secret of the auditors"
NAMES = ("plain-1", "plain-2", "plain-3")
"""Sessions whose rows somebody can mend: no budget counts them, and they take no lease."""

Tamper = Callable[[str, random.Random], set[str]]
"""Changes a store; returns words of which one is in the sentence that names what was changed."""


@governed
def chat(order: str) -> str:
    """Answer."""
    return order


class Witnessed(NamedTuple):
    """A store, an earlier state of it, and checkpoints of both."""

    store: str
    earlier: str
    lines: Path


Copies = Callable[[str | None], AbstractContextManager[str]]
"""Makes a database, empty or a copy of another."""


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def copied(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Copies:
    """Makes databases."""

    @contextmanager
    def of_sqlite(like: str | None) -> Iterator[str]:
        path = tmp_path_factory.mktemp("store") / "i.db"
        if like is not None:
            shutil.copy(like.removeprefix("sqlite:///"), path)
        yield f"sqlite:///{path}"
        path.unlink()

    if request.param == "sqlite":
        return of_sqlite
    admin: str = request.getfixturevalue("postgres_server")
    empty: str = request.getfixturevalue("postgres_template")
    return lambda like: server.database(
        admin, template=empty if like is None else server.name_of(like)
    )


@pytest.fixture(scope="module")
def witnessed(copied: Copies, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Witnessed]:
    """A store with everything in it, of which nobody has changed anything."""
    lines = tmp_path_factory.mktemp("lines") / "checkpoints.jsonl"
    with copied(None) as store:
        fill(store)
        witness(store, lines)
        with copied(store) as earlier:
            work(store)
            witness(store, lines)
            if not store.startswith("sqlite"):
                loosen(store)
            yield Witnessed(store, earlier, lines)


def witness(store: str, lines: Path) -> None:
    """Take a checkpoint."""
    with Governor(store) as governor:
        governor.checkpoints(lines, key=KEY).append()


def work(store: str) -> None:
    """Do what somebody can take back so that nothing shows it."""
    with Governor(store, policy=ALLOW_ALL) as governor:
        for name in NAMES:
            with governor.session(name, agent="bot"):
                for number in range(3):
                    chat(f"o-{number}")
            governor.record_usage(model=name, cost_usd="0.001")
        halt = governor.halt(agent="eve", reason="drill", by="ann").halt
        governor.release(halt.id, reason="over", by="ann")


def named(row: dict[str, Any]) -> set[str]:
    """What a sentence calls a row by: itself, or what it is about."""
    about = ("id", "session_id", "halt_id", "key", "digest", "budget", "lease", "name", "policy")
    found = {str(row[name]) for name in about if row.get(name) is not None}
    if "target" in row and "seq" in row:
        found.add("of the log of halts")
    return found


def a_row(forger: Forger, dice: random.Random) -> tuple[str, Any, dict[str, Any]]:
    """Any row of what is covered: its table, its key and itself."""
    while True:
        table = dice.choice(COVERED)
        if rows := list(forger.rows(table)):
            return (table, *dice.choice(rows))


def edit(store: str, dice: random.Random) -> set[str]:
    """Write something else into one cell."""
    with closing(Forger(store)) as forger:
        while True:
            table, key, row = a_row(forger, dice)
            column = dice.choice([one for one in row if (table, one) not in UNCOVERED])
            value = dice.choice(others(column, row[column]))
            if forger.set(table, column, key, value):
                return named(row) | named({**row, column: value})


def delete(store: str, dice: random.Random) -> set[str]:
    """Take out one row that follows from an event."""
    with closing(Forger(store)) as forger:
        while True:
            table, key, row = a_row(forger, dice)
            if table == "commands" or (table == "usage" and not row["session_id"]):
                continue
            forger.delete(table, key)
            return named(row)


def add(store: str, dice: random.Random) -> set[str]:
    """Put in a copy of a row under another key."""
    with closing(Forger(store)) as forger:
        while True:
            table, _, row = a_row(forger, dice)
            if table == "policies":  # an unused policy is no fault
                continue
            copy = dict(row)
            for column in ("id", "key", "call_id", "name", "scope"):
                if column in row:
                    copy[column] = new_id()
                    break
            for column in ("seq", "position", "shard"):
                if column in row and table != "leases":
                    copy[column] = row[column] + 10_000
            if table in {"events", "halt_log"}:
                copy["id" if table == "events" else "by"] = new_id()
            if forger.insert(table, copy):
                return named(row) | named(copy)


def swap(store: str, dice: random.Random) -> set[str]:
    """Give each of two rows what the other has in one column."""
    with closing(Forger(store)) as forger:
        while True:
            table, key, row = a_row(forger, dice)
            rows = [one for one in forger.rows(table) if one[0] != key]
            columns = [one for one in row if (table, one) not in UNCOVERED and one not in dict(key)]
            if not rows or not columns:
                continue
            other_key, other = dice.choice(rows)
            column = dice.choice(columns)
            if row[column] == other[column]:
                continue
            if forger.set(table, column, key, other[column]) and forger.set(
                table, column, other_key, row[column]
            ):
                return named(row) | named(other)


def truncate(store: str, dice: random.Random) -> set[str]:
    """Take out the last events of a session, and nothing else."""
    rows = run(store, "SELECT id, head FROM sessions")
    session_id, head = dice.choice(rows)
    kept = dice.randrange(head)
    run(store, f"DELETE FROM events WHERE session_id = '{session_id}' AND seq > {kept}")
    return {session_id}


SLOPPY: tuple[Tamper, ...] = (edit, edit, edit, delete, add, swap, truncate)


def forge(store: str, *statements: str) -> None:
    """Change what was recorded, and count anew what is counted of it, as who knows how can."""
    run(store, *statements)
    with Governor(store) as governor:
        governor.write(_recount)


def _recount(connection: Connection) -> None:
    told = CounterSums()
    for place, event in known(connection):
        told.hear(place, event)
    connection.execute(tables_of(connection).counters.delete())
    counters.write(connection, told.sums())


def one_of(store: str, dice: random.Random) -> str:
    """The id of a session whose rows can be mended."""
    name = dice.choice(NAMES)
    session_id: str = run(store, f"SELECT id FROM sessions WHERE name = '{name}'")[0][0]
    return session_id


def drop(store: str, dice: random.Random) -> set[str]:
    """Take out a session with all that is about it."""
    session_id = one_of(store, dice)
    forge(
        store,
        f"DELETE FROM events WHERE session_id = '{session_id}'",
        f"DELETE FROM sessions WHERE id = '{session_id}'",
    )
    return {f"session {session_id} is gone"}


def cut(store: str, dice: random.Random) -> set[str]:
    """Take out the last events of a session, and have its row fit."""
    session_id, kept = one_of(store, dice), dice.choice([1, 3, 5, 7])
    forge(
        store,
        f"DELETE FROM events WHERE session_id = '{session_id}' AND seq > {kept}",
        f"UPDATE sessions SET head = {kept}, status = 'open', closed_at = NULL, owned_at = opened_at, head_hash = "
        f"(SELECT hash FROM events WHERE session_id = '{session_id}' AND seq = {kept}) WHERE id = '{session_id}'",
    )
    return {f"session {session_id} was cut off"}


def write_anew(store: str, dice: random.Random) -> set[str]:
    """Write other words into the events of a session, and recompute every hash."""
    name = dice.choice(NAMES)
    rewrite(store, name, f"o-{dice.randrange(3)}", f"o-{dice.randrange(3, 10)}")
    return {" was rewritten from "}


def drop_usage(store: str, dice: random.Random) -> set[str]:
    """Take out a row of usage outside of sessions."""
    run(store, f"DELETE FROM usage WHERE model = '{dice.choice(NAMES)}'")
    return {"usage outside of sessions was changed"}


def forge_usage(store: str, dice: random.Random) -> set[str]:
    """Change a row of usage outside of sessions, or put one in, with a hash that fits."""
    name, is_new = dice.choice(NAMES), dice.random() < 0.5

    def write(connection: Connection) -> None:
        append_only.unprotect(connection)
        table = tables_of(connection).usage
        row = dict(connection.execute(as_stored(table).where(table.c.model == name)).one()._mapping)
        row |= {"cost_nano": dice.randrange(10**6)}
        row["hash"] = usage_seals.sealed(row)["hash"]
        if is_new:
            row["id"], row["position"] = new_id(), -dice.randrange(10**6)
            row["hash"] = usage_seals.sealed(row)["hash"]
        else:
            connection.execute(table.delete().where(table.c.model == name))
        connection.execute(insert(table).values(**row | {"at": from_microseconds(row["at"])}))

    with Governor(store) as governor:
        governor.write(write)
    return {"usage outside of sessions was changed"}


def unhalt(store: str, _: random.Random) -> set[str]:
    """Take out the last row of the log of halts, and have the halt fit."""
    run(
        store,
        "UPDATE halts SET released_at = NULL, released_by = NULL, release_reason = NULL WHERE id = "
        "(SELECT halt_id FROM halt_log WHERE seq = (SELECT MAX(seq) FROM halt_log))",
        "DELETE FROM halt_log WHERE seq = (SELECT MAX(seq) FROM halt_log)",
    )
    return {"the log of halts was cut off"}


PERFECT: tuple[Tamper, ...] = (drop, cut, write_anew, drop_usage, forge_usage, unhalt)
"""What the page on checkpoints says that only they find; with a snapshot that is restored."""


def found(store: str, lines: Path) -> tuple[list[str], list[str]]:
    """What verification finds by itself, and what a comparison with checkpoints adds to that."""
    with Governor(store) as governor:
        return unsound(governor), governor.checkpoints(lines, key=KEY).compare().problems


@pytest.mark.parametrize("count", [40, pytest.param(2_000, marks=pytest.mark.soak)])
@pytest.mark.timeout(3_000)
def test_who_tampers_is_found(count: int, witnessed: Witnessed, copied: Copies) -> None:
    """Broken if something that was changed at random is not found, or not located, or found where nothing is."""
    dice = random.Random(4711)
    kinds = (*SLOPPY, *PERFECT, restore)
    assert found(witnessed.store, witnessed.lines) == ([], [])
    for tamper in (*kinds, *dice.choices(kinds, k=count - len(kinds))):
        like = witnessed.earlier if tamper is restore else witnessed.store
        with copied(like) as store:
            words = tamper(store, dice)
            alone, compared = found(store, witnessed.lines)
        located = [one for one in (*alone, *compared) if any(word in one for word in words)]
        assert located, (tamper.__name__, words, alone, compared)
        assert (alone == []) == (tamper in {*PERFECT, restore}), (tamper.__name__, words, alone)


def restore(_: str, __: random.Random) -> set[str]:
    """Put the store back to an earlier state: the copy that is looked at is one of that."""
    return {"the store ends before checkpoint 2"}
