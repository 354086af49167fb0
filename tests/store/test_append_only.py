"""What is only ever appended: the database itself refuses to change it, whoever made its tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from sqlalchemy import Connection, MetaData, Table, select, text
from sqlalchemy.exc import IntegrityError

from interlock import Governor, governed
from interlock.store import append_only, schema
from interlock.store.differences import first_difference
from interlock.store.engine import Store
from interlock.store.quoting import escaped, quoted
from interlock.store.statements import OPTION, Binding
from interlock.store.tables import Tables
from tests import postgres_server as server

POLICY: dict[str, Any] = {
    "version": 1,
    "name": "p",
    "rules": [{"id": "all", "tools": ["lookup"], "verdict": "allow"}],
}


class Place(NamedTuple):
    """Where tables are: under which prefix, and in which schema."""

    prefix: str = ""
    schema: str | None = None


PLACES = {
    "sqlite": [Place(), Place("gov_"), Place("it's 100%: ")],
    "postgres": [Place(), Place("gov_"), Place(schema="gov"), Place("100%_", 'odd: "name')],
}
EVERYWHERE = pytest.mark.parametrize(
    ("kind", "place"),
    [(kind, place) for kind, places in PLACES.items() for place in places],
    ids=lambda value: value if isinstance(value, str) else "-".join(map(str, value)),
)


@governed
def lookup(order: str) -> str:
    """Look an order up."""
    return order


@pytest.fixture
def empty(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database of that kind with nothing in it."""
    if kind == "sqlite":
        yield f"sqlite:///{tmp_path / 'empty.db'}"
        return
    with server.database(request.getfixturevalue("postgres_server")) as url:
        yield url


def _by_upgrade(connection: Connection, tables: Tables) -> None:
    """What `interlock db upgrade` does, and SQLite does by itself."""
    del tables
    schema.upgrade(connection)


def _by_migrations(connection: Connection, tables: Tables) -> None:
    """What Alembic does, on SQLite too."""
    del tables
    schema._migrate(connection, None)


def _by_host(connection: Connection, tables: Tables) -> None:
    """What a host does that makes all tables of its MetaData."""
    if tables.schema is not None:
        connection.execute(text(escaped(f"CREATE SCHEMA {quoted(tables.schema)}")))
    tables.metadata.create_all(connection)


MAKERS = [_by_upgrade, _by_migrations, _by_host]


def _refused(store: Store, change: Callable[[Connection], object]) -> str:
    """Return what the database says to a change that it refuses."""

    def changing(connection: Connection) -> str:
        with pytest.raises(IntegrityError) as refused, connection.begin_nested():
            change(connection)
        return str(refused.value.orig).splitlines()[0]

    return store.write(changing)


@pytest.mark.promise(7)
@EVERYWHERE
@pytest.mark.parametrize("make", MAKERS)
def test_what_is_appended_stays(
    kind: str, place: Place, make: Callable[[Connection, Tables], None], empty: str
) -> None:
    """Broken if a row of an append-only table can be changed or deleted, or the message does not say why not."""
    metadata = MetaData() if make is _by_host else None
    store = Store(
        empty,
        clock=None,
        prefix=place.prefix,
        schema_name=place.schema,
        metadata=metadata,
        ensure=False,
    )
    options = {OPTION: Binding(store.tables)}
    with (
        store.database.writing.connect() as plain
    ):  # Alembic begins and commits by itself on SQLite
        connection = plain.execution_options(**options)
        with connection.begin():
            make(connection, store.tables)
    assert store.read(first_difference) is None
    store.close()
    named: dict[str, Any] = {"table_prefix": place.prefix, "schema": place.schema}
    with Governor(empty, policy=POLICY, metadata=metadata, **named) as governor:
        with governor.session("s", agent="bot", org="acme"):
            lookup("o-1")
            governor.record_usage(model="m", cost_usd="0.25", input_tokens=7)
        governor.halt(org="acme", reason="drill", by="ann")
        governor.release(governor.halts()[0].id, reason="over", by="ann")
        assert len(list(governor.feed())) > 3
        store = governor._machinery.store
        for name in append_only.NAMES:
            (table,) = [one for one in store.tables.all() if one.name == f"{place.prefix}{name}"]
            before = store.read(lambda c, table=table: c.execute(select(table)).all())
            assert before != []
            first = next(iter(table.columns))
            said = [
                _refused(store, lambda c, t=table, k=first: c.execute(t.update().values({k: k}))),
                _refused(store, lambda c, t=table: c.execute(t.delete())),
            ]
            verbs = ["UPDATE", "DELETE"]
            if kind == "postgres":
                said.append(_refused(store, lambda c, t=table: c.execute(_truncate(t))))
                verbs.append("TRUNCATE")
            assert said == [
                f"{table.name} is an append-only table of Interlock: {verb} is refused"
                for verb in verbs
            ]
            assert store.read(lambda c, table=table: c.execute(select(table)).all()) == before
        assert [report.problem for report in governor.verify()] == [None]


