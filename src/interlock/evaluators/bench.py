"""
Bench: where evaluators run, at most so many at a time, and never on a caller's thread or event loop.

In: functions to be asked. Out: what each answered or raised, reported once from a thread of the bench. Nobody here
waits for an evaluator: one that hangs, or swallows its cancellation, keeps its place until it ends and is not heard
any more. So however many hang, the process has no more than `AT_ONCE` threads for them, and whoever finds no place
within its deadline is refused by the panel.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import queue
import threading
import time
import weakref
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from typing import Any

import msgspec
import sniffio

AT_ONCE = 64
"""How many evaluators of one governor run at the same time; the others wait within their deadlines."""

_IDLE_S = 5.0
"""A worker thread without work for so long ends."""

_GRACE_S = 0.5
"""How long `close` leaves cancelled evaluators to end."""

log = logging.getLogger("interlock")


class Raised(msgspec.Struct, frozen=True):
    """What an evaluator raised, by the name of its class: its text may hold argument values."""

    kind: str


class Job:
    """
    One question to one evaluator.

    Attributes:
        began: Whether the evaluator has been asked; until then the job waits for a place.
    """

    def __init__(
        self,
        ask: Callable[[], object],
        conclude: Callable[[object], object],
        report: Callable[[Job, object], None],
        *,
        is_async: bool,
    ) -> None:
        """
        Prepare to ask, in a copy of the caller's context.

        Args:
            ask: Called without arguments. If what it returns can be awaited, it is, on the bench's event loop.
            conclude: Called with the answer where the evaluator ran, so that looking at it cannot harm the caller.
            report: Called once, with this job and what `conclude` returned, or `Raised` if either of the two raised.
            is_async: Whether *ask* only makes a coroutine, so that it needs no thread.
        """
        self.ask = ask
        self._conclude = conclude
        self._report = report
        self.is_async = is_async
        self.context = copy_context()
        self.began = False
        self.abandoned = False
        self.task: asyncio.Task[None] | None = None

    def answered(self, answer: object) -> None:
        """Report what *answer* amounts to."""
        try:
            result = self._conclude(answer)
        except BaseException as error:  # noqa: BLE001 - foreign data may do anything when it is looked at
            result = _raised(error)
        self._report(self, result)

    def failed(self, error: BaseException) -> None:
        """Report that it raised."""
        self._report(self, _raised(error))


class Bench:
    """Runs the evaluators of one governor: sync ones in daemon threads, async ones on one event loop in another."""

    def __init__(self, at_once: int = AT_ONCE) -> None:
        """Start nothing yet."""
        self._crew = _Crew(at_once)
        weakref.finalize(self, _Crew.close, self._crew)

    def start(self, job: Job) -> None:
        """Have *job* done as soon as there is a place."""
        if self._crew.pid != os.getpid():  # forked: threads are not inherited
            self._crew = _Crew(self._crew.at_once)
            weakref.finalize(self, _Crew.close, self._crew)
        self._crew.start(job)

    def abandon(self, job: Job) -> None:
        """Cancel *job* as far as that can be done, without waiting; what it answers from now on is not for anybody."""
        self._crew.abandon(job)

    def close(self) -> None:
        """Abandon everything and stop. What does not stop within a moment is left behind in its daemon thread."""
        self._crew.close()
        self._crew.join()


class _Crew:
    """The state of a bench, which its threads hold; so a bench that is forgotten can be collected, and ends them."""

    def __init__(self, at_once: int) -> None:
        self.at_once = at_once
        self.pid = os.getpid()
        self._lock = (
            threading.RLock()
        )  # a finalizer may interrupt whoever holds it, in the same thread
        self._running = 0
        self._waiting: deque[Job] = deque()
        self._ready: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._idle = 0
        self._workers: set[threading.Thread] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._closed = False

    def start(self, job: Job) -> None:
        with self._lock:
            if not self._closed and self._running >= self.at_once:
                self._waiting.append(job)
                return
            self._running += 1
        if not self._dispatched(job):
            self._ended()

    def abandon(self, job: Job) -> None:
        with self._lock:
            job.abandoned = True
            with suppress(ValueError):
                self._waiting.remove(job)
            loop = self._loop
        if loop is not None and not loop.is_closed():
            with suppress(RuntimeError):  # closed this very moment
                loop.call_soon_threadsafe(_cancel, job)

    def close(self) -> None:
        if (
            self.pid != os.getpid()
        ):  # the threads are the parent's, and so is whoever holds the lock
            return
        with self._lock:
            if self._closed:
                return
            self._closed = True
            late = list(self._waiting)
            self._waiting.clear()
            for _ in range(self._idle):
                self._ready.put(None)
            loop = self._loop
        for job in late:
            job.failed(RuntimeError())
        if loop is not None:
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(loop.stop)

    def join(self) -> None:
        with self._lock:
            threads = {*self._workers, *([self._thread] if self._thread else [])}
        until = time.monotonic() + 2 * _GRACE_S
        for thread in threads - {threading.current_thread()}:
            thread.join(max(0.0, until - time.monotonic()))

    def _dispatched(self, job: Job) -> bool:
        """Hand *job* to a thread or to the loop; False if that cannot be done, which is then reported."""
        try:
            with self._lock:
                if self._closed:
                    raise RuntimeError("the governor is closed")  # noqa: TRY301 - one way to report
                if job.is_async:
                    self._on_loop(job, None)
                elif self._idle:
                    self._idle -= 1
                    self._ready.put(job)
                else:
                    name = "interlock-evaluator"
                    thread = threading.Thread(
                        target=self._work, args=(job,), name=name, daemon=True
                    )
                    thread.start()
                    self._workers.add(thread)
        except Exception as error:  # noqa: BLE001 - no thread can be had: then it cannot be judged
            job.failed(error)
            return False
        return True

    def _ended(self) -> None:
        """Give a place to whoever waits."""
        while True:
            with self._lock:
                self._running -= 1
                if not self._waiting:
                    return
                job = self._waiting.popleft()
                self._running += 1
            if self._dispatched(job):
                return

    def _work(self, job: Job | None) -> None:
        while job is not None:
            is_over = self._done_in_thread(job)
            job = None  # nothing of a call outlives it here
            with self._lock:
                self._idle += 1
            if is_over:
                self._ended()
            job = self._next()
        with self._lock:
            self._workers.discard(threading.current_thread())

    def _next(self) -> Job | None:
        if self._closed:
            return None
        try:
            return self._ready.get(timeout=_IDLE_S)
        except queue.Empty:
            with self._lock:
                if self._idle and self._ready.empty():
                    self._idle -= 1
                    return None
            return self._ready.get()  # somebody counted on this thread just now

    def _done_in_thread(self, job: Job) -> bool:
        """Ask, and report; False if the answer has yet to be awaited."""
        if job.abandoned:
            return True
        job.began = True
        try:
            job.context.run(sniffio.current_async_library_cvar.set, None)
            answer = job.context.run(job.ask)
            if inspect.isawaitable(answer):
                with self._lock:
                    self._on_loop(job, answer)
                return False
        except BaseException as error:  # noqa: BLE001 - SystemExit, too: it ends an evaluator, not a thread
            job.failed(error)
            return True
        job.answered(answer)
        return True

    def _on_loop(self, job: Job, answer: Awaitable[Any] | None) -> None:
        if self._loop is None:
            loop = asyncio.new_event_loop()
            name = "interlock-evaluators-loop"
            self._thread = threading.Thread(
                target=_serve, args=(self, loop), name=name, daemon=True
            )
            self._thread.start()
            self._loop = loop
        self._loop.call_soon_threadsafe(self._spawn, job, answer)

    def _spawn(self, job: Job, answer: Awaitable[Any] | None) -> None:
        """Run *job* as a task of the loop, whose thread this is."""
        job.began = True
        job.context.run(sniffio.current_async_library_cvar.set, "asyncio")
        loop = asyncio.get_running_loop()
        job.task = loop.create_task(_awaited(job, answer), context=job.context)
        # Not in the task's own code: that does not run if it is cancelled before it begins.
        job.task.add_done_callback(partial(_release, self, job))
        if job.abandoned:
            job.task.cancel()

    @property
    def is_closed(self) -> bool:
        return self._closed


def _release(crew: _Crew, job: Job, task: asyncio.Task[None]) -> None:
    if task.cancelled():  # before it began, perhaps by another evaluator
        job.failed(asyncio.CancelledError())
    crew._ended()  # noqa: SLF001 - the two are one


async def _awaited(job: Job, answer: Awaitable[Any] | None) -> None:
    try:
        found = await (job.ask() if answer is None else answer)  # type: ignore[misc]
    except BaseException as error:  # noqa: BLE001 - it would end the loop, or be taken for a cancellation by us
        job.failed(error)
    else:
        job.answered(found)


def _cancel(job: Job) -> None:
    if job.task is not None:
        job.task.cancel()


def _serve(crew: _Crew, loop: asyncio.AbstractEventLoop) -> None:
    """Run *loop* until *crew* is closed, whatever evaluators do to it."""
    while not (crew.is_closed or loop.is_closed()):
        try:
            loop.run_forever()
        except BaseException:  # a task of an evaluator's own that raised SystemExit, for one
            log.exception("an evaluator broke out of its event loop; the loop goes on")
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    with suppress(BaseException):
        if tasks:
            loop.run_until_complete(asyncio.wait(tasks, timeout=_GRACE_S))
        loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


def _raised(error: BaseException) -> Raised:
    try:
        return Raised(str(type(error).__name__))
    except BaseException:  # noqa: BLE001 - a class may be as hostile as an object
        return Raised("an exception without a name")
