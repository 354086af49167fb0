"""Operations on events: append them to a session's chain, read them back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection, Row, select, tuple_, update

from interlock import events
from interlock._clock import new_id
from interlock._counters import Count, counts
from interlock._state import SessionStatus, status_after
from interlock.errors import Conflict
from interlock.store import counters, owners
from interlock.store.counters import Tally
from interlock.store.owner import NOBODY
from interlock.store.statements import Prepared, insertion, raw, read, tables_of, value
from interlock.store.tables import to_microseconds

PAGE = 1_000
"""Events read at once: a few hundred kilobytes, so that the longest history fits in little memory."""

_REMEMBERED = tuple(
    str(kind.__struct_config__.tag) for kind in (events.CallDecided, events.HaltOrdered)
)

_HEAD = Prepared(
    lambda tables: (
        select(
            *(tables.sessions.c[name] for name in ("status", "head", "head_hash", "memory")),
            owners.lost_at(tables),
        )
        .where(tables.sessions.c.id == value(tables.sessions.c.id))
        .with_for_update()
    )
)
_INSERT = Prepared(lambda tables: insertion(tables.events))
_ADVANCE = Prepared(
    lambda tables: (
        update(tables.sessions)
        .where(tables.sessions.c.id == value(tables.sessions.c.id, "session"))
        .values(
            head=value(tables.sessions.c.head, "seq"),
            head_hash=value(tables.sessions.c.head_hash, "hash"),
            memory=value(tables.sessions.c.memory, "remembered"),
        )
    )
)


class Chain:
    """
    The end of a session's chain in one transaction, and what is to be appended to it.

    Attributes:
        session_id: The session.
        status: Whether it admits calls.
        seq, hash: The last event's number and hash; those of what is appended, once something is.
        memory: What the session remembers for its policy, as it is stored; None: nothing.
    """

    __slots__ = ("_counts", "_rows", "hash", "memory", "seq", "session_id", "status")

    def __init__(
        self,
        session_id: str,
        status: SessionStatus,
        seq: int,
        hash: str,  # noqa: A002
        memory: str | None = None,
    ) -> None:
        self.session_id = session_id
        self.status = status
        self.seq = seq
        self.hash = hash
        self.memory = memory
        self._rows: list[dict[str, object]] = []
        self._counts: list[tuple[int, list[Count]]] = []

    def append(
        self, event: events.Event, *, at: datetime, trace: events.TraceIds | None = None
    ) -> events.Recorded:
        """
        Number, chain and return *event*; `write` writes it.

        Args:
            event: What happened.
            at: The one instant of the transaction, so that what it writes elsewhere agrees with its events.
            trace: The span that shows it.
        """
        recorded = events.link(
            event,
            id=new_id(),
            session_id=self.session_id,
            seq=self.seq + 1,
            at=at,
            trace=trace,
            previous_hash=self.hash,
        )
        self.seq, self.hash = recorded.seq, recorded.hash
        self._rows.append(_row(recorded))
        self._counts.append((to_microseconds(at), counts(event, self.status)))
        self.status = status_after(self.status, event)
        return recorded

    def taken(self, tally: Tally) -> list[dict[str, object]]:
        """Return the rows to be written, once, and have *tally* take what they add to the counters."""
        rows, self._rows = self._rows, []
        counted, self._counts = self._counts, []
        for at_us, some in counted:
            tally.add(at_us, some)
        return rows


def lock(connection: Connection, session_id: str) -> Chain:
    """
    Return the end of a session's chain, its row locked until the transaction ends.

    Raises:
        Conflict: there is no such session.
    """
    chain = chains([session_id], read(connection, ask_heads([session_id]))[0])[session_id]
    if chain is None:
        raise unknown(session_id)
    return chain


def head(connection: Connection, session_id: str) -> Chain:
    """
    Return the end of a session's chain as it stands, without locking it.

    Raises:
        Conflict: there is no such session.
    """
    table = tables_of(connection).sessions
    row = connection.execute(
        select(table.c.status, table.c.head, table.c.head_hash, table.c.memory).where(
            table.c.id == session_id
        )
    ).one_or_none()
    if row is None:
        raise unknown(session_id)
    return Chain(session_id, SessionStatus(row.status), row.head, row.head_hash, row.memory)


def ask_heads(
    session_ids: Iterable[str], owner: str = NOBODY
) -> tuple[Prepared, list[dict[str, object]]]:
    """Return the request that locks sessions, in a fixed order, and of which `chains` and `lost_at` need the rows."""
    return _HEAD, [{"id": session_id, "owner": owner} for session_id in sorted(session_ids)]


def lost_at(rows: list[list[Any]]) -> int | None:
    """Return when the owner was lost that `ask_heads` asked for; 0: not yet, None: it has no row, or nothing has."""
    return next((found[0][-1] for found in rows if found), None)


def chains(session_ids: Iterable[str], rows: list[list[Any]]) -> dict[str, Chain | None]:
    """Return the end of each session's chain, None where there is no such session, given what came of `ask_heads`."""
    return {
        session_id: Chain(session_id, SessionStatus(found[0][0]), *found[0][1:-1])
        if found
        else None
        for session_id, found in zip(sorted(session_ids), rows, strict=True)
    }


