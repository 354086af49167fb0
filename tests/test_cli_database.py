"""`interlock db`, run as people and scripts run it: as a process, with its exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import Connection, create_engine, make_url, text

from interlock import Governor
from interlock.store import schema
from interlock.store.engine import Store
from tests import postgres_server as server
from tests.conftest import ALLOW_ALL

Cli = Callable[..., subprocess.CompletedProcess[str]]

NO_VARIABLES = {"INTERLOCK_DB", "INTERLOCK_TABLE_PREFIX", "INTERLOCK_SCHEMA"}


def interlock(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run `interlock` with these variables."""
    inherited = {name: value for name, value in os.environ.items() if name not in NO_VARIABLES}
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "interlock", *arguments],
        env={**inherited, "COLUMNS": "200", **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=40,
    )


def said(done: subprocess.CompletedProcess[str], code: int = 0) -> str:
    """Return what was printed by a command that ended with *code* and had nothing to complain of."""
    assert (done.returncode, done.stderr) == (code, "")
    return done.stdout.strip()


def complaint(done: subprocess.CompletedProcess[str]) -> str:
    """Return what a command that could not be done says about it: one line, and no traceback."""
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("interlock: ")
    assert len(done.stderr.splitlines()) == 1
    return done.stderr


@pytest.fixture
def fresh(postgres_server: str) -> Iterator[str]:
    """The URL of a Postgres database with nothing in it."""
    with server.database(postgres_server) as url:
        yield url


@pytest.fixture
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database with nothing in it, of the kind that the parameter names."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'empty.db'}"
    url: str = request.getfixturevalue("fresh")
    return url


BOTH = pytest.mark.parametrize("empty", ["sqlite", "postgres"], indirect=True)


@BOTH
def test_from_nothing_to_a_store_in_use(empty: str) -> None:
    """Broken if who follows the page cannot get a database ready, or is told otherwise than it is."""
    version = f"The tables are of version {schema.HEAD}"
    assert said(interlock("db", "upgrade", "--db", empty)) == f"{version}, made now."
    assert said(interlock("db", "upgrade", "--db", empty)) == f"{version} already."
    needs = f"this version of Interlock needs version {schema.HEAD}"
    assert said(interlock("db", "current", "--db", empty)) == f"{version}; {needs}."
    assert (
        said(interlock("db", "check", "--db", empty))
        == f"{version} and as this version of Interlock defines them."
    )
    with Governor(empty, policy=ALLOW_ALL) as governor, governor.session("s", agent="bot"):
        pass
    assert "1 of 1 sessions verified" in said(interlock("verify", "--db", empty))


@BOTH
def test_for_programs(empty: str) -> None:
    """Broken if a script cannot read what was done and what was found."""
    head = schema.HEAD
    done = json.loads(said(interlock("db", "upgrade", "--json", "--db", empty)))
    again = json.loads(said(interlock("db", "upgrade", "--json", "--db", empty)))
    assert (done, again) == ({"before": None, "after": head}, {"before": head, "after": head})
    current = json.loads(said(interlock("db", "current", "--json", "--db", empty)))
    assert current == {"current": head, "needed": head}
    found = json.loads(said(interlock("db", "check", "--json", "--db", empty)))
    assert found == {"current": head, "needed": head, "difference": None, "sound": True}


@pytest.mark.parametrize("by", ["options", "variables"])
def test_a_prefix_and_a_schema(by: str, fresh: str) -> None:
    """Broken if the tables are made elsewhere than it was said, or other commands do not look there."""
    options, variables = ["--prefix", "a_", "--schema", "gov"], {}
    if by == "variables":
        options, variables = [], {"INTERLOCK_TABLE_PREFIX": "a_", "INTERLOCK_SCHEMA": "gov"}
    variables["INTERLOCK_DB"] = fresh

    assert "made now" in said(interlock("db", "upgrade", *options, **variables))
    assert "needs" in said(interlock("db", "current", *options, **variables))
    assert "defines them" in said(interlock("db", "check", *options, **variables))

    names = _rows(fresh, "SELECT schemaname FROM pg_tables WHERE tablename = 'a_sessions'")
    assert names == [("gov",)]
    with (
        Governor(fresh, table_prefix="a_", schema="gov", policy=ALLOW_ALL) as governor,
        governor.session("there", agent="bot"),
    ):
        pass
    if by == "variables":
        assert "there" in said(interlock("sessions", **variables))
    else:
        assert "no tables of Interlock" in complaint(interlock("sessions", **variables))


@BOTH
def test_a_difference_is_found(empty: str) -> None:
    """Broken if tables that were changed by hand pass for sound."""
    said(interlock("db", "upgrade", "--db", empty))
    _rows(empty, "ALTER TABLE sessions ADD COLUMN mood TEXT")

    shown = said(interlock("db", "check", "--db", empty), code=1)
    assert "The first difference: column sessions.mood is one too many." in shown
    found = json.loads(said(interlock("db", "check", "--json", "--db", empty), code=1))
    assert (found["difference"], found["sound"]) == (
        "column sessions.mood is one too many",
        False,
    )


