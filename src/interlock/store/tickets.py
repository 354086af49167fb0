"""Operations on tickets: open, approve, deny, claim, look up."""

from __future__ import annotations

import unicodedata
from datetime import datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, insert, select, update

from interlock import events
from interlock._call import Call
from interlock._clock import new_id
from interlock._state import SessionStatus
from interlock._ticket import Ticket, TicketState
from interlock._verdict import Decision
from interlock.errors import Conflict
from interlock.store.events import append, lock
from interlock.store.statements import now, tables_of

LIFETIME = timedelta(hours=1)
"""How long a ticket stays open when the policy does not say: whoever is on call answers within it, or not at all."""

MAX_LIFETIME = timedelta(days=36_525)
"""How long a ticket stays open at most: a hundred years."""


def approve(
    connection: Connection, ticket_id: str, *, by: str, comment: str | None = None
) -> events.Recorded:
    """
    Say yes: the call that the ticket is bound to may run, once, until the ticket expires.

    Args:
        connection: A transaction on the store.
        ticket_id: The ticket.
        by: Who says so, as the host has authenticated them.
        comment: For the record.

    Raises:
        Conflict: there is no such ticket; it is answered or expired; its session is closed; *by* is who requested it.
    """
    return _resolve(connection, ticket_id, TicketState.APPROVED, by, comment)


def deny(
    connection: Connection, ticket_id: str, *, by: str, comment: str | None = None
) -> events.Recorded:
    """
    Say no: the call is denied for the rest of its session.

    Args:
        connection: A transaction on the store.
        ticket_id: The ticket.
        by: Who says so, as the host has authenticated them.
        comment: The reason, which the model is told.

    Raises:
        Conflict: as `approve`, but the requester may take the request back.
    """
    return _resolve(connection, ticket_id, TicketState.DENIED, by, comment)


def get(connection: Connection, ticket_id: str) -> Ticket:
    """
    Return one ticket.

    Raises:
        Conflict: there is none with this id.
    """
    table = tables_of(connection).tickets
    row = connection.execute(select(table).where(table.c.id == ticket_id)).one_or_none()
    if row is None:
        raise Conflict(
            f"there is no ticket {ticket_id}; `interlock approvals list` shows those that are"
        )
    return from_row(row)


def pending(connection: Connection, *, after: str | None = None, limit: int = 50) -> list[Ticket]:
    """Return up to *limit* tickets that can be answered now, oldest first, younger than the ticket *after*."""
    table = tables_of(connection).tickets
    query = (
        select(table)
        .where(
            table.c.state == TicketState.PENDING.value,
            table.c.expires_at > now(connection),
        )
        .order_by(table.c.id)
        .limit(limit)
    )
    if after is not None:
        query = query.where(table.c.id > after)
    return [from_row(row) for row in connection.execute(query)]


def standing(connection: Connection, call: Call, *, at: datetime) -> Ticket | None:
    """
    Return the ticket that answers for *call* at that instant: the newest with its digest in its session.

    One that was claimed, or that expired without a no, answers for nothing any more.
    """
    table = tables_of(connection).tickets
    row = connection.execute(
        select(table)
        .where(table.c.session_id == call.session_id, table.c.digest == call.digest)
        .order_by(table.c.id.desc())
        .limit(1)
    ).one_or_none()
    if row is None:
        return None
    ticket = from_row(row)
    if ticket.state is TicketState.DENIED:
        return ticket
    lives = ticket.state is not TicketState.CLAIMED and at < ticket.expires_at
    return ticket if lives else None


def open_ticket(connection: Connection, call: Call, decision: Decision, *, at: datetime) -> Ticket:
    """Write a new ticket for *call*, opened *at*, and return it. The event is the caller's to append."""
    table = tables_of(connection).tickets
    ticket = Ticket(
        id=new_id(),
        session_id=call.session_id,
        call_id=call.id,
        tool=call.tool.name,
        digest=call.digest,
        arguments=call.recorded,
        reason=decision.reason,
        approvers=decision.approvers,
        requested_by=tuple(name for name in (call.identity.agent, call.identity.user) if name),
        state=TicketState.PENDING,
        opened_at=at,
        expires_at=at + _lifetime(decision),
    )
    row = msgspec.structs.asdict(ticket)
    for name in ("approvers", "requested_by"):
        row[name] = msgspec.json.encode(row[name]).decode()
    row["state"] = ticket.state.value
    connection.execute(insert(table).values(row))
    return ticket


def claim(connection: Connection, ticket: Ticket, *, at: datetime) -> bool:
    """Use up an approved ticket; False when somebody else did, or when it has expired *at* that instant."""
    table = tables_of(connection).tickets
    claimed = connection.execute(
        update(table)
        .where(
            table.c.id == ticket.id,
            table.c.state == TicketState.APPROVED.value,
            table.c.expires_at > at,
        )
        .values(state=TicketState.CLAIMED.value)
    )
    return claimed.rowcount == 1


def _lifetime(decision: Decision) -> timedelta:
    if decision.expires is None:
        return LIFETIME
    return min(max(decision.expires, timedelta(0)), MAX_LIFETIME)


def _resolve(
    connection: Connection, ticket_id: str, state: TicketState, by: str, comment: str | None
) -> events.Recorded:
    table = tables_of(connection).tickets
    if not by.strip():
        raise Conflict("an answer needs a name: who approves or denies?")
    ticket = get(connection, ticket_id)
    if state is TicketState.APPROVED and _plain(by) in map(_plain, ticket.requested_by):
        raise Conflict(
            f"{by} requested ticket {ticket_id} and cannot approve it; somebody else must"
        )
    head = lock(connection, ticket.session_id)
    if head.status is not SessionStatus.OPEN:
        raise Conflict(
            f"the session of ticket {ticket_id} is {head.status}; nothing waits for an answer"
        )
    at = now(connection)
    answered = connection.execute(
        update(table)
        .where(
            table.c.id == ticket_id,
            table.c.state == TicketState.PENDING.value,
            table.c.expires_at > at,
        )
        .values(state=state.value, decided_by=by, decided_at=at, comment=comment)
    )
    if answered.rowcount != 1:
        found = get(connection, ticket_id)
        why = (
            "has expired"
            if found.state is TicketState.PENDING
            else f"is already {found.state}, by {found.decided_by}"
        )
        raise Conflict(f"ticket {ticket_id} {why}")
    resolved = events.TicketResolved(ticket_id=ticket_id, state=state, by=by, comment=comment)
    return append(connection, head, [resolved], at=at)[0]


def _plain(name: str) -> str:
    """A name without what tells two spellings of it apart."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold()).strip()


def from_row(row: Row[Any]) -> Ticket:
    """Return the ticket that *row* of the table holds."""
    fields: dict[str, Any] = dict(row._mapping)  # noqa: SLF001 - the documented way to a mapping
    for name in ("approvers", "requested_by"):
        fields[name] = tuple(msgspec.json.decode(fields[name]))
    fields["state"] = TicketState(fields["state"])
    return Ticket(**fields)
