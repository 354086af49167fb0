"""Operations on tickets: open, approve, deny, claim, end, look up."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, insert, select, update

from interlock import events
from interlock._call import Call
from interlock._clock import new_id
from interlock._edit import edited
from interlock._grant import Grant
from interlock._lease import Slot
from interlock._state import SessionStatus
from interlock._ticket import Approval, Ticket, TicketState, names_of
from interlock._verdict import Decision
from interlock.errors import Conflict
from interlock.store import grants, policies
from interlock.store.ear import TICKETS, tell
from interlock.store.events import Chain, append, lock
from interlock.store.slots import free, slots_of, text_of
from interlock.store.statements import now, tables_of

LIFETIME = timedelta(hours=1)
"""How long a ticket stays open when the policy does not say: whoever is on call answers within it, or not at all."""

NOBODY = "interlock"
"""Who ends a ticket that nobody has answered."""

_OPEN = (TicketState.PENDING.value, TicketState.APPROVED.value)

# The columns that hold lists.
_LISTS: dict[str, Any] = {
    "asked": tuple[str, ...],
    "approvers": tuple[str, ...],
    "approvals": tuple[Approval, ...],
    "requested_by": tuple[str, ...],
}

_MICROSECOND = timedelta(microseconds=1)

MAX_LIFETIME = timedelta(days=36_525)
"""How long a ticket stays open at most: a hundred years."""


def approve(
    connection: Connection,
    ticket_id: str,
    *,
    by: str,
    comment: str | None = None,
    groups: Iterable[str] | None = None,
    grant: Grant | None = None,
    arguments: Mapping[str, object] | None = None,
) -> events.Recorded:
    """
    Say yes: once all have that must, the call that the ticket is bound to may run, once, until the ticket expires.

    With other *arguments* it is these that are approved, and that run when the call is made again, or resumed. The call
    as it is then is judged from the start. Who has said yes before, has to say it anew: to these.

    Args:
        connection: A transaction on the store.
        ticket_id: The ticket.
        by: Who says so, as the host has authenticated them.
        comment: For the record.
        groups: The groups that they are in, as the host knows, besides what the policy says under `groups`. None: the
            host does not know, and where the policy says nothing either, it is not checked.
        grant: Further calls of the same tool in the same session that need not be asked about. Only the last whose
            yes was missing can give one, and not with other arguments.
        arguments: What to put in the place of which arguments, by name; the others stay as the caller gave them. It is
            kept as it is given. Once somebody has changed some, a yes needs this: empty to go back to the call as it
            was made, else what one has read.

    Raises:
        Conflict: there is no such ticket; it is answered or expired; its session is closed; *by* is who requested it,
            said yes before, or is none of those who are asked; the grant makes no sense; or an argument is unknown,
            a secret, too large, or of a type that canonical JSON does not tell. Nothing was written.
    """
    ticket, chain, at = _asked(connection, ticket_id, by)
    if _plain(by) in map(_plain, ticket.requested_by):
        raise Conflict(
            f"{by} requested ticket {ticket_id} and cannot approve it; somebody else must"
        )
    written = _edited(ticket, arguments)
    before = ticket.approvals if written == ticket.edited else ()
    if _plain(by) in (_plain(approval.by) for approval in before):
        raise Conflict(f"{by} has approved ticket {ticket_id} already; somebody else must, too")
    _check_member(connection, ticket, by, groups)
    approvals = (*before, Approval(by, at, comment))
    missing = ticket.quorum - len(approvals)
    changed: dict[str, object] = {"approvals": _json(approvals)}
    if written != ticket.edited:
        changed |= {"edited": written, "edited_by": None if written is None else by}
    event: events.TicketApproved | events.TicketResolved
    if missing > 0:
        event = events.TicketApproved(
            ticket_id=ticket_id, by=by, comment=comment, missing=missing, arguments=written
        )
    else:
        event = events.TicketResolved(
            ticket_id=ticket_id,
            state=TicketState.APPROVED,
            by=by,
            comment=comment,
            waited_us=_waited_us(ticket, at),
            arguments=written,
        )
        changed |= {
            "state": TicketState.APPROVED.value,
            "decided_by": names_of(approvals),
            "decided_at": at,
            "comment": comment,
        }
    _change(connection, ticket_id, TicketState.PENDING, changed)
    given: list[events.Event] = []
    if grant is not None:
        if missing > 0:
            raise Conflict(
                f"{missing} more must approve ticket {ticket_id}; the last can give a grant"
            )
        if written is not None:
            raise Conflict(
                "a grant goes with a yes to the call as it was made, not as you changed it"
            )
        given.append(grants.give(connection, ticket, grant, by=names_of(approvals), at=at))
    return append(connection, chain, [event, *given], at=at)[0]


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
    ticket, chain, at = _asked(connection, ticket_id, by)
    denied = TicketState.DENIED
    changed = {"state": denied.value, "decided_by": by, "decided_at": at, "comment": comment}
    _change(connection, ticket_id, TicketState.PENDING, changed)
    resolved = events.TicketResolved(
        ticket_id=ticket_id, state=denied, by=by, comment=comment, waited_us=_waited_us(ticket, at)
    )
    recorded = append(connection, chain, [resolved], at=at)[0]
    free(connection, ticket.leases, at=at)
    return recorded


def expire(connection: Connection, *, limit: int = 1_000) -> list[events.Recorded]:
    """Write down of up to *limit* tickets that their time has passed; return the events. Nothing waits for this."""
    table, at = tables_of(connection).tickets, now(connection)
    late = connection.execute(
        select(table)
        .where(table.c.state.in_(_OPEN), table.c.expires_at <= at)
        .order_by(table.c.state, table.c.id)
        .limit(limit)
    )
    by_session: dict[str, list[Ticket]] = {}
    for row in late.all():
        by_session.setdefault(row.session_id, []).append(from_row(row))
    recorded: list[events.Recorded] = []
    held: list[Slot] = []
    for session_id in sorted(by_session):
        chain = lock(connection, session_id)
        ended: list[events.Event] = []
        for ticket in by_session[session_id]:
            if (event := end(connection, ticket, TicketState.EXPIRED, at=at)) is not None:
                ended.append(event)
                held += ticket.leases
        recorded += append(connection, chain, ended, at=at)
    free(connection, held, at=at)
    return recorded


def cancel(connection: Connection, session_id: str, *, at: datetime) -> list[events.TicketResolved]:
    """
    Cancel what waits in a session that is closed *at* that instant; the events are the caller's to append.

    What the tickets held of leases is free.
    """
    table = tables_of(connection).tickets
    waiting = connection.execute(
        select(table)
        .where(table.c.session_id == session_id, table.c.state.in_(_OPEN))
        .order_by(table.c.id)
    )
    ended: list[events.TicketResolved] = []
    held: list[Slot] = []
    for ticket in map(from_row, waiting.all()):
        state = TicketState.CANCELLED if at < ticket.expires_at else TicketState.EXPIRED
        if (event := end(connection, ticket, state, at=at)) is not None:
            ended.append(event)
            held += ticket.leases
    free(connection, held, at=at)
    return ended


def end(
    connection: Connection, ticket: Ticket, state: TicketState, *, at: datetime
) -> events.TicketResolved | None:
    """
    End a ticket that nobody answers, or uses, any more; return the event, None if it was ended meanwhile.

    What it holds of leases is the caller's to free, once all else is locked.
    """
    table = tables_of(connection).tickets
    done = connection.execute(
        update(table)
        .where(table.c.id == ticket.id, table.c.state == ticket.state.value)
        .values(state=state.value)
    )
    if done.rowcount != 1:
        return None
    tell(connection, TICKETS, ticket.id)
    return events.TicketResolved(
        ticket_id=ticket.id, state=state, by=NOBODY, waited_us=_waited_us(ticket, at)
    )


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


def newest(connection: Connection, call: Call, *, policy: str) -> Ticket | None:
    """Return the newest ticket for *call* that the policy with this digest has asked for in its session."""
    table = tables_of(connection).tickets
    row = connection.execute(
        select(table)
        .where(
            table.c.session_id == call.session_id,
            table.c.digest == call.digest,
            table.c.policy == policy,
        )
        .order_by(table.c.id.desc())
        .limit(1)
    ).one_or_none()
    return None if row is None else from_row(row)


def open_ticket(
    connection: Connection,
    call: Call,
    decision: Decision,
    *,
    policy: str,
    at: datetime,
    hold: Callable[[Ticket], tuple[Slot, ...]],
) -> Ticket:
    """
    Write a new ticket for *call*, opened *at*, and return it. The event is the caller's to append.

    *hold* takes the slots that it holds as long as the call waits.
    """
    table = tables_of(connection).tickets
    ticket = Ticket(
        id=new_id(),
        session_id=call.session_id,
        call_id=call.id,
        tool=call.tool.name,
        digest=call.digest,
        policy=policy,
        arguments=call.recorded,
        resource=call.resource,
        reason=decision.reason,
        asked=decision.authors,
        approvers=decision.approvers,
        quorum=decision.quorum,
        requested_by=tuple(name for name in (call.identity.agent, call.identity.user) if name),
        state=TicketState.PENDING,
        opened_at=at,
        expires_at=at + _lifetime(decision),
    )
    ticket = msgspec.structs.replace(ticket, leases=hold(ticket))
    row = msgspec.structs.asdict(ticket)
    for name in _LISTS:
        row[name] = _json(row[name])
    row["state"] = ticket.state.value
    row["leases"] = text_of(ticket.leases)
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


def _edited(ticket: Ticket, arguments: Mapping[str, object] | None) -> str | None:
    """Return the arguments that a yes is for, where they are not the caller's."""
    if arguments is not None:
        try:
            return edited(ticket.arguments, arguments)
        except ValueError as error:
            raise Conflict(f"ticket {ticket.id} cannot be approved so: {error}") from None
    if ticket.edited is not None:
        raise Conflict(
            f"{ticket.edited_by} has changed the arguments of ticket {ticket.id}: a yes has to say to which"
        )
    return None


