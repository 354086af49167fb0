"""Working on in a session that another governor, or another process, has opened."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, select, update

from interlock import Governor, Session, events
from interlock.store.statements import tables_of
from tests.callers import history


@contextmanager
def joined(governor: Governor, session_id: str, **who: Any) -> Iterator[Session]:
    """Make an open session current here, under the policy of *governor*."""
    session = governor.session("s", **{"agent": "bot", **who})
    session._id = session_id
    with session.attach():
        yield session


def decisions(governor: Governor, session_id: str) -> list[events.CallDecided]:
    """What was decided in a session, in order."""
    found = history(governor, session_id)
    return [event for event in found if isinstance(event, events.CallDecided)]


def memory(governor: Governor, session_id: str) -> str | None:
    """What the session's row says that it remembers."""

    def ask(connection: Connection) -> str | None:
        table = tables_of(connection).sessions
        query = select(table.c.memory).where(table.c.id == session_id)
        found: str | None = connection.execute(query).scalar_one()
        return found

    return governor.read(ask)


def remember(governor: Governor, session_id: str, text: str | None) -> None:
    """Write something else there, as nobody should."""

    def forge(connection: Connection) -> None:
        table = tables_of(connection).sessions
        connection.execute(update(table).where(table.c.id == session_id).values(memory=text))

    governor.write(forge)
