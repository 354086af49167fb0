"""
The writer: every write of a process goes through one connection, and waits for one commit with all its neighbours.

Rule 1: nobody is told "done" before the commit is durable.
Rule 2: an idle writer is driven by the caller's own thread. Who finds it busy queues, and the writer's thread takes
all that wait into the next transaction. Callers who were woken together are expected to come back together: as long as
they still arrive, and while there is a crowd, nobody goes ahead alone, which would make all others wait for a commit.
"""

from __future__ import annotations

import threading
import time
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

import anyio.to_thread

from interlock._threads import begin, in_writer, is_inside
from interlock.errors import Misuse, StoreUnavailable
from interlock.store.batches import Batches
from interlock.store.health import Writing
from interlock.store.jobs import Job

_T = TypeVar("_T")

MAX_BATCH = 512
"""Jobs in one transaction: enough to amortise the commit, few enough to bound a waiter's delay."""

MAX_WAITING = 16_384
"""Jobs in the queue; who comes later waits outside, so that a store that is slow or gone does not fill the memory."""

PAUSE_S = 0.000_05
"""For how long others get the processor, to see whether more of a crowd arrive; with what a timer adds, 0.1 ms."""

PATIENCE = 2
"""After so many pauses in which nobody came, nobody is waited for any more: a fraction of what a commit takes."""


class Writer:
    """Runs jobs in transactions, in the order of their arrival, one transaction at a time."""

    def __init__(self, batches: Batches, *, closed: str = "the store is closed") -> None:
        """
        Take turns on *batches*.

        Args:
            batches: Runs what is its turn.
            closed: What callers are told once it is closed.
        """
        self._batches = batches
        self._turn = threading.Lock()
        self._gate = threading.Lock()
        self._room = threading.Condition()
        self._outside = 0  # callers who wait for room in the queue
        self._queue: SimpleQueue[Job[Any] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._in_hand = 0  # jobs that the thread has taken out of the queue and not ended
        self._crowd = 1  # how many were served together lately, so how many may come back together
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
        if self._batches.is_inside:
            raise Misuse(
                "an operation may not start another transaction: use the connection that it was given"
            )
        with in_writer:
            if self._crowd == 1 and self._queue.empty() and self._turn.acquire(blocking=False):
                try:
                    if not self._closed:
                        self._batches.alone(job)
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
                self._batches.let_go()

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
            self._batches.let_go()
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
            self._batches.together([one for one in batch if one.is_wanted()])
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
