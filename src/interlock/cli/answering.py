"""How a person answers a ticket on the command line: confirmed, with other arguments, or by keys as tickets come."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import click
import typer
from rich.text import Text

from interlock import Governor, Ticket
from interlock._display import named, value_text
from interlock._edit import changed, changes_in, changes_of, edited
from interlock.cli.output import safe, show
from interlock.errors import Conflict, Misuse
from interlock.store import tickets

_KEYS = {"a": "approve", "d": "deny", "e": "edit", "s": "skip", "q": "quit"}


class Approver(NamedTuple):
    """Who answers, and which groups they say that they are in; None: they do not say."""

    by: str
    groups: list[str] | None


def from_file(ticket: Ticket, path: str) -> dict[str, Any]:
    """
    Return what the JSON in the file at *path* changes of the arguments of *ticket*; `-` is standard input.

    Raises:
        Misuse: it cannot be read, or is not the arguments of this call.
    """
    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Misuse(f"nothing was answered: {path} cannot be read: {error}") from None
    return _changes(ticket, text)


def from_editor(ticket: Ticket) -> dict[str, Any]:
    """
    Have the arguments of *ticket* changed in the editor that the environment names, and return what was.

    Raises:
        Misuse: the editor failed, nothing was changed, or what was written are no arguments of this call.
    """
    # All in ASCII: what cannot be seen, or deceives, is seen as its escape, and stays what it is.
    shown = json.dumps(json.loads(ticket.edited or ticket.arguments), indent=2) + "\n"
    try:
        text = click.edit(shown, extension=".json")
    except click.ClickException as error:
        raise Misuse(f"nothing was answered: {error.message}") from None
    if text is None:
        raise Misuse("nothing was answered: the arguments were not changed")
    return _changes(ticket, text)


def _changes(ticket: Ticket, text: str) -> dict[str, Any]:
    try:
        changes = changes_in(ticket.arguments, text)
        edited(ticket.arguments, changes)
    except ValueError as error:
        raise Misuse(f"nothing was answered: {error}") from None
    return changes


def difference(ticket: Ticket, changes: Mapping[str, Any]) -> Text:
    """Return what *changes* put in the place of what, line by line; nothing in it can act or pass for another line."""
    after = edited(ticket.arguments, changes)
    if after is None:
        return Text("The arguments stay as they are.")
    before, now = dict(named(ticket.arguments)), dict(named(after))
    lines = [Text("These arguments are changed:")]
    for name, value in now.items():
        if repr(before[name]) != repr(value):  # to Python 1 and True are the same
            lines.append(safe(f"- {name}={value_text(before[name])}", "red"))
            lines.append(safe(f"+ {name}={value_text(value)}", "green"))
    return Text("\n").join(lines)


def confirmed(verb: str, by: str) -> bool:
    """Whether whoever sits at the terminal means it."""
    return typer.confirm(Text.assemble(f"{verb} as ", safe(by, "bold"), "?").plain)


def is_terminal() -> bool:
    """Whether a person can be asked here."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def by_key(governor: Governor, ticket: Ticket, approver: Approver) -> bool:
    """
    Ask for one key, and do with *ticket*, which was shown, what it stands for; return whether to go on.

    A yes is confirmed, and so is an edit, after its difference is shown. What cannot be done is said, and asked again.
    """
    while True:
        show(Text("[a]pprove  [d]eny  [e]dit  [s]kip  [q]uit"))
        verb = _KEYS.get(_pressed(), "")
        if verb in {"skip", "quit"}:
            return verb == "skip"
        try:
            if verb and _answered(governor, ticket, approver, verb):
                return True
        except Conflict as conflict:  # answered elsewhere, or expired, or not theirs to answer
            show(safe(conflict, "red"))
            return True
        except Misuse as misuse:
            show(safe(misuse, "red"))


def _pressed() -> str:
    try:
        return click.getchar().lower()
    except EOFError:
        return "q"


def _answered(governor: Governor, ticket: Ticket, approver: Approver, verb: str) -> bool:
    by = approver.by
    if verb == "deny":
        said = typer.prompt("Reason", default="", show_default=False)
        governor.write(tickets.deny, ticket.id, by=by, comment=said.strip() or None)
        show(safe(f"Denied, as {by}."))
        return True
    changes: Mapping[str, Any] | None = None
    if verb == "edit":
        changes = from_editor(ticket)
        show(difference(ticket, changes))
    elif changed(ticket):  # by somebody else, whose yes does not do: this is what was shown
        changes = changes_of(ticket)
    if not confirmed("Approve", by):
        return False
    approve = partial(tickets.approve, groups=approver.groups, arguments=changes)
    governor.write(approve, ticket.id, by=by)
    show(safe(f"Approved, as {by}."))
    return True
