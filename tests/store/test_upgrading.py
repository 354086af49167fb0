"""Stores of another version: an older file is brought up to date once, a newer one refused, a server's asked for."""
# ruff: noqa: S608 - no statement here is made of anything but these tests' own words

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Column, Connection, Integer, MetaData, Table, make_url, text

from interlock import Governor, governed
from interlock.errors import Misuse, StoreUnavailable
from interlock.store import schema
from interlock.store.engine import Store
from interlock.store.tables import Tables
from tests import postgres_server as server
from tests.conftest import ALLOW_ALL
from tests.store._next import NEXT, NextVersion

Make = Callable[..., Governor]

OPEN = """
import sys
from interlock import Governor
from interlock.store import schema

url, *options = sys.argv[1:]
print("ready", flush=True)
sys.stdin.readline()
governor = Governor(url, policy={"version": 1, "name": "p", "default": "allow"})
with governor.session("s", agent="bot"):
    pass
print(governor.read(schema.current))
governor.close()
"""
UPGRADE = """
import sys
from interlock.store import schema
from interlock.store.engine import Store

print("ready", flush=True)
sys.stdin.readline()
store = Store(sys.argv[1], clock=None, ensure=False)
done = store.write(schema.upgrade)
store.close()
print(done.before, done.after)
"""


@governed
def lookup(order: str) -> str:
    """Look an order up."""
    return order


@pytest.fixture(scope="module")
def next_version(tmp_path_factory: pytest.TempPathFactory) -> NextVersion:
    """The next version of Interlock."""
    return NextVersion(tmp_path_factory.mktemp("next"))


@pytest.fixture
def used(governor: Make, either: str) -> str:
    """A store of this version, with a session in it."""
    made = governor(ALLOW_ALL, url=either)
    with made.session("first", agent="bot"):
        lookup("o-1")
    made.close()
    return either


def together(version: NextVersion, script: str, url: str, count: int) -> list[str]:
    """Run *script* in that many processes, released at once; return what each prints last."""
    processes = [version.start(script, url) for _ in range(count)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    ended = [process.communicate(timeout=40) for process in processes]
    assert [error for _, error in ended if error] == []
    return [printed.strip() for printed, _ in ended]


def raw(url: str, *statements: str) -> list[Any]:
    """Run statements on the database as they are; return the rows of the last."""
    store = Store(url, clock=None, ensure=False)

    def operation(connection: Connection) -> list[Any]:
        for statement in statements[:-1]:
            connection.execute(text(statement))
        found = connection.execute(text(statements[-1]))
        return [tuple(row) for row in found] if found.returns_rows else []

    try:
        return store.write(operation)
    finally:
        store.close()


@pytest.mark.parametrize("either", ["sqlite"], indirect=True)
def test_an_older_file_is_brought_up_to_date_once(used: str, next_version: NextVersion) -> None:
    """Broken if processes that open one old file at the same moment get in each other's way, or lose what was in it."""
    assert together(next_version, OPEN, used, 8) == [NEXT] * 8

    names = "SELECT name FROM sessions ORDER BY name"
    assert [row[0] for row in raw(used, names)] == ["first"] + ["s"] * 8
    assert raw(used, "SELECT version_num FROM interlock_version") == [(NEXT,)]


@pytest.mark.parametrize("either", ["sqlite"], indirect=True)
def test_an_upgrade_that_fails_leaves_the_file_as_it_was(
    used: str, next_version: NextVersion, governor: Make
) -> None:
    """Broken if half of an upgrade stays, so that neither the old version nor the new one can use the file."""
    raw(used, "CREATE TABLE done (at TEXT)")  # which the last statement of the upgrade makes

    process = next_version.start(OPEN, used)
    _, complaint = process.communicate("go\n", timeout=40)

    assert process.returncode == 1
    assert "StoreUnavailable" in complaint
    assert "table done already exists" in complaint
    columns = [row[1] for row in raw(used, "PRAGMA table_info(sessions)")]
    assert "mood" not in columns
    (report,) = governor(url=used).verify()
    assert report.problem is None


def test_a_server_is_upgraded_when_told_to(postgres: str, next_version: NextVersion) -> None:
    """Broken if workers of a new version change a server's tables by themselves, or several upgrades do it twice."""
    process = next_version.start(OPEN, postgres)
    _, complaint = process.communicate("go\n", timeout=40)
    assert process.returncode == 1
    assert (
        f"has tables of an older version of Interlock ({schema.HEAD}; this one needs {NEXT})"
    ) in complaint

    done = together(next_version, UPGRADE, postgres, 4)

    assert sorted(done) == [f"{schema.HEAD} {NEXT}"] + [f"{NEXT} {NEXT}"] * 3
    assert next_version.run(OPEN.replace("sys.stdin.readline()", ""), postgres).endswith(NEXT)


def test_a_newer_store_is_refused(used: str) -> None:
    """Broken if an old version writes into tables that it does not know."""
    raw(used, f"UPDATE interlock_version SET version_num = '{NEXT}'")

    newer = rf"tables of a newer version of Interlock \({NEXT}; this one knows {schema.HEAD}\)"
    with pytest.raises(StoreUnavailable, match=newer):
        Governor(used)
    store = Store(used, clock=None, ensure=False)
    with pytest.raises(StoreUnavailable, match=newer):
        store.write(schema.upgrade)
    store.close()
    assert raw(used, "SELECT version_num FROM interlock_version") == [(NEXT,)]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, ""),
        ({"table_prefix": "a_"}, " --prefix a_"),
        ({"schema": "gov", "table_prefix": "a_"}, " --prefix a_ --schema gov"),
    ],
    ids=["plain", "prefix", "both"],
)
def test_an_empty_server_says_what_to_run(
    options: dict[str, str], words: str, postgres_server: str
) -> None:
    """Broken if who starts a worker first is not told the very command, or is shown the password."""
    with server.database(postgres_server) as url:
        secret = make_url(url).set(password="s3cret").render_as_string(hide_password=False)
        with pytest.raises(StoreUnavailable) as refused:
            Governor(secret, **options)
        told = str(refused.value)
        assert "has no tables of Interlock" in told
        assert (
            f"interlock db upgrade --db 'postgresql://postgres:***@/{server.name_of(url)}" in told
        )
        assert f"'{words}`" in told
        assert "s3cret" not in told


