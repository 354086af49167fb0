"""How results are shown: opening the store, JSON lines, tables; and, of `_display`, text that cannot forge them."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TypedDict

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from interlock import Governor, Verdict
from interlock._display import arguments, safe
from interlock.errors import Misuse

__all__ = [
    "DEFAULT",
    "STYLES",
    "Database",
    "Json",
    "arguments",
    "cut",
    "instant",
    "moment",
    "must_exist",
    "opened",
    "print_json",
    "safe",
    "settings",
    "show",
    "table",
]

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

DIGEST_KEY = "INTERLOCK_DIGEST_KEY"
"""The variable that holds what keyed digests are made with."""

SCHEMA = "INTERLOCK_SCHEMA"
"""The variable that says in which schema of Postgres they are."""

STYLES = {
    Verdict.ALLOW: "green",
    Verdict.ASK: "yellow",
    Verdict.STEER: "magenta",
    Verdict.DENY: "red",
}
"""The colour of each verdict."""


_NOT_ASCII = re.compile("[\x7f-\U0010ffff]")


class Settings(TypedDict):
    """Arguments of a governor that are the same for every command on one store."""

    table_prefix: str
    schema: str | None
    digest_key: str | None


@contextmanager
def opened(url: str, *, policy: Path | None = None) -> Iterator[Governor]:
    """
    Open the store at *url*, which must exist, as the environment says; under the policy in the file *policy*, if any.

    Raises:
        Misuse: there is none.
    """
    must_exist(url)
    with Governor(url, policy=policy, **settings()) as governor:
        yield governor


def settings() -> Settings:
    """Return what the environment says to every command of the store that it opens."""
    return Settings(
        table_prefix=os.environ.get(PREFIX, ""),
        schema=os.environ.get(SCHEMA) or None,
        digest_key=os.environ.get(DIGEST_KEY) or None,
    )


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
        text = msgspec.json.encode(item).decode()
        sys.stdout.write(_NOT_ASCII.sub(_escaped, text) + "\n")


def _escaped(match: re.Match[str]) -> str:
    """Return one character of a JSON string as its escape: a terminal might act on it, or a reader be deceived."""
    return json.dumps(match[0])[1:-1]


def table(*columns: str) -> Table:
    """Return an empty table in the house's style; the last column takes what is left and wraps."""
    made = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns[:-1]:
        width = (
            36 if column in {"session", "ticket", "halt"} else None
        )  # an id is there to be copied whole
        made.add_column(column, no_wrap=True, overflow="fold", min_width=width)
    made.add_column(columns[-1], overflow="fold")
    return made


def show(renderable: Any) -> None:
    """Print for people: in colour on a terminal, plain elsewhere, where a sentence stays on its line."""
    console = Console()
    console.print(renderable, soft_wrap=isinstance(renderable, Text) and not console.is_terminal)


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
