"""
Hearing: how answers of evaluators are waited for.

Who is asked, in which order and until when is written once, in generators: a `Hearing` yields for how many seconds it
waits at most, is sent what has arrived meanwhile, and returns its result. `heard` takes one to its end in the calling
thread, `aheard` in its event loop, asyncio's or trio's. Nobody here waits for an evaluator to end.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, suppress
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeAlias, TypeVar

import anyio
import anyio.lowlevel

from interlock.evaluators.bench import Bench, Job

_T = TypeVar("_T")
_Answer = TypeVar("_Answer")

Arrived: TypeAlias = list[tuple[Job, object]]

Hearing: TypeAlias = Generator[float, Arrived, _T]


class Inbox:
    """Where answers arrive from other threads."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._answers: SimpleQueue[tuple[Job, object]] = SimpleQueue()

    def put(self, job: Job, answer: object) -> None:
        """Deliver *answer*, from any thread, and never wait."""
        self._answers.put((job, answer))

    def wait(self, seconds: float) -> Arrived:
        """Return what has arrived, waiting for the first, for so long at most."""
        try:
            first = self._answers.get(timeout=max(0.0, seconds))
        except Empty:
            return []
        return [first, *self._rest()]

    def _rest(self) -> Arrived:
        found = []
        with suppress(Empty):
            while True:
                found.append(self._answers.get_nowait())
        return found


class LoopInbox(Inbox):
    """Where answers arrive from other threads, to be awaited in the event loop that made it."""

    def __init__(self) -> None:
        """Begin with nothing."""
        super().__init__()
        self._event = anyio.Event()
        loop = anyio.lowlevel.current_token().native_token
        self._soon: Any = getattr(loop, "call_soon_threadsafe", None) or loop.run_sync_soon  # type: ignore[attr-defined]

    def put(self, job: Job, answer: object) -> None:
        """Deliver *answer*, from any thread, and never wait."""
        super().put(job, answer)
        with suppress(RuntimeError):  # the loop is closed, so nobody waits there any more
            self._soon(self._wake)

    def _wake(self) -> None:
        self._event.set()

    async def await_(self, seconds: float) -> Arrived:
        """Do as `wait` does, awaiting."""
        with anyio.move_on_after(seconds):
            await self._event.wait()
        self._event = anyio.Event()
        return self._rest()


def heard(hearing: Callable[[Inbox], Hearing[_T]]) -> _T:
    """Take *hearing* to its end, blocking this thread alone; an interruption ends it at once."""
    inbox = Inbox()
    with closing(hearing(inbox)) as steps:
        try:
            seconds = next(steps)
            while True:
                seconds = steps.send(inbox.wait(seconds))
        except StopIteration as stop:
            result: _T = stop.value
            return result


async def aheard(hearing: Callable[[Inbox], Hearing[_T]]) -> _T:
    """Take *hearing* to its end, awaiting; a cancellation ends it at once."""
    inbox = LoopInbox()
    with closing(hearing(inbox)) as steps:
        try:
            seconds = next(steps)
            while True:
                seconds = steps.send(await inbox.await_(seconds))
        except StopIteration as stop:
            result: _T = stop.value
            return result


class Question(Generic[_Answer]):
    """
    A job of the bench, what its answer means, and by when it must be there.

    Attributes:
        job: What is asked.
        timeout_s: How long it may take.
        answer: What it amounts to; None until then, and where there is no view.
        is_answered: Whether it has reported.
    """

    def __init__(
        self,
        job: Job,
        timeout_s: float,
        *,
        meaning: Callable[[object], _Answer | None],
        silence: Callable[[str], _Answer],
    ) -> None:
        """Prepare to ask: *meaning* tells what a report amounts to, *silence* what it means that none came, and why."""
        self.job = job
        self.timeout_s = timeout_s
        self.answer: _Answer | None = None
        self.is_answered = False
        self._meaning = meaning
        self._silence = silence

    def report(self, reported: object) -> None:
        """Take what the job has reported."""
        self.is_answered = True
        self.answer = self._meaning(reported)

    def give_up(self) -> None:
        """Take it that there is no answer."""
        limit = f"{self.timeout_s:g} s"
        self.answer = self._silence(
            f"gave no answer within {limit}"
            if self.job.began
            else f"could not be asked within {limit}: others hold every place"
        )


def ask(
    bench: Bench,
    questions: Sequence[Question[_Answer]],
    *,
    until: Callable[[_Answer], bool] | None = None,
) -> Hearing[None]:
    """
    Ask *questions* at the same time, each within its deadline, until all are answered or one is of which *until* holds.

    The others are then cancelled, no longer heard, and not waited for.
    """
    began = time.monotonic()
    try:
        for question in questions:
            bench.start(question.job)
        waiting = {question.job: question for question in questions}
        while waiting and not any(_is_enough(question, until) for question in questions):
            first = min(question.timeout_s for question in waiting.values())
            for job, reported in (yield began + first - time.monotonic()):
                if job in waiting:  # else it comes too late
                    waiting.pop(job).report(reported)
            passed = time.monotonic() - began
            for question in [one for one in waiting.values() if one.timeout_s <= passed]:
                waiting.pop(question.job).give_up()
    finally:
        for question in questions:
            if not question.is_answered:
                bench.abandon(question.job)


def _is_enough(question: Question[_Answer], until: Callable[[_Answer], bool] | None) -> bool:
    return until is not None and question.answer is not None and until(question.answer)
