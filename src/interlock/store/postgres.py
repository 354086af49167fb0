"""Postgres: how its connections are set up, and the link that the writer holds."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from interlock.errors import Misuse
from interlock.store.link import Parameters, Request, Statement
from interlock.store.statements import OPTION, Binding
from interlock.store.worker import Recalled

# Two transactions that wait for each other, or could not have run one after the other: running one again is the remedy.
# Source: PostgreSQL documentation, appendix A, "PostgreSQL Error Codes", class 40.
_AGAIN = frozenset({"40001", "40P01"})

# Class 08: connection exceptions. 57P: the server is shutting down, or was told to end the connection.
_GONE = frozenset({"080", "57P"})

# Of a transaction number that was not given away yet.
_IN_THE_FUTURE = "22023"

CONNECT_TIMEOUT_S = 10
"""How long a server that does not answer is waited for."""

LOCK_TIMEOUT_MS = 30_000
"""How long a row is waited for that another transaction holds."""

_ASK_AGAIN_AFTER_S = (0.0, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
"""How often, and how long, a server is waited for that was lost while it committed."""

# A server that has crashed may give the number of a lost transaction away again, and its answer about a number then
# tells nothing; a crash, and nothing but that and an administrator, sets this apart.
_LIFE = "pg_postmaster_start_time()::text || ' ' || pg_stat_get_bgwriter_stat_reset_time()::text"


class Postgres:
    """A Postgres database, by psycopg 3."""

    mixes = False
    in_memory = False
    advice = "Check that the server runs, that it lets this user in, and that it has space."

    def __init__(self, url: URL) -> None:
        """
        Connect to nothing yet.

        Raises:
            Misuse: the driver is not installed.
        """
        self.url = url.set(drivername="postgresql+psycopg")
        try:
            self.writing = self._engine("AUTOCOMMIT")
        except ImportError as error:
            raise Misuse(
                f"a store on Postgres needs its driver: pip install 'interlock[postgres]' ({error})"
            ) from error
        self.reading = self._engine("REPEATABLE READ")
        self.dialect = self.writing.dialect

    def link(self, bound: Binding) -> PostgresLink:
        """Open a connection to write with."""
        return PostgresLink(self.writing, bound)

    def listen(self, channel: str) -> Any:
        """Return a connection of psycopg, not of the pool, that hears what is told on *channel*."""
        connection = self.writing.raw_connection()
        connection.detach()
        driver: Any = connection.dbapi_connection
        driver.execute(f'LISTEN "{channel}"')
        return driver

    def begin_reading(self, connection: Connection) -> None:
        """Begin a snapshot in a connection of `reading`."""
        connection.exec_driver_sql("SET TRANSACTION READ ONLY")

    def is_error(self, error: BaseException) -> bool:
        """Whether Postgres or its driver raised *error*."""
        return isinstance(error, (SQLAlchemyError, self.dialect.loaded_dbapi.Error))

    def may_retry(self, error: BaseException) -> bool:
        """Whether the server has undone the transaction in favour of another, or a lease was recalled that it used."""
        if isinstance(error, Recalled):
            return True
        cause = error.orig if isinstance(error, DBAPIError) else error
        return getattr(cause, "sqlstate", None) in _AGAIN

    def is_lost(self, error: BaseException) -> bool:
        """Whether the connection is gone: the server was stopped, or the network cut."""
        cause = error.orig if isinstance(error, DBAPIError) else error
        if not isinstance(cause, self.dialect.loaded_dbapi.OperationalError):
            return False
        state = getattr(cause, "sqlstate", None)
        return state is None or state[:3] in _GONE

    def _engine(self, isolation: Any) -> Engine:
        engine = create_engine(
            self.url,
            isolation_level=isolation,
            pool_pre_ping=True,
            connect_args={"connect_timeout": CONNECT_TIMEOUT_S, "application_name": "interlock"},
        )

        @event.listens_for(engine, "connect")
        def configure(connection: Any, _: object) -> None:
            was, connection.autocommit = connection.autocommit, True
            connection.execute(f"SET lock_timeout = {LOCK_TIMEOUT_MS}")
            connection.autocommit = was

        return engine


class PostgresLink:
    """
    The connection that writes to a Postgres database.

    Statements are sent in psycopg's pipeline mode: what does not wait for rows waits for no round trip, so that a
    transaction costs one for all it reads at once and one for all it writes with the commit.
    """

    def __init__(self, engine: Engine, bound: Binding) -> None:
        """Connect."""
        self.connection = engine.connect().execution_options(**{OPTION: bound.over(self)})
        driver: Any = self.connection.connection.dbapi_connection
        self._driver = driver
        self._error: type[Exception] = engine.dialect.loaded_dbapi.Error
        self._cursor = driver.cursor()
        self._pipeline: Any = None
        self._engine = engine
        self._life = driver.execute(f"SELECT {_LIFE}").fetchone()[0]
        self._transaction: Any = None

    def begin(self) -> None:
        """Begin; the server hears of it together with the first statement."""
        self._pipeline = self._driver.pipeline()
        self._pipeline.__enter__()
        self._cursor.execute("BEGIN")
        self._transaction = self._driver.cursor().execute("SELECT pg_current_xact_id()::text")

    def read(self, requests: Sequence[Request]) -> list[list[list[Any]]]:
        """Execute each statement with each of its parameters, in order; return the rows of each, request by request."""
        sent = [
            [
                self._driver.cursor().execute(statement.text, statement.values(one))
                for one in parameters
            ]
            for statement, parameters in requests
        ]
        return [[cursor.fetchall() for cursor in cursors] for cursors in sent]

    def run(self, statement: Statement, parameters: Parameters) -> None:
        """Send *statement* with each of *parameters* in order; what fails shows at the next `rows` or `commit`."""
        self._cursor.executemany(statement.text, map(statement.values, parameters))

    def plain(self) -> Connection:
        """Return the connection, out of pipeline mode, which SQLAlchemy does not know."""
        self._leave_pipeline()
        return self.connection

    def commit(self) -> None:
        """Return once the server has made the transaction durable."""
        # Known before the server hears of it, so that it can be asked about; it came together with what was read.
        (self._transaction,) = self._transaction.fetchone()
        self._cursor.execute("COMMIT")
        self._leave_pipeline()

    def was_committed(self) -> bool | None:
        """Ask the server, on another connection, what became of the transaction whose commit was cut off."""
        if not isinstance(self._transaction, str):
            return False  # cut off before
        with suppress(Exception):
            self._driver.close()  # so that a server that waits for more of it waits no longer
        for pause in _ASK_AGAIN_AFTER_S:
            time.sleep(pause)
            try:
                with self._engine.connect() as connection:
                    life, status = connection.exec_driver_sql(
                        f"SELECT {_LIFE}, pg_xact_status(%s::xid8)", (self._transaction,)
                    ).one()
            except DBAPIError as error:
                if getattr(error.orig, "sqlstate", None) == _IN_THE_FUTURE:
                    return False  # the server has crashed, and knows nothing of it
                continue
            if status == "aborted":
                return False
            if status == "committed":
                return True if life and life == self._life else None
        return None

    def rollback(self) -> None:
        """End the transaction without a trace of it."""
        with suppress(self._error):  # it says once more what has failed
            self._leave_pipeline()
        self.connection.rollback()  # what SQLAlchemy believes to have begun
        self._driver.rollback()

    def close(self) -> None:
        """Let go of the connection; the server undoes what was not committed."""
        self._pipeline = None
        with suppress(Exception):
            self.connection.invalidate()
            self.connection.close()

    def _leave_pipeline(self) -> None:
        pipeline, self._pipeline = self._pipeline, None
        if pipeline is not None:
            pipeline.__exit__(None, None, None)
