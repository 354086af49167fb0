"""Store: a database, opened, with the three ways to run an operation on it."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.pool import QueuePool, StaticPool

from interlock._clock import Clock
from interlock.errors import Misuse, StoreUnavailable
from interlock.store.tables import metadata
from interlock.store.turnstile import turnstile
from interlock.store.writer import Writer

_P = ParamSpec("_P")
_T = TypeVar("_T")

BUSY_TIMEOUT_MS = 30_000
"""How long a writer waits for a process that does not use the lock file, such as the `sqlite3` shell."""

_RETRY_MS = 5


class Store:
    """
    A database of sessions, events, policies and tickets.

    Operations are functions of a SQLAlchemy `Connection`, in the modules beside this one.
    SQLite runs in WAL mode with `synchronous=FULL`: what is committed survives the loss of power.
    """

    def __init__(self, url: str, *, clock: Clock) -> None:
        """
        Open the database at *url*, creating file and tables on first use.

        Args:
            url: `sqlite:///relative.db`, `sqlite:////absolute.db`, or `sqlite://` for one in memory.
            clock: Where operations read the time.

        Raises:
            Misuse: *url* is not one of those.
            StoreUnavailable: the file cannot be opened or written.
        """
        self.url = _parse(url)
        self._in_memory = self.url.database in {None, "", ":memory:"}
        options: dict[str, object] = {"interlock_clock": clock}
        self._writing = _engine(
            self.url,
            ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"),
            single=self._in_memory,
            options=options,
        )
        self._reading = (
            self._writing
            if self._in_memory
            else _engine(self.url, ("query_only=ON",), single=False, options=options)
        )
        self._writer = Writer(
            self._writing,
            begin="BEGIN IMMEDIATE",
            turnstile=nullcontext() if self._in_memory else turnstile(Path(str(self.url.database))),
            translate=self._unavailable,
        )
        if not self.read(_is_complete):
            self.write(metadata.create_all)

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
        return self._writer.run(partial(_call, operation, args, kwargs))

    def submit(
        self,
        operation: Callable[Concatenate[Connection, _P], _T],
        /,
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> Future[_T]:
        """Queue *operation* and return the future of its durable result; the database is not waited for."""
        return self._writer.submit(partial(_call, operation, args, kwargs))

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
        if self._in_memory:  # its only connection is the writer's
            return self._writer.run(partial(_look, operation, args, kwargs))
        try:
            with self._reading.connect() as connection, connection.begin():
                connection.exec_driver_sql("BEGIN")
                return operation(connection, *args, **kwargs)
        except SQLAlchemyError as error:
            raise self._unavailable(error) from error

    def close(self) -> None:
        """Commit what waits and let go of the database. Calling it again does nothing."""
        self._writer.close()
        self._reading.dispose()

    def _unavailable(self, error: Exception) -> StoreUnavailable:
        reason = str(getattr(error, "orig", None) or error).splitlines()[0]
        return StoreUnavailable(
            f"the store {self.url.render_as_string()} cannot be used: {reason}. Nothing was written. "
            "Check that its directory exists, is writable and has space, and that nothing else holds its lock."
        )


def _is_complete(connection: Connection) -> bool:
    return set(metadata.tables) <= set(inspect(connection).get_table_names())


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
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise Misuse(
            f"{url!r} is not a database URL; write for example sqlite:///interlock.db"
        ) from None
    if parsed.get_backend_name() != "sqlite":
        raise Misuse(
            f"no store for {parsed.get_backend_name()!r}; write for example sqlite:///interlock.db"
        )
    return parsed.set(drivername="sqlite+pysqlite")


def _engine(
    url: URL, pragmas: Iterable[str], *, single: bool, options: dict[str, object]
) -> Engine:
    engine = create_engine(
        url,
        poolclass=StaticPool if single else QueuePool,
        connect_args={"check_same_thread": False, "timeout": BUSY_TIMEOUT_MS / 1000},
        execution_options=options,
    )

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _: object) -> None:
        # The driver's own BEGIN comes late and is deferred; ours says which lock it takes, and when.
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in pragmas:
            _patiently(cursor.execute, f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "invalidate")
    def let_go(connection: Any, _record: object, _error: object) -> None:
        # SQLAlchemy closes a connection that was interrupted, but SQLite keeps it, and its lock, for as long as a
        # traceback holds a cursor. In an interactive session that is until the next error.
        with suppress(sqlite3.Error):
            connection.rollback()

    return engine


def _patiently(execute: Callable[[str], object], statement: str) -> None:
    """
    Execute *statement*, trying again as long as others hold the file.

    SQLite does not wait by itself where a file's journal mode is changed, which is once in its life.
    Source: https://www.sqlite.org/c3ref/busy_handler.html, on when the handler is not invoked.
    """
    for _ in range(BUSY_TIMEOUT_MS // _RETRY_MS):
        try:
            execute(statement)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
            time.sleep(_RETRY_MS / 1000)
        else:
            return
    execute(statement)
