"""How results are shown: opening the store, JSON lines, tables, and text that cannot forge the display."""

from __future__ import annotations

import os
import sys
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from interlock import Governor, Verdict
from interlock.errors import Misuse

Database = Annotated[
    str,
    typer.Option(
        "--db", envvar="INTERLOCK_DB", help="The store's URL, such as sqlite:///interlock.db."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")]

DEFAULT = "sqlite:///interlock.db"

PREFIX = "INTERLOCK_TABLE_PREFIX"
"""The variable that says what the names of the tables begin with."""

SCHEMA = "INTERLOCK_SCHEMA"
"""The variable that says in which schema of Postgres they are."""

STYLES = {
    Verdict.ALLOW: "green",
    Verdict.ASK: "yellow",
    Verdict.STEER: "magenta",
    Verdict.DENY: "red",
}
"""The colour of each verdict."""

_PLAIN = {
    "$decimal",
    "$int",
    "$float",
    "$uuid",
    "$datetime",
    "$date",
    "$time",
    "$duration",
    "$path",
}

# Controls, invisible and direction-changing characters, surrogates, private use, line and paragraph separators.
_UNSEEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


@contextmanager
def opened(url: str) -> Iterator[Governor]:
    """
    Open the store at *url*, which must exist, under the prefix and in the schema that the environment names.

    Raises:
        Misuse: there is none.
    """
    must_exist(url)
    prefix, schema = os.environ.get(PREFIX, ""), os.environ.get(SCHEMA) or None
    with Governor(url, table_prefix=prefix, schema=schema) as governor:
        yield governor


def must_exist(url: str) -> None:
    """
    Refuse a file that is not there: looking does not create.

    Raises:
        Misuse: there is none.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        return  # the store says what is wrong with it
    database = parsed.database if parsed.get_backend_name() == "sqlite" else None
    if database and not Path(database).exists():
        raise Misuse(f"there is no store at {url}; name one with --db or INTERLOCK_DB")


def print_json(items: Iterable[object]) -> None:
    """Print each item as one line of JSON."""
    for item in items:
        sys.stdout.write(msgspec.json.encode(item).decode() + "\n")


def table(*columns: str) -> Table:
    """Return an empty table in the house's style; the last column takes what is left and wraps."""
    made = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns[:-1]:
        width = 36 if column in {"session", "ticket"} else None  # an id is there to be copied whole
        made.add_column(column, no_wrap=True, overflow="fold", min_width=width)
    made.add_column(columns[-1], overflow="fold")
    return made


def show(renderable: Any) -> None:
    """Print for people: in colour on a terminal, plain elsewhere."""
    Console(soft_wrap=False).print(renderable)


def safe(value: object, style: str = "") -> Text:
    """Return *value* as text in which nothing acts: what cannot be seen is written out as its escape."""
    text = "" if value is None else str(value)
    seen = "".join(
        character
        if unicodedata.category(character) not in _UNSEEN
        else character.encode("unicode_escape", "surrogatepass").decode()
        for character in text
    )
    return Text(seen, style=style)


def arguments(recorded: str) -> Text:
    """
    Return recorded arguments as `name=value` pairs: text in quotes, what JSON has no type for in its plain form.

    So "20" and 20 look different, and an exact 20.00 looks like itself.
    """
    pairs = (f"{name}={_value(value)}" for name, value in msgspec.json.decode(recorded).items())
    return safe(", ".join(pairs))


def _value(value: object) -> str:
    match value:
        case {"$secret": True}:
            return "••••"
        case dict() if len(value) == 1 and next(iter(value)) in _PLAIN:
            return str(next(iter(value.values())))
        case dict():
            return "{" + ", ".join(f"{key}: {_value(item)}" for key, item in value.items()) + "}"
        case list():
            return "[" + ", ".join(_value(item) for item in value) + "]"
        case str():
            return f'"{value}"'
        case _:
            return msgspec.json.encode(value).decode()


def instant(at: datetime | None) -> str:
    """Return a time to the minute, in UTC; nothing for None."""
    return "" if at is None else at.strftime("%Y-%m-%d %H:%MZ")


def moment(text: str) -> datetime:
    """Return the time that *text* says in ISO 8601; a day is its first moment, and what names no zone is in UTC."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is no time; write it as 2026-01-31 or 2026-01-31T14:00Z"
        ) from None
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)


def cut(what: str) -> None:
    """Say that not all is shown, where it does not get into a program's input."""
    sys.stderr.write(f"interlock: {what}\n")
