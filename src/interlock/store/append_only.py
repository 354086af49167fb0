"""
append_only: triggers that have the database itself refuse to change what is only ever appended.

They stop an accident, and whoever may write to the tables but does not own them. Whoever owns them can drop the
triggers: what is changed then, `interlock verify` finds.
"""

from __future__ import annotations

from sqlalchemy import Connection, Table, event, text

from interlock.store.quoting import escaped, quoted

NAMES = ("events", "halt_log", "policies", "usage")
"""
The tables in which no row is ever changed or deleted, without their prefix.

Each of the others has rows that move on (`sessions`, `tickets`, `halts`, ...) or go once they are done with
(`intents`, `commands`, `owners`, ...).
"""

# Source: PostgreSQL documentation, pg_trigger.tgtype: BEFORE 2, DELETE 8, UPDATE 16, TRUNCATE 32, and no ROW 1.
_BEFORE_ALL_PER_STATEMENT = 2 | 8 | 16 | 32

# restrict_violation: an IntegrityError to the driver, as what RAISE(ABORT) raises in SQLite.
_BODY = """
BEGIN
    RAISE EXCEPTION '% is an append-only table of Interlock: % is refused', TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'restrict_violation';
END
"""

_SQLITE = """\
CREATE TRIGGER {trigger} BEFORE {verb} ON {table}
BEGIN
    SELECT RAISE(ABORT, '{message}');
END"""


def protect(connection: Connection, prefix: str = "", schema: str | None = None) -> None:
    """
    Put the triggers on the tables under *prefix* in *schema*, in this transaction; where they are, put them anew.

    For a host whose own migrations make the tables: those of Alembic's autogenerate know of no triggers.
    """
    for name in NAMES:
        protect_table(connection, f"{prefix}{name}", prefix, schema)


def protect_table(connection: Connection, name: str, prefix: str, schema: str | None) -> None:
    """Put the triggers on the table of this full *name*; on Postgres, with the function that they call."""
    if connection.dialect.name == "sqlite":
        for trigger, made in _sqlite_triggers(name).items():
            _run(connection, f"DROP TRIGGER IF EXISTS {quoted(trigger)}")
            _run(connection, made)
        return
    function = quoted(_function(prefix), schema)
    trigger, table = quoted(f"tr_{name}"), quoted(name, schema)
    _run(
        connection,
        f"CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS $${_BODY}$$",
    )
    _run(
        connection,
        f"CREATE OR REPLACE TRIGGER {trigger} BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
        f"FOR EACH STATEMENT EXECUTE FUNCTION {function}()",
    )


def protect_when_made(table: Table, prefix: str) -> None:
    """Have `create_all` put the triggers on *table* too."""

    def made(_: Table, connection: Connection, **__: object) -> None:
        protect_table(connection, table.name, prefix, table.schema)

    event.listen(table, "after_create", made)


def unprotect(connection: Connection, prefix: str = "", schema: str | None = None) -> None:
    """Take the triggers off, as only the owner of the tables can: for a test that forges, or a host's downgrade."""
    for name in (f"{prefix}{name}" for name in NAMES):
        if connection.dialect.name == "sqlite":
            for trigger in _sqlite_triggers(name):
                _run(connection, f"DROP TRIGGER IF EXISTS {quoted(trigger)}")
        else:
            trigger, table = quoted(f"tr_{name}"), quoted(name, schema)
            _run(connection, f"DROP TRIGGER IF EXISTS {trigger} ON {table}")


def first_unprotected(connection: Connection, prefix: str, schema: str | None) -> str | None:
    """Say which trigger is missing first, or is not as it should be; None when all are."""
    for name in (f"{prefix}{name}" for name in NAMES):
        if connection.dialect.name == "sqlite":
            expected: dict[str, object] = dict(_sqlite_triggers(name))
            found = _found_in_sqlite(connection, name)
        else:
            expected = {f"tr_{name}": (True, _BEFORE_ALL_PER_STATEMENT, None, _BODY)}
            found = _found_in_postgres(connection, name, schema)
        for trigger, made in expected.items():
            if trigger not in found:
                return f"trigger {trigger} of table {name} is missing"
            if found[trigger] != made:
                return f"trigger {trigger} of table {name} is not as it should be, or does not fire"
    return None


def _sqlite_triggers(name: str) -> dict[str, str]:
    """Return the triggers of a table, and the statements that make them: a trigger of SQLite's has one occasion."""
    found = {}
    for verb in ("UPDATE", "DELETE"):
        message = f"{name} is an append-only table of Interlock: {verb} is refused"
        trigger = f"tr_{name}_{verb.lower()}"
        found[trigger] = _SQLITE.format(
            trigger=quoted(trigger),
            verb=verb,
            table=quoted(name),
            message=message.replace("'", "''"),
        )
    return found


def _found_in_sqlite(connection: Connection, name: str) -> dict[str, object]:
    query = text("SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = :name")
    return {row.name: row.sql for row in connection.execute(query, {"name": name})}


def _found_in_postgres(connection: Connection, name: str, schema: str | None) -> dict[str, object]:
    """Return what each trigger of a table is: whether it fires, on what, under which condition, and what it runs."""
    query = text(
        "SELECT t.tgname, t.tgenabled IN ('O', 'A') AS fires, t.tgtype, t.tgqual::text, p.prosrc "
        "FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_proc p ON p.oid = t.tgfoid "
        "JOIN pg_namespace n ON n.oid = c.relnamespace WHERE NOT t.tgisinternal "
        "AND c.relname = :name AND n.nspname = coalesce(CAST(:schema AS text), current_schema())"
    )
    rows = connection.execute(query, {"name": name, "schema": schema})
    return {row.tgname: (row.fires, row.tgtype, row.tgqual, row.prosrc) for row in rows}


def _function(prefix: str) -> str:
    return f"{prefix}interlock_append_only"


def _run(connection: Connection, statement: str) -> None:
    connection.execute(text(escaped(statement)))
