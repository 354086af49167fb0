"""
The writer: every write of a process goes through one connection, and waits for one commit with all its neighbours.

Rule 1: nobody is told "done" before the commit is durable.
Rule 2: a job that fails harms no other: its batch is rolled back, and its jobs are run again one by one. So a job
may run twice, of which one run leaves no trace; it must be a function of its connection and have no other effect.
Rule 3: an idle writer is driven by the caller's own thread. Who finds it busy queues, and the writer's thread takes
all that wait into the next transaction.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

import anyio
import anyio.to_thread
import msgspec
import sniffio
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from interlock.errors import Misuse, StoreUnavailable

_T = TypeVar("_T")

MAX_BATCH = 512
"""Jobs in one transaction: enough to amortise the commit, few enough to bound a waiter's delay."""

_here = threading.local()


def may_wait() -> bool:
    """
    Whether this thread may wait for a writer: not if it is inside one.

    The garbage collector runs the end of a stream in whatever thread it interrupts, so also in one that holds the
    turn which that end would wait for.
    """
    return not getattr(_here, "depth", 0)


@contextmanager
def _in_writer() -> Iterator[None]:
    _here.depth = getattr(_here, "depth", 0) + 1
    try:
        yield
    finally:
        _here.depth -= 1


class _Job(msgspec.Struct, frozen=True):
    run: Callable[[Connection], Any]
    future: Future[Any]


