"""`interlock halt`, `release` and `halts`: the kill switch from a terminal."""

from __future__ import annotations

import getpass
import sys
from typing import Annotated

import typer
from rich.text import Text

from interlock import Misuse
from interlock._halt import Halt, HaltTarget
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
from interlock.store import halts as stored

By = Annotated[
    str,
    typer.Option("--as", metavar="NAME", default_factory=getpass.getuser, help="Who does it."),
]
Reason = Annotated[str, typer.Option(help="Why; it is recorded, and callers are told.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask whether it is meant.")]


def halt(
    by: By,
    reason: Reason,
    db: Database = DEFAULT,
    *,
    system: Annotated[bool, typer.Option("--system", help="Everything.")] = False,
    org: Annotated[str | None, typer.Option(help="All calls of an organisation.")] = None,
    team: Annotated[str | None, typer.Option(help="All calls of a team.")] = None,
    user: Annotated[str | None, typer.Option(help="All calls for a user.")] = None,
    session: Annotated[str | None, typer.Option(help="All calls of a session, by its id.")] = None,
    agent: Annotated[str | None, typer.Option(help="All calls of an agent.")] = None,
    tool: Annotated[str | None, typer.Option(help="All calls of a tool.")] = None,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Stop everything, or all calls of one of these, until the halt is released."""
    target = HaltTarget.of(
        system=system, org=org, team=team, user=user, session=session, agent=agent, tool=tool
    )
    _confirm(f"Halt {target}?", yes=yes)
    with opened(db) as governor:
        # In the store or not at all: a halt that holds in this process alone would end with it.
        done = governor.write(stored.engage, target, reason=reason, by=by)
    if json:
        return print_json([done.halt])
    said = "is halted" if done.engaged else "was halted already"
    running = "" if done.running is None else f"; {done.running} of its calls are running"
    return show(safe(f"{target} {said}, by {done.halt.by}, halt {done.halt.id}{running}"))


def release(
    halt: Annotated[str, typer.Argument(metavar="HALT", help="The halt's id.")],
    by: By,
    reason: Reason,
    db: Database = DEFAULT,
    *,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Release a halt: what it alone has stopped may run again."""
    _confirm(f"Release halt {halt}?", yes=yes)
    with opened(db) as governor:
        released = governor.release(halt, reason=reason, by=by)
    if json:
        return print_json([released])
    return show(safe(f"{released.target} is released, by {released.released_by}"))


def halts(
    db: Database = DEFAULT,
    *,
    released: Annotated[
        bool, typer.Option("--all", help="Those that were released, too, with who and why.")
    ] = False,
    after: Annotated[str | None, typer.Option(help="Only those younger than this one.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many, oldest first.")] = 50,
    json: Json = False,
) -> None:
    """List the halts that stand; with `--all` those that were released, too."""
    with opened(db) as governor:
        found = governor.halts(after=after, limit=limit, released=released)
    if json:
        return print_json(found)
    if not found:
        said = "Nothing was ever halted." if released else "Nothing is halted."
        return show(Text(said, style="dim"))
    listed = table("halt", "what", "since", "by", "why", *(("released",) if released else ()))
    for one in found:
        listed.add_row(*_row(one), *((_end(one),) if released else ()))
    return show(listed)


def _end(one: Halt) -> Text:
    if one.released_at is None:
        return Text("stands", style="red")
    return safe(f"{instant(one.released_at)} by {one.released_by}: {one.release_reason}")


def _row(one: Halt) -> list[str | Text]:
    return [
        one.id,
        safe(str(one.target), "bold"),
        instant(one.engaged_at),
        safe(one.by),
        safe(one.reason),
    ]


def _confirm(question: str, *, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise Misuse("there is nobody to confirm this: not a terminal; say --yes")
    typer.confirm(question, abort=True)
