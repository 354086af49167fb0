"""verify(): recompute a session from its events, and name the first row that disagrees."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, select, union

from interlock import _canonical, events
from interlock._call import Identity
from interlock._state import SessionState, fold
from interlock._ticket import Ticket, TicketState
from interlock._usage import ModelUsage, Priced
from interlock.errors import Conflict
from interlock.store import sessions, tickets, usage
from interlock.store.budgets import Held
from interlock.store.events import whole_history
from interlock.store.statements import tables_of
from interlock.store.tables import to_microseconds


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


def verify(connection: Connection, session_id: str) -> Report:
    """
    Check that the history of a session is complete and unchanged, and that all rows about it follow from it.

    Those rows are the session's own, its intents, its tickets and the policies it names: each column of theirs, but
    for the time at which a policy was first stored. Run it on a snapshot (`governor.read`).
    Deleting the last events together with an edit of the session's row is not seen from inside the database;
    the head of the chain is also on the spans.
    """
    state = SessionState()
    told = _Told(session_id)
    problem: str | None = None
    try:
        with _readable(f"an event of session {session_id}"):
            for recorded in whole_history(connection, session_id):
                _check_link(state, recorded)
                state = fold([recorded], state)
                told.hear(recorded)
        _check_row(connection, session_id, state)
        _check_intents(connection, told)
        _check_tickets(connection, told)
        _check_policies(connection, told)
        _check_usage(connection, told)
    except _Disagreement as found:
        problem = str(found)
    return Report(
        session_id=session_id,
        name=state.opened.name if state.opened else "",
        state=state,
        in_doubt=tuple(sorted(state.running)),
        problem=problem,
    )


def session_ids(connection: Connection, *, before: str | None = None, limit: int = 50) -> list[str]:
    """Return the ids of up to *limit* sessions, newest first, older than the session *before*; their rows unread."""
    column = tables_of(connection).sessions.c.id
    query = select(column).order_by(column.desc()).limit(limit)
    if before is not None:
        query = query.where(column < before)
    return list(connection.execute(query).scalars())


def orphans(connection: Connection) -> list[str]:
    """Return the ids of sessions that have events, intents or tickets, but no row."""
    tables = tables_of(connection)
    known = select(tables.sessions.c.id)
    columns = [table.c.session_id for table in (tables.events, tables.intents, tables.tickets)]
    found = union(*(select(column).where(column.not_in(known)) for column in columns))
    return sorted(connection.execute(found).scalars(), key=str)


class _Told:
    """The rows that the events of a session add up to."""

    def __init__(self, session_id: str) -> None:
        self.session_id = session_id
        self.intents: dict[str, tuple[str, datetime, str | None]] = {}
        self.tickets: dict[str, Ticket] = {}
        self.policies: set[str] = set()
        self.usage: dict[str, dict[str, object]] = {}
        self._opened: events.SessionOpened | None = None
        self._decided: events.CallDecided | None = None
        self._held: dict[str, events.CallDecided] = {}

    def hear(self, recorded: events.Recorded) -> None:
        match recorded.event:
            case events.SessionOpened() as opened:
                self._opened = opened
                self.policies |= {opened.policy} if opened.policy else set()
            case events.CallDecided() as decided:
                self._decided = decided
                self.policies.add(decided.policy)
                if decided.admitted:
                    held = Held(decided.reserved, decided.windows) if decided.reserved else None
                    text = None if held is None else held.text()
                    self.intents[decided.call_id] = (decided.tool, recorded.at, text)
                    self._held[decided.call_id] = decided
                    self._change(decided.ticket_id, state=TicketState.CLAIMED)
            case events.CallFinished() as finished:
                decided_before = self._held.pop(finished.call_id, None)
                self.intents.pop(finished.call_id, None)
                self._call_used(finished, decided_before, recorded)
            case events.UsageRecorded() as used:
                self._used(used, recorded)
            case events.TicketOpened() as opened:
                self._ticket_opened(opened, recorded)
            case events.TicketResolved() as answer:
                self._change(
                    answer.ticket_id,
                    state=answer.state,
                    decided_by=answer.by,
                    decided_at=recorded.at,
                    comment=answer.comment,
                )
            case events.SessionClosed():
                pass

    def _ticket_opened(self, opened: events.TicketOpened, recorded: events.Recorded) -> None:
        session, decided = self._opened, self._decided
        if session is None or decided is None or decided.call_id != opened.call_id:
            raise _Disagreement(
                f"event {recorded.seq} of session {self.session_id} opens a ticket for a call that was not decided"
            )
        self.tickets[opened.ticket_id] = Ticket(
            id=opened.ticket_id,
            session_id=self.session_id,
            call_id=opened.call_id,
            tool=opened.tool,
            digest=opened.digest,
            arguments=decided.arguments,
            reason=decided.reason,
            approvers=opened.approvers,
            requested_by=tuple(name for name in (session.agent, session.user) if name),
            state=TicketState.PENDING,
            opened_at=recorded.at,
            expires_at=opened.expires_at,
        )

    def _call_used(
        self,
        finished: events.CallFinished,
        decided: events.CallDecided | None,
        recorded: events.Recorded,
    ) -> None:
        if finished.usage_id is None or finished.usage is None or decided is None:
            return
        # The event's cost may be what was declared; the ledger has only what the usage is known to cost.
        known = finished.priced_by is not None
        priced = Priced(
            of=ModelUsage(
                model=decided.model or decided.tool,
                provider=finished.provider,
                usage=finished.usage,
            ),
            cost_usd=finished.cost_usd if known else None,
            by=finished.priced_by,
        )
        charged = finished.charged
        self._told_usage(
            finished.usage_id,
            recorded,
            priced,
            identity=None if self._opened is None else _identity(self._opened),
            call_id=finished.call_id,
            charged=Held(charged, decided.windows) if charged and decided.windows else None,
        )

    def _used(self, used: events.UsageRecorded, recorded: events.Recorded) -> None:
        priced = Priced(
            of=ModelUsage(model=used.model, provider=used.provider, usage=used.usage),
            cost_usd=used.cost_usd,
            by=used.priced_by,
        )
        charged = Held(used.charged, used.windows) if used.charged and used.windows else None
        self._told_usage(
            used.usage_id,
            recorded,
            priced,
            identity=used.identity,
            call_id=None,
            charged=charged,
        )

    def _told_usage(
        self,
        usage_id: str,
        recorded: events.Recorded,
        priced: Priced,
        *,
        identity: Identity | None,
        call_id: str | None,
        charged: Held | None,
    ) -> None:
        self.usage[usage_id] = usage.row(
            usage_id,
            recorded.at,
            priced,
            identity,
            session_id=self.session_id,
            call_id=call_id,
            charged=charged,
        )

    def _change(self, ticket_id: str | None, **fields: Any) -> None:
        if ticket_id in self.tickets:
            ticket = self.tickets[ticket_id]
            self.tickets[ticket_id] = msgspec.structs.replace(ticket, **fields)


@contextmanager
def _readable(what: str) -> Iterator[None]:
    """A column may hold anything once somebody has written there: that, too, is a disagreement."""
    try:
        yield
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        TypeError,
        ValueError,
        msgspec.MsgspecError,
    ) as error:
        raise _Disagreement(f"{what} cannot be read: {type(error).__name__}") from error


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


def _check_row(connection: Connection, session_id: str, state: SessionState) -> None:
    row = f"row of session {session_id}"
    try:
        with _readable(row):
            stored = sessions.get(connection, session_id)
            if stored.head > state.head:
                raise _Disagreement(f"event {state.head + 1} of session {session_id} is missing")
    except Conflict:
        raise _Disagreement(f"{row} is missing, and other rows are about it") from None
    opened = state.opened
    if opened is None or state.opened_at is None:
        raise _Disagreement(f"session {session_id} was never opened: no event says so")
    told = sessions.SessionRow(
        id=session_id,
        name=opened.name,
        identity=_identity(opened),
        status=state.status,
        policy=opened.policy,
        head=state.head,
        head_hash=state.head_hash,
        opened_at=state.opened_at,
        closed_at=state.closed_at,
    )
    _compare(row, stored, told)


def _check_intents(connection: Connection, told: _Told) -> None:
    table = tables_of(connection).intents
    query = select(table.c.call_id, table.c.tool, table.c.admitted_at, table.c.reserved).where(
        table.c.session_id == told.session_id
    )
    with _readable(f"an intent of session {told.session_id}"):
        stored = {row[0]: tuple(row[1:]) for row in connection.execute(query)}
    for call_id in sorted({*stored, *told.intents}, key=str):
        call = f"call {call_id} of session {told.session_id}"
        if call_id not in told.intents:
            raise _Disagreement(f"{call} has an intent but no event that says it is running")
        if call_id not in stored:
            raise _Disagreement(f"{call} has an event but no intent that says it is running")
        if stored[call_id] != told.intents[call_id]:
            raise _Disagreement(
                f"intent of {call}: its tool, time or reservation is not what its event says"
            )


def _check_tickets(connection: Connection, told: _Told) -> None:
    table = tables_of(connection).tickets
    query = select(table).where(table.c.session_id == told.session_id).order_by(table.c.id)
    with _readable(f"a ticket of session {told.session_id}"):
        stored = [tickets.from_row(row) for row in connection.execute(query)]
    missing = dict(told.tickets)
    for ticket in stored:
        name = f"ticket {ticket.id} of session {told.session_id}"
        if ticket.id not in missing:
            raise _Disagreement(f"{name} was never opened: no event says so")
        _compare(name, ticket, missing.pop(ticket.id))
    for ticket_id in sorted(missing):
        raise _Disagreement(f"ticket {ticket_id} of session {told.session_id} is missing")


def _check_policies(connection: Connection, told: _Told) -> None:
    table = tables_of(connection).policies
    for digest in sorted(told.policies):
        policy = f"policy {digest} of session {told.session_id}"
        query = select(table.c.name, table.c.document).where(table.c.digest == digest)
        row = connection.execute(query).one_or_none()
        if row is None:
            raise _Disagreement(f"{policy} is missing")
        with _readable(policy):
            if _canonical.digest(row.document.encode()) != digest:
                raise _Disagreement(f"{policy} was changed: its document has another digest")
            if msgspec.json.decode(row.document)["name"] != row.name:
                raise _Disagreement(f"{policy}: its name is not what its document says")


def _check_usage(connection: Connection, told: _Told) -> None:
    table = tables_of(connection).usage
    query = select(table).where(table.c.session_id == told.session_id).order_by(table.c.id)
    with _readable(f"a row of usage of session {told.session_id}"):
        rows = [
            {**row._mapping, "at": to_microseconds(row.at)}  # noqa: SLF001 - the documented way
            for row in connection.execute(query)
        ]
    missing = dict(told.usage)
    for stored in rows:
        name = f"usage {stored['id']} of session {told.session_id}"
        if stored["id"] not in missing:
            raise _Disagreement(f"{name} was never recorded: no event says so")
        for column, value in missing.pop(stored["id"]).items():
            if stored[column] != value:
                raise _Disagreement(f"{name}: {column} is not what the events say")
    for usage_id in sorted(missing):
        raise _Disagreement(f"usage {usage_id} of session {told.session_id} is missing")


def _identity(opened: events.SessionOpened) -> Identity:
    return Identity(agent=opened.agent, user=opened.user, team=opened.team, org=opened.org)


def _compare(what: str, stored: msgspec.Struct, told: msgspec.Struct) -> None:
    for column in stored.__struct_fields__:
        if getattr(stored, column) != getattr(told, column):
            raise _Disagreement(f"{what}: {column} is not what the events say")
