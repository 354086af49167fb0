"""
The writer: every write of a process goes through one connection, and waits for one commit with all its neighbours.

Rule 1: nobody is told "done" before the commit is durable.
Rule 2: a job that fails harms no other: its batch is rolled back, and its jobs are run again one by one. So a job
may run twice, of which one run leaves no trace; it must be a function of its connection and have no other effect.
Rule 3: an idle writer is driven by the caller's own thread. Who finds it busy queues, and the writer's thread takes
all that wait into the next transaction. Callers who were woken together are expected to come back together: as long as
they still arrive, and while there is a crowd, nobody goes ahead alone, which would make all others wait for a commit.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from queue import Empty, SimpleQueue
from typing import Any, Protocol, TypeVar

import anyio.to_thread
from sqlalchemy import Connection

from interlock._threads import begin, in_writer, is_inside
from interlock.errors import Misuse, StoreUnavailable
from interlock.store.health import Writing
from interlock.store.jobs import Job
from interlock.store.link import Link

_T = TypeVar("_T")

MAX_BATCH = 512
"""Jobs in one transaction: enough to amortise the commit, few enough to bound a waiter's delay."""

MAX_WAITING = 16_384
"""Jobs in the queue; who comes later waits outside, so that a store that is slow or gone does not fill the memory."""

MAX_TRIES = 10
"""How often a transaction is run that the database undoes in favour of another."""

PAUSE_S = 0.000_05
"""For how long others get the processor, to see whether more of a crowd arrive; with what a timer adds, 0.1 ms."""

PATIENCE = 2
"""After so many pauses in which nobody came, nobody is waited for any more: a fraction of what a commit takes."""


class Database(Protocol):
    """What the writer has to know of a kind of database."""

    @property
    def mixes(self) -> bool:
        """
        Whether operations of all kinds may share a transaction.

        Where rows are locked one by one, two batches that take theirs in different orders would wait for each other.
        """
        ...

    def is_error(self, error: BaseException) -> bool:
        """Whether the database or its driver raised *error*."""
        ...

    def may_retry(self, error: BaseException) -> bool:
        """Whether the transaction was undone in favour of another, and may be run again."""
        ...

    def is_lost(self, error: BaseException) -> bool:
        """Whether the connection is gone, and with it all that was not committed."""
        ...


