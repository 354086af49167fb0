"""`interlock approvals`: what waits for a human, and the human's answer."""

from __future__ import annotations

import getpass
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

import msgspec
import typer
from rich.text import Text

from interlock import Governor, Ticket
from interlock._display import panel
from interlock._edit import changes_of
from interlock.cli.answering import (
    Approver,
    by_key,
    confirmed,
    difference,
    from_editor,
    from_file,
    is_terminal,
)
from interlock.cli.output import (
    DEFAULT,
    STYLES,
    Database,
    Json,
    arguments,
    instant,
    opened,
    print_json,
    safe,
    show,
    table,
)
from interlock.errors import Misuse
from interlock.store import tickets
from interlock.store.briefs import Brief, Effect, brief

app = typer.Typer(help="See what waits for a human, and answer.", no_args_is_help=True)

Id = Annotated[str, typer.Argument(metavar="TICKET", help="The ticket's id.")]
By = Annotated[
    str,
    typer.Option(
        "--as", "--by", metavar="NAME", default_factory=getpass.getuser, help="Who answers."
    ),
]
Comment = Annotated[
    str | None, typer.Option(help="For the record; a model is told why it was denied.")
]
Groups = Annotated[
    list[str] | None,
    typer.Option("--group", help="A group that whoever answers is in; may be repeated."),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask whether it is meant.")]

Answering = Callable[..., Any]


@app.command("list")
def pending(
    db: Database = DEFAULT,
    *,
    limit: Annotated[int, typer.Option(min=1, help="How many, oldest first.")] = 50,
    json: Json = False,
) -> None:
    """List the tickets that can be answered now."""
    with opened(db) as governor:
        found = governor.read(tickets.pending, limit=limit)
    if json:
        return print_json(found)
    if not found:
        return show(Text("Nothing waits for an answer.", style="dim"))
    listed = table("ticket", "expires", "what")
    for ticket in found:
        listed.add_row(ticket.id, instant(ticket.expires_at), _summary(ticket))
    return show(listed)


@app.command("show")
def one(ticket: Id, db: Database = DEFAULT, *, json: Json = False) -> None:
    """Show one ticket: exactly what will run if it is approved, and what is around it."""
    with opened(db) as governor:
        _print(governor.read(brief, ticket), json=json)


@app.command()
def approve(
    ticket: Id,
    by: By,
    db: Database = DEFAULT,
    *,
    comment: Comment = None,
    group: Groups = None,
    edit: Annotated[
        bool, typer.Option("--edit", help="Change the arguments in $EDITOR before the yes.")
    ] = False,
    arguments: Annotated[
        str | None,
        typer.Option(
            "--arguments",
            metavar="FILE",
            help="Approve these arguments instead, the JSON of all of them; - is standard input.",
        ),
    ] = None,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Say yes: this very call may run, or the one with the arguments given here, once, until the ticket expires."""
    if edit and arguments is not None:
        raise Misuse("--edit and --arguments exclude each other")
    if not yes and arguments == "-":
        raise Misuse("nothing was answered: with the arguments on standard input, say --yes, too")
    _expect_terminal("approve", yes=yes and not edit)
    with opened(db) as governor:
        found = governor.read(brief, ticket)
        if not yes:
            show(_panel(found))
        changes: dict[str, Any] | None = None
        if edit:
            changes = from_editor(found.ticket)
        elif arguments is not None:
            changes = from_file(found.ticket, arguments)
        elif not yes and found.ticket.edited is not None:  # what was shown is what is approved
            changes = changes_of(found.ticket)
        if changes is not None and not json:
            show(difference(found.ticket, changes))
        operation = partial(tickets.approve, groups=group or None, arguments=changes)
        _answer(governor, operation, "Approve", ticket, by=by, comment=comment, yes=yes, json=json)


@app.command()
def deny(
    ticket: Id,
    by: By,
    db: Database = DEFAULT,
    *,
    comment: Comment = None,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Say no: this very call is denied for the rest of its session."""
    _expect_terminal("deny", yes=yes)
    with opened(db) as governor:
        if not yes:
            show(_panel(governor.read(brief, ticket)))
        _answer(governor, tickets.deny, "Deny", ticket, by=by, comment=comment, yes=yes, json=json)


@app.command()
def watch(
    by: By,
    db: Database = DEFAULT,
    *,
    group: Groups = None,
    interval: Annotated[float, typer.Option(min=0.05, help="Seconds between two looks.")] = 1.0,
    count: Annotated[int | None, typer.Option(min=1, help="End after so many tickets.")] = None,
    json: Json = False,
) -> None:
    """
    Show every ticket that can be answered, and each new one as it comes, until interrupted.

    On a terminal each is answered by a key: approve, deny, edit, skip, quit.
    """
    approver = None if json or not is_terminal() else Approver(by, group or None)
    last: str | None = None
    shown = 0
    with opened(db) as governor:
        try:
            while True:
                for ticket in governor.read(tickets.pending, after=last):
                    _print(governor.read(brief, ticket.id), json=json)
                    last, shown = ticket.id, shown + 1
                    sys.stdout.flush()
                    goes_on = approver is None or by_key(governor, ticket, approver)
                    if shown == count or not goes_on:
                        return
                time.sleep(interval)
        except KeyboardInterrupt:
            return


def _answer(
    governor: Governor,
    operation: Answering,
    verb: str,
    ticket: str,
    *,
    by: str,
    comment: str | None,
    yes: bool,
    json: bool,
) -> None:
    """Have the answer to a ticket that was shown confirmed, unless that was said before, and write it down."""
    if not yes and not confirmed(verb, by):
        raise Misuse("nothing was answered")
    governor.write(operation, ticket, by=by, comment=comment)
    _print(governor.read(brief, ticket), json=json)


def _expect_terminal(verb: str, *, yes: bool) -> None:
    if not yes and not sys.stdin.isatty():
        raise Misuse(
            f"nothing was answered: there is no terminal to confirm it on; say --yes to {verb} without"
        )


def _summary(ticket: Ticket) -> Text:
    call = safe(f"{ticket.tool}(", "bold") + arguments(ticket.arguments) + safe(")", "bold")
    return safe(f"{' for '.join(ticket.requested_by)}: ") + call


def _print(found: Brief, *, json: bool) -> None:
    if json:
        # The ticket's own keys come first, so that a program reads what `list` prints and what `show` prints alike.
        around = {name: value for name, value in _fields(found).items() if name != "ticket"}
        return print_json([{**_fields(found.ticket), **around}])
    return show(_panel(found))


def _fields(struct: msgspec.Struct) -> dict[str, Any]:
    return msgspec.structs.asdict(struct)


def _panel(found: Brief) -> Any:
    who = found.identity
    of = [f"{key} {name}" for key, name in (("team", who.team), ("org", who.org)) if name]
    around = [
        ("session", safe(", ".join([f"{found.session} ({found.ticket.session_id})", *of]))),
        ("risk", safe(found.risk)),
        ("cost", safe(f"{found.cost_usd} dollars" if found.cost_usd else "")),
        *(("budget", _effect(effect)) for effect in found.budgets),
        *(
            (
                "before" if past is found.recent[0] else "",
                safe(f"{instant(past.at)} ", "dim")
                + safe(f"{past.verdict} ", STYLES[past.verdict])
                + safe(f"{past.tool}(")
                + arguments(past.arguments)
                + safe(")"),
            )
            for past in found.recent
        ),
    ]
    return panel(found.ticket, [(label, value) for label, value in around if value.plain])


def _effect(effect: Effect) -> Text:
    unit = "dollars" if effect.unit == "cost_usd" else effect.unit
    takes = "an unknown amount" if effect.takes is None else effect.takes
    after = "" if effect.after is None else f", then {effect.after}"
    style = "red" if effect.after is not None and effect.after.startswith("-") else ""
    return safe(
        f"{effect.budget} {effect.share}: {effect.left} of {effect.limit} {unit} left, takes {takes}{after}",
        style,
    )
