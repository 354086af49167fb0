"""
Operations on halts: engage, release, list, obey what a policy orders; and how an admission sees them.

Every transaction that admits takes the table's ROW SHARE lock before it reads the halts, and `engage` takes its
EXCLUSIVE lock, which waits for all of those and keeps out the next: so an admission that did not see a halt has
committed before `engage` can return. On SQLite there is one writer at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, Executable, Row, bindparam, func, insert, select, text, update

from interlock import events
from interlock._call import Call, is_text
from interlock._clock import new_id
from interlock._halt import Halt, Halted, HaltTarget, Order, targets_of
from interlock._halt_scope import HaltScope
from interlock._memory import HaltTracker, memory_of, remembering, text_of, tracker_of
from interlock.errors import Conflict, Misuse
from interlock.store import halt_log, lineage
from interlock.store.ear import HALTS, TICKETS, tell
from interlock.store.events import append, head, lock
from interlock.store.quoting import escaped, quoted
from interlock.store.statements import Prepared, now, plain, read, tables_of
from interlock.store.tables import Tables, from_microseconds

FEW = 32
"""So many standing halts are read by every admission; where there are more, those that can matter are asked for."""

_NAMES = ("id", "scope", "name", "reason", "by", "engaged_at")


def _locking(tables: Tables, mode: str) -> Executable:
    name = quoted(tables.halts.name, tables.schema)
    return text(escaped(f"LOCK TABLE {name} IN {mode} MODE"))


def _standing(tables: Tables) -> Any:
    table = tables.halts
    return select(*(table.c[name] for name in _NAMES)).where(table.c.released_at.is_(None))


_SHARE = Prepared(lambda tables: _locking(tables, "ROW SHARE"))
_FIRST = Prepared(lambda tables: _standing(tables).order_by(tables.halts.c.id).limit(FEW + 1))
_TARGETED = Prepared(
    lambda tables: _standing(tables).where(tables.halts.c.target == bindparam("target"))
)


class Obeyed(msgspec.Struct, frozen=True, kw_only=True):
    """
    What came of a policy's orders.

    Attributes:
        halts: Those that stand because of them; none where all was done already.
        recorded: The events that say so.
    """

    halts: tuple[Halt, ...] = ()
    recorded: tuple[events.Recorded, ...] = ()


def share(connection: Connection) -> None:
    """Keep halts from being engaged until the transaction ends; to be called before `ask_first` is sent."""
    if connection.dialect.name == "postgresql":
        _SHARE.run(connection, [{}])


def ask_first() -> tuple[Prepared, list[dict[str, object]]]:
    """Return the request that `Standing` needs the rows of."""
    return _FIRST, [{}]


class Standing:
    """The halts that stand and may cover the calls of one batch."""

    def __init__(
        self, connection: Connection, rows: Sequence[Sequence[Any]], batch: Iterable[Call]
    ) -> None:
        """Take what came of `ask_first`, and ask for the rest where that was not all."""
        if len(rows) > FEW:
            keys = sorted({key for call in batch for key in targets_of(call)})
            (found,) = read(connection, (_TARGETED, [{"target": key} for key in keys]))
            rows = [row for some in found for row in some]
        self._by_key: dict[str, Halt] = {}
        for row in rows:
            halt = _of_driver(row)
            self._by_key[halt.target.key] = halt

    def covering(self, call: Call) -> tuple[Halt, ...]:
        """Return the halts that stop *call*, the widest first."""
        if not self._by_key:  # nearly always
            return ()
        return tuple(self._by_key[key] for key in targets_of(call) if key in self._by_key)


def engage(connection: Connection, target: HaltTarget, *, reason: str, by: str) -> Halted:
    """
    Halt *target*: no call that it covers is admitted after this transaction, until the halt is released.

    Where it is halted already, that halt is returned, and nothing is written. A session learns of its halt by an
    event, unless its row is damaged; the halt stands in any case.

    Raises:
        Misuse: *by* or *reason* is empty.
        Conflict: there is nothing of a session with this id.
    """
    expect_said(reason=reason, by=by)
    connection = plain(connection)
    exclude(connection)
    table = tables_of(connection).halts
    found = connection.execute(
        select(table).where(table.c.target == target.key, table.c.released_at.is_(None))
    ).one_or_none()
    if found is not None:
        return Halted(
            halt=_of_row(found), durable=True, engaged=False, running=running(connection, target)
        )
    if target.scope is HaltScope.SESSION and not _is_known(connection, target.name):
        raise Conflict(
            f"there is no session {target.name}, so it was not halted; `interlock sessions` lists those that are"
        )
    halt = Halt(id=new_id(), target=target, reason=reason, by=by, engaged_at=now(connection))
    connection.execute(
        insert(table).values(
            id=halt.id,
            target=target.key,
            scope=target.scope.value,
            name=target.name,
            reason=reason,
            by=by,
            engaged_at=halt.engaged_at,
        )
    )
    halt_log.append(connection, "engaged", halt.id, target.key, reason, by, halt.engaged_at)
    tell(connection, HALTS)
    tell(connection, TICKETS)  # those who wait for an answer are to be told that they are halted
    recorded: events.Recorded | None = None
    if target.scope is HaltScope.SESSION:
        told = events.SessionHalted(halt_id=halt.id, reason=reason, by=by)
        recorded = _tell(connection, target.name, told, halt.engaged_at)
    return Halted(
        halt=halt,
        durable=True,
        engaged=True,
        running=running(connection, target),
        recorded=recorded,
    )


def obey(
    connection: Connection, session_id: str | None, orders: Sequence[Order], *, by: str
) -> Obeyed:
    """
    Engage what a policy orders because of a call in that session, in its name.

    Whether that was done already, on behalf of another call, is looked up first without the lock that keeps admissions
    out. The session learns that it was done, so that what it remembers begins anew, unless its row is damaged; the
    halt stands in any case.
    """
    connection = plain(connection)
    due = [order for order in orders if _is_due(connection, session_id, order)]
    if not due:
        return Obeyed()
    exclude(connection)
    found: list[Halt] = []
    recorded: list[events.Recorded] = []
    for order in due:
        if not _is_due(connection, session_id, order):
            continue
        done = engage(connection, order.target, reason=order.reason, by=by)
        found.append(done.halt)
        recorded += [done.recorded] if done.recorded is not None else []
        if session_id is not None:
            recorded += _remember(connection, session_id, order, done.halt)
    return Obeyed(halts=tuple(found), recorded=tuple(recorded))


def release(connection: Connection, halt_id: str, *, reason: str, by: str) -> Halt:
    """
    Release a halt, and return it. What other halts cover stays halted.

    Raises:
        Misuse: *by* or *reason* is empty.
        Conflict: there is no such halt, or it is released.
    """
    expect_said(reason=reason, by=by)
    connection = plain(connection)
    exclude(connection)
    table, at = tables_of(connection).halts, now(connection)
    row = connection.execute(
        update(table)
        .where(table.c.id == halt_id, table.c.released_at.is_(None))
        .values(released_at=at, released_by=by, release_reason=reason)
        .returning(table)
    ).one_or_none()
    if row is None:
        raise Conflict(
            f"there is no halt {halt_id} that stands; `interlock halts` lists those that do"
        )
    halt = _of_row(row)
    halt_log.append(connection, "released", halt.id, halt.target.key, reason, by, at)
    if halt.target.scope is HaltScope.SESSION:
        told = events.SessionReleased(halt_id=halt.id, reason=reason, by=by)
        _tell(connection, halt.target.name, told, at)
    return halt


def standing(
    connection: Connection, *, after: str | None = None, limit: int = 50, released: bool = False
) -> list[Halt]:
    """
    Return up to *limit* halts that stand, oldest first, engaged after the halt whose id is *after*.

    Those that are *released* are among them if that is asked for.
    """
    table = tables_of(connection).halts
    query = select(table).order_by(table.c.id).limit(limit)
    if not released:
        query = query.where(table.c.released_at.is_(None))
    if after is not None:
        query = query.where(table.c.id > after)
    return [_of_row(row) for row in connection.execute(query)]


def targets(connection: Connection, halt_ids: Iterable[str]) -> dict[str, str]:
    """Return what the halts with these ids are of, each by its key."""
    table = tables_of(connection).halts
    query = select(table.c.id, table.c.target).where(table.c.id.in_(sorted(halt_ids)))
    return {row.id: row.target for row in connection.execute(query)}


def running(connection: Connection, target: HaltTarget) -> int:
    """Return how many calls of *target* are admitted and not finished, in all processes."""
    tables = tables_of(connection)
    intents, sessions = tables.intents, tables.sessions
    query = select(func.count()).select_from(intents)
    match target.scope:
        case HaltScope.SYSTEM:
            pass
        case HaltScope.TOOL:
            query = query.where(intents.c.tool == target.name)
        case HaltScope.SESSION:
            within = lineage.descendants(connection, target.name)
            query = query.where(intents.c.session_id.in_(within))
        case _:
            query = query.join(sessions, sessions.c.id == intents.c.session_id)
            query = query.where(sessions.c[target.scope.value] == target.name)
    return connection.execute(query).scalar_one()


def exclude(connection: Connection) -> None:
    """Wait for the admissions that are under way, and keep out the next until the transaction ends."""
    if connection.dialect.name == "postgresql":
        connection.execute(_locking(tables_of(connection), "EXCLUSIVE"))


def _is_due(connection: Connection, session_id: str | None, order: Order) -> bool:
    """Whether *order* is still to be obeyed: what a session remembers of it is more than whether the halt stands."""
    if session_id is not None:
        try:
            number = memory_of(head(connection, session_id).memory).get(order.rule)
            tracker = None if number is None else tracker_of(order.rule)
        except _DAMAGED:
            number = tracker = None
        if number is not None and isinstance(tracker, HaltTracker):
            return tracker.is_due(number)
    table = tables_of(connection).halts
    query = select(table.c.id).where(
        table.c.target == order.target.key, table.c.released_at.is_(None)
    )
    return connection.execute(query).first() is None


def _remember(
    connection: Connection, session_id: str, order: Order, halt: Halt
) -> list[events.Recorded]:
    told = events.HaltOrdered(
        halt_id=halt.id, target=order.target.key, rule=order.rule, reason=order.reason, by=halt.by
    )
    try:
        chain = lock(connection, session_id)
        chain.memory = text_of(remembering(memory_of(chain.memory), told))
    except _DAMAGED:
        return []
    return append(connection, chain, [told], at=now(connection))


_DAMAGED = (Conflict, ValueError, TypeError, msgspec.MsgspecError)
"""What reading a session raises whose row is damaged."""


def _tell(
    connection: Connection, session_id: str, event: events.Event, at: datetime
) -> events.Recorded | None:
    try:
        chain = lock(connection, session_id)
    except _DAMAGED:
        return None  # its row is damaged: `verify` says how, and the halt stands without it
    return append(connection, chain, [event], at=at)[0]


def _is_known(connection: Connection, session_id: str) -> bool:
    tables = tables_of(connection)
    places = (tables.sessions.c.id, tables.events.c.session_id)
    return any(
        connection.execute(select(column).where(column == session_id).limit(1)).first() is not None
        for column in places
    )


def expect_said(**said: str) -> None:
    """Refuse a halt or release by nobody or for no reason."""
    for name, value in said.items():
        if not (is_text(value) and value.strip()):
            raise Misuse(
                f"a halt is engaged and released by somebody, for a reason: {name}= is missing"
            )


def _of_driver(row: Sequence[Any]) -> Halt:
    halt_id, scope, name, reason, by, at = row
    return Halt(
        id=halt_id,
        target=HaltTarget(HaltScope(scope), name),
        reason=reason,
        by=by,
        engaged_at=from_microseconds(at) if isinstance(at, int) else at,
    )


def _of_row(row: Row[Any]) -> Halt:
    return Halt(
        id=row.id,
        target=HaltTarget(HaltScope(row.scope), row.name),
        reason=row.reason,
        by=row.by,
        engaged_at=row.engaged_at,
        released_at=row.released_at,
        released_by=row.released_by,
        release_reason=row.release_reason,
    )
