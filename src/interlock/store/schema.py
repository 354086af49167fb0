"""
schema: whether a database has the tables of this version, and how it gets them.

What is asked of a database when it is opened imports no Alembic, which takes as long as all the rest.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from sqlalchemy import (
    Column,
    Connection,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    insert,
    inspect,
    select,
    text,
)
from sqlalchemy.exc import DBAPIError

from interlock.errors import StoreUnavailable
from interlock.store.quoting import escaped, quoted
from interlock.store.statements import tables_of
from interlock.store.tables import Tables

if TYPE_CHECKING:
    from alembic.config import Config

    from interlock.store.engine import Store

HEAD = "0001"
"""The last of the migrations, whose tables are those of `interlock.store.tables`."""

# Source: PostgreSQL documentation, appendix A, "PostgreSQL Error Codes": insufficient_privilege.
_NO_RIGHTS = "42501"

_MIGRATIONS = Path(__file__).with_name("migrations")

# Alembic tells a migration where it runs by a variable of its module.
_one_at_a_time = threading.Lock()


class Upgrade(msgspec.Struct, frozen=True, kw_only=True):
    """
    What an upgrade did.

    Attributes:
        before: The version that was found; None when there were no tables.
        after: The version that is there now.
    """

    before: str | None
    after: str


def ensure(store: Store) -> None:
    """
    Make sure that the database of *store* has the tables of this version.

    SQLite's are made when they are not there, and brought up to date. Those of a server are made by whoever runs it,
    once, before workers start; those in a host's own `MetaData`, by the host's migrations.

    Raises:
        StoreUnavailable: they are not there, or of another version; the message says what to do.
    """
    if store.hosted:
        store.read(_expect_hosted)
    elif not store.read(is_current):
        if store.database.mixes:
            store.write(upgrade)
        else:
            store.read(_refuse)


def current(connection: Connection) -> str | None:
    """Return the version of the tables that are there: None when there are none, or none that say their version."""
    table = version_table(tables_of(connection))
    if not inspect(connection).has_table(table.name, schema=table.schema):
        return None
    found = connection.execute(select(table.c.version_num)).scalar_one_or_none()
    return None if found is None else str(found)


def is_current(connection: Connection) -> bool:
    """Whether the tables are those of this version, or complete and somebody else's to keep so."""
    found = current(connection)
    return found == HEAD or (found is None and first_missing(connection) is None)


def upgrade(connection: Connection) -> Upgrade:
    """
    Make the tables, or bring them up to this version, in this transaction; do nothing where that is done.

    Raises:
        StoreUnavailable: they are of a newer version, or there are tables of these names that no migration made.
    """
    tables = tables_of(connection)
    if connection.dialect.name == "postgresql":  # others who upgrade wait here, and find it done
        key = f"interlock {tables.schema}.{tables.prefix}"
        connection.execute(text("SELECT pg_advisory_xact_lock(hashtext(:key))"), {"key": key})
    before = current(connection)
    if before == HEAD:
        return Upgrade(before=before, after=HEAD)
    if before is None:
        _expect_nothing(connection)
    if before is None and connection.dialect.name == "sqlite":
        _create(connection)
    else:
        try:
            _migrate(connection, before)
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) != _NO_RIGHTS:
                raise
            raise StoreUnavailable(
                f"the tables in {_shown(connection)} cannot be changed: {str(error.orig).splitlines()[0]}. "
                "Nothing was written. Run it as a user who may create tables"
            ) from error
    return Upgrade(before=before, after=HEAD)


def first_missing(connection: Connection) -> str | None:
    """Say which table or column is missing first, if any."""
    tables = tables_of(connection)
    there = inspect(connection).get_multi_columns(
        schema=tables.schema, filter_names=[table.name for table in tables.all()]
    )
    for table in tables.all():
        columns = there.get((tables.schema, table.name))
        if columns is None:
            return f"table {table.name}"
        known = {column["name"] for column in columns}
        for column in table.columns:
            if column.name not in known:
                return f"column {table.name}.{column.name}"
    return None


def version_table(tables: Tables) -> Table:
    """Return the table in which Alembic keeps the version of *tables*."""
    name = f"{tables.prefix}interlock_version"
    return Table(
        name,
        MetaData(),
        Column("version_num", String(32), nullable=False),
        PrimaryKeyConstraint("version_num", name=f"{name}_pkc"),
        schema=tables.schema,
    )


def _create(connection: Connection) -> None:
    tables = tables_of(connection)
    tables.metadata.create_all(connection, tables=tables.all())
    version = version_table(tables)
    version.create(connection)
    connection.execute(insert(version).values(version_num=HEAD))


def _migrate(connection: Connection, before: str | None) -> None:
    from alembic import command  # noqa: PLC0415 - see the top

    tables = tables_of(connection)
    config = _config()
    if before is not None and before not in _known(config):
        raise _newer(connection, before)
    if tables.schema is not None and not inspect(connection).has_schema(tables.schema):
        connection.execute(text(escaped(f"CREATE SCHEMA {quoted(tables.schema)}")))
    config.attributes.update(
        connection=connection, tables=tables, version_table=version_table(tables).name
    )
    with _one_at_a_time:
        command.upgrade(config, "head")


def _config() -> Config:
    from alembic.config import Config  # noqa: PLC0415 - see the top

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _known(config: Config) -> set[str]:
    from alembic.script import ScriptDirectory  # noqa: PLC0415 - see the top

    scripts = ScriptDirectory.from_config(config)
    return {script.revision for script in scripts.walk_revisions()}


def _expect_hosted(connection: Connection) -> None:
    missing = first_missing(connection)
    if missing is not None:
        raise StoreUnavailable(
            f"{missing} is missing in the database {_shown(connection)}. Its tables are defined in the MetaData that "
            "the governor was given, so the host's own migrations make them: run those"
        )


def _expect_nothing(connection: Connection) -> None:
    """Refuse to make tables where some of their names are taken."""
    tables = tables_of(connection)
    there = set(inspect(connection).get_table_names(schema=tables.schema))
    taken = sorted(there & {table.name for table in tables.all()})
    if taken:
        raise StoreUnavailable(
            f"the database {_shown(connection)} has a table {taken[0]} that no migration of Interlock has made. "
            "If it is another program's, choose a prefix or a schema for Interlock's; "
            "if the host's own migrations made it, they keep it up to date"
        )


def _refuse(connection: Connection) -> None:
    """Say why the tables that are there cannot be used, and what to do."""
    found = current(connection)
    if found is None:
        _expect_nothing(connection)
        what = "has no tables of Interlock"
    elif found in _known(_config()):
        what = f"has tables of an older version of Interlock ({found}; this one needs {HEAD})"
    else:
        raise _newer(connection, found)
    raise StoreUnavailable(
        f"the database {_shown(connection)} {what}. Run `{_command(connection)}` once, "
        "as a user who may create tables, before any worker starts"
    )


def _newer(connection: Connection, found: str) -> StoreUnavailable:
    return StoreUnavailable(
        f"the database {_shown(connection)} has tables of a newer version of Interlock ({found}; this one knows "
        f"{HEAD}): install that version here too"
    )


def _shown(connection: Connection) -> str:
    """Return where the database is, without a password."""
    url = connection.engine.url
    return url.set(drivername=url.get_backend_name()).render_as_string()


def _command(connection: Connection) -> str:
    tables = tables_of(connection)
    parts = [f"interlock db upgrade --db '{_shown(connection)}'"]
    parts += [f"--prefix {tables.prefix}"] if tables.prefix else []
    parts += [f"--schema {tables.schema}"] if tables.schema else []
    return " ".join(parts)