def test_workers_need_no_right_to_create(postgres: str) -> None:
    """Broken if a worker has to be let in with more rights than it takes to read and write rows."""
    role = f"interlock_test_{uuid4().hex[:12]}"
    raw(
        postgres,
        f"CREATE ROLE {role} LOGIN PASSWORD 's3cret'",
        "REVOKE ALL ON SCHEMA public FROM PUBLIC",
        f"GRANT USAGE ON SCHEMA public TO {role}",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}",
    )
    url = make_url(postgres).set(username=role, password="s3cret")
    try:
        with Governor(url.render_as_string(hide_password=False), policy=ALLOW_ALL) as governor:
            with governor.session("s", agent="bot"):
                assert lookup("o-1") == "o-1"
            (report,) = governor.verify()
            assert report.problem is None
    finally:
        raw(postgres, f"DROP OWNED BY {role}", f"DROP ROLE {role}")


def test_tables_of_another_program_are_not_touched(
    postgres_server: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Broken if a host's own table `sessions` is taken for ours, or ours are made around it."""
    with server.database(postgres_server) as there:
        for url in (there, f"sqlite:///{tmp_path / 'host.db'}"):
            raw(url, "CREATE TABLE sessions (id INTEGER)")
            with pytest.raises(StoreUnavailable, match=r"has a table sessions .* choose a prefix"):
                Governor(url)
            store = Store(url, clock=None, ensure=False)
            with pytest.raises(StoreUnavailable, match="has a table sessions"):
                store.write(schema.upgrade)
            store.close()
    names = raw(f"sqlite:///{tmp_path / 'host.db'}", "SELECT name FROM sqlite_master")
    assert names == [("sessions",)]


def test_the_hosts_migrations_own_the_tables_in_its_metadata(
    postgres_server: str, tmp_path: Path
) -> None:
    """Broken if a governor makes or changes tables that the host's migrations are to make, or runs without them."""
    with server.database(postgres_server) as there:
        for url in (there, f"sqlite:///{tmp_path / 'host.db'}"):
            metadata = MetaData()
            with pytest.raises(
                StoreUnavailable,
                match=r"table gov_policies is missing .* the host's own migrations",
            ):
                Governor(url, metadata=metadata, table_prefix="gov_")
            host = Store(url, clock=None, prefix="gov_", metadata=MetaData(), ensure=False)
            host.write(lambda connection, made=host.tables: made.metadata.create_all(connection))
            host.close()

            with Governor(
                url, policy=ALLOW_ALL, metadata=MetaData(), table_prefix="gov_"
            ) as governor:
                with governor.session("s", agent="bot"):
                    assert lookup("o-1") == "o-1"
                (report,) = governor.verify()
                assert report.problem is None
                assert governor.read(schema.current) is None
            # Who opens it without the host's MetaData, as the command line does, finds it as good.
            Governor(url, table_prefix="gov_").close()

            raw(url, "ALTER TABLE gov_usage DROP COLUMN priced_by")
            for options in ({"metadata": MetaData()}, {}):
                with pytest.raises(StoreUnavailable, match=r"gov_usage\.priced_by|table gov_"):
                    Governor(url, table_prefix="gov_", **options)


def test_a_schema_is_for_servers(tmp_path: Path) -> None:
    """Broken if SQLite, which has none, is asked for a schema and fails in the middle of something."""
    with pytest.raises(Misuse, match="SQLite has no schemas; keep stores apart by prefix"):
        Governor(f"sqlite:///{tmp_path / 'x.db'}", schema="gov")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("times", [1, 2], ids=["new", "there"])
def test_opening_imports_no_alembic(tmp_path: Path, times: int) -> None:
    """Broken if every start of every program pays for migrations that it does not run."""
    script = f"""
import sys
from interlock import Governor
for _ in range({times}):
    Governor("sqlite:///{tmp_path / "x.db"}").close()
print("alembic" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        capture_output=True,
        text=True,
        check=True,
        timeout=40,
    )
    assert done.stdout.strip() == "False"


def test_ours_are_defined_once_in_a_metadata() -> None:
    """Broken if a host that defines our tables for its migrations cannot hand the same MetaData to its governor."""
    metadata = MetaData()
    first, second = Tables(metadata, prefix="gov_"), Tables(metadata, prefix="gov_")
    assert [id(table) for table in first.all()] == [id(table) for table in second.all()]


def test_a_table_of_the_hosts_is_not_ours() -> None:
    """Broken if a table of the host's that has the name of ours is written to as if it were ours."""
    metadata = MetaData()
    Tables(metadata, prefix="a_")
    Table("sessions", metadata, Column("id", Integer, primary_key=True))
    with pytest.raises(Misuse, match=r"has a table sessions already.* table_prefix"):
        Tables(metadata)
