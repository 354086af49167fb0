"""verify(): recompute a session from its events, and name the first row that disagrees."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import msgspec
from sqlalchemy import Connection, select, union

from interlock import _canonical, events
from interlock._memory import Tracker, memory_of, recalled, text_of, tracker_of
from interlock._state import SessionState, fold
from interlock.errors import Conflict, NewerRelease, PolicyError
from interlock.policy import Policy
from interlock.store import feed, grants, halts, keys, policies, sessions, tickets
from interlock.store.events import head, remembered, whole_history
from interlock.store.exclusive import key_of
from interlock.store.statements import tables_of
from interlock.store.tables import to_microseconds
from interlock.store.told import Disagreement, Told, identity_of


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """
    What verifying one session found.

    Attributes:
        session_id, name: The session.
        state: What its events add up to, as far as they could be read.
        in_doubt: Ids of calls admitted and not finished: they may have had their effect.
        problem: The first disagreement, a sentence that names the row; None when all agrees.
        newer: Where an event of a newer release stands, so that only the chain could be verified; None where all was.
    """

    session_id: str
    name: str
    state: SessionState
    in_doubt: tuple[str, ...]
    problem: str | None
    newer: str | None = None


def verify(connection: Connection, session_id: str) -> Report:
    """
    Check that the history of a session is complete and unchanged, and that all rows about it follow from it.

    Those rows are the session's own, its intents, its tickets and the policies it names: each column of theirs, but
    for the time at which a policy was first stored. Of the events' positions it is checked what `feed.disagreement`
    says. Run it on a snapshot (`governor.read`).
    Deleting the last events together with an edit of the session's row is not seen from inside the database;
    the head of the chain is also on the spans. Where an event of a newer release stands, from which something may
    follow, the chain is checked to its end, and no other row follows from it here.
    """
    state = SessionState()
    told = Told(session_id)
    problem: str | None = None
    newer: str | None = None
    try:
        with _readable(f"an event of session {session_id}"):
            for recorded in whole_history(connection, session_id):
                _check_link(state, recorded)
                try:
                    state = fold([recorded], state)
                except NewerRelease as found:
                    newer = newer or str(found)
                    state = msgspec.structs.replace(
                        state, head=recorded.seq, head_hash=recorded.hash
                    )
                if newer is None:
                    told.hear(recorded)
        if newer is None:
            _check_rows(connection, state, told)
        else:
            _check_head(connection, session_id, state)
        _check_positions(connection, told)
    except Disagreement as found:
        problem = str(found)
    return Report(
        session_id=session_id,
        name=state.opened.name if state.opened else "",
        state=state,
        in_doubt=tuple(sorted({*state.running, *state.in_doubt})) if newer is None else (),
        problem=problem,
        newer=newer,
    )


def _check_rows(connection: Connection, state: SessionState, told: Told) -> None:
    _check_row(connection, told.session_id, state)
    _check_ownership(connection, told)
    _check_intents(connection, told)
    _check_tickets(connection, told)
    _check_grants(connection, told)
    _check_halts(connection, told)
    _check_policies(connection, told)
    _check_memory(connection, told)
    _check_usage(connection, told)
    _check_keys(connection, told)


def session_ids(connection: Connection, *, before: str | None = None, limit: int = 50) -> list[str]:
    """Return the ids of up to *limit* sessions, newest first, older than the session *before*; their rows unread."""
    column = tables_of(connection).sessions.c.id
    query = select(column).order_by(column.desc()).limit(limit)
    if before is not None:
        query = query.where(column < before)
    return list(connection.execute(query).scalars())


def orphans(connection: Connection) -> list[str]:
    """Return the ids of sessions that other rows are about, and that have no row themselves."""
    tables = tables_of(connection)
    known = select(tables.sessions.c.id)
    columns = [table.c.session_id for table in tables.all() if "session_id" in table.c]
    found = union(
        *(select(column).where(column.is_not(None), column.not_in(known)) for column in columns)
    )
    return sorted(connection.execute(found).scalars(), key=str)


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
        raise Disagreement(f"{what} cannot be read: {type(error).__name__}") from error


def _check_link(state: SessionState, recorded: events.Recorded) -> None:
    place = f"event {recorded.seq} of session {recorded.session_id}"
    if recorded.seq != state.head + 1:
        raise Disagreement(f"event {state.head + 1} of session {recorded.session_id} is missing")
    if recorded.previous_hash != state.head_hash:
        raise Disagreement(f"{place} does not follow from the event before it")
    if events.seal(recorded) != recorded.hash:
        raise Disagreement(f"{place} was changed after it was written: its hash is another")
    try:
        event = recorded.event
    except msgspec.DecodeError as error:
        raise Disagreement(f"{place} cannot be read: {error}") from error
    if events.kind_of(event) != recorded.kind:
        raise Disagreement(f"{place} is stored as {recorded.kind} but says otherwise")


def _check_row(connection: Connection, session_id: str, state: SessionState) -> None:
    row = f"row of session {session_id}"
    try:
        with _readable(row):
            stored = sessions.get(connection, session_id)
            if stored.head > state.head:
                raise Disagreement(f"event {state.head + 1} of session {session_id} is missing")
    except Conflict:
        raise Disagreement(f"{row} is missing, and other rows are about it") from None
    opened = state.opened
    if opened is None or state.opened_at is None:
        raise Disagreement(f"session {session_id} was never opened: no event says so")
    told = sessions.SessionRow(
        id=session_id,
        name=opened.name,
        identity=identity_of(opened),
        status=state.status,
        halt_id=state.halt_id,
        policy=opened.policy,
        head=state.head,
        head_hash=state.head_hash,
        opened_at=state.opened_at,
        closed_at=state.closed_at,
        parent=opened.parent,
        exclusive=key_of(opened.exclusive, opened.org),
    )
    _compare(row, stored, told)


def _check_ownership(connection: Connection, told: Told) -> None:
    """Since when it is open, and stuck; whose it is no event says, but that it is nobody's unless it is open."""
    row = f"row of session {told.session_id}"
    table = tables_of(connection).sessions
    query = select(table.c.owner, table.c.owned_at, table.c.stuck_at)
    with _readable(row):
        stored = connection.execute(query.where(table.c.id == told.session_id)).one()
        for column, value in told.session.items():
            if getattr(stored, column) != value:
                raise Disagreement(f"{row}: {column} is not what the events say")
        if stored.owner is not None and stored.owned_at is None:
            raise Disagreement(f"{row}: it is not open, and yet somebody runs it")


