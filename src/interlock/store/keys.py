"""
Keys: the idempotency keys that a batch of calls touches, and what it takes and ends of them.

A key is taken in the transaction that admits the call, and ended in the one that settles it: what the call gave is kept
there for those who make it again. A call that raised has failed, so its key is free again. On Postgres a key is locked
before it is looked at, whether or not it was ever taken, after the sessions and before all else.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from sqlalchemy import BigInteger, Connection, bindparam, delete, func, select, tuple_, update

from interlock import events
from interlock._call import Call
from interlock._decide import in_progress, reused
from interlock._replies import First
from interlock._verdict import Opinion
from interlock.store.statements import Prepared, insertion, plain, tables_of, value
from interlock.store.tables import Tables


class Kept(msgspec.Struct, frozen=True):
    """A row: the call that has a key, and what came of it. The columns are in the table's order."""

    key: str
    payload: str
    digest: str
    session_id: str
    call_id: str
    outcome: str | None = None
    result: str | None = None

    def is_repeated_by(self, call: Call, *, asks: bool) -> bool:
        """
        Whether *call* is to be given what came of this one, rather than be run, or asked about.

        The yes that was given to this one is good for its repetition in the same session; elsewhere another is needed.
        """
        is_same = call.idempotency is not None and call.idempotency.payload == self.payload
        return is_same and self.outcome is not None and (not asks or call.digest == self.digest)

    def objection_to(self, call: Call) -> Opinion | None:
        """Return what speaks against *call* running, or asking, beside or after this one; None: nothing does."""
        if call.idempotency is None or call.idempotency.payload != self.payload:
            return reused(self.call_id)
        return in_progress(self.call_id) if self.outcome is None else None

    @property
    def first(self) -> First:
        """What others that have this key are told of it."""
        outcome = None if self.outcome is None else events.Outcome(self.outcome)
        return First(
            call_id=self.call_id, payload=self.payload, outcome=outcome, result=self.result
        )


def _is_held(tables: Tables) -> Any:
    table = tables.idempotency_keys
    return (table.c.key == value(table.c.key, "which")) & (
        table.c.call_id == value(table.c.call_id, "held_by")
    )


def _end(tables: Tables) -> Any:
    table = tables.idempotency_keys
    ended = {name: value(table.c[name]) for name in ("outcome", "result")}
    return update(table).where(_is_held(tables)).values(ended)


_LOCK = Prepared(
    lambda _: select(func.pg_advisory_xact_lock(bindparam("number", type_=BigInteger)))
)
_FIND = Prepared(
    lambda tables: select(tables.idempotency_keys).where(
        tables.idempotency_keys.c.key == bindparam("which")
    )
)
_TAKE = Prepared(lambda tables: insertion(tables.idempotency_keys))
_END = Prepared(_end)
_FREE = Prepared(lambda tables: delete(tables.idempotency_keys).where(_is_held(tables)))


class Keys:
    """The idempotency keys that a transaction has locked."""

    def __init__(self, connection: Connection) -> None:
        """Lock nothing yet."""
        self._connection = connection
        self._rows: dict[str, Kept] = {}
        self._taken: dict[str, Kept] = {}
        self._ended: dict[str, Kept] = {}
        self._freed: dict[str, Kept] = {}

    def lock(self, keys: Iterable[str]) -> None:
        """Lock and read *keys*."""
        all_ = sorted(set(keys))
        if not all_:  # nearly always
            return
        if self._connection.dialect.name == "postgresql":
            _LOCK.rows(self._connection, [{"number": _number(key)} for key in all_])
        for rows in _FIND.rows(self._connection, [{"which": key} for key in all_]):
            for row in rows:
                kept = Kept(*row)
                self._rows[kept.key] = kept

    def lock_of(self, calls: Iterable[tuple[str, str]]) -> None:
        """Lock and read those that *calls* have, by the ids of their sessions, which are locked, and their own."""
        table = tables_of(self._connection).idempotency_keys
        holder = tuple_(table.c.session_id, table.c.call_id)
        query = select(table.c.key).where(holder.in_(sorted(calls)))
        self.lock(plain(self._connection).execute(query).scalars())

    def of(self, key: str) -> Kept | None:
        """Return who has a key that is locked; None: nobody."""
        return self._rows.get(key)

    def take(self, call: Call) -> None:
        """Have *call* take its key, if it has one and nobody has taken that."""
        if call.idempotency is None or call.idempotency.key in self._rows:
            return
        key, payload = call.idempotency.key, call.idempotency.payload
        self._rows[key] = Kept(key, payload, call.digest, call.session_id, call.id)
        self._taken[key] = self._rows[key]

    def end(self, call: Call, outcome: events.Outcome, result: str | None) -> None:
        """Write down how the call ended that holds its key, and *result*, canonical JSON, for those who repeat it."""
        if call.idempotency is None:
            return
        key, payload = call.idempotency.key, call.idempotency.payload
        kept = Kept(key, payload, call.digest, call.session_id, call.id, outcome.value, result)
        if outcome is events.Outcome.RAISED:
            self._freed[key] = kept
        else:
            self._ended[key] = kept

    def recover(self, call_id: str, *, happened: bool) -> None:
        """
        Write down what is known of a call whose process is gone, where it holds a key that is locked.

        If it happened, nobody knows what it gave; else its key is free again.
        """
        for kept in [kept for kept in self._rows.values() if kept.call_id == call_id]:
            if happened:
                outcome = events.Outcome.RETURNED.value
                self._ended[kept.key] = msgspec.structs.replace(kept, outcome=outcome)
            else:
                self._freed[kept.key] = kept

    def write(self) -> None:
        """Write what was taken and ended."""
        _TAKE.run(self._connection, [msgspec.structs.asdict(kept) for kept in self._taken.values()])
        _END.run(
            self._connection,
            [
                {**_held(kept), "outcome": kept.outcome, "result": kept.result}
                for kept in self._ended.values()
            ],
        )
        _FREE.run(self._connection, [_held(kept) for kept in self._freed.values()])


def of_session(connection: Connection, session_id: str) -> dict[str, Kept]:
    """Return the keys that calls of a session have, by key."""
    table = tables_of(connection).idempotency_keys
    query = select(table).where(table.c.session_id == session_id)
    return {row.key: Kept(*row) for row in connection.execute(query)}


def _held(kept: Kept) -> dict[str, object]:
    return {"which": kept.key, "held_by": kept.call_id}


def _number(key: str) -> int:
    """Return the number by which Postgres locks a key; that two keys share one makes them wait, and nothing else."""
    return int(key[:16], 16) - 2**63
