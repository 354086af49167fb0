"""`interlock recover`: bring in order what processes have left open that are gone, and answer what a human must."""

from __future__ import annotations

import getpass
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from interlock import Governor
from interlock._recovery import InDoubt, Recovered
from interlock.cli.output import (
    DEFAULT,
    Database,
    Json,
    cut,
    instant,
    opened,
    print_json,
    safe,
    show,
    table,
)
from interlock.store import recovery
from interlock.store.health import health

PAGE = 200
"""Calls read at once."""

app = typer.Typer(
    help="Bring in order what processes have left open that are gone, and answer what a human must.",
    invoke_without_command=True,
)


@app.callback()
def recover(
    context: typer.Context,
    db: Database = DEFAULT,
    *,
    policy: Annotated[
        Path | None, typer.Option(help="A policy's file, whose `recovery:` says what is stuck.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done.")
    ] = False,
    json: Json = False,
) -> None:
    """Bring in order what processes have left open that are gone; exit with 1 if a human has to look at something."""
    if context.invoked_subcommand is not None:
        return
    with opened(db, policy=policy) as governor:
        done = governor.recover(dry_run=dry_run)
        held = governor.read(health).in_doubt
    if json:
        print_json([done])
    else:
        show(Group(*_told(done, held)))
    if held or done.unreadable or (dry_run and done.doubted):
        raise typer.Exit(1)


@app.command("list")
def list_(
    db: Database = DEFAULT,
    *,
    limit: Annotated[int, typer.Option(min=1, help="How many, by session.")] = 200,
    json: Json = False,
) -> None:
    """List the calls in doubt, of which a human has to find out whether they happened."""
    with opened(db) as governor:
        found: list[InDoubt] = []
        for one in _pages(governor):
            found.append(one)
            if len(found) > limit:
                break
    shown = found[:limit]
    if json:
        print_json(shown)
    elif shown:
        show(_listed(shown))
        show(Text("interlock recover resolve CALL --happened, or --not-happened.", style="dim"))
    else:
        show(Text("No call is in doubt.", style="dim"))
    if len(found) > limit:
        cut(f"only the first {limit} calls are shown; see --limit")


@app.command()
def resolve(
    call: Annotated[str, typer.Argument(metavar="CALL", help="The call's id.")],
    by: Annotated[
        str,
        typer.Option(
            "--as", metavar="NAME", default_factory=getpass.getuser, help="Who has found out."
        ),
    ],
    happened: Annotated[
        bool,
        typer.Option(
            "--happened/--not-happened",
            help="Whether its effect has come about.",
            show_default=False,
        ),
    ],
    db: Database = DEFAULT,
    *,
    comment: Annotated[str | None, typer.Option(help="For the record.")] = None,
    json: Json = False,
) -> None:
    """Write down what became of a call in doubt; if it happened, it is charged what it had reserved."""
    with opened(db) as governor:
        recorded = governor.write(recovery.resolve, call, happened=happened, by=by, comment=comment)
    if json:
        return print_json([recorded.event])
    said = "happened" if happened else "did not happen"
    return show(safe(f"Call {call} {said}, says {by}."))


def _pages(governor: Governor) -> Iterator[InDoubt]:
    after: tuple[str, str] | None = None
    while page := governor.read(recovery.in_doubt, after=after, limit=PAGE):
        yield from page
        after = page[-1].session_id, page[-1].call_id


def _told(done: Recovered, held: int) -> Iterator[RenderableType]:
    would = "would be " if done.dry_run else ""
    for n, one, many, said in (
        (len(done.lost), "process", "processes", f"{would}declared lost"),
        (len(done.paused), "session", "sessions", f"{would}paused, to be resumed"),
        (len(done.retried), "call", "calls", f"{would}released: may be made again"),
        (len(done.happened), "call", "calls", "charged: happened, as the tool says"),
        (len(done.not_happened), "call", "calls", "released: did not happen, as the tool says"),
        (len(done.stuck_sessions), "session", "sessions", f"{would}told of as stuck"),
        (len(done.stuck_calls), "call", "calls", f"{would}told of as stuck"),
        (len(done.halted), "session", "sessions", f"{would}halted"),
        (len(done.doubted), "call", "calls", f"{would}put in doubt"),
    ):
        if n:
            yield Text(f"{n:,} {one if n == 1 else many} {said}")
    if not done.changed:
        yield Text("Nothing to recover.", style="dim")
    if found := (*done.doubted, *done.stuck_calls):
        yield _listed(found)
    for call_id in done.unreadable:
        yield safe(f"call {call_id}: its row is damaged, and was left; see interlock verify", "red")
    if held:
        yield Text(f"In doubt: {held:,}. interlock recover list shows them.", style="yellow")


def _listed(found: Sequence[InDoubt]) -> RenderableType:
    listed = table("call", "session", "since", "tool")
    for one in found:
        listed.add_row(
            one.call_id, one.session_id, instant(one.admitted_at), safe(one.tool, "bold")
        )
    return listed
