"""Books: the store as a host uses it, whatever policy is in force."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

import msgspec
from sqlalchemy import Connection

from interlock._checkpoints import Checkpoints, place_of
from interlock._feed import Feed
from interlock._halt import Halt
from interlock._lease import LeaseKey, Occupancy
from interlock._plugins import Plugins
from interlock._signing import signing_key
from interlock.events import Recorded
from interlock.store import halts, leases, verify_books
from interlock.store.engine import Store
from interlock.store.health import Health, health
from interlock.store.verify import Report, orphans, session_ids, verify

if TYPE_CHECKING:  # it costs a host's start-up a tenth of a second
    from sqlalchemy.orm import Session as OrmSession

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Books:
    """Operations on a store, in transactions of their own or the host's; what they write, plugins are shown."""

    def __init__(self, store: Store, plugins: Plugins) -> None:
        """Use *store*, which whoever gives it closes."""
        self._store = store
        self._plugins = plugins

    def write(
        self,
        operation: Callable[Concatenate[Connection, _P], _T],
        /,
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> _T:
        """
        Run *operation*, a function of a `Connection`, in a transaction of its own; return its result once durable.

        Example: `governor.write(tickets.approve, ticket_id, by="ann")`. Plugins are shown the events that an
        operation returns.

        Raises:
            StoreUnavailable: nothing was written.
        """
        result = self._store.write(operation, *args, **kwargs)
        self._show(result)
        return result

    async def awrite(
        self,
        operation: Callable[Concatenate[Connection, _P], _T],
        /,
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> _T:
        """
        Do as `write` does without blocking the event loop.

        Raises:
            StoreUnavailable: nothing was written.
            BaseException: a cancellation, raised once the result is durable.
        """
        result, held = await self._store.awrite(operation, *args, **kwargs)
        self._show(result)
        if held is not None:
            raise held
        return result

    def join(
        self,
        transaction: Connection | OrmSession,
        operation: Callable[Concatenate[Connection, _P], _T],
        /,
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> _T:
        """
        Run *operation* in the host's own transaction, on this governor's tables; commit and rollback stay the host's.

        Of an `AsyncSession` give the session that `run_sync` passes on. Plugins are not shown the event, which may yet
        be rolled back.

        Raises:
            Exception: what the database raises, as in all that the host does in this transaction.
        """
        connection = (
            transaction if isinstance(transaction, Connection) else transaction.connection()
        )
        return operation(self._store.bind(connection), *args, **kwargs)

    def read(
        self,
        operation: Callable[Concatenate[Connection, _P], _T],
        /,
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> _T:
        """
        Run *operation* on a snapshot, beside the writer; it cannot write.

        Raises:
            StoreUnavailable: the store did not answer, or *operation* tried to write.
        """
        return self._store.read(operation, *args, **kwargs)

    def feed(
        self,
        *,
        after: str | None = None,
        session: str | None = None,
        kinds: Iterable[str] = (),
        follow: bool = False,
        page: int = 500,
    ) -> Feed:
        """
        Return an iterator, sync and async, over all committed events: each once, those of a session in their order.

        None is missed, however many write at once and however long their transactions take. A projection keeps
        `cursor` of what is returned together with what it has made of the events.

        Example: `for recorded in governor.feed(after=cursor): …`, or `async for` with `follow=True`.

        Args:
            after: The cursor of a feed, where this one goes on; None: at the beginning; `now`: after what is visible
                when it is first asked.
            session: The id of the only session; all by default.
            kinds: The only kinds of events, such as `call_decided`; all by default. A cursor of a feed with these goes
                on in one with the same, and a cursor of all events in any.
            follow: Whether to wait for more, until it is closed, or the governor is. Who does not follow gets what is
                committed, except what comes after a transaction that has been open for more than a second and may
                have been given an earlier place: that comes the next time.
            page: How many events are read at once.

        Raises:
            Misuse: *after* is no cursor, or one of a feed of other events.
            Conflict: raised by the iteration: the store is not the one that the cursor is of, or was restored to an
                earlier state; or there is no such session.
            StoreUnavailable: raised by the iteration, which can be continued.
        """
        return Feed(
            self._store,
            after=after,
            session=session,
            kinds=kinds,
            follow=follow,
            page=page,
        )

    def halts(
        self, *, after: str | None = None, limit: int = 50, released: bool = False
    ) -> list[Halt]:
        """
        Return up to *limit* halts that stand, oldest first, engaged after the halt whose id is *after*.

        With *released*, those that were released are among them.
        """
        return self.read(halts.standing, after=after, limit=limit, released=released)

    def leases(
        self, *, lease: str | None = None, after: LeaseKey | None = None, limit: int = 50
    ) -> list[Occupancy]:
        """
        Return who holds which lease: up to *limit* parts of leases, by name.

        A holder whose `expires_at` has passed has lost it, and is shown until the next takes its slot.

        Args:
            lease: Only the lease of this name.
            after: Only parts that come after the one with this key.
            limit: How many at most.
        """
        return self.read(leases.standing, lease=lease, after=after, limit=limit)

    def health(self) -> Health:
        """
        Return how the store is, and how far this process is behind with writing.

        What it takes grows with the days of the history, and not with what happened on them.

        Raises:
            StoreUnavailable: the store did not answer, which is an answer, too.
        """
        return msgspec.structs.replace(self.read(health), writing=self._store.writing())

    def verify(self) -> Iterator[Report]:
        """Verify every session, newest first, then what is left of deleted ones, a report each; see `store.verify`."""
        before: str | None = None
        while page := self.read(session_ids, before=before):
            for session_id in page:
                yield self.read(verify, session_id)
            before = page[-1]
        for session_id in self.read(orphans):
            yield self.read(verify, session_id)

    def verify_books(self) -> dict[str, list[str]]:
        """
        Recompute what is no session's alone; return for each book that disagrees a sentence for each row that does.

        The books are `budgets`, `leases`, `counters`, `halts`, `usage` and `commands`; empty: all agree. The whole
        history is read once.
        """
        return self.read(verify_books.disagreements)

    def checkpoints(self, to: Path | str, *, key: bytes, token: str | None = None) -> Checkpoints:
        """
        Return the signed checkpoints of this store that are kept in *to*, to append to and to compare with.

        Keep them, and the key, where whoever can write to the database cannot.

        Example: `governor.checkpoints("checkpoints.jsonl", key=key).append()`.

        Args:
            to: A file, a line for each checkpoint, which is made if it is not there, and never truncated; or a URL,
                where `GET` returns the lines and `POST` appends one.
            key: A secret of at least 16 bytes, or PEM of an Ed25519 key; the private one to append, the public one to
                compare.
            token: The bearer token for the URL.

        Raises:
            Misuse: the key or the token cannot be used.
            PluginError: what it takes for such a key or URL is not installed.
        """
        return Checkpoints(self._store, place_of(to, token), signing_key(key))

    def _show(self, result: object) -> None:
        for recorded in result if isinstance(result, list) else [result]:
            if isinstance(recorded, Recorded):
                self._plugins.recorded(recorded)
