"""Operations on policies: every one that ever decided is kept, under its digest."""

from __future__ import annotations

from sqlalchemy import Connection, select

from interlock.errors import Conflict
from interlock.store.statements import Unless, now, tables_of
from interlock.store.tables import to_microseconds

_KEEP = Unless(lambda tables: tables.policies)


def keep(connection: Connection, digest: str, *, name: str, document: str) -> None:
    """Store the policy with this *digest*, unless it is stored already."""
    at = to_microseconds(now(connection))
    row = {"digest": digest, "name": name, "document": document, "stored_at": at}
    _KEEP.run(connection, [row])


def document(connection: Connection, digest: str) -> str:
    """
    Return the policy with this *digest*, as canonical JSON.

    Raises:
        Conflict: it was never stored here.
    """
    table = tables_of(connection).policies
    found = connection.execute(
        select(table.c.document).where(table.c.digest == digest)
    ).scalar_one_or_none()
    if found is None:
        raise Conflict(f"no policy with digest {digest} decided anything in this store")
    return str(found)