class Writer:
    """Runs jobs in transactions, in the order of their arrival, one transaction at a time."""

    def __init__(
        self,
        database: Database,
        *,
        connect: Callable[[], Link],
        post: Callable[[Connection, Sequence[Any]], Sequence[Any]],
        turnstile: AbstractContextManager[object],
        translate: Callable[[BaseException], StoreUnavailable],
        closed: str = "the store is closed",
    ) -> None:
        """
        Take turns on *database*.

        Args:
            database: Its kind.
            connect: Opens the connection to write with; called again after each failure.
            post: Does entries together, in order, and returns what came of each: a result, or the `Exception` that
                is to be raised for it. It writes nothing for those that fail.
            turnstile: Held around each transaction: the queue between processes.
            translate: Makes the error that callers see out of one of the driver's.
            closed: What callers are told once it is closed.
        """
        self._database = database
        self._connect = connect
        self._post = post
        self._turnstile = turnstile
        self._translate = translate
        self._turn = threading.Lock()
        self._inside = threading.local()
        self._gate = threading.Lock()
        self._room = threading.Condition()
        self._outside = 0  # callers who wait for room in the queue
        self._queue: SimpleQueue[Job[Any] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._in_hand = 0  # jobs that the thread has taken out of the queue and not ended
        self._crowd = 1  # how many were served together lately, so how many may come back together
        self._link: Link | None = None
        self._lag_s = 0.0
        self._why_closed = closed
        self._closed = False

    def run(self, job: Job[_T]) -> _T:
        """
        Return what *job* comes to, once it is committed.

        Raises:
            StoreUnavailable: nothing of *job* was written.
            Misuse: the caller is itself a job, which would wait for its own end.
            BaseException: an interruption, when it is certain whether *job* was committed and it will not be later.
        """
        if getattr(self._inside, "transaction", False):
            raise Misuse(
                "an operation may not start another transaction: use the connection that it was given"
            )
        with in_writer:
            if self._crowd == 1 and self._queue.empty() and self._turn.acquire(blocking=False):
                try:
                    if not self._closed:
                        self._alone(job)
                        return job.outcome()
                finally:
                    self._turn.release()
            job.expect()
            if self._is_full():
                self._wait_for_room()
            self.submit(job)
            job.wait()
            return job.outcome()

    async def arun(self, job: Job[_T]) -> tuple[_T, BaseException | None]:
        """
        Do as `run` does, awaiting, to the end however often the caller is cancelled meanwhile.

        Returns:
            The result, and the cancellation that arrived and was held back: the caller has to raise it when what was
            written is provided for. Scopes of anyio keep theirs until they are left, and deliver it themselves.
        """
        if self._is_full():
            await anyio.to_thread.run_sync(self._wait_for_room)
        job.aexpect()
        with in_writer:
            self.submit(job)
        held = await job.awaited()
        try:
            return job.outcome(), held
        except Exception as error:
            if held is not None:
                raise held from error
            raise

    def close(self) -> None:
        """Commit what waits, then stop. Calling it again does nothing."""
        with in_writer:
            with self._gate:
                if self._closed:
                    return
                self._closed = True
                thread, self._thread = self._thread, None
                self._queue.put(None)
            with self._room:
                self._room.notify_all()
            if thread is not None:
                thread.join()
            with self._turn:  # a caller may still be driving
                if self._link is not None:
                    self._link.close()

    @property
    def is_closed(self) -> bool:
        """Whether nothing can be written any more."""
        return self._closed

    def writing(self) -> Writing:
        """Return how far it is behind."""
        waiting = self._queue.qsize() + self._outside + self._in_hand
        return Writing(waiting, 0 if self._crowd == 1 and not waiting else round(self._lag_s * 1e6))

    def pause(self, timeout_s: float, *, keep: bool) -> bool:
        """
        Wait for the transaction that runs, let go of the connection unless it is to be kept, and begin no other.

        Returns:
            Whether that was possible within the time; if it was, `resume` has to be called.
        """
        if is_inside() or not self._turn.acquire(timeout=timeout_s):
            return False
        if not keep:
            link, self._link = self._link, None
            if link is not None:
                link.close()
        return True

    def resume(self) -> None:
        """Go on after `pause`."""
        self._turn.release()

    def submit(self, job: Job[Any]) -> None:
        """
        Queue *job*, which its caller waits for, for the writer's thread; never block on the database.

        Raises:
            StoreUnavailable: the writer is closed.
        """
        with self._gate:
            if self._closed:
                raise StoreUnavailable(f"{self._why_closed}; nothing was written")
            if self._thread is None:
                self._thread = begin(self._serve, name="interlock-writer", within=in_writer)
            job.queued_at = time.monotonic()
            self._queue.put(job)

    def _is_full(self) -> bool:
        return self._queue.qsize() >= MAX_WAITING

    def _wait_for_room(self) -> None:
        with self._room:
            # Counted before looking: whoever makes room either sees the count or has made it already.
            self._outside += 1
            try:
                while self._is_full() and not self._closed:
                    self._room.wait()
            finally:
                self._outside -= 1

    def _serve(self) -> None:
        while self._serve_batch():
            pass  # the frame is gone, so no job, with its result or exception, is kept until the next one comes

    def _serve_batch(self) -> bool:
        """Wait for a job and run it with all that wait; return whether there is more to come."""
        job = self._queue.get()
        if job is None:
            return False
        self._in_hand = 1
        last = False
        if self._crowd > 1:
            self._gather()
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
                self._in_hand = len(batch)
            if self._outside:
                with self._room:
                    self._room.notify_all()
            self._together([one for one in batch if one.is_wanted()])
            self._lag_s = time.monotonic() - job.queued_at
            # Those who waited meanwhile would else be served without those woken now, and these without them.
            self._crowd = len(batch) + self._queue.qsize()
            self._in_hand = 0
        return not last

    def _gather(self) -> None:
        """Wait while those who were served together lately come back, which costs each of them no commit."""
        waiting, patience = self._queue.qsize(), PATIENCE
        while waiting + 1 < self._crowd and patience:
            time.sleep(PAUSE_S)
            before, waiting = waiting, self._queue.qsize()
            if waiting <= before:
                patience -= 1

    def _together(self, batch: list[Job[Any]]) -> None:
        """Run *batch* in as few transactions as can be, waking its callers after each."""
        if not self._database.mixes:
            for job in [job for job in batch if job.run is not None]:
                self._alone(job)
                Job.wake([job])
            batch = [job for job in batch if job.run is None]
        if len(batch) > 1:
            try:
                self._transaction(batch)
            except (_NotBegun, _Unknown) as error:
                for job in batch:
                    job.error = error.reason
            except BaseException:  # noqa: BLE001 - one of them failed, or the commit did: find out which, one by one
                for job in batch:
                    self._alone(job)
        else:
            for job in batch:
                self._alone(job)
        Job.wake(batch)

    def _alone(self, job: Job[Any]) -> None:
        """Run *job* in a transaction of its own, and leave in it what came of it."""
        job.error = None
        try:
            self._transaction([job])
        except (_NotBegun, _Unknown) as error:
            job.error = error.reason
        except BaseException as error:  # noqa: BLE001 - it belongs to the caller, who may be in another thread
            if self._database.is_error(error) or isinstance(error, OSError):
                unavailable = self._translate(error)
                unavailable.__cause__ = error
                job.error = unavailable
            else:
                job.error = error

    def _transaction(self, batch: list[Job[Any]]) -> None:
        """Run *batch* in one transaction, again where the database has undone it in favour of another."""
        for tries_left in reversed(range(MAX_TRIES)):
            try:
                self._try(batch)
            except _Interrupted as cut:
                # A kept connection may have died long ago: that is found out only now, and a new one will do.
                if not tries_left:
                    raise cut.error from cut.error.__cause__
            except Exception as error:
                if not tries_left or not self._database.may_retry(error):
                    raise
            else:
                return

    def _try(self, batch: list[Job[Any]]) -> None:
        try:  # so that the turnstile is left also where this is interrupted just after it had let us in
            try:
                self._turnstile.__enter__()
            except OSError as error:
                raise _NotBegun(self._translate(error), error) from error
            # The connection is kept from one transaction to the next, unless something goes wrong with it.
            link, self._link = self._link, None
            link = self._begun(link)
            try:
                self._inside.transaction = True
                try:
                    self._perform(batch, link)
                except Exception as error:
                    if self._database.is_lost(error):
                        raise _Interrupted(error) from error
                    raise
                finally:
                    self._inside.transaction = False
                lives = self._commit(link)
            except BaseException:
                try:
                    link.rollback()
                except BaseException:  # noqa: BLE001 - the first failure is raised; this one loses the link
                    link.close()
                else:
                    self._link = link
                raise
            if lives:
                self._link = link
            else:
                link.close()
        finally:
            self._turnstile.__exit__(None, None, None)

    def _commit(self, link: Link) -> bool:
        """Commit; return whether the connection can be used again."""
        try:
            link.commit()
        except Exception as error:
            if not self._database.is_lost(error):
                raise
            # It may be durable, and must then neither be done again nor be called undone.
            was_committed = link.was_committed()
            if was_committed is None:
                raise _Unknown(error) from error
            if not was_committed:
                raise _Interrupted(error) from error
            return False
        return True

    def _begun(self, link: Link | None) -> Link:
        try:
            link = link or self._connect()
            try:
                link.begin()
            except BaseException:
                link.close()
                raise
        except Exception as error:
            if not self._database.is_error(error):
                raise
            raise _NotBegun(self._translate(error), error) from error
        return link

    def _perform(self, batch: list[Job[Any]], link: Link) -> None:
        entries: list[Job[Any]] = []
        for job in batch:
            if job.run is None:
                entries.append(job)
                continue
            self._post_all(entries, link)
            entries = []
            job.result = job.run(link.plain())
        self._post_all(entries, link)

    def _post_all(self, jobs: list[Job[Any]], link: Link) -> None:
        if not jobs:
            return
        results = self._post(link.connection, [job.entry for job in jobs])
        for job, result in zip(jobs, results, strict=True):
            if isinstance(result, Exception):
                job.error = result
            else:
                job.result = result


class _Interrupted(Exception):
    """The connection was lost before anything could have been committed."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


class _Unknown(Exception):
    """The connection was lost while it committed, and nobody can say what became of that."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__()
        self.reason = StoreUnavailable(
            "the connection to the store was lost while it committed, and it cannot be found out whether this was "
            "written. Look before doing it again; a call that was admitted is then listed as in doubt"
        )
        self.reason.__cause__ = cause


class _NotBegun(Exception):
    """No transaction could be begun, so every job of the batch fails alike and none need be tried alone."""

    def __init__(self, reason: StoreUnavailable, cause: BaseException) -> None:
        super().__init__()
        self.reason = reason
        self.reason.__cause__ = cause
