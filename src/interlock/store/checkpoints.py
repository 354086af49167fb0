"""Operations of checkpoints: how far every session has come, and whether what they had come to is still there."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

import msgspec
from sqlalchemy import Connection, func, select, tuple_

from interlock._checkpoint import HALTS, USAGE, Chain, Checkpoint, Head, Heads
from interlock.events import GENESIS
from interlock.store import feed, usage_seals
from interlock.store.statements import now, raw, tables_of
from interlock.store.tables import from_microseconds

SLACK = timedelta(minutes=5)
"""So much later than its own time says may a session become visible: clocks of machines differ."""

_AT_ONCE = 400
_NO_USAGE = Head(0, GENESIS)


class Mark(msgspec.Struct, frozen=True):
    """
    How far a store has come.

    Attributes:
        position: The last position of an event that is visible.
        usage: The last position of a row of usage that is visible.
        writers: The transactions that may yet make earlier ones visible.
    """

    position: int
    usage: int
    writers: frozenset[str]


def mark(connection: Connection) -> Mark:
    """Return how far the store has come, as it is seen; run it on a snapshot."""
    is_sqlite = connection.dialect.name == "sqlite"
    return Mark(
        position=feed.latest(connection).position,
        usage=usage_seals.last(connection),
        writers=frozenset() if is_sqlite else feed.writers(connection, tables_of(connection).usage),
    )


def heads(connection: Connection, chain: Chain, final: Mark | None) -> Heads:
    """
    Return how far each session has come that has changed since *chain*, and the other streams; run it on a snapshot.

    Args:
        connection: A transaction that reads.
        chain: The checkpoints so far.
        final: Up to where everything is known to be visible; None: that is not known.
    """
    tables = tables_of(connection)
    sessions, log = tables.sessions.c, tables.halt_log.c
    before = 0 if chain.last is None else chain.last.position
    changed = select(tables.events.c.session_id).where(tables.events.c.position > before)
    found = {
        row.id: Head(row.head, row.head_hash)
        for row in connection.execute(
            select(sessions.id, sessions.head, sessions.head_hash).where(sessions.id.in_(changed))
        )
    }
    last = connection.execute(
        select(log.seq, log.hash).order_by(log.seq.desc()).limit(1)
    ).one_or_none()
    if last is not None:
        found[HALTS] = Head(last.seq, last.hash)
    if final is not None and (used := _used(connection, chain, final.usage)):
        found[USAGE] = used
    position = before if final is None else final.position
    return Heads(at=now(connection), position=position, heads=found)


def _used(connection: Connection, chain: Chain, until: int) -> Head | None:
    before = chain.heads.get(USAGE, _NO_USAGE)
    if until <= before.seq:
        return None
    digest = usage_seals.digest_between(connection, before.seq, until, before.hash)
    return Head(until, digest)


def disagreements(connection: Connection, chain: Chain) -> list[str]:
    """
    Return a sentence for each stream of which something is gone or rewritten that *chain* has witnessed.

    And for each session that is older than the checkpoint that does not know it.
    """
    last = chain.last
    if last is None:
        return []
    return [
        *_ended_early(connection, last),
        *_changed(connection, chain),
        *_usage_changed(connection, chain),
        *_inserted(connection, chain, last),
    ]


def _ended_early(connection: Connection, last: Checkpoint) -> Iterator[str]:
    position = connection.execute(
        select(func.max(tables_of(connection).events.c.position))
    ).scalar_one()
    if (position or 0) < last.position:
        yield ended_early(last)


def ended_early(last: Checkpoint) -> str:
    """Say that a store ends before what it had come to."""
    return (
        f"the store ends before checkpoint {last.number} of {last.at:%Y-%m-%d %H:%M:%SZ}: it was restored to an "
        f"earlier state, or its last events were removed"
    )


def _changed(connection: Connection, chain: Chain) -> Iterator[str]:
    there = dict(_stored(connection, chain))
    known = set(connection.execute(select(tables_of(connection).sessions.c.id)).scalars())
    sound: dict[str, int] = {}
    told: set[str] = set()
    for name, head, at in chain.witnessed or ():
        if name in told or name == USAGE:
            continue
        found = there.get((name, head.seq))
        if found == head.hash:
            sound[name] = max(head.seq, sound.get(name, 0))
            continue
        told.add(name)
        yield _sentence(
            name, head, at, sound.get(name, 0), is_there=found is not None, is_known=name in known
        )


def _sentence(
    name: str, head: Head, at: datetime, sound: int, *, is_there: bool, is_known: bool
) -> str:
    when = f"{at:%Y-%m-%d %H:%M:%SZ}"
    stream = "the log of halts" if name == HALTS else f"session {name}"
    part = "row" if name == HALTS else "event"
    if name != HALTS and not is_known:
        return f"{stream} is gone: at {when} it had {head.seq} events"
    if not is_there:
        return f"{stream} was cut off: {part} {head.seq}, its last at {when}, is missing"
    since = (
        f"{part} {head.seq}"
        if sound + 1 == head.seq
        else f"one of {part}s {sound + 1} to {head.seq}"
    )
    return f"{stream} was rewritten from {since} on: at {when}, {part} {head.seq} had another hash"


def _stored(connection: Connection, chain: Chain) -> Iterator[tuple[tuple[str, int], str]]:
    tables = tables_of(connection)
    events, log = tables.events.c, tables.halt_log.c
    pairs = sorted(
        {(name, head.seq) for name, head, _ in chain.witnessed or () if name not in {HALTS, USAGE}}
    )
    for start in range(0, len(pairs), _AT_ONCE):
        some = pairs[start : start + _AT_ONCE]
        query = select(events.session_id, events.seq, events.hash).where(
            tuple_(events.session_id, events.seq).in_(some)
        )
        for row in connection.execute(query):
            yield (row.session_id, row.seq), row.hash
    for seq, digest in connection.execute(select(log.seq, log.hash)):
        yield (HALTS, seq), digest


def _usage_changed(connection: Connection, chain: Chain) -> Iterator[str]:
    found, since = _NO_USAGE, "the beginning"
    for name, head, at in chain.witnessed or ():
        if name != USAGE:
            continue
        digest = usage_seals.digest_between(connection, found.seq, head.seq, found.hash)
        until = f"{at:%Y-%m-%d %H:%M:%SZ}"
        if digest != head.hash:
            yield f"usage outside of sessions was changed: what was recorded from {since} to {until} is another"
            return
        found, since = head, until


def _inserted(connection: Connection, chain: Chain, last: Checkpoint) -> Iterator[str]:
    sessions = tables_of(connection).sessions.c
    opened = raw(sessions.opened_at).label("opened_us")
    for row in connection.execute(select(sessions.id, opened).order_by(sessions.id)):
        since = chain.since.get(row.id, last.at)
        if since is None or not isinstance(row.opened_us, int):
            continue  # what cannot be read, `verify` names
        if (at := from_microseconds(row.opened_us)) < since - SLACK:
            yield (
                f"session {row.id} was inserted: it says that it was opened at {at:%Y-%m-%d %H:%M:%SZ}, "
                f"and the checkpoint of {since:%Y-%m-%d %H:%M:%SZ} does not know it"
            )
