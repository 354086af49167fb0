"""
The floor: the rows of governed calls, written by the driver alone, with the least that durable group commit needs.

The values are those of a real call, prepared beforehand: nothing is decided, encoded or hashed. What waits together is
committed together, and an event loop is woken once for all of it. There are two: one that works off each transaction
by itself, as a program does that knows nothing of its neighbours, and in bulk, one that writes all rows of a table
with one statement and looks at the session once.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, TypeAlias

from _tools import POLICY, refund

from interlock import Governor
from interlock._counters import What
from interlock.store.counters import JOINED, new_shard
from interlock.store.tables import DEFAULT as TABLES
from interlock.store.turnstile import turnstile

Entry: TypeAlias = tuple[bool, str]
"""Whether it is the intent of a call, else its outcome; and the call's id."""

Row: TypeAlias = tuple[Any, ...]

_HEAD = "SELECT status, head, head_hash FROM sessions WHERE id = {0}"
_ADVANCE = "UPDATE sessions SET head = {0}, head_hash = {0} WHERE id = {0}"
_GIVEN = [column.name for column in TABLES.events.columns if column.identity is None]
_INSERT = f"INSERT INTO events ({', '.join(_GIVEN)}) VALUES ({', '.join(['{0}'] * len(_GIVEN))})"  # noqa: S608 - marks
_OPEN = (
    "INSERT INTO intents (session_id, call_id, tool, admitted_at, owner, recovery) "
    "VALUES ({0}, {0}, {0}, {0}, '', 'hold')"
)
_CLOSE = "DELETE FROM intents WHERE session_id = {0} AND call_id = {0}"
_COUNTED = "SELECT what, day, name, shard FROM counters WHERE what = {0}"
_COUNT = (
    "INSERT INTO counters (what, day, name, shard, n, amount) VALUES ({0}, {0}, {0}, {0}, {0}, 0) "
    "ON CONFLICT (what, day, name, shard) DO UPDATE SET n = counters.n + excluded.n"
)

MAX_BATCH = 512
"""As the store's writer."""


class Floor(ABC):
    """One connection, and a session of its own whose chain it lengthens."""

    mark = "?"

    def __init__(self, url: str, *, bulk: bool = False) -> None:
        """Have the store make its tables and one call, and take that call's rows as the model for all."""
        self._bulk = bulk
        with Governor(url, policy=POLICY) as governor:
            session = governor.session("floor", agent="bench")
            with session:
                refund("o-1", 20)
        self._session_id = session.id
        self._seq = 4
        self._connect(url)
        history = self._said("SELECT * FROM events WHERE session_id = {0} ORDER BY seq")
        rows = self._model(history, self._session_id)
        self._decided, self._finished = rows[1], rows[2]
        self._decisions = self._counter(What.DECISIONS)
        self._endings = self._counter(What.FINISHED)
        self._head = self._said(f"{_HEAD}{self.lock}")
        self._statements = tuple(map(self._said, (_INSERT, _ADVANCE, _COUNT, _OPEN, _CLOSE)))

    lock = ""

    def _counter(self, what: What) -> Row:
        """The key of a counter that no other process counts in, where the store has such."""
        *key, shard = self._model(self._said(_COUNTED), what.value)[0]
        return (*key, JOINED if shard == JOINED else new_shard())

    def commit(self, batch: Sequence[Entry]) -> None:
        """Write all of *batch* in one transaction."""
        with self._transaction():
            for part in [batch] if self._bulk else [[entry] for entry in batch]:
                self._enter(part)

    def _enter(self, batch: Sequence[Entry]) -> None:
        session, decided, finished = self._session_id, self._decided, self._finished
        rows: list[Row] = []
        opened: list[Row] = []
        closed: list[Row] = []
        for is_intent, call in batch:
            self._seq += 1
            model = decided if is_intent else finished
            rows.append((session, self._seq, *model[2:11], f"{self._seq:064d}"))
            if is_intent:
                opened.append((session, call, "refund", decided[3]))
            else:
                closed.append((session, call))
        counted = [
            (*what, len(rows))
            for what, rows in ((self._decisions, opened), (self._endings, closed))
            if rows
        ]
        self._write(rows, (self._seq, rows[-1][11], session), counted, opened, closed)

    def call(self) -> None:
        """Write one call alone: its intent, then its outcome."""
        call = new_call()
        self.commit([(True, call)])
        self.commit([(False, call)])

    def _said(self, statement: str) -> str:
        return statement.format(self.mark)

    @abstractmethod
    def close(self) -> None:
        """Let go of the database."""

    @abstractmethod
    def _connect(self, url: str) -> None: ...

    @abstractmethod
    def _model(self, query: str, of: str) -> list[Row]: ...

    @abstractmethod
    def _transaction(self) -> AbstractContextManager[object]: ...

    @abstractmethod
    def _write(
        self, rows: list[Row], head: Row, counted: list[Row], opened: list[Row], closed: list[Row]
    ) -> None: ...


