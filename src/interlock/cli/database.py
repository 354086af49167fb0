"""`interlock db`: make the tables of a store, bring them up to date, and see whether they are as they should be."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from interlock.cli.output import (
    DEFAULT,
    PREFIX,
    SCHEMA,
    Database,
    Json,
    must_exist,
    print_json,
    safe,
    show,
)
from interlock.store import privileges, schema
from interlock.store.engine import Store
from interlock.store.tables import Tables

app = typer.Typer(help="Look after the tables of a store.", no_args_is_help=True)

Prefix = Annotated[
    str, typer.Option("--prefix", envvar=PREFIX, help="What the names of the tables begin with.")
]
Schema = Annotated[
    str | None,
    typer.Option("--schema", envvar=SCHEMA, help="The schema of Postgres that holds the tables."),
]


@app.command()
def upgrade(
    db: Database = DEFAULT,
    *,
    prefix: Prefix = "",
    in_schema: Schema = None,
    json: Json = False,
) -> None:
    """Make the tables, or bring them up to this version, in one transaction; do nothing where that is done."""
    console = Console(stderr=True)
    with _store(db, prefix, in_schema) as store:
        if console.is_terminal:
            with console.status("Upgrading"):
                done = store.write(schema.upgrade)
        else:
            done = store.write(schema.upgrade)
    if json:
        return print_json([done])
    if done.before == done.after:
        return show(Text(f"The tables are of version {done.after} already.", style="dim"))
    was = "made" if done.before is None else f"upgraded from version {done.before}"
    return show(Text(f"The tables are of version {done.after}, {was} now.", style="green"))


@app.command()
def current(
    db: Database = DEFAULT,
    *,
    prefix: Prefix = "",
    in_schema: Schema = None,
    json: Json = False,
) -> None:
    """Show of which version the tables are, and which this version of Interlock needs."""
    must_exist(db)
    with _store(db, prefix, in_schema) as store:
        found = store.read(schema.current)
    if json:
        return print_json([{"current": found, "needed": schema.HEAD}])
    return show(safe(f"{_version(found)}; this version of Interlock needs version {schema.HEAD}."))


@app.command()
def check(
    db: Database = DEFAULT,
    *,
    prefix: Prefix = "",
    in_schema: Schema = None,
    json: Json = False,
) -> None:
    """Compare the tables with what this version defines, and name the first difference; exit with 1 if there is one."""
    from interlock.store.differences import first_difference  # noqa: PLC0415 - Alembic is slow to import

    must_exist(db)
    with _store(db, prefix, in_schema) as store:
        found = store.read(schema.current)
        difference = store.read(first_difference)
    sound = difference is None and found in {schema.HEAD, None}
    if json:
        print_json(
            [
                {
                    "current": found,
                    "needed": schema.HEAD,
                    "difference": difference,
                    "sound": sound,
                }
            ]
        )
    elif sound:
        show(safe(f"{_version(found)} and as this version of Interlock defines them.", "green"))
    else:
        show(
            safe(
                f"{_version(found)}; this version of Interlock needs version {schema.HEAD}.", "red"
            )
        )
        if difference is not None:
            show(safe(f"The first difference: {difference}.", "red"))
    raise typer.Exit(code=0 if sound else 1)


@app.command()
def grants(
    *,
    role: Annotated[str, typer.Option("--app", help="The role that governors connect as.")],
    auditor: Annotated[
        str | None, typer.Option(help="The role that verifies and replays; it only reads.")
    ] = None,
    prefix: Prefix = "",
    in_schema: Schema = None,
) -> None:
    """Print the SQL that gives roles of Postgres what they need of the tables; run it as who owns them."""
    if auditor == role:
        raise typer.BadParameter("the auditor is another role than the one that writes")
    tables = Tables(prefix=prefix, schema=in_schema)
    for statement in privileges.statements(tables, app=role, auditor=auditor):
        typer.echo(statement)


def _version(found: str | None) -> str:
    return (
        "No version of the tables is recorded"
        if found is None
        else f"The tables are of version {found}"
    )


@contextmanager
def _store(url: str, prefix: str, schema_name: str | None) -> Iterator[Store]:
    """The store at *url*, whatever state its tables are in."""
    store = Store(url, clock=None, prefix=prefix, schema_name=schema_name, ensure=False)
    try:
        yield store
    finally:
        store.close()