@BOTH
def test_another_version_is_found(empty: str) -> None:
    """Broken if tables of another version pass for this one's because they have the same columns."""
    said(interlock("db", "upgrade", "--db", empty))
    _rows(empty, "UPDATE interlock_version SET version_num = '9999'")

    shown = said(interlock("db", "check", "--db", empty), code=1)
    assert shown.startswith("The tables are of version 9999; this version of Interlock needs")
    current = json.loads(said(interlock("db", "current", "--json", "--db", empty)))
    assert current == {"current": "9999", "needed": schema.HEAD}
    assert "newer version of Interlock" in complaint(interlock("db", "upgrade", "--db", empty))


def test_no_tables_are_found_wanting(fresh: str) -> None:
    """Broken if a server that nobody has upgraded passes for sound, or looking makes its tables."""
    assert "No version of the tables is recorded" in said(interlock("db", "current", "--db", fresh))
    shown = said(interlock("db", "check", "--db", fresh), code=1)
    assert "The first difference: table policies is missing." in shown
    assert _rows(fresh, "SELECT 1 FROM pg_tables WHERE schemaname = 'public'") == []


@pytest.mark.parametrize("command", ["current", "check"])
def test_looking_makes_no_file(command: str, tmp_path: Path) -> None:
    """Broken if a mistyped path becomes an empty store by being looked at."""
    told = complaint(interlock("db", command, "--db", f"sqlite:///{tmp_path / 'none.db'}"))
    assert "there is no store at" in told
    assert list(tmp_path.iterdir()) == []


def test_no_server() -> None:
    """Broken if a server that does not answer is a traceback, or its password is shown."""
    url = "postgresql://ann:s3cret@127.0.0.1:1/books"
    for command in ("upgrade", "current", "check"):
        told = complaint(interlock("db", command, "--db", url))
        assert "the store postgresql://ann:***@127.0.0.1:1/books cannot be used" in told
        assert "Check that the server runs" in told
        assert "s3cret" not in told


def test_no_such_database(postgres_server: str) -> None:
    """Broken if a mistyped name is a traceback."""
    url = make_url(postgres_server).set(database="no_such").render_as_string(hide_password=False)
    assert 'database "no_such" does not exist' in complaint(interlock("db", "upgrade", "--db", url))


def test_no_database(tmp_path: Path) -> None:
    """Broken if a file of another kind, or no URL at all, is a traceback; or the file is written to."""
    path = tmp_path / "notes.txt"
    path.write_text("not a database, though long enough to be looked into " * 20, "utf-8")
    before = path.read_bytes()
    for command in ("upgrade", "current", "check"):
        told = complaint(interlock("db", command, "--db", f"sqlite:///{path}"))
        assert "file is not a database" in told
        assert "is not a database URL" in complaint(interlock("db", command, "--db", "notes"))
    assert path.read_bytes() == before


def test_no_rights(fresh: str) -> None:
    """Broken if a user who may not create tables is told something else, or leaves some of them."""
    role = f"interlock_test_{uuid4().hex[:12]}"
    engine = create_engine(make_url(fresh).set(drivername="postgresql+psycopg"))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f"CREATE ROLE {role} LOGIN PASSWORD 's3cret'"))
        try:
            connection.execute(text("REVOKE CREATE ON SCHEMA public FROM PUBLIC"))
            url = make_url(fresh).set(username=role, password="s3cret")
            shown = url.render_as_string(hide_password=False)
            told = complaint(interlock("db", "upgrade", "--db", shown))
            assert "permission denied for schema public" in told
            assert "user who may create tables" in told
            assert "s3cret" not in told
            told = complaint(interlock("db", "upgrade", "--db", shown, "--schema", "gov"))
            assert "permission denied for database" in told
        finally:
            connection.execute(text(f"DROP ROLE {role}"))
    engine.dispose()
    assert _rows(fresh, "SELECT 1 FROM pg_tables WHERE schemaname = 'public'") == []


def test_a_schema_of_sqlite(tmp_path: Path) -> None:
    """Broken if what SQLite has not is asked of it, and half of the work is done before it says so."""
    told = complaint(
        interlock("db", "upgrade", "--db", f"sqlite:///{tmp_path / 'x.db'}", "--schema", "gov")
    )
    assert "SQLite has no schemas" in told
    assert list(tmp_path.iterdir()) == []


def _rows(url: str, statement: str) -> list[tuple[object, ...]]:
    store = Store(url, clock=None, ensure=False)

    def operation(connection: Connection) -> list[tuple[object, ...]]:
        found = connection.execute(text(statement))
        return [tuple(row) for row in found] if found.returns_rows else []

    try:
        return store.write(operation)
    finally:
        store.close()
