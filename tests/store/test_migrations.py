"""Migrations: they make exactly the tables that are defined, wherever those are; and the tables are found to be so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, MetaData, create_engine, inspect, text

from interlock.store import schema
from interlock.store.differences import first_difference
from interlock.store.engine import Store
from interlock.store.postgres import Postgres
from interlock.store.sqlite import Sqlite
from interlock.store.statements import OPTION, Binding
from interlock.store.tables import Tables
from tests import postgres_server as server


class Place(NamedTuple):
    """Where tables are: under which prefix, and in which schema."""

    prefix: str = ""
    schema: str | None = None


PLAIN, PREFIXED = Place(), Place("gov_")
PLACES = {
    "sqlite": [PLAIN, PREFIXED],
    "postgres": [PLAIN, PREFIXED, Place(schema="gov"), Place("g_", 'odd "name'), Place("100%_")],
}
EVERYWHERE = pytest.mark.parametrize(
    ("kind", "place"),
    [(kind, place) for kind, places in PLACES.items() for place in places],
    ids=lambda value: value if isinstance(value, str) else "-".join(map(str, value)),
)


@pytest.fixture
def empty(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database of that kind with nothing in it."""
    if kind == "sqlite":
        yield f"sqlite:///{tmp_path / 'empty.db'}"
        return
    with server.database(request.getfixturevalue("postgres_server")) as url:
        yield url


@pytest.fixture
def engine(empty: str) -> Iterator[Engine]:
    """An engine on that database, which commits what it is told to."""
    store = Store(empty, clock=None, ensure=False)
    yield store.database.writing
    store.close()


def migrated(connection: Connection, place: Place) -> None:
    """Have the migrations make the tables, all of them, on SQLite too."""
    with connection.begin():
        schema._migrate(bound(connection, place), None)


def bound(connection: Connection, place: Place) -> Connection:
    """Return *connection*, working with the tables of that place."""
    tables = Tables(prefix=place.prefix, schema=place.schema)
    return connection.execution_options(**{OPTION: Binding(tables)})


def defined(connection: Connection, place: Place) -> None:
    """Make the tables as they are defined, and the schema first, where it has a name."""
    with connection.begin():
        if place.schema is not None:
            quoted = connection.dialect.identifier_preparer.quote(place.schema)
            connection.execute(text(f"CREATE SCHEMA {quoted}"))
        tables = Tables(prefix=place.prefix, schema=place.schema)
        tables.metadata.create_all(connection, tables=tables.all())
        schema.version_table(tables).create(connection)


def reflected(connection: Connection, place: Place) -> dict[str, Any]:
    """Return all that the database says of its tables."""
    if connection.dialect.name == "sqlite":
        rows = connection.execute(text("SELECT name, sql FROM sqlite_master"))
        return {name: None if sql is None else sql.split() for name, sql in rows}
    inspector = inspect(connection)
    found: dict[str, Any] = {}
    for table in inspector.get_table_names(schema=place.schema):
        where = {"table_name": table, "schema": place.schema}
        found[table] = {
            "columns": [(*c.values(), str(c["type"])) for c in _untyped(inspector, where)],
            "key": inspector.get_pk_constraint(**where),
            "foreign": inspector.get_foreign_keys(**where),
            "unique": inspector.get_unique_constraints(**where),
            "checks": inspector.get_check_constraints(**where),
            "comment": inspector.get_table_comment(**where),
        }
    indexes = "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = :schema"
    given = {"schema": place.schema or "public"}
    found["indexes"] = sorted(map(tuple, connection.execute(text(indexes), given)))
    return found


def _untyped(inspector: Any, where: dict[str, Any]) -> list[dict[str, Any]]:
    return [{**column, "type": str(column["type"])} for column in inspector.get_columns(**where)]


