"""Operations of checkpoints: how far every session has come, and whether what they had come to is still there."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from sqlalchemy import Connection, func, select, tuple_

from interlock._checkpoint import HALTS, Chain, Checkpoint, Head, Heads
from interlock.store import feed
from interlock.store.statements import now, tables_of

SLACK = timedelta(minutes=5)
"""So much later than its own time says may a session become visible: clocks of machines differ."""

_AT_ONCE = 400


def mark(connection: Connection) -> tuple[int, frozenset[str]]:
    """Return the last position that is visible, and the transactions that may yet make earlier ones visible."""
    position = feed.latest(connection).position
    is_sqlite = connection.dialect.name == "sqlite"
    return position, frozenset() if is_sqlite else feed.writers(connection)


def heads(connection: Connection, *, position: int = 0) -> Heads:
    """
    Return how far each session has come, and the log of halts; run it on a snapshot.

    Args:
        connection: A transaction that reads.
        position: A place in the feed up to which everything is known to be visible.
    """
    tables = tables_of(connection)
    sessions, log = tables.sessions.c, tables.halt_log.c
    found = {
        row.id: Head(row.head, row.head_hash)
        for row in connection.execute(select(sessions.id, sessions.head, sessions.head_hash))
    }
    last = connection.execute(
        select(log.seq, log.hash).order_by(log.seq.desc()).limit(1)
    ).one_or_none()
    if last is not None:
        found[HALTS] = Head(last.seq, last.hash)
    return Heads(at=now(connection), position=position, heads=found)


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
        *_inserted(connection, chain, last),
    ]


def _ended_early(connection: Connection, last: Checkpoint) -> Iterator[str]:
    position = connection.execute(
        select(func.max(tables_of(connection).events.c.position))
    ).scalar_one()
    if (position or 0) < last.position:
        yield (
            f"the store ends before checkpoint {last.number} of {last.at:%Y-%m-%d %H:%M:%SZ}: it was restored to an "
            f"earlier state, or its last events were removed"
        )


def _changed(connection: Connection, chain: Chain) -> Iterator[str]:
    there = dict(_stored(connection, chain))
    known = set(connection.execute(select(tables_of(connection).sessions.c.id)).scalars())
    sound: dict[str, int] = {}
    told: set[str] = set()
    for name, head, at in chain.witnessed:
        if name in told:
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
    pairs = sorted({(name, head.seq) for name, head, _ in chain.witnessed if name != HALTS})
    for start in range(0, len(pairs), _AT_ONCE):
        some = pairs[start : start + _AT_ONCE]
        query = select(events.session_id, events.seq, events.hash).where(
            tuple_(events.session_id, events.seq).in_(some)
        )
        for row in connection.execute(query):
            yield (row.session_id, row.seq), row.hash
    for seq, digest in connection.execute(select(log.seq, log.hash)):
        yield (HALTS, seq), digest


def _inserted(connection: Connection, chain: Chain, last: Checkpoint) -> Iterator[str]:
    sessions = tables_of(connection).sessions.c
    for row in connection.execute(select(sessions.id, sessions.opened_at).order_by(sessions.id)):
        since = chain.since.get(row.id, last.at)
        if since is not None and row.opened_at < since - SLACK:
            yield (
                f"session {row.id} was inserted: it says that it was opened at {row.opened_at:%Y-%m-%d %H:%M:%SZ}, "
                f"and the checkpoint of {since:%Y-%m-%d %H:%M:%SZ} does not know it"
            )
