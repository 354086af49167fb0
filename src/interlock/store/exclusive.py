"""Exclusive sessions: of those with one key in one organisation, only one is open or paused at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Table, select
from sqlalchemy.dialects import postgresql, sqlite

from interlock._canonical import digest, encode
from interlock.errors import SessionTaken

_TRIES = 100
"""So often can whoever has the key let go of it between a try and the look who it is."""


def key_of(exclusive: str | None, org: str | None) -> str | None:
    """Return what is stored of the key *exclusive* of an organisation; None: the session is not exclusive."""
    return None if exclusive is None else digest(encode(["interlock.exclusive.v1", org, exclusive]))


def taking(connection: Connection, table: Table, row: Mapping[str, object], said: str) -> None:
    """
    Insert the *row* of a session that is exclusive by the key *said*; the database's own index keeps others out.

    Raises:
        SessionTaken: another one has the key.
    """
    dialect: Any = postgresql if connection.dialect.name == "postgresql" else sqlite
    insert = dialect.insert(table).values(row).on_conflict_do_nothing().returning(table.c.id)
    holder = select(table.c.id, table.c.status, table.c.name).where(
        table.c.exclusive == row["exclusive"], table.c.status.in_(("open", "paused"))
    )
    for _ in range(_TRIES):
        if connection.execute(insert).first() is not None:
            return
        found = connection.execute(holder).one_or_none()
        if found is not None:
            raise SessionTaken(
                f"session {found.id} ({found.name}) is {found.status}, and only one at a time may be with the key "
                f"{said}, so no other was opened. Wait until it has ended; where nobody runs it, let it go on by "
                f"governor.resume_session({found.id!r}), or end it: "
                f"interlock sessions abort {found.id} --reason … --as NAME",
                session_id=found.id,
                status=found.status,
            )
    raise SessionTaken(
        f"the key {said} of an exclusive session was taken by others again and again; try again",
        session_id="",
        status="",
    )
