"""`interlock sessions`: which there are, what one of them adds up to, and its end by hand."""

from __future__ import annotations

import getpass
from collections.abc import Iterator
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.text import Text
from sqlalchemy import Connection

from interlock import events
from interlock._state import SessionState, SessionStatus
from interlock._verdict import Verdict
from interlock.cli import wording
from interlock.cli.output import (
    DEFAULT,
    Database,
    Json,
    cut,
    instant,
    moment,
    opened,
    print_json,
    safe,
    show,
    table,
)
from interlock.cli.telling import Telling
from interlock.cli.wording import Fact
from interlock.store import sessions as stored
from interlock.store.listing import Sought, find
from interlock.store.sessions import SessionRow

app = typer.Typer(
    help="See which sessions there are, and end one.",
    invoke_without_command=True,
    no_args_is_help=False,
)

Id = Annotated[str, typer.Argument(metavar="SESSION", help="The session's id.")]


@app.callback()
def sessions(
    context: typer.Context,
    db: Database = DEFAULT,
    *,
    state: Annotated[
        SessionStatus | None, typer.Option(help="Only those that stand like this.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Only those of this name.")] = None,
    agent: Annotated[str | None, typer.Option(help="Only those of this agent.")] = None,
    user: Annotated[str | None, typer.Option(help="Only those for this user.")] = None,
    team: Annotated[str | None, typer.Option(help="Only those in this team.")] = None,
    org: Annotated[str | None, typer.Option(help="Only those in this organisation.")] = None,
    parent: Annotated[
        str | None, typer.Option(help="Only those that were opened in the session with this id.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="Only those opened since this day, or time, in UTC.")
    ] = None,
    before: Annotated[
        str | None, typer.Option(help="Only those opened before the session with this id.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many, newest first.")] = 20,
    json: Json = False,
) -> None:
    """List sessions, the newest first; or show one, or end it."""
    if context.invoked_subcommand is not None:
        return
    sought = Sought(
        state=state,
        name=name,
        agent=agent,
        user=user,
        team=team,
        org=org,
        parent=parent,
        since=None if since is None else moment(since),
    )
    with opened(db) as governor:
        rows = governor.read(find, sought, before=before, limit=limit + 1)
    if json:
        print_json(map(_as_json, rows[:limit]))
    else:
        _list(rows[:limit], is_all=sought == Sought() and before is None)
    if len(rows) > limit:
        cut(f"there are more: --before {rows[limit - 1].id}")
    return


def _list(rows: list[SessionRow], *, is_all: bool) -> None:
    listed = table("session", "opened", "state", "run")
    for row in rows:
        listed.add_row(
            row.id,
            instant(row.opened_at),
            str(row.state),
            safe(f"{row.name} ({row.identity.agent}, {row.head} events)"),
        )
    nothing = "There are no sessions yet." if is_all else "There are no such sessions."
    show(listed if rows else Text(nothing, style="dim"))


@app.command("show")
def one(session: Id, db: Database = DEFAULT, *, json: Json = False) -> None:
    """Show one session: who runs it, how it stands or ended, and what it adds up to."""
    with opened(db) as governor:
        row, state = governor.read(_whole, session)
    if json:
        return print_json([{**_as_json(row), "totals": _totals(state)}])
    telling = Telling(Console(highlight=False))
    telling.opening(row)
    return telling.facts(_facts(state))


@app.command()
def abort(
    session: Id,
    by: Annotated[
        str,
        typer.Option("--as", metavar="NAME", default_factory=getpass.getuser, help="Who does it."),
    ],
    reason: Annotated[str, typer.Option(help="Why; it is recorded.")],
    db: Database = DEFAULT,
) -> None:
    """
    End a session: no call is admitted in it any more, and what waits for a human is cancelled.

    Calls that run go on; to stop those, halt the session.
    """
    with opened(db) as governor:
        governor.write(stored.abort_session, session, reason=reason, by=by)
    show(safe(f"session {session} is aborted, by {by}", "green"))


def _whole(connection: Connection, session_id: str) -> tuple[SessionRow, SessionState]:
    return stored.get(connection, session_id), stored.state(connection, session_id)


def _as_json(row: SessionRow) -> dict[str, Any]:
    return {**msgspec.structs.asdict(row), "state": row.state}


def _totals(state: SessionState) -> dict[str, Any]:
    closed = state.closed or events.SessionClosed()
    return {
        "events": state.head,
        "calls": state.calls,
        "verdicts": dict(state.verdicts),
        "outcomes": dict(state.outcomes),
        "running": sorted(state.running),
        "cost_usd": state.cost_usd,
        "unpriced": state.unpriced,
        "tokens": state.tokens,
        "duration_us": state.duration_us,
        "error_type": closed.error_type,
        "reason": closed.reason,
        "by": closed.by,
    }


def _facts(state: SessionState) -> Iterator[Fact]:
    if state.closed is not None:
        word, text, tone = wording.ended(state.closed)
        yield Fact(word, text, tone)
    counted = [f"{state.verdicts[v]:,} {v}" for v in Verdict if state.verdicts.get(v)]
    yield Fact("calls", f"{state.calls:,}{': ' if counted else ''}{', '.join(counted)}")
    ends = [f"{state.outcomes[o]:,} {o}" for o in events.Outcome if state.outcomes.get(o)]
    if ends:
        yield Fact("ended", ", ".join(ends))
    if state.running:
        yield Fact("no end", f"{len(state.running):,} that run, or are in doubt", "wait")
    unpriced = f", and {state.unpriced:,} of unknown cost" if state.unpriced else ""
    yield Fact("cost", f"{wording.dollars(state.cost_usd)}{unpriced}")
    used = msgspec.structs.asdict(state.tokens)
    told = [f"{count:,} {kind.replace('_', ' ')}" for kind, count in used.items() if count]
    if told:
        yield Fact("tokens", ", ".join(told))
    yield Fact("time", wording.span(state.duration_us))
    yield Fact("record", f"{state.head:,} events")
