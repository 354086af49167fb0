"""SQLite: how its connections are set up, and the link that the writer holds."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import QueuePool, StaticPool

from interlock.store.link import Parameters, Request, Statement
from interlock.store.statements import OPTION, Binding

BUSY_TIMEOUT_MS = 30_000
"""How long a writer waits for a process that does not use the lock file, such as the `sqlite3` shell."""

CHECKPOINT_PAGES = 4_000
"""Pages in the write-ahead log, 16 MB, after which they are moved to the file: to flush less often."""

_RETRY_MS = 5


class Sqlite:
    """An SQLite file, or a database in memory: WAL, and `synchronous=FULL`, so a commit survives the loss of power."""

    mixes = True
    advice = "Check that its directory exists, is writable and has space, and that nothing else holds its lock."

    def __init__(self, url: URL) -> None:
        """Connect to nothing yet."""
        self.url = url.set(drivername="sqlite+pysqlite")
        self.in_memory = url.database in {None, "", ":memory:"}
        self.writing = self._engine(
            (
                "journal_mode=WAL",
                "synchronous=FULL",
                "foreign_keys=ON",
                f"wal_autocheckpoint={CHECKPOINT_PAGES}",
            ),
            single=self.in_memory,
        )
        self.reading = (
            self.writing if self.in_memory else self._engine(("query_only=ON",), single=False)
        )
        self.dialect = self.writing.dialect

    def link(self, bound: Binding) -> SqliteLink:
        """Open a connection to write with."""
        return SqliteLink(self.writing, bound)

    def begin_reading(self, connection: Connection) -> None:
        """Begin a snapshot in a connection of `reading`."""
        connection.exec_driver_sql("BEGIN")

    def is_error(self, error: BaseException) -> bool:
        """Whether SQLite or its driver raised *error*."""
        return isinstance(error, (SQLAlchemyError, sqlite3.Error))

    def may_retry(self, error: BaseException) -> bool:  # noqa: ARG002
        """Never: SQLite's own busy handler has waited already."""
        return False

    def is_lost(self, error: BaseException) -> bool:  # noqa: ARG002
        """Never: a file is not lost, it fails."""
        return False

    def _engine(self, pragmas: Iterable[str], *, single: bool) -> Engine:
        engine = create_engine(
            self.url,
            poolclass=StaticPool if single else QueuePool,
            connect_args={"check_same_thread": False, "timeout": BUSY_TIMEOUT_MS / 1000},
        )

        @event.listens_for(engine, "connect")
        def configure(connection: Any, _: object) -> None:
            # The driver's own BEGIN comes late and is deferred; ours says which lock it takes, and when.
            connection.isolation_level = None
            cursor = connection.cursor()
            for pragma in pragmas:
                _patiently(cursor.execute, f"PRAGMA {pragma}")
            cursor.close()

        return engine


class SqliteLink:
    """The connection that writes to an SQLite database."""

    def __init__(self, engine: Engine, bound: Binding) -> None:
        """Connect."""
        self.connection = engine.connect().execution_options(**{OPTION: bound.over(self)})
        self._driver: Any = self.connection.connection.dbapi_connection

    def begin(self) -> None:
        """Begin, with the lock that writing needs."""
        self._driver.execute("BEGIN IMMEDIATE")

    def read(self, requests: Sequence[Request]) -> list[list[list[Any]]]:
        """Execute each statement with each of its parameters, in order; return the rows of each, request by request."""
        execute = self._driver.execute
        return [
            [execute(statement.text, statement.values(one)).fetchall() for one in parameters]
            for statement, parameters in requests
        ]

    def run(self, statement: Statement, parameters: Parameters) -> None:
        """Execute *statement* with each of *parameters* in order."""
        if len(parameters) == 1:  # the usual thing, and `executemany` takes longer
            self._driver.execute(statement.text, statement.values(parameters[0]))
        else:
            self._driver.executemany(statement.text, map(statement.values, parameters))

    def plain(self) -> Connection:
        """Return the connection: SQLAlchemy works in the transaction that the driver has begun."""
        return self.connection

    def commit(self) -> None:
        """Return once the transaction is on the disk."""
        self._driver.execute("COMMIT")

    def was_committed(self) -> bool | None:
        """Never asked: a file is not lost, it fails."""
        return None

    def rollback(self) -> None:
        """End the transaction without a trace of it."""
        self.connection.rollback()  # what SQLAlchemy believes to have begun
        if self._driver.in_transaction:
            self._driver.execute("ROLLBACK")

    def close(self) -> None:
        """Let go of the connection, and of its lock, which a cursor in some traceback would hold otherwise."""
        with suppress(sqlite3.Error, SQLAlchemyError):
            self._driver.rollback()
        with suppress(sqlite3.Error, SQLAlchemyError):
            self.connection.invalidate()
            self.connection.close()


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