class SqliteFloor(Floor):
    """WAL, synchronous=FULL, and the lock file that the store has, so that several processes take turns."""

    def close(self) -> None:
        self._connection.close()

    def _connect(self, url: str) -> None:
        path = Path(url.removeprefix("sqlite:///"))
        self._connection = opened(path)
        self._turn = turnstile(path)

    def _model(self, query: str, of: str) -> list[Row]:
        return self._connection.execute(query, (of,)).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._turn:
            self._connection.execute("BEGIN IMMEDIATE")
            yield
            self._connection.execute("COMMIT")

    def _write(
        self, rows: list[Row], head: Row, counted: list[Row], opened: list[Row], closed: list[Row]
    ) -> None:
        insert, advance, counting, opening, closing = self._statements
        driver = self._connection
        driver.execute(self._head, (self._session_id,)).fetchone()
        driver.executemany(insert, rows)
        driver.execute(advance, head)
        driver.executemany(counting, counted)
        if opened:
            driver.executemany(opening, opened)
        if closed:
            driver.executemany(closing, closed)


class PostgresFloor(Floor):
    """psycopg in pipeline mode: what does not wait for rows waits for no round trip."""

    mark = "%s"
    lock = " FOR UPDATE"

    def close(self) -> None:
        self._connection.close()

    def _connect(self, url: str) -> None:
        self._connection = opened_postgres(url)

    def _model(self, query: str, of: str) -> list[Row]:
        return self._connection.execute(query, (of,)).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._connection.pipeline():
            self._connection.execute("BEGIN")
            yield
            self._connection.execute("COMMIT")

    def _write(
        self, rows: list[Row], head: Row, counted: list[Row], opened: list[Row], closed: list[Row]
    ) -> None:
        insert, advance, counting, opening, closing = self._statements
        cursor = self._connection.cursor()
        locked = cursor.execute(self._head, (self._session_id,))
        if self._bulk:
            locked.fetchone()
        cursor.executemany(insert, rows)
        cursor.execute(advance, head)
        cursor.executemany(counting, counted)
        if opened:
            cursor.executemany(opening, opened)
        if closed:
            cursor.executemany(closing, closed)


class Queue:
    """Commits whatever waits together, in a thread of its own."""

    def __init__(self, floor: Floor) -> None:
        """Start the thread."""
        self._floor = floor
        self._waiting: SimpleQueue[tuple[Entry, Any, Any] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def call(self) -> None:
        """Write one call from a thread, which waits twice."""
        call = new_call()
        for is_intent in (True, False):
            future: Future[None] = Future()
            self._waiting.put(((is_intent, call), None, future))
            future.result()

    async def acall(self) -> None:
        """Write one call from a task, which waits twice."""
        call, loop = new_call(), asyncio.get_running_loop()
        for is_intent in (True, False):
            future = loop.create_future()
            self._waiting.put(((is_intent, call), loop, future))
            await future

    def close(self) -> None:
        """Stop the thread."""
        self._waiting.put(None)
        self._thread.join()
        self._floor.close()

    def _serve(self) -> None:
        while (first := self._waiting.get()) is not None:
            batch = [first]
            try:
                while len(batch) < MAX_BATCH and (more := self._waiting.get_nowait()) is not None:
                    batch.append(more)
            except Empty:
                pass
            self._floor.commit([entry for entry, _, _ in batch])
            loops: dict[Any, list[Any]] = {}
            for _, loop, future in batch:
                if loop is None:
                    future.set_result(None)
                else:
                    loops.setdefault(loop, []).append(future)
            for loop, futures in loops.items():
                loop.call_soon_threadsafe(_wake, futures)


def _wake(futures: list[asyncio.Future[None]]) -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)


def floor_of(url: str, *, bulk: bool = False) -> Floor:
    """Return the floor under a store at *url*."""
    kind = SqliteFloor if url.startswith("sqlite") else PostgresFloor
    return kind(url, bulk=bulk)


def new_call() -> str:
    """Return an id as long as a call's."""
    return f"{time.perf_counter_ns():036d}"


def opened(path: Path) -> sqlite3.Connection:
    """Return a connection that commits as durably as the store does."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")
    return connection


def opened_postgres(url: str) -> Any:
    """Return a connection in which BEGIN and COMMIT are said by whoever uses it."""
    import psycopg  # noqa: PLC0415 - only where there is Postgres

    return psycopg.connect(url.replace("+psycopg", ""), autocommit=True)


def raw_commit(url: str) -> Callable[[], None]:
    """Return what inserts one row of the size of an event and commits it, one caller alone."""
    body = "x" * 1_000
    if url.startswith("sqlite"):
        lite = opened(Path(url.removeprefix("sqlite:///")))
        lite.execute("CREATE TABLE raw (id INTEGER PRIMARY KEY, body TEXT)")

        def once() -> None:
            lite.execute("BEGIN IMMEDIATE")
            lite.execute("INSERT INTO raw (body) VALUES (?)", (body,))
            lite.execute("COMMIT")

        return once
    server = opened_postgres(url)
    server.execute("CREATE TABLE raw (id BIGSERIAL PRIMARY KEY, body TEXT)")

    def insert() -> None:
        server.execute("INSERT INTO raw (body) VALUES (%s)", (body,))  # which commits by itself

    return insert