def write(connection: Connection, changed: Iterable[Chain | None]) -> None:
    """Write what has been appended to the chains in *changed* since it was last written."""
    rows: list[dict[str, object]] = []
    heads: list[dict[str, object]] = []
    tally = Tally()
    for chain in changed:
        if chain is not None and (new := chain.taken(tally)):
            rows += new
            heads.append(
                {
                    "session": chain.session_id,
                    "seq": chain.seq,
                    "hash": chain.hash,
                    "remembered": chain.memory,
                }
            )
    _INSERT.run(connection, rows)
    _ADVANCE.run(connection, heads)
    counters.write(connection, tally.sums())


def append(
    connection: Connection, chain: Chain, new: Sequence[events.Event], *, at: datetime
) -> list[events.Recorded]:
    """Append *new* to a session's history, in this order, and write it; return the events in their places."""
    recorded = [chain.append(event, at=at) for event in new]
    write(connection, [chain])
    return recorded


def unknown(session_id: str) -> Conflict:
    """Return the error that says that there is no such session."""
    return Conflict(f"there is no session {session_id}; `interlock sessions` lists those that are")


def history(
    connection: Connection, session_id: str, *, after: int = 0, limit: int = PAGE
) -> list[events.Recorded]:
    """Return up to *limit* events of the session that follow event number *after*, in order."""
    table = tables_of(connection).events
    rows = connection.execute(
        select(table)
        .where(table.c.session_id == session_id, table.c.seq > after)
        .order_by(table.c.seq)
        .limit(limit)
    )
    return [from_row(row) for row in rows]


def whole_history(connection: Connection, session_id: str) -> Iterator[events.Recorded]:
    """Yield every event of the session, in order, reading a page at a time."""
    after = 0
    while page := history(connection, session_id, after=after):
        yield from page
        after = page[-1].seq


def remembered(
    connection: Connection, chain: Chain
) -> Iterator[events.CallDecided | events.HaltOrdered]:
    """
    Yield what the session of *chain* may have to remember, in order, reading a page at a time.

    Raises:
        NewerRelease: one of these was recorded by a newer release, in a form that this one does not know.
    """
    table, after = tables_of(connection).events, 0
    if chain.seq <= 1:  # nothing happened but its opening
        return
    query = (
        select(table.c.seq, table.c.kind, table.c.version, table.c.body)
        .where(table.c.session_id == chain.session_id, table.c.kind.in_(_REMEMBERED))
        .order_by(table.c.seq)
        .limit(PAGE)
    )
    while page := connection.execute(query.where(table.c.seq > after)).all():
        for row in page:
            decoded = events.decode(row.body, row.kind, row.version)
            event = events.understood(decoded, f"event {row.seq} of session {chain.session_id}")
            if isinstance(event, (events.CallDecided, events.HaltOrdered)):
                yield event
        after = page[-1].seq


class Place(NamedTuple):
    """Where an event is, and when it was written, in microseconds since 1970 as stored."""

    session_id: str
    seq: int
    at_us: int


def known(
    connection: Connection, *kinds: type[events.Event]
) -> Iterator[tuple[Place, events.Event]]:
    """
    Yield every event of *kinds*, all if none is named, session by session and in order, reading a page at a time.

    One that cannot be read is left out.

    Raises:
        NewerRelease: one was recorded by a newer release, and what follows from it is not known.
    """
    table, after = tables_of(connection).events, ("", 0)
    columns = (table.c[name] for name in ("session_id", "seq", "kind", "version", "body"))
    query = select(*columns, raw(table.c.at).label("at"))
    if kinds:
        tags = [str(kind.__struct_config__.tag) for kind in kinds]
        query = query.where(table.c.kind.in_(tags))
    place = tuple_(table.c.session_id, table.c.seq)
    query = query.order_by(table.c.session_id, table.c.seq).limit(PAGE)
    while rows := connection.execute(query.where(place > after)).all():
        for row in rows:
            # One that was changed is named by `verify`, and shows in whatever is added up.
            with suppress(msgspec.MsgspecError, TypeError, ValueError):
                decoded = events.decode(row.body, row.kind, row.version)
                where = f"event {row.seq} of session {row.session_id}"
                if (event := events.understood(decoded, where)) is not None:
                    yield Place(row.session_id, row.seq, row.at), event
        after = rows[-1].session_id, rows[-1].seq


def from_row(row: Row[Any]) -> events.Recorded:
    """Return the event that *row* of the table holds, as it is stored and unverified."""
    ids = (row.trace_id, row.span_id, row.trace_flags)
    trace = None if ids == (None, None, None) else events.TraceIds(*ids)
    return events.Recorded(
        id=row.id,
        session_id=row.session_id,
        seq=row.seq,
        at=row.at,
        kind=row.kind,
        version=row.version,
        body=row.body,
        trace=trace,
        previous_hash=row.previous_hash,
        hash=row.hash,
    )


def _row(recorded: events.Recorded) -> dict[str, object]:
    trace = recorded.trace
    return {
        "session_id": recorded.session_id,
        "seq": recorded.seq,
        "id": recorded.id,
        "at": to_microseconds(recorded.at),
        "kind": recorded.kind,
        "version": recorded.version,
        "body": recorded.body,
        "trace_id": trace.trace_id if trace else None,
        "span_id": trace.span_id if trace else None,
        "trace_flags": trace.flags if trace else None,
        "previous_hash": recorded.previous_hash,
        "hash": recorded.hash,
    }
