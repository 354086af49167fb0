"""Job: something to be done in a transaction, and the caller who waits for it, in a thread or on an event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Generic, TypeVar

import anyio
import anyio.to_thread
from sqlalchemy import Connection

from interlock._loops import asyncio_task

_T = TypeVar("_T")


class Bell:
    """
    What a thread waits at until its job is done; `concurrent.futures.Future` takes several times as long.

    Whoever calls `claim` first has the job: the writer, who will do it, or the caller, who then does not want it done.
    """

    __slots__ = ("_claimed", "_lock", "is_rung")

    def __init__(self) -> None:
        self._claimed = threading.Lock()
        self._lock = threading.Lock()
        self._lock.acquire()
        self.is_rung = False

    @property
    def is_claimed(self) -> bool:
        """Whether anybody has the job."""
        return self._claimed.locked()

    def claim(self) -> bool:
        """Return whether nobody has done so before."""
        return self._claimed.acquire(blocking=False)

    def ring(self) -> None:
        """Let the thread go on; called once."""
        self.is_rung = True
        self._lock.release()

    def wait(self) -> None:
        """Return when it was rung; to be called again if that was interrupted."""
        while not self.is_rung:
            self._lock.acquire()


class Job(Generic[_T]):
    """
    Something to be done: `run`, a function of the connection, or `entry`, which is done together with others.

    Whoever does it leaves `result` or `error`, and wakes the caller once that is durable.
    """

    __slots__ = ("_done", "_signal", "bell", "entry", "error", "loop", "queued_at", "result", "run")

    def __init__(self, run: Callable[[Connection], _T] | None, entry: object = None) -> None:
        """Leave it undone, with nobody waiting."""
        self.run = run
        self.entry = entry
        self.queued_at = 0.0
        self.result: Any = None
        self.error: BaseException | None = None
        self._done = False
        self.bell: Bell | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self._signal: asyncio.Future[None] | None = None

    def outcome(self) -> _T:
        """Return what came of it, or raise it."""
        if self.error is not None:
            raise self.error
        result: _T = self.result
        return result

    def expect(self) -> None:
        """Make ready to be waited for by this thread; to be called before the job is handed over."""
        self.bell = Bell()

    def aexpect(self) -> None:
        """Make ready to be awaited by this task; to be called before the job is handed over."""
        task = asyncio_task()
        if task is None:
            self.bell = Bell()
        else:
            self.loop = task.get_loop()
            self._signal = self.loop.create_future()

    def is_wanted(self) -> bool:
        """Whether the caller still waits; one that was interrupted before its turn came has gone."""
        return self.bell is None or self.bell.claim()

    def wait(self) -> None:
        """
        Return when the job is done.

        Raises:
            BaseException: an interruption, when it is certain that the job is done or will never be.
        """
        bell = self.bell
        if bell is None:
            return
        try:
            bell.wait()
        except BaseException:
            if not bell.claim():
                # Interrupted while the writer has the job: what it comes to is known in a moment.
                bell.wait()
            raise

    async def awaited(self) -> BaseException | None:
        """Return when the job is done, however often the task is cancelled; return the cancellation, if there was."""
        loop, signal = self.loop, self._signal
        if loop is None or signal is None:
            if self.bell is not None:
                with anyio.CancelScope(shield=True):
                    await anyio.to_thread.run_sync(self.bell.wait)
            return None
        held: BaseException | None = None
        try:
            await signal
        except asyncio.CancelledError as cancellation:
            held = cancellation
        if not self._done:
            # Only now, since it costs: without the shield anyio would deliver its cancellation again and again.
            with anyio.CancelScope(shield=True):
                while not self._done:
                    self._signal = loop.create_future()
                    with suppress(asyncio.CancelledError):
                        await self._signal
        return held

    def deliver(self) -> None:
        """Let the task that awaits it go on; called on its event loop."""
        self._done = True
        if self._signal is not None and not self._signal.done():
            self._signal.set_result(None)

    @staticmethod
    def wake(jobs: Iterable[Job[Any]]) -> None:
        """Wake the callers of *jobs*: those of one event loop all at once, since each call into a loop costs."""
        by_loop: dict[asyncio.AbstractEventLoop, list[Job[Any]]] = {}
        for job in jobs:
            if job.loop is not None:
                by_loop.setdefault(job.loop, []).append(job)
            elif job.bell is not None:
                job.bell.ring()
        for loop, theirs in by_loop.items():
            with suppress(RuntimeError):  # the loop is closed, so nobody waits there any more
                loop.call_soon_threadsafe(Job._deliver_all, theirs)

    @staticmethod
    def _deliver_all(jobs: list[Job[Any]]) -> None:
        for job in jobs:
            job.deliver()
