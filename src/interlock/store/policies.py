"""Operations on policies: every one that ever decided is kept, under its digest."""

from __future__ import annotations

from sqlalchemy import Connection, insert, select

from interlock.errors import Conflict
from interlock.store import tables
from interlock.store.time import now


def keep(connection: Connection, digest: str, *, name: str, document: str) -> None:
    """Store the policy with this *digest*, unless it is stored already."""
    known = connection.execute(
        select(tables.policies.c.digest).where(tables.policies.c.digest == digest)
    ).one_or_none()
    if known is None:
        connection.execute(
            insert(tables.policies).values(
                digest=digest, name=name, document=document, stored_at=now(connection)
            )
        )


def document(connection: Connection, digest: str) -> str:
    """
    Return the policy with this *digest*, as canonical JSON.

    Raises:
        Conflict: it was never stored here.
    """
    found = connection.execute(
        select(tables.policies.c.document).where(tables.policies.c.digest == digest)
    ).scalar_one_or_none()
    if found is None:
        raise Conflict(f"no policy with digest {digest} decided anything in this store")
    return str(found)
