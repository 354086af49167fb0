"""Store: a database, opened, with the three ways to run an operation on it."""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import URL, Connection, MetaData, make_url
from sqlalchemy.exc import ArgumentError

from interlock._clock import Clock, SystemClock
from interlock.errors import Misuse, StoreUnavailable
from interlock.store import calls, entries, owners, schema
from interlock.store.batches import Batches
from interlock.store.counters import new_shard
from interlock.store.followers import Followers
from interlock.store.health import Writing
from interlock.store.heartbeat import Heartbeat
from interlock.store.jobs import Job
from interlock.store.owner import BEAT, Owner
from interlock.store.postgres import Postgres
from interlock.store.readers import Readers
from interlock.store.sqlite import Sqlite
from interlock.store.statements import OPTION, Binding, binding
from interlock.store.tables import Tables
from interlock.store.turnstile import let_go, turnstile
from interlock.store.watch import Watch
from interlock.store.worker import Worker
from interlock.store.writer import Writer

log = logging.getLogger("interlock")

_P = ParamSpec("_P")
_T = TypeVar("_T")

_open: weakref.WeakSet[Store] = weakref.WeakSet()


class Store:
    """
    A database of sessions, events, policies, tickets, budgets and usage.

    Operations are functions of a SQLAlchemy `Connection`, in the modules beside this one.
    """

    def __init__(
        self,
        url: str,
        *,
        clock: Clock | None,
        prefix: str = "",
        schema_name: str | None = None,
        metadata: MetaData | None = None,
        ensure: bool = True,
        beat: timedelta = BEAT,
    ) -> None:
        """
        Open the database at *url*. SQLite's file and tables are made, and brought up to date, when they are not there.

        Args:
            url: `sqlite:///relative.db`, `sqlite:////absolute.db`, `sqlite://` for one in memory, or
                `postgresql://user:password@host/database`.
            clock: Where operations read the time; None means the database's own: this machine's for SQLite, the
                server's for Postgres.
            prefix: Put before the name of each table.
            schema_name: The schema of Postgres that holds the tables.
            metadata: Where the tables are defined, so that a host's migrations see them, which then make them.
            beat: How often to say that this process lives, once it has opened a session or made a call; it is taken to
                be gone after three times as long.
            ensure: Whether to see to it that the tables are there; who upgrades them does so later.

        Raises:
            Misuse: *url* is none of those, or its driver is not installed; SQLite is given a schema.
            StoreUnavailable: the database cannot be opened, or its tables are not those of this version.
        """
        parsed = _parse(url)
        if schema_name is not None and parsed.get_backend_name() == "sqlite":
            raise Misuse(
                "SQLite has no schemas; keep stores apart by prefix, or in files of their own"
            )
        self.url = parsed
        self.hosted = metadata is not None
        self.tables = Tables(metadata, prefix=prefix, schema=schema_name)
        self.database: Sqlite | Postgres = (
            Sqlite(parsed) if parsed.get_backend_name() == "sqlite" else Postgres(parsed)
        )
        if clock is None and isinstance(self.database, Sqlite):
            clock = SystemClock()
        # Only where rows are locked one by one can there be something to lease.
        worker = Worker() if isinstance(self.database, Postgres) else None
        self._owner = Owner(beat, on_known=self._begin_to_beat)
        self._binding = Binding(
            self.tables, clock=clock, worker=worker, shard=new_shard(), owner=self._owner
        )
        self._turnstile = self._new_turnstile()
        self._readers = Readers()
        self._lost: str | None = None
        self._paused = self._is_quiet = False
        self._writer = self._new_writer()
        self._clock = clock or SystemClock()
        self._heartbeat = self._new_heartbeat()
        self.watch = self._new_watch()
        self.followers = Followers()
        with _forking:
            _open.add(self)
        if ensure:
            self._ensure()

    def write(
        self,
        operation: Callable[Concatenate[Connection, _P], _T],
        /,
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> _T:
        """
        Run *operation* in a transaction and return its result once that is durable.

        Raises:
            StoreUnavailable: nothing was written.
        """
        result = self._writer.run(Job(partial(_call, operation, args, kwargs)))
        self.watch.nudge()
        self.followers.nudge()
        return result

    async def awrite(
        self,
        operation: Callable[Concatenate[Connection, _P], _T],
        /,
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> tuple[_T, BaseException | None]:
        """Do as `write` does, awaiting; see `Writer.arun` for what is returned beside the result."""
        result = await self._writer.arun(Job(partial(_call, operation, args, kwargs)))
        self.watch.nudge()
        self.followers.nudge()
        return result

    def post(self, entry: entries.Entry) -> Any:
        """
        Enter *entry* in the books, together with those of whoever else waits, and return what came of it.

        Raises:
            StoreUnavailable: nothing was written.
        """
        result: Any = self._writer.run(Job(None, entry))
        self.followers.nudge()
        return result

    async def apost(self, entry: entries.Entry) -> tuple[Any, BaseException | None]:
        """Do as `post` does, awaiting; see `Writer.arun` for what is returned beside the result."""
        result: tuple[Any, BaseException | None] = await self._writer.arun(Job(None, entry))
        self.followers.nudge()
        return result

    def writing(self) -> Writing:
        """Return how far this process is behind with what it has to write."""
        return self._writer.writing()

    def read(
        self,
        operation: Callable[Concatenate[Connection, _P], _T],
        /,
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> _T:
        """
        Run *operation* on a snapshot, beside the writer and without its lock; it cannot write.

        Raises:
            StoreUnavailable: the database did not answer, or *operation* tried to write.
        """
        if self._lost is not None:
            raise StoreUnavailable(f"{self._lost}; nothing was read")
        if self.database.in_memory:  # its only connection is the writer's
            return self._writer.run(Job(partial(_look, operation, args, kwargs)))
        try:
            with (
                self._readers,
                self.database.reading.connect() as connection,
                connection.begin(),
            ):
                self.database.begin_reading(connection)
                return operation(self.bind(connection), *args, **kwargs)
        except Exception as error:
            if not self.database.is_error(error):
                raise
            raise self.unavailable(error) from error

    def bind(self, connection: Connection) -> Connection:
        """
        Let operations on *connection*, one of the host's own, work with this store's tables and clock.

        Raises:
            Misuse: it is the connection with which another store writes.
        """
        bound = binding(connection)
        if bound.link is not None:
            if bound.tables is not self.tables:
                raise Misuse("an operation on one store cannot be joined by one on another store")
            return connection
        return connection.execution_options(**{OPTION: self._binding})

    def close(self) -> None:
        """Commit what waits and let go of the database. Calling it again does nothing."""
        self.watch.close()
        self._heartbeat.close()
        self._leave()
        self._writer.close()
        self.followers.nudge()
        self.database.writing.dispose()
        self.database.reading.dispose()

    @property
    def owner(self) -> Owner:
        """As whom this process opens sessions and calls."""
        return self._owner

    @property
    def is_closed(self) -> bool:
        """Whether nothing can be written any more."""
        return self._writer.is_closed

    def unavailable(self, error: BaseException) -> StoreUnavailable:
        """Return the error that callers see instead of *error*."""
        reason = str(getattr(error, "orig", None) or error).strip().splitlines() or [
            type(error).__name__
        ]
        return StoreUnavailable(
            f"the store {self.url.render_as_string()} cannot be used: {reason[0]}. Nothing was written. "
            + self.database.advice
        )

    def _ensure(self) -> None:
        try:
            schema.ensure(self)
        except BaseException:
            self.close()
            raise

    def _new_writer(self) -> Writer:
        batches = Batches(
            self.database,
            connect=lambda: self.database.link(self._binding),
            post=calls.post,
            turnstile=self._turnstile,
            translate=self.unavailable,
        )
        return Writer(batches, closed=self._lost or "the store is closed")

    def _new_heartbeat(self) -> Heartbeat:
        return Heartbeat(lambda: self._owner, self._beat)

    def _begin_to_beat(self) -> None:
        if not self.database.in_memory:  # which nobody else sees
            self._heartbeat.begin()

    def _beat(self, owner: Owner) -> bool:
        return self._writer.run(Job(partial(_call, owners.beat, (owner,), {})))

    def _leave(self) -> None:
        if not self._owner.is_known or self.database.in_memory or self._writer.is_closed:
            return
        try:
            self._writer.run(Job(partial(_call, owners.leave, (self._owner,), {})))
        except Exception as error:  # noqa: BLE001 - it will be found not to say any more that it lives
            log.debug("the row of this process could not be removed: %s", error)

    def _new_watch(self) -> Watch:
        listen = self.database.listen if isinstance(self.database, Postgres) else None
        return Watch(self.read, clock=self._clock, listen=listen)

    def _new_turnstile(self) -> AbstractContextManager[object]:
        if isinstance(self.database, Sqlite) and not self.database.in_memory:
            return turnstile(Path(str(self.url.database)))
        return nullcontext()

    def _before_fork(self) -> None:
        # A child that merely has a connection to an SQLite file open, unused, believes to hold the parent's locks:
        # https://www.sqlite.org/howtocorrupt.html, section 2.6. So nothing is open while the process forks.
        self._paused = self._is_quiet = False
        nobody_reads = self._readers.hold(_FORK_WAIT_S)
        self._paused = self._writer.pause(_FORK_WAIT_S, keep=self.database.in_memory)
        self._is_quiet = nobody_reads and self._paused
        if self._is_quiet and not self.database.in_memory:
            self.database.writing.dispose()
            self.database.reading.dispose()

    def _after_fork_in_parent(self) -> None:
        self._readers.release()
        if self._paused:
            self._writer.resume()

    def _after_fork_in_child(self) -> None:
        was_closed = self._writer.is_closed
        if not self._is_quiet:
            # Closing what the parent still uses would be felt there.
            _inherited.extend(
                (self._writer, self.database.writing.pool, self.database.reading.pool)
            )
            self.database.writing.dispose(close=False)
            self.database.reading.dispose(close=False)
            self._lost = (
                "the process was forked while the store was in use, so the child cannot use it"
            )
        elif self.database.in_memory:
            self._lost = "a store in memory stays with the process that opened it"
        let_go(self._turnstile)
        self._turnstile = self._new_turnstile()
        self._readers = Readers()
        if self._binding.worker is not None:
            self._binding.worker = Worker()  # what the parent has leased is the parent's
        self._binding.shard = new_shard()
        self._binding.owner = self._owner = self._owner.child()
        _inherited.append(self._heartbeat)
        self._heartbeat = self._new_heartbeat()
        self._writer = self._new_writer()
        _inherited.append(self.watch)  # its connection is the parent's
        self.watch = self._new_watch()
        self.followers = Followers()  # they are the parent's
        if was_closed or self._lost is not None:
            self._writer.close()


_FORK_WAIT_S = 10.0
"""How long a fork waits for those who use a store; where they use it longer, the child cannot."""

_forking = threading.Lock()
_held: list[Store] = []
_inherited: list[object] = []


def _before_fork() -> None:
    _forking.acquire()
    for store in list(_open):
        _held.append(store)
        store._before_fork()  # noqa: SLF001 - of this very module


def _after_fork_in_parent() -> None:
    while _held:
        _held.pop()._after_fork_in_parent()  # noqa: SLF001
    _forking.release()


def _after_fork_in_child() -> None:
    while _held:
        _held.pop()._after_fork_in_child()  # noqa: SLF001
    _forking.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )


def _call(
    operation: Callable[..., _T],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    connection: Connection,
) -> _T:
    return operation(connection, *args, **kwargs)


def _look(
    operation: Callable[..., _T],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    connection: Connection,
) -> _T:
    connection.exec_driver_sql("PRAGMA query_only=ON")
    try:
        return operation(connection, *args, **kwargs)
    finally:
        connection.exec_driver_sql("PRAGMA query_only=OFF")


def _parse(url: str) -> URL:
    hint = "write for example sqlite:///interlock.db or postgresql://user@host/database"
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise Misuse(f"{url!r} is not a database URL; {hint}") from None
    if parsed.get_backend_name() not in {"sqlite", "postgresql"}:
        raise Misuse(f"no store for {parsed.get_backend_name()!r}; {hint}")
    return parsed
