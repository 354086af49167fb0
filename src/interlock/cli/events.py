"""`interlock events`: every event of a session or of the store, as they were committed or as they come."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated

import msgspec
import typer
from rich.text import Text

from interlock import Governor
from interlock import events as kinds
from interlock._capture import KEYED
from interlock._feed import NOW, Feed
from interlock.cli.output import (
    DEFAULT,
    Database,
    Json,
    instant,
    opened,
    print_json,
    safe,
    show,
    table,
)
from interlock.cli.sentences import told
from interlock.store import sessions

_DIGEST = re.compile(f"({KEYED})?[0-9a-f]{{64}}")

_WIDTH = 16
"""Of the kind of an event, in a line of its own; that of the longest name is more."""


def events(
    session: Annotated[
        str | None, typer.Argument(help="The session's id; all sessions without one.")
    ] = None,
    db: Database = DEFAULT,
    *,
    only: Annotated[str | None, typer.Option("--session", help="The same, as an option.")] = None,
    kind: Annotated[
        list[str] | None, typer.Option(help="Only events of this kind; can be repeated.")
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Print what comes, until Ctrl-C.")
    ] = False,
    after: Annotated[
        str | None,
        typer.Option(help="Begin after this cursor, which --json prints, or after `now`."),
    ] = None,
    digest: Annotated[
        str | None,
        typer.Option(
            help="Only events in which this digest stands: of a call, an argument, a result."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """
    Show events in the order in which they were committed: those of a session, or of all.

    With --follow those of a session from its first on; without a session what comes from now on.
    """
    chosen = session or only
    if digest is not None and not _DIGEST.fullmatch(digest):
        raise typer.BadParameter(
            "a digest is 64 lower-case hexadecimal characters, after hmac-sha256: where it is keyed"
        )
    if follow and chosen is None and after is None:
        after = NOW
    with opened(db) as governor:
        feed = governor.feed(after=after, session=chosen, kinds=kind or (), follow=follow)
        if not follow:
            return _show(governor, feed, digest, json=json)
        # In a thread of its own: an interruption would hit this one in the middle of a question to the database.
        with ThreadPoolExecutor(1) as thread:
            shown = thread.submit(_show, governor, feed, digest, json=json)
            try:
                return shown.result()
            except KeyboardInterrupt:
                feed.close()
            return shown.result()


def _show(governor: Governor, feed: Feed, digest: str | None, *, json: bool) -> None:
    if json:
        return _print_json(feed, digest)
    if feed.session is not None:
        row = governor.read(sessions.get, feed.session)
        opened_at = f"{instant(row.opened_at)}: {row.state}"
        show(safe(f"session {row.name} of agent {row.identity.agent}, {opened_at}"))
    if feed.follows or feed.session is None:
        return _print_lines(governor, feed, digest)
    listed = table("seq", "time", "event", "what")
    for recorded in _with(feed, digest):
        listed.add_row(str(recorded.seq), _at(recorded), _kind(recorded), told(recorded.event))
    return show(listed)


def _print_lines(governor: Governor, feed: Feed, digest: str | None) -> None:
    """Print a line for each event as it comes, and one for each session when it is another."""
    shown = feed.session
    for recorded in _with(feed, digest):
        if recorded.session_id != shown:
            shown = recorded.session_id
            name = governor.read(sessions.get, shown).name
            show(safe(f"session {shown} {name}", "bold"))
        line = f"{recorded.seq:>5}  {_at(recorded)}  {_kind(recorded):{_WIDTH}}  "
        show(Text(line) + told(recorded.event))


def _with(feed: Feed, digest: str | None) -> Iterator[kinds.Recorded]:
    """Yield what comes in *feed*; only that in which *digest* stands, if one is given."""
    return (recorded for recorded in feed if digest is None or digest in recorded.body)


def _at(recorded: kinds.Recorded) -> str:
    return f"{recorded.at:%H:%M:%S.%f}"[:-3]


def _kind(recorded: kinds.Recorded) -> str:
    return recorded.kind.replace("_", " ")


def _print_json(feed: Feed, digest: str | None) -> None:
    for recorded in _with(feed, digest):
        fields = msgspec.structs.asdict(recorded)
        body = msgspec.Raw(recorded.body.encode())
        print_json([{**fields, "body": body, "cursor": feed.cursor}])
        sys.stdout.flush()  # who reads what follows waits for it