def _check_head(connection: Connection, session_id: str, state: SessionState) -> None:
    row = f"row of session {session_id}"
    try:
        stored = head(connection, session_id)
    except Conflict:
        raise Disagreement(f"{row} is missing, and other rows are about it") from None
    with _readable(row):
        if stored.seq > state.head:
            raise Disagreement(f"event {state.head + 1} of session {session_id} is missing")
        if (stored.seq, stored.hash) != (state.head, state.head_hash):
            raise Disagreement(f"{row}: head is not what the events say")


def _check_memory(connection: Connection, told: Told) -> None:
    """Each policy that decided in a session has it remember what that policy asks, from then on."""
    what = f"row of session {told.session_id}: memory"
    documents = [policies.document(connection, digest) for digest in sorted(told.judged)]
    asked = [_trackers(document) for document in documents]
    with _readable(what):
        chain = head(connection, told.session_id)
        trackers = {tracker for some in asked for tracker in some or ()}
        if None in asked:  # then what is stored must say itself what it is of
            trackers |= {tracker_of(key) for key in memory_of(chain.memory)}
        expected = recalled(trackers, remembered(connection, chain)) if trackers else {}
        if text_of(expected) != chain.memory:
            raise Disagreement(f"{what} is not what the events say")


@lru_cache(maxsize=256)
def _trackers(document: str) -> tuple[Tracker, ...] | None:
    """Return what a policy has sessions remember; None: it cannot be read here, as where a plugin of it is missing."""
    try:
        return Policy.parse(document).trackers
    except PolicyError:
        return None


def _check_intents(connection: Connection, told: Told) -> None:
    table = tables_of(connection).intents
    query = select(table).where(table.c.session_id == told.session_id)
    with _readable(f"an intent of session {told.session_id}"):
        stored = {row.call_id: dict(row._mapping) for row in connection.execute(query)}  # noqa: SLF001
    for call_id in sorted({*stored, *told.intents}, key=str):
        call = f"call {call_id} of session {told.session_id}"
        if call_id not in told.intents:
            raise Disagreement(f"{call} has an intent but no event that says it is running")
        if call_id not in stored:
            raise Disagreement(f"{call} has an event but no intent that says it is running")
        for column, value in told.intents[call_id].items():
            if stored[call_id][column] != value:
                raise Disagreement(f"intent of {call}: its {column} is not what its events say")