def _waited_us(ticket: Ticket, at: datetime) -> int:
    # A store whose clock was set back has waited for nothing yet.
    return max(0, (at - ticket.opened_at) // _MICROSECOND)


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _lifetime(decision: Decision) -> timedelta:
    if decision.expires is None:
        return LIFETIME
    return min(max(decision.expires, timedelta(0)), MAX_LIFETIME)


def _asked(connection: Connection, ticket_id: str, by: str) -> tuple[Ticket, Chain, datetime]:
    """Return a ticket that can be answered, the end of its session's chain, locked, and the time."""
    if not by.strip():
        raise Conflict("an answer needs a name: who approves or denies?")
    chain = lock(connection, get(connection, ticket_id).session_id)
    ticket, at = get(connection, ticket_id), now(connection)
    if ticket.state is TicketState.PENDING and at >= ticket.expires_at:
        raise Conflict(f"ticket {ticket_id} has expired")
    if ticket.state is not TicketState.PENDING:
        by = f", by {ticket.decided_by}" if ticket.decided_by else ""
        raise Conflict(f"ticket {ticket_id} is already {ticket.state}{by}")
    if chain.status not in {SessionStatus.OPEN, SessionStatus.PAUSED}:
        raise Conflict(
            f"the session of ticket {ticket_id} is {chain.status}; nothing waits for an answer"
        )
    return ticket, chain, at


def _change(
    connection: Connection, ticket_id: str, state: TicketState, changed: dict[str, Any]
) -> None:
    table = tables_of(connection).tickets
    done = connection.execute(
        update(table).where(table.c.id == ticket_id, table.c.state == state.value).values(changed)
    )
    if done.rowcount != 1:  # the session is locked, so nobody else can have changed it
        raise Conflict(f"ticket {ticket_id} was answered elsewhere")
    tell(connection, TICKETS, ticket_id)


def _check_member(
    connection: Connection, ticket: Ticket, by: str, groups: Iterable[str] | None
) -> None:
    asked = {_plain(name) for name in ticket.approvers}
    if not asked or _plain(by) in asked:
        return
    described: Mapping[str, list[str]] = json.loads(
        policies.document(connection, ticket.policy)
    ).get("groups", {})
    members = {
        _plain(group): {_plain(name) for name in names} for group, names in described.items()
    }
    if any(_plain(by) in members.get(group, ()) for group in asked):
        return
    if groups is None:
        if not members:
            return
    elif asked & {_plain(group) for group in groups}:
        return
    raise Conflict(
        f"{by} is none of those whom ticket {ticket.id} asks: {', '.join(ticket.approvers)}"
    )


def _plain(name: str) -> str:
    """A name without what tells two spellings of it apart."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold()).strip()


def from_row(row: Row[Any]) -> Ticket:
    """Return the ticket that *row* of the table holds."""
    fields: dict[str, Any] = dict(row._mapping)  # noqa: SLF001 - the documented way to a mapping
    for name, kind in _LISTS.items():
        fields[name] = msgspec.json.decode(fields[name], type=kind)
    fields["state"] = TicketState(fields["state"])
    fields["leases"] = slots_of(fields["leases"])
    return Ticket(**fields)
