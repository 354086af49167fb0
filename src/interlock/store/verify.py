"""verify(): recompute a session from its events, and name the first row that disagrees."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from sqlalchemy import Connection, select

from interlock import events
from interlock._state import SessionState, fold
from interlock._ticket import TicketState
from interlock.store import calls, tables
from interlock.store.events import whole_history
from interlock.store.sessions import SessionRow


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """
    What verifying one session found.

    Attributes:
        session_id, name: The session.
        state: What its events add up to, as far as they could be read.
        in_doubt: Ids of calls admitted and not finished: they may have had their effect.
        problem: The first disagreement, a sentence that names the row; None when all agrees.
    """

    session_id: str
    name: str
    state: SessionState
    in_doubt: tuple[str, ...]
    problem: str | None


class _Disagreement(Exception):
    pass


def verify(connection: Connection, session: SessionRow) -> Report:
    """
    Check that the history of *session* is complete and unchanged, and that its row, intents and tickets follow from it.

    Run it on a snapshot (`governor.read`), with *session* read in the same snapshot.
    Deleting the last events together with an edit of the session's row is not seen from inside the database;
    the head of the chain is also on the spans.
    """
    state = SessionState()
    problem: str | None = None
    told: dict[str, tuple[TicketState, str | None]] = {}
    try:
        for recorded in whole_history(connection, session.id):
            _check_link(state, recorded)
            state = fold([recorded], state)
            _follow_tickets(told, recorded.event)
        _check_row(session, state)
        _check_intents(connection, session, state)
        _check_tickets(connection, session, told)
    except _Disagreement as found:
        problem = str(found)
    return Report(
        session_id=session.id,
        name=session.name,
        state=state,
        in_doubt=tuple(sorted(state.running)),
        problem=problem,
    )


def _check_link(state: SessionState, recorded: events.Recorded) -> None:
    place = f"event {recorded.seq} of session {recorded.session_id}"
    if recorded.seq != state.head + 1:
        raise _Disagreement(f"event {state.head + 1} of session {recorded.session_id} is missing")
    if recorded.previous_hash != state.head_hash:
        raise _Disagreement(f"{place} does not follow from the event before it")
    if events.seal(recorded) != recorded.hash:
        raise _Disagreement(f"{place} was changed after it was written: its hash is another")
    try:
        event = recorded.event
    except msgspec.DecodeError as error:
        raise _Disagreement(f"{place} cannot be read: {error}") from error
    if events.kind_of(event) != recorded.kind:
        raise _Disagreement(f"{place} is stored as {recorded.kind} but says otherwise")


def _check_row(session: SessionRow, state: SessionState) -> None:
    for column in ("head", "head_hash", "status", "opened_at", "closed_at"):
        if getattr(session, column) != getattr(state, column):
            raise _Disagreement(
                f"row of session {session.id}: {column} is {getattr(session, column)}, "
                f"but the events say {getattr(state, column)}"
            )
    opened = state.opened
    identity = session.identity
    if opened is None or (opened.name, opened.policy) != (session.name, session.policy):
        raise _Disagreement(
            f"row of session {session.id}: its name or policy is not what was opened"
        )
    if (opened.agent, opened.user, opened.team, opened.org) != msgspec.structs.astuple(identity):
        raise _Disagreement(f"row of session {session.id}: its identity is not what was opened")


def _check_intents(connection: Connection, session: SessionRow, state: SessionState) -> None:
    limit = len(state.running) + 1
    stored = {call for call, _, _ in calls.in_doubt(connection, session_id=session.id, limit=limit)}
    for call_id in sorted(stored ^ set(state.running)):
        where = "has an intent but no event" if call_id in stored else "has an event but no intent"
        raise _Disagreement(
            f"call {call_id} of session {session.id} {where} that says it is running"
        )


def _follow_tickets(told: dict[str, tuple[TicketState, str | None]], event: events.Event) -> None:
    match event:
        case events.TicketOpened(ticket_id=ticket_id, digest=digest):
            told[ticket_id] = (TicketState.PENDING, digest)
        case events.TicketResolved(ticket_id=ticket_id, state=state) if ticket_id in told:
            told[ticket_id] = (state, told[ticket_id][1])
        case events.CallDecided(ticket_id=str() as ticket_id, admitted=True) if ticket_id in told:
            told[ticket_id] = (TicketState.CLAIMED, told[ticket_id][1])
        case _:
            pass


def _check_tickets(
    connection: Connection, session: SessionRow, told: dict[str, tuple[TicketState, str | None]]
) -> None:
    for ticket_id, state, digest in _tickets(connection, session.id):
        if (TicketState(state), digest) != told.pop(ticket_id, None):
            raise _Disagreement(
                f"ticket {ticket_id} of session {session.id} is {state}; its events say otherwise"
            )
    for ticket_id in sorted(told):
        raise _Disagreement(f"ticket {ticket_id} of session {session.id} is missing")


def _tickets(connection: Connection, session_id: str) -> Iterator[tuple[str, str, str]]:
    query = (
        select(tables.tickets.c.id, tables.tickets.c.state, tables.tickets.c.digest)
        .where(tables.tickets.c.session_id == session_id)
        .order_by(tables.tickets.c.id)
    )
    for row in connection.execute(query):
        yield row.id, row.state, row.digest