def _check_tickets(connection: Connection, told: Told) -> None:
    table = tables_of(connection).tickets
    query = select(table).where(table.c.session_id == told.session_id).order_by(table.c.id)
    with _readable(f"a ticket of session {told.session_id}"):
        stored = [tickets.from_row(row) for row in connection.execute(query)]
    missing = dict(told.tickets)
    for ticket in stored:
        name = f"ticket {ticket.id} of session {told.session_id}"
        if ticket.id not in missing:
            raise Disagreement(f"{name} was never opened: no event says so")
        _compare(name, ticket, missing.pop(ticket.id))
    for ticket_id in sorted(missing):
        raise Disagreement(f"ticket {ticket_id} of session {told.session_id} is missing")


def _check_grants(connection: Connection, told: Told) -> None:
    missing = dict(told.grants)
    with _readable(f"a grant of session {told.session_id}"):
        stored = grants.of_session(connection, told.session_id)
    for grant in stored:
        name = f"grant {grant.id} of session {told.session_id}"
        if grant.id not in missing:
            raise Disagreement(f"{name} was never given: no event says so")
        _compare(name, grant, missing.pop(grant.id))
    for grant_id in sorted(missing):
        raise Disagreement(f"grant {grant_id} of session {told.session_id} is missing")


def _check_halts(connection: Connection, told: Told) -> None:
    """What halts are otherwise, their own log says."""
    with _readable(f"a halt of session {told.session_id}"):
        stored = halts.targets(connection, told.halts) if told.halts else {}
    for halt_id, target in sorted(told.halts.items()):
        halt = f"halt {halt_id}, of which session {told.session_id} was told,"
        if halt_id not in stored:
            raise Disagreement(f"{halt} is missing")
        if stored[halt_id] != target:
            raise Disagreement(f"{halt} is of something else than the event says")


def _check_policies(connection: Connection, told: Told) -> None:
    table = tables_of(connection).policies
    for digest in sorted(told.policies):
        policy = f"policy {digest} of session {told.session_id}"
        query = select(table.c.name, table.c.document).where(table.c.digest == digest)
        row = connection.execute(query).one_or_none()
        if row is None:
            raise Disagreement(f"{policy} is missing")
        with _readable(policy):
            if _canonical.digest(row.document.encode()) != digest:
                raise Disagreement(f"{policy} was changed: its document has another digest")
            if msgspec.json.decode(row.document)["name"] != row.name:
                raise Disagreement(f"{policy}: its name is not what its document says")


def _check_usage(connection: Connection, told: Told) -> None:
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
            raise Disagreement(f"{name} was never recorded: no event says so")
        for column, value in missing.pop(stored["id"]).items():
            if stored[column] != value:
                raise Disagreement(f"{name}: {column} is not what the events say")
    for usage_id in sorted(missing):
        raise Disagreement(f"usage {usage_id} of session {told.session_id} is missing")


def _check_keys(connection: Connection, told: Told) -> None:
    with _readable(f"an idempotency key of session {told.session_id}"):
        stored = keys.of_session(connection, told.session_id)
    for key in sorted({*stored, *told.keys}, key=str):
        name = f"idempotency key {key} of session {told.session_id}"
        if key not in told.keys:
            raise Disagreement(f"{name} was never taken: no event says so")
        if key not in stored:
            raise Disagreement(f"{name} is missing")
        result = stored[key].result
        _compare(name, stored[key], msgspec.structs.replace(told.keys[key], result=result))
        with _readable(name):
            digest = None if result is None else _canonical.digest(result.encode())
        if digest != told.results.get(key):
            raise Disagreement(f"{name}: result is not what the events say")


def _check_positions(connection: Connection, told: Told) -> None:
    problem = feed.disagreement(connection, told.session_id)
    if problem is not None:
        raise Disagreement(problem)


def _compare(what: str, stored: msgspec.Struct, told: msgspec.Struct) -> None:
    for column in stored.__struct_fields__:
        if getattr(stored, column) != getattr(told, column):
            raise Disagreement(f"{what}: {column} is not what the events say")
