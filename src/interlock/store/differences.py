"""differences: where the tables that are there differ from what this version defines, in words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection

from interlock.store import append_only
from interlock.store.schema import first_missing
from interlock.store.statements import tables_of


def first_difference(connection: Connection) -> str | None:
    """Say where the tables first differ from what this version defines; None when they agree."""
    missing = first_missing(connection)
    if missing is not None:
        return f"{missing} is missing"
    tables = tables_of(connection)
    names = {table.name for table in tables.all()}

    def is_ours(item: Any, name: str | None, kind: str, *_: object) -> bool:
        return kind != "table" or (name in names and item.schema == tables.schema)

    context = MigrationContext.configure(
        connection,
        opts={
            "compare_type": True,
            "compare_server_default": True,
            "include_name": lambda name, kind, _: kind != "schema" or name == tables.schema,
            "include_object": is_ours,
            "include_schemas": tables.schema is not None,
        },
    )
    found: list[Any] = [
        one
        for one in compare_metadata(context, tables.metadata)
        if not _is_numbering(connection, one)
    ]
    if found:
        return _told(found[0])
    return append_only.first_unprotected(connection, tables.prefix, tables.schema)


def _is_numbering(connection: Connection, found: Any) -> bool:
    """Whether it is that a column numbers its rows, which SQLite does and does not say."""
    if connection.dialect.name != "sqlite" or not isinstance(found, list):
        return False
    what, _, table, column, *_ = found[0]
    defined = {one.name: one for one in tables_of(connection).all()}
    return what == "modify_default" and defined[table].c[column].identity is not None


def _told(found: Any) -> str:
    """Say in words what Alembic would change; what it would change of one column comes as a list."""
    what, *parts = found[0] if isinstance(found, list) else found
    tell = _WORDS.get(what)
    return f"{what}: {parts}" if tell is None else tell(*parts)


_WORDS: dict[str, Callable[..., str]] = {
    "remove_column": lambda _, table, column: f"column {table}.{column.name} is one too many",
    "modify_type": lambda _, table, column, __, old, new: (
        f"column {table}.{column} is {old!s} and should be {new!s}"
    ),
    "modify_nullable": lambda _, table, column, __, old, ___: (
        f"column {table}.{column} {'may' if old else 'may not'} be null, and should be the other way round"
    ),
    "modify_default": lambda _, table, column, *__: (
        f"column {table}.{column} has a default that it should not have"
    ),
    "modify_comment": lambda _, table, column, *__: f"column {table}.{column} has another comment",
    "add_table_comment": lambda table, *_: f"table {table.name} has another comment",
    "remove_table_comment": lambda table, *_: f"table {table.name} has another comment",
    **{
        f"{verb}_{kind}": lambda item, words=words: f"{_named(item)} {words}"
        for kind in ("index", "constraint", "fk")
        for verb, words in (("add", "is missing"), ("remove", "is one too many"))
    },
}


def _named(item: Any) -> str:
    """Return what an index or constraint is called, or what it is on when it has no name."""
    kind = {"Index": "index", "ForeignKeyConstraint": "foreign key"}.get(
        type(item).__name__, "constraint"
    )
    columns = ", ".join(column.name for column in item.columns)
    return f"{kind} {item.name or f'on {columns}'} of table {item.table.name}"