class Writer:
    """Runs jobs in transactions, in the order of their arrival, one transaction at a time."""

    def __init__(
        self,
        engine: Engine,
        *,
        begin: str,
        turnstile: AbstractContextManager[object],
        translate: Callable[[Exception], StoreUnavailable],
    ) -> None:
        """
        Take turns on *engine*.

        Args:
            engine: The database.
            begin: The statement that begins a transaction and takes the write lock.
            turnstile: Held around each transaction: the queue between processes.
            translate: Makes the error that callers see out of one of the driver's.
        """
        self._engine = engine
        self._begin = begin
        self._connection: Connection | None = None
        self._turnstile = turnstile
        self._translate = translate
        self._turn = threading.Lock()
        self._inside = threading.local()
        self._gate = threading.Lock()
        self._queue: SimpleQueue[_Job | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closed = False

    @_in_writer()
    def run(self, job: Callable[[Connection], _T]) -> _T:
        """
        Return what *job* returns, once it is committed.

        Raises:
            StoreUnavailable: nothing of *job* was written.
            Misuse: the caller is itself a job, which would wait for its own end.
            BaseException: an interruption, when it is certain whether *job* was committed and it will not be later.
        """
        if getattr(self._inside, "transaction", False):
            raise Misuse(
                "an operation may not start another transaction: use the connection that it was given"
            )
        if self._queue.empty() and self._turn.acquire(blocking=False):
            try:
                if not self._closed:
                    return self._alone(job)
            finally:
                self._turn.release()
        future = self.submit(job)
        try:
            return future.result()
        except BaseException:
            if not future.done() and not future.cancel():
                # Interrupted while the writer has the job: what it comes to is known in a moment.
                future.exception()
            raise

    @_in_writer()
    def submit(self, job: Callable[[Connection], _T]) -> Future[_T]:
        """
        Queue *job* for the writer's thread, never blocking on the database.

        Raises:
            StoreUnavailable: the writer is closed.
        """
        future: Future[_T] = Future()
        with self._gate:
            if self._closed:
                raise StoreUnavailable("the store is closed; nothing was written")
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._serve, name="interlock-writer", daemon=True
                )
                self._thread.start()
            self._queue.put(_Job(job, future))
        return future

    @_in_writer()
    def close(self) -> None:
        """Commit what waits, then stop. Calling it again does nothing."""
        with self._gate:
            if self._closed:
                return
            self._closed = True
            thread, self._thread = self._thread, None
            self._queue.put(None)
        if thread is not None:
            thread.join()
        with self._turn:  # a caller may still be driving
            if self._connection is not None:
                self._connection.close()
            self._engine.dispose()

    @_in_writer()
    def _serve(self) -> None:
        while self._serve_batch():
            pass  # the frame is gone, so no job, with its result or exception, is kept until the next one comes

    def _serve_batch(self) -> bool:
        """Wait for a job and run it with all that wait; return whether there is more to come."""
        job = self._queue.get()
        if job is None:
            return False
        last = False
        with self._turn:
            batch = [job]
            while len(batch) < MAX_BATCH:
                try:
                    waiting = self._queue.get_nowait()
                except Empty:
                    break
                if waiting is None:
                    last = True
                    break
                batch.append(waiting)
            self._together([item for item in batch if item.future.set_running_or_notify_cancel()])
        return not last

    def _together(self, batch: list[_Job]) -> None:
        """Run *batch* in one transaction and wake its callers; if that fails, run each alone."""
        if len(batch) == 1:
            return self._settle(batch[0])
        try:
            with self._transaction() as connection:
                results = [job.run(connection) for job in batch]
        except _NotBegun as error:
            for job in batch:
                job.future.set_exception(error.reason)
        except BaseException:  # noqa: BLE001 - one of them failed, or the commit did: find out which, one by one
            for job in batch:
                self._settle(job)
        else:
            for job, result in zip(batch, results, strict=True):
                job.future.set_result(result)
        return None

    def _settle(self, job: _Job) -> None:
        try:
            result = self._alone(job.run)
        except BaseException as error:  # noqa: BLE001 - it belongs to the caller, who is in another thread
            job.future.set_exception(error)
        else:
            job.future.set_result(result)

    def _alone(self, job: Callable[[Connection], _T]) -> _T:
        try:
            with self._transaction() as connection:
                result = job(connection)
        except _NotBegun as error:
            raise error.reason from error.reason.__cause__
        except (SQLAlchemyError, OSError) as error:
            raise self._translate(error) from error
        return result

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        with self._begin_turn(), self._begun() as connection:
            self._inside.transaction = True
            try:
                yield connection
            finally:
                self._inside.transaction = False

    @contextmanager
    def _begin_turn(self) -> Iterator[None]:
        try:
            try:
                self._turnstile.__enter__()
            except OSError as error:
                raise _NotBegun(self._translate(error), error) from error
            yield
        finally:  # also where it was interrupted just after it had been let in
            self._turnstile.__exit__(None, None, None)

    @contextmanager
    def _begun(self) -> Iterator[Connection]:
        # The connection is kept from one transaction to the next, unless something went wrong with it.
        connection, self._connection = self._connection, None
        try:
            connection = connection or self._engine.connect()
            try:
                transaction = connection.begin()
                connection.exec_driver_sql(self._begin)
            except BaseException:
                connection.close()
                raise
        except SQLAlchemyError as error:
            raise _NotBegun(self._translate(error), error) from error
        try:
            with transaction:
                yield connection
        except BaseException:
            connection.close()
            raise
        self._connection = connection


class _NotBegun(Exception):
    """No transaction could be begun, so every job of the batch fails alike and none need be tried alone."""

    def __init__(self, reason: StoreUnavailable, cause: Exception) -> None:
        super().__init__()
        self.reason = reason
        self.reason.__cause__ = cause


async def outcome(future: Future[_T]) -> tuple[_T, BaseException | None]:
    """
    Await *future* to its end however often the caller is cancelled meanwhile.

    Returns:
        The result, and the cancellation that arrived and was held back: the caller has to raise it when what was
        written is provided for. Scopes of anyio keep theirs until the shield is left, and deliver it themselves.
    """
    held: BaseException | None = None
    with anyio.CancelScope(shield=True):
        if sniffio.current_async_library() == "asyncio":
            waiting = asyncio.wrap_future(future)
            while not waiting.done():
                try:
                    await asyncio.wait([waiting])
                except (
                    asyncio.CancelledError
                ) as cancellation:  # task.cancel(), which anyio's shield lets through
                    held = cancellation
            waiting.exception()  # looked at, or asyncio logs it as one that nobody has seen
        else:
            await anyio.to_thread.run_sync(future.exception)
    try:
        return future.result(), held
    except Exception as error:
        if held is not None:
            raise held from error
        raise
