"""`interlock replay`: the story of a session, in the terminal or on a page; and its decisions, made again."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import msgspec
import typer
from rich.console import Console
from rich.text import Text

from interlock import Governor, Misuse
from interlock._again import Again, Replay
from interlock._story import Line, Story
from interlock.cli import page
from interlock.cli.output import DEFAULT, Database, Json, opened, print_json, safe, show
from interlock.cli.telling import Telling
from interlock.events import Recorded
from interlock.store import events as history
from interlock.store import sessions as stored
from interlock.store.sessions import SessionRow

TRACE_URL = "INTERLOCK_TRACE_URL"
"""The variable that says where traces are shown."""


class _Session(msgspec.Struct, frozen=True, tag_field="line", tag="session"):
    session: SessionRow


def replay(
    session: Annotated[str, typer.Argument(help="The session's id.")],
    db: Database = DEFAULT,
    *,
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the story to one HTML file that needs nothing."),
    ] = None,
    trace_url: Annotated[
        str | None,
        typer.Option(envvar=TRACE_URL, help="Where traces are shown: a URL with {trace_id} in it."),
    ] = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Make its decisions again, and exit with 1 if any differs."),
    ] = False,
    policy: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="With --check: which verdicts differ under this policy."),
    ] = None,
    json: Json = False,
) -> None:
    """Tell the story of a session; or make its decisions again from what was recorded."""
    if policy is not None and not check:
        raise Misuse("--policy goes with --check")
    if html is not None and (check or json):
        raise Misuse("--html goes without --check and --json")
    link = _checked(trace_url)
    with opened(db) as governor:
        if check:
            return _check(governor.replay(session, policy=policy), json=json)
        row = governor.read(stored.get, session)
        if html is not None:
            page.write(html, row, partial(_whole, governor, row), link=link)
            return show(safe(f"written to {html}", "green"))
        story = Story()
        if json:
            print_json([_Session(row)])
            print_json(_lines(story, _whole(governor, row)))
            return print_json([story.totals])
        telling = Telling(Console(highlight=False), link)
        telling.opening(row)
        for line in _lines(story, _whole(governor, row)):
            telling.line(line)
        return telling.closing(story.totals)


def _lines(story: Story, whole: Iterator[Recorded]) -> Iterator[Line]:
    for recorded in whole:
        yield from story.hear(recorded)
    yield from story.end()


def _whole(governor: Governor, row: SessionRow) -> Iterator[Recorded]:
    """Yield the events up to the head that *row* names, a page at a time: what is written meanwhile is left out."""
    after = 0
    while after < row.head:
        found = governor.read(
            partial(history.history, after=after, limit=min(history.PAGE, row.head - after)), row.id
        )
        if not found:
            return
        yield from found
        after = found[-1].seq


def _checked(trace_url: str | None) -> str | None:
    if not trace_url:
        return None
    if urlsplit(trace_url).scheme not in {"http", "https"} or "{trace_id}" not in trace_url:
        raise Misuse(
            f"--trace-url (or {TRACE_URL}) is an http or https URL with {{trace_id}} in it"
        )
    return trace_url


def _check(replayed: Replay, *, json: bool) -> None:
    if json:
        print_json({"differs": one} for one in replayed.differing)
        print_json({"unknown": one} for one in replayed.unknown)
        counts = {
            "session_id": replayed.session_id,
            "decisions": replayed.decisions,
            "differing": len(replayed.differing),
            "unknown": len(replayed.unknown),
        }
        print_json([counts])
    else:
        for one in (*replayed.differing, *replayed.unknown):
            _print(one)
        ending = f"{len(replayed.differing):,} of {replayed.decisions:,} decisions differ"
        if replayed.agrees:
            ending = f"{replayed.decisions:,} decisions made again, and none differs"
        if replayed.unknown:
            ending += f"; of {len(replayed.unknown):,} not all can be told"
        show(Text(ending, style="green" if replayed.agrees else "red"))
    raise typer.Exit(code=0 if replayed.agrees else 1)


def _print(one: Again) -> None:
    named = safe(f"event {one.seq}, call {one.call_id} of {one.tool}: ")
    for found in one.differences:
        show(
            Text.assemble(
                named,
                safe(f"{found.field} was "),
                safe(found.recorded, "green"),
                ", is ",
                safe(found.again, "red"),
            )
        )
    for why in one.unknown:
        show(named + safe(f"not known: {why}", "yellow"))
