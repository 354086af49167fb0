"""`interlock approvals`: what waits for a human, and the human's answer."""

from __future__ import annotations

import getpass
from typing import Annotated

import typer
from rich.text import Text

from interlock import Ticket
from interlock.cli.output import (
    DEFAULT,
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
from interlock.store import tickets

app = typer.Typer(help="See what waits for a human, and answer.", no_args_is_help=True)

Id = Annotated[str, typer.Argument(metavar="TICKET", help="The ticket's id.")]
By = Annotated[str, typer.Option(default_factory=getpass.getuser, help="Who answers.")]
Comment = Annotated[
    str | None, typer.Option(help="For the record; a model is told why it was denied.")
]


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
        listed.add_row(
            ticket.id,
            instant(ticket.expires_at),
            safe(f"{' for '.join(ticket.requested_by)}: ") + _call(ticket),
        )
    return show(listed)


@app.command("show")
def one(ticket: Id, db: Database = DEFAULT, *, json: Json = False) -> None:
    """Show one ticket: exactly what will run if it is approved."""
    with opened(db) as governor:
        found = governor.read(tickets.get, ticket)
    _print(found, json=json)


@app.command()
def approve(
    ticket: Id, by: By, db: Database = DEFAULT, *, comment: Comment = None, json: Json = False
) -> None:
    """Say yes: this very call may run, once, until the ticket expires."""
    with opened(db) as governor:
        governor.write(tickets.approve, ticket, by=by, comment=comment)
        found = governor.read(tickets.get, ticket)
    _print(found, json=json)


@app.command()
def deny(
    ticket: Id, by: By, db: Database = DEFAULT, *, comment: Comment = None, json: Json = False
) -> None:
    """Say no: this very call is denied for the rest of its session."""
    with opened(db) as governor:
        governor.write(tickets.deny, ticket, by=by, comment=comment)
        found = governor.read(tickets.get, ticket)
    _print(found, json=json)


def _call(ticket: Ticket) -> Text:
    return safe(f"{ticket.tool}(", "bold") + arguments(ticket.arguments) + safe(")", "bold")


def _print(ticket: Ticket, *, json: bool) -> None:
    if json:
        return print_json([ticket])
    shown = table("", "")
    shown.show_header = False
    for name, value in (
        ("ticket", ticket.id),
        ("state", ticket.state),
        ("tool", ticket.tool),
        ("arguments", arguments(ticket.arguments)),
        ("requested by", " for ".join(ticket.requested_by)),
        ("reason", ticket.reason),
        ("approvers", ", ".join(ticket.approvers)),
        ("session", ticket.session_id),
        ("expires", instant(ticket.expires_at)),
        ("decided by", ticket.decided_by),
        ("decided", instant(ticket.decided_at)),
        ("comment", ticket.comment),
    ):
        if value:
            shown.add_row(
                Text(name, style="dim"), value if isinstance(value, Text) else safe(value)
            )
    return show(shown)
