"""Resumable: an approved ticket, and how the call that it stands for is made again from what is on record of it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from interlock._edit import by_name
from interlock._governed import tool_of
from interlock._restored import restored
from interlock._ticket import Ticket
from interlock.errors import Conflict, Misuse
from interlock.events import SessionOpened
from interlock.store.sessions import SessionRow


class Resumable(msgspec.Struct, frozen=True):
    """
    What is needed of the books to make a call again.

    Attributes:
        ticket: The ticket, approved.
        row, opened: Its session, and the event that opened it.
        text: The document of the policy of that session; None where it has none.
        ancestors: The sessions that it was opened in.
    """

    ticket: Ticket
    row: SessionRow
    opened: SessionOpened
    text: str | None
    ancestors: tuple[str, ...]

    def call(self, tool: Callable[..., Any], given: Mapping[str, object]) -> inspect.BoundArguments:
        """
        Return what *tool* is to be called with, as its caller has called it; *given* is what is not on record.

        Raises:
            Misuse: it is not governed.
            Conflict: it takes other parameters, or an argument is neither on record nor given.
        """
        ticket = self.ticket
        if tool_of(tool) is None:
            raise Misuse(
                f"resume(tool=…) takes the governed function that ticket {ticket.id} is about"
            )
        try:
            recorded = by_name(ticket.arguments)
        except ValueError as error:
            raise Conflict(f"ticket {ticket.id} cannot be resumed: {error}") from None
        parameters = inspect.signature(tool)
        names = set(parameters.parameters)
        if names != set(recorded) or not set(given) <= names:
            raise Conflict(
                f"ticket {ticket.id} cannot be resumed: its call has the arguments {', '.join(recorded) or '(none)'}; "
                f"the tool takes {', '.join(parameters.parameters) or 'none'}"
                + (f", and {', '.join(given)} were given" if given else "")
            )
        arguments: Any = {
            name: given[name] if name in given else self._restored(name, recorded[name])
            for name in parameters.parameters
        }
        return inspect.BoundArguments(parameters, arguments)

    def _restored(self, name: str, data: Any) -> Any:
        try:
            return restored(data)
        except ValueError as error:
            raise Conflict(
                f"ticket {self.ticket.id} cannot be resumed from the record alone, for of argument {name!r} not all is "
                f"there: {error}; give it: resume(…, arguments={{{name!r}: …}})"
            ) from None
