"""
What the books have of what goes on again: an opening, of a session; a resumable, of an approved call.

The call that a ticket stands for is made again from what is on record of it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from sqlalchemy import Connection

from interlock._edit import by_name
from interlock._governed import tool_of
from interlock._restored import restored
from interlock._ticket import Ticket, TicketState
from interlock.errors import Conflict, Misuse
from interlock.events import SessionOpened, understood
from interlock.store import lineage, policies, sessions, tickets
from interlock.store.events import history
from interlock.store.sessions import SessionRow
from interlock.store.statements import now


class Opening(msgspec.Struct, frozen=True):
    """
    What a session was opened with.

    Attributes:
        row, opened: The session, and the event that opened it.
        text: The document of its policy; None where it has none.
        ancestors: The sessions that it was opened in.
    """

    row: SessionRow
    opened: SessionOpened
    text: str | None
    ancestors: tuple[str, ...]


class Resumable(msgspec.Struct, frozen=True):
    """
    What is needed of the books to make a call again.

    Attributes:
        ticket: The ticket, approved.
        opening: Of its session.
    """

    ticket: Ticket
    opening: Opening

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


def opening(connection: Connection, session_id: str) -> Opening:
    """
    Return what a session was opened with.

    Raises:
        Conflict: there is no such session, or it does not begin with its opening.
        NewerRelease: a newer release has opened it.
    """
    row = sessions.get(connection, session_id)
    [first] = history(connection, session_id, limit=1)
    opened = understood(first.event, f"event {first.seq} of session {session_id}")
    if not isinstance(opened, SessionOpened):
        raise Conflict(f"session {session_id} is damaged: it does not begin with its opening")
    text = None if row.policy is None else policies.document(connection, row.policy)
    return Opening(row, opened, text, lineage.ancestors(connection, session_id))


def resumable(connection: Connection, ticket_id: str) -> Resumable:
    """
    Return an approved ticket, and what its session was opened with.

    Raises:
        Conflict: there is no such ticket, or it is not approved, or no longer.
    """
    ticket = tickets.get(connection, ticket_id)
    is_late = now(connection) >= ticket.expires_at
    if ticket.state is not TicketState.APPROVED or is_late:
        open_ = ticket.state in {TicketState.PENDING, TicketState.APPROVED}
        stands = TicketState.EXPIRED if open_ and is_late else ticket.state
        raise Conflict(
            f"ticket {ticket_id} is {stands}, so nothing was run: only an approved one is good for a call, once"
        )
    return Resumable(ticket, opening(connection, ticket.session_id))
