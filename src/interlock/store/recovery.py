"""
Operations of recovery: declare processes lost that are not heard of, and bring in order what they left open.

Each is a transaction of its own, bounded, and leaves the books in order, so that recovery may be cut off anywhere and
run again, also by several at once: what one of them has done, the others find done.

Rule 1: a process is lost once its row says so, and for ever. Who declares that keeps out all admissions meanwhile, as
`halts.engage` does: an admission that did not see it has committed before, and what it opened is seen.
Rule 2: nothing is taken from a process that is not declared lost.
Rule 3: what is decided with is read once its session is locked, so that nobody else makes something of it, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, and_, delete, or_, select, tuple_, update

from interlock import events
from interlock._budget import Amounts
from interlock._call import Recovery, is_text
from interlock._lease import Slot
from interlock._recovery import InDoubt
from interlock._state import SessionStatus
from interlock.errors import Conflict, Misuse
from interlock.store import halts, owners
from interlock.store.accounts import Accounts
from interlock.store.budgets import Held
from interlock.store.events import ask_heads, chains, write
from interlock.store.keys import Keys
from interlock.store.slots import Slots, slots_of
from interlock.store.statements import binding, now, plain, read, tables_of
from interlock.store.windows import Want, more_than

PAGE = 500
"""Calls, or sessions, that one transaction brings in order."""

BY = "interlock"
"""Who has found out what a tool declares, or says itself."""

GONE = "the process that ran it is gone"
"""Why a session is paused."""


class Left(msgspec.Struct, frozen=True):
    """A call that a lost process has left open, and who that was."""

    call: InDoubt
    owner: str

    @property
    def key(self) -> tuple[str, str]:
        """By which calls are paged."""
        return self.call.session_id, self.call.call_id


class Settled(msgspec.Struct, frozen=True, kw_only=True):
    """What one transaction has made of calls; `recorded` are the events, `unreadable` ids of calls."""

    doubted: tuple[InDoubt, ...] = ()
    retried: tuple[InDoubt, ...] = ()
    happened: tuple[InDoubt, ...] = ()
    not_happened: tuple[InDoubt, ...] = ()
    unreadable: tuple[str, ...] = ()
    recorded: tuple[events.Recorded, ...] = ()


def silent(connection: Connection) -> list[str]:
    """Return the ids of owners that are not declared lost, and have not been heard of for their term."""
    table = tables_of(connection).owners
    query = select(table.c.id).where(
        table.c.lost_at.is_(None), table.c.expires_at <= now(connection)
    )
    return list(plain(connection).execute(query.order_by(table.c.id)).scalars())


def declare(connection: Connection) -> list[str]:
    """Declare those lost who are `silent`, but for whoever does this; return their ids."""
    mine = binding(connection).owner
    if mine is not None and mine.is_known:
        owners.beat(connection, mine)
    if not silent(connection):  # nearly always, and then nobody is kept waiting
        return []
    connection = plain(connection)
    halts.exclude(connection)
    table, at = tables_of(connection).owners, now(connection)
    lost = connection.execute(
        update(table)
        .where(table.c.lost_at.is_(None), table.c.expires_at <= at)
        .values(lost_at=at)
        .returning(table.c.id)
    )
    return sorted(lost.scalars())


def left(
    connection: Connection,
    *,
    asking: Iterable[str] = (),
    after: tuple[str, str] | None = None,
    limit: int = PAGE,
    silent_too: bool = False,
) -> list[Left]:
    """
    Return up to *limit* calls that lost owners have left open, in order of their keys, and of which nothing was made.

    Args:
        connection: A snapshot of the store.
        asking: Names of tools that can be asked: their calls are among them that are in doubt already.
        after: Only those after the one with this key.
        limit: How many at most.
        silent_too: Whether owners count as lost that would be declared so.
    """
    tables = tables_of(connection)
    table = tables.intents
    key = (table.c.session_id, table.c.call_id)
    query = _left(connection, asking, silent_too=silent_too).order_by(*key).limit(limit)
    if after is not None:
        query = query.where(tuple_(*key) > after)
    return [Left(_found(row), row.owner) for row in plain(connection).execute(query)]


def settle(
    connection: Connection,
    found: Sequence[Left],
    answers: Mapping[str, bool | None],
    *,
    asking: Iterable[str] = (),
) -> Settled:
    """
    Make of the calls in *found* what their tools declare, where that still is to be done.

    Args:
        connection: A transaction of its own: nothing is locked yet.
        found: What `left` returned.
        answers: Of calls whose tools were asked, by id, whether they happened.
        asking: As for `left`.
    """
    page = _Page(connection, found, asking)
    for row in page.rows:
        page.settle(row, answer=answers.get(row.call_id))
    page.write()
    return page.settled()


def resolve(
    connection: Connection, call_id: str, *, happened: bool, by: str, comment: str | None = None
) -> events.Recorded:
    """
    Write down what a human has found out about a call in doubt, and return the event.

    If it happened, it is charged what it had reserved; else that is released.

    Raises:
        Misuse: *by* is empty.
        Conflict: no such call is in doubt.
    """
    if not (is_text(by) and by.strip()):
        raise Misuse("somebody says what became of a call: by= is missing")
    table = tables_of(connection).intents
    query = select(table).where(table.c.call_id == call_id, table.c.doubted_at.is_not(None))
    row = plain(connection).execute(query).first()
    page = (
        None if row is None else _Page(connection, [Left(_found(row), row.owner)], resolving=True)
    )
    if page is None or not page.rows:
        raise Conflict(
            f"no call {call_id} is in doubt; `interlock recover list` lists those that are"
        )
    page.close(page.rows[0], happened=happened, by=by, comment=comment)
    page.write()
    return page.settled().recorded[0]


def in_doubt(
    connection: Connection, *, after: tuple[str, str] | None = None, limit: int = 50
) -> list[InDoubt]:
    """Return up to *limit* calls that recovery has put in doubt, by session and id, after the one with that key."""
    table = tables_of(connection).intents
    key = (table.c.session_id, table.c.call_id)
    query = select(table).where(table.c.doubted_at.is_not(None)).order_by(*key).limit(limit)
    if after is not None:
        query = query.where(tuple_(*key) > after)
    return [_found(row) for row in plain(connection).execute(query)]


def left_sessions(
    connection: Connection, *, limit: int = PAGE, silent_too: bool = False
) -> list[str]:
    """Return the ids of up to *limit* sessions that lost owners have left open, oldest first."""
    tables = tables_of(connection)
    query = (
        select(tables.sessions.c.id)
        .join(tables.owners, tables.owners.c.id == tables.sessions.c.owner)
        .where(_is_lost(connection, silent_too=silent_too))
        .order_by(tables.sessions.c.id)
        .limit(limit)
    )
    return list(plain(connection).execute(query).scalars())


def pause(connection: Connection, session_ids: Sequence[str]) -> list[events.Recorded]:
    """Pause those of the sessions that lost owners have left open, so that they can be resumed; return the events."""
    tables = tables_of(connection)
    table = tables.sessions
    ends = chains(session_ids, read(connection, ask_heads(session_ids))[0])
    query = (
        select(table.c.id)
        .join(tables.owners, tables.owners.c.id == table.c.owner)
        .where(table.c.id.in_(session_ids), tables.owners.c.lost_at.is_not(None))
    )
    theirs = sorted(plain(connection).execute(query).scalars())
    at, recorded, paused = now(connection), [], []
    for session_id in theirs:
        chain = ends[session_id]
        if chain is not None and chain.status is SessionStatus.OPEN:
            recorded.append(chain.append(events.SessionPaused(reason=GONE), at=at))
            paused.append(session_id)
    write(connection, ends.values())
    connection = plain(connection)
    open_no_more = update(table).values(owner=None, owned_at=None, stuck_at=None)
    if paused:
        status = SessionStatus.PAUSED.value
        connection.execute(open_no_more.values(status=status).where(table.c.id.in_(paused)))
    if rest := sorted(set(theirs) - set(paused)):  # its row is damaged: it is nobody's all the same
        connection.execute(open_no_more.where(table.c.id.in_(rest)))
    return recorded


class _Page:
    """Calls that are left open, their sessions, leases and budgets locked, and what is made of them."""

    def __init__(
        self,
        connection: Connection,
        found: Sequence[Left],
        asking: Iterable[str] = (),
        *,
        resolving: bool = False,
    ) -> None:
        self._connection = connection
        sessions = {one.call.session_id for one in found}
        self._chains = chains(sessions, read(connection, ask_heads(sessions))[0])
        table = tables_of(connection).intents
        self._key = tuple_(table.c.session_id, table.c.call_id)
        query = (
            select(table).where(table.c.doubted_at.is_not(None))
            if resolving
            else _left(connection, asking)
        ).where(self._key.in_([one.key for one in found]))
        self._unreadable: list[str] = []
        self._slots_held: dict[str, tuple[Slot, ...]] = {}
        self._held: dict[str, Held | None] = {}
        rows = plain(connection).execute(query.order_by(table.c.session_id, table.c.call_id))
        self.rows = [row for row in rows if self._is_readable(row)]
        self._keys = Keys(connection)
        self._keys.lock_of((row.session_id, row.call_id) for row in self.rows)
        self._slots = Slots(connection)
        at = self._slots.lock(slot.key for held in self._slots_held.values() for slot in held)
        self._at = at or now(connection)
        self._accounts = Accounts(connection)
        self._accounts.lock(
            [
                Want(key, takes=more_than(Amounts(), held.amounts), lets_go=held.amounts)
                for held in self._held.values()
                if held is not None
                for key in held.windows
            ],
            at=self._at,
        )
        self._closed: list[tuple[str, str]] = []
        self._doubted: list[tuple[str, str]] = []
        self._made: dict[bool | None, list[InDoubt]] = {True: [], False: [], None: []}
        self._told: list[InDoubt] = []
        self._recorded: list[events.Recorded] = []

    def settle(self, row: Row[Any], *, answer: bool | None) -> None:
        """Make of a call what its tool declares."""
        rule = Recovery(row.recovery)
        if rule is Recovery.RETRY:
            self.close(row, happened=None, by=BY, rule=rule)
        elif rule is Recovery.PROBE and answer is not None:
            self.close(row, happened=answer, by=BY, rule=rule)
        elif row.doubted_at is None:
            self._doubt(row)

    def close(
        self,
        row: Row[Any],
        *,
        happened: bool | None,
        by: str,
        rule: Recovery | None = None,
        comment: str | None = None,
    ) -> None:
        """
        Say what became of a call, and give back what it holds.

        One that happened is charged what it had reserved, and keeps its idempotency key.
        """
        held, charged = self._held[row.call_id], None
        if held is not None:
            charged = held.amounts if happened else Amounts()
            self._accounts.charge(held.windows, held.amounts, charged)
        self._slots.release(self._slots_held.get(row.call_id, ()), at=self._at)
        self._keys.recover(row.call_id, happened=happened is True)
        self._append(
            row,
            events.CallRecovered(
                call_id=row.call_id,
                tool=row.tool,
                happened=happened,
                by=by,
                rule=rule,
                comment=comment,
                charged=charged,
            ),
        )
        self._closed.append((row.session_id, row.call_id))
        self._made[happened].append(_found(row))

    def write(self) -> None:
        """Write what was made of them."""
        write(self._connection, self._chains.values())
        connection = plain(self._connection)
        table = tables_of(connection).intents
        if self._closed:
            connection.execute(delete(table).where(self._key.in_(self._closed)))
        if self._doubted:
            marked = update(table).where(self._key.in_(self._doubted))
            connection.execute(marked.values(doubted_at=self._at, leases=None))
        self._accounts.write()
        self._slots.write()
        self._keys.write()

    def settled(self) -> Settled:
        """Return what was made of them."""
        return Settled(
            doubted=tuple(self._told),
            retried=tuple(self._made[None]),
            happened=tuple(self._made[True]),
            not_happened=tuple(self._made[False]),
            unreadable=tuple(self._unreadable),
            recorded=tuple(self._recorded),
        )

    def _doubt(self, row: Row[Any]) -> None:
        self._slots.release(self._slots_held.get(row.call_id, ()), at=self._at)
        self._append(row, events.CallDoubted(call_id=row.call_id, tool=row.tool, owner=row.owner))
        self._doubted.append((row.session_id, row.call_id))
        self._told.append(msgspec.structs.replace(_found(row), doubted_at=self._at))

    def _append(self, row: Row[Any], event: events.Event) -> None:
        chain = self._chains[row.session_id]
        assert chain is not None  # noqa: S101 - else the row was not readable
        self._recorded.append(chain.append(event, at=self._at))

    def _is_readable(self, row: Row[Any]) -> bool:
        """Whether a call can be brought in order; one row that was tampered with must not keep all others from it."""
        try:
            Recovery(row.recovery)
            self._held[row.call_id] = Held.read(row.reserved) if row.reserved else None
            if row.leases:
                self._slots_held[row.call_id] = slots_of(row.leases)
        except (msgspec.MsgspecError, TypeError, ValueError):
            found = False
        else:
            found = self._chains[row.session_id] is not None
        if not found:
            self._unreadable.append(row.call_id)
        return found


def _left(connection: Connection, asking: Iterable[str], *, silent_too: bool = False) -> Any:
    tables = tables_of(connection)
    table = tables.intents
    askable = and_(table.c.recovery == Recovery.PROBE.value, table.c.tool.in_(sorted(set(asking))))
    return (
        select(table)
        .join(tables.owners, tables.owners.c.id == table.c.owner)
        .where(
            _is_lost(connection, silent_too=silent_too),
            or_(table.c.doubted_at.is_(None), askable),
        )
    )


def _is_lost(connection: Connection, *, silent_too: bool) -> Any:
    table = tables_of(connection).owners
    lost = table.c.lost_at.is_not(None)
    return or_(lost, table.c.expires_at <= now(connection)) if silent_too else lost


def _found(row: Row[Any]) -> InDoubt:
    try:
        rule = Recovery(row.recovery)
    except ValueError:
        rule = Recovery.HOLD
    return InDoubt(
        call_id=row.call_id,
        session_id=row.session_id,
        tool=row.tool,
        admitted_at=row.admitted_at,
        rule=rule,
        doubted_at=row.doubted_at,
    )