@EVERYWHERE
def test_migrations_make_what_is_defined(
    kind: str, place: Place, engine: Engine, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Broken if a table, column, type, key, index, check or comment was changed in one of the two and not the other."""
    with engine.connect() as connection:
        migrated(connection, place)
        by_migrations = reflected(connection, place)
        connection.commit()
        assert first_difference(bound(connection, place)) is None

    other = tmp_path / "defined.db"
    if kind == "sqlite":
        made = create_engine(f"sqlite:///{other}")
        with made.connect() as connection:
            defined(connection, place)
            by_definition = reflected(connection, place)
        made.dispose()
    else:
        with server.database(request.getfixturevalue("postgres_server")) as url:
            database = Postgres(server.make_url(url))
            with database.reading.connect() as connection:
                defined(connection, place)
                by_definition = reflected(connection, place)
            database.reading.dispose()
    assert len(by_definition) > len(Tables().all())
    assert by_definition == by_migrations


@EVERYWHERE
def test_what_is_made_can_be_used(empty: str, kind: str, place: Place) -> None:
    """Broken if a store does not find the tables that were made for it under that prefix, in that schema."""
    options = {"prefix": place.prefix, "schema_name": place.schema}
    upgrading = Store(empty, clock=None, ensure=False, **options)
    done = [upgrading.write(schema.upgrade) for _ in range(2)]
    upgrading.close()

    assert [(u.before, u.after) for u in done] == [(None, schema.HEAD), (schema.HEAD, schema.HEAD)]
    store = Store(empty, clock=None, **options)
    assert store.read(schema.current) == schema.HEAD
    assert store.read(first_difference) is None
    store.close()


def test_head_is_the_last_migration() -> None:
    """Broken if a migration was added and a store does not ask for it, or asks for one that there is not."""
    scripts = ScriptDirectory.from_config(schema._config())
    assert list(scripts.get_heads()) == [schema.HEAD]


def changes(kind: str) -> dict[str, tuple[list[str], str]]:
    """Return ways to change the tables, and what is to be said of each."""
    both = {
        "table": (["DROP TABLE usage"], "table usage is missing"),
        "column": (
            ["DROP INDEX ix_events_trace_id", "ALTER TABLE events DROP COLUMN trace_id"],
            "column events.trace_id is missing",
        ),
        "another column": (
            ["ALTER TABLE sessions ADD COLUMN mood TEXT"],
            "column sessions.mood is one too many",
        ),
        "index": (["DROP INDEX ix_usage_at"], "index ix_usage_at of table usage is missing"),
        "another index": (
            ["CREATE INDEX ix_mine ON usage (tokens)".replace("tokens", "input_tokens")],
            "index ix_mine of table usage is one too many",
        ),
    }
    if kind == "sqlite":
        return both
    return both | {
        "type": (
            ["ALTER TABLE sessions ALTER head TYPE INTEGER"],
            "column sessions.head is INTEGER and should be BIGINT",
        ),
        "null": (
            ["ALTER TABLE sessions ALTER name DROP NOT NULL"],
            "column sessions.name may be null, and should be the other way round",
        ),
        "not null": (
            ['ALTER TABLE sessions ALTER "user" SET NOT NULL'],
            "column sessions.user may not be null, and should be the other way round",
        ),
        "default": (
            ["ALTER TABLE sessions ALTER head SET DEFAULT 7"],
            "column sessions.head has a default that it should not have",
        ),
        "foreign key": (
            ["ALTER TABLE events DROP CONSTRAINT events_session_id_fkey"],
            "foreign key on session_id of table events is missing",
        ),
        "comment": (
            ["COMMENT ON TABLE intents IS 'mine'"],
            "table intents has another comment",
        ),
    }


CHANGES = [(kind, name) for kind in PLACES for name in changes(kind)]


@pytest.mark.parametrize(("kind", "change"), CHANGES)
def test_a_difference_is_named(kind: str, change: str, empty: str) -> None:
    """Broken if tables that somebody has changed pass for sound, or the wrong thing is complained about."""
    store = Store(empty, clock=None, ensure=False)
    store.write(schema.upgrade)
    statements, complaint = changes(kind)[change]
    for statement in statements:
        store.write(lambda connection, said=statement: connection.execute(text(said)) and None)

    assert store.read(first_difference) == complaint
    store.close()


def test_tables_of_others_are_no_difference(postgres: str) -> None:
    """Broken if a check complains of tables that are not ours, in this schema or in another."""
    store = Store(postgres, clock=None)
    for statement in (
        "CREATE TABLE orders (id INTEGER)",
        "CREATE SCHEMA other",
        "CREATE TABLE other.events (id INTEGER)",
    ):
        store.write(lambda connection, said=statement: connection.execute(text(said)) and None)

    assert store.read(first_difference) is None
    store.close()


def test_the_version_table_is_alembics(tmp_path: Path) -> None:
    """Broken if the version that a new SQLite file is stamped with is kept otherwise than Alembic keeps it."""
    url = server.make_url(f"sqlite:///{tmp_path / 'x.db'}")
    database, tables = Sqlite(url), Tables()
    with database.writing.connect() as connection:
        migrated(connection, PLAIN)
        by_alembic = reflected(connection, PLAIN)[schema.version_table(tables).name]
        connection.commit()
    database.writing.dispose()
    other = create_engine("sqlite://")
    with other.connect() as connection:
        schema.version_table(tables).create(connection)
        ours = reflected(connection, PLAIN)[schema.version_table(tables).name]
    other.dispose()
    assert ours == by_alembic


def test_the_hosts_metadata_stays_clean() -> None:
    """Broken if Alembic's table is put where the host's own autogenerate would take it for the host's."""
    metadata = MetaData()
    tables = Tables(metadata)
    schema.version_table(tables)
    assert {table.name for table in tables.all()} == set(metadata.tables)