def _truncate(table: Table) -> Any:
    return text(escaped(f"TRUNCATE {quoted(table.name, table.schema)} CASCADE"))


CHANGES = {
    "sqlite": {
        "dropped": (["DROP TRIGGER tr_usage_delete"], "tr_usage_delete of table usage is missing"),
        "hollow": (
            [
                "DROP TRIGGER tr_events_update",
                "CREATE TRIGGER tr_events_update BEFORE UPDATE ON events BEGIN SELECT 1; END",
            ],
            "tr_events_update of table events is not as it should be, or does not fire",
        ),
    },
    "postgres": {
        "dropped": (["DROP TRIGGER tr_usage ON usage"], "tr_usage of table usage is missing"),
        "disabled": (
            ["ALTER TABLE halt_log DISABLE TRIGGER ALL"],
            "tr_halt_log of table halt_log is not as it should be, or does not fire",
        ),
        "hollow": (
            [
                (
                    "CREATE OR REPLACE FUNCTION interlock_append_only() RETURNS trigger LANGUAGE plpgsql "
                    "AS 'BEGIN RETURN NULL; END'"
                ),
            ],
            "tr_events of table events is not as it should be, or does not fire",
        ),
        "fewer occasions": (
            [
                (
                    "CREATE OR REPLACE TRIGGER tr_events BEFORE UPDATE OR DELETE ON events "
                    "EXECUTE FUNCTION interlock_append_only()"
                ),
            ],
            "tr_events of table events is not as it should be, or does not fire",
        ),
        "on a condition": (
            [
                (
                    "CREATE OR REPLACE TRIGGER tr_events BEFORE UPDATE OR DELETE OR TRUNCATE ON events "
                    "WHEN (current_user = 'nobody') EXECUTE FUNCTION interlock_append_only()"
                ),
            ],
            "tr_events of table events is not as it should be, or does not fire",
        ),
    },
}


@pytest.mark.parametrize(
    ("kind", "how"), [(kind, how) for kind, found in CHANGES.items() for how in found]
)
def test_a_trigger_that_does_not_hold_is_named(kind: str, how: str, empty: str) -> None:
    """Broken if `interlock db check` calls tables sound whose triggers were dropped, hollowed out or switched off."""
    store = Store(empty, clock=None, ensure=False)
    store.write(schema.upgrade)
    statements, complaint = CHANGES[kind][how]
    for statement in statements:
        store.write(lambda connection, said=statement: connection.execute(text(said)) and None)
    assert store.read(first_difference) == f"trigger {complaint}"

    store.write(append_only.unprotect)
    store.write(append_only.protect)
    assert store.read(first_difference) is None
    store.close()


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_they_can_be_taken_off(kind: str, empty: str) -> None:
    """Broken if a host cannot undo what its migration did, or what was taken off cannot be put back."""
    store = Store(empty, clock=None, ensure=False)
    store.write(schema.upgrade)
    policies = store.tables.policies
    one = text("INSERT INTO policies VALUES ('d', 'n', '{}', 0)")

    def deleting(connection: Connection) -> int:
        connection.execute(one)
        append_only.unprotect(connection)
        done = connection.execute(policies.delete()).rowcount
        append_only.protect(connection)
        return done

    assert store.write(deleting) == 1
    assert store.read(first_difference) is None
    _refused(store, lambda c: c.execute(one) and c.execute(policies.delete()))
    store.close()
