"""The bench: so many places and no more, given on to whoever waits, and nothing left behind."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any

import pytest

from interlock.evaluators.bench import Bench, Job, Raised

PATIENCE_S = 20


@pytest.fixture
def answers() -> SimpleQueue[Any]:
    """Where answers are reported."""
    return SimpleQueue()


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A bench with two places."""
    made = Bench(2)
    yield made
    made.close()


@pytest.fixture
def ask(answers: SimpleQueue[Any]) -> Callable[..., Job]:
    """Make jobs that report to `answers`."""

    def make(
        function: Callable[[], Any], conclude: Callable[[Any], Any] = lambda answer: answer
    ) -> Job:
        return Job(
            function,
            conclude,
            lambda _job, answer: answers.put(answer),
            is_async=asyncio.iscoroutinefunction(function),
        )

    return make


async def at_once() -> str:
    """Answer from the loop."""
    return "async"


@pytest.mark.parametrize("is_async", [False, True])
def test_there_are_so_many_places(
    is_async: bool, bench: Bench, ask: Callable[..., Job], answers: SimpleQueue[Any]
) -> None:
    """Broken if more run at once than there are places, or a place that is free again is not given on."""
    two = threading.Barrier(2, timeout=PATIENCE_S)
    running: list[int] = []
    most: list[int] = []

    def work() -> str:
        running.append(1)
        most.append(len(running))
        two.wait()
        running.pop()
        return "done"

    async def awork() -> str:
        return await asyncio.to_thread(work)

    jobs = [ask(awork if is_async else work) for _ in range(20)]
    for job in jobs:
        bench.start(job)
    assert [answers.get(timeout=PATIENCE_S) for _ in jobs] == ["done"] * 20
    assert max(most) == 2
    assert all(job.began for job in jobs)


def test_who_is_abandoned_while_waiting_is_not_asked(
    bench: Bench, ask: Callable[..., Job], answers: SimpleQueue[Any]
) -> None:
    """Broken if calls that are refused by now are still judged, or their jobs are kept for ever."""
    going = threading.Event()
    holding = [ask(lambda: going.wait(PATIENCE_S)) for _ in range(2)]
    asked: list[str] = []
    late = ask(lambda: asked.append("late"))
    last = ask(lambda: asked.append("last"))
    for job in (*holding, late, last):
        bench.start(job)
    bench.abandon(late)
    assert list(bench._crew._waiting) == [last]
    going.set()
    assert {answers.get(timeout=PATIENCE_S) for _ in range(3)} == {True, None}
    assert asked == ["last"]
    assert (late.began, last.began) == (False, True)


def test_a_thread_is_used_again(
    bench: Bench, ask: Callable[..., Job], answers: SimpleQueue[Any]
) -> None:
    """Broken if every question starts a thread."""
    idents = set()
    for _ in range(10):
        bench.start(ask(threading.get_ident))
        idents.add(answers.get(timeout=PATIENCE_S))
        while not bench._crew._idle:
            pass
    assert len(idents) == 1


def test_looking_at_an_answer_is_part_of_the_question(
    bench: Bench, ask: Callable[..., Job], answers: SimpleQueue[Any]
) -> None:
    """Broken if an answer that raises when it is looked at is not reported, or takes its thread along."""

    def conclude(answer: Any) -> Any:
        raise SystemExit(answer)

    for _ in range(3):
        for function in (lambda: "sync", at_once):
            bench.start(ask(function, conclude))
            assert answers.get(timeout=PATIENCE_S) == Raised("SystemExit")


def test_after_the_end_nothing_is_asked(ask: Callable[..., Job], answers: SimpleQueue[Any]) -> None:
    """Broken if closing leaves threads, or a question that comes too late waits for ever."""
    bench = Bench()
    for function in (lambda: "sync", at_once):
        bench.start(ask(function))
        answers.get(timeout=PATIENCE_S)
    threads = {bench._crew._thread, *bench._crew._workers}
    assert len(threads) == 2
    bench.close()
    bench.close()
    assert [thread for thread in threads if thread is None or thread.is_alive()] == []
    for function in (lambda: "sync", at_once):
        bench.start(ask(function))
        assert answers.get(timeout=PATIENCE_S) == Raised("RuntimeError")


def test_who_is_cancelled_before_it_begins_is_reported(
    bench: Bench, ask: Callable[..., Job], answers: SimpleQueue[Any]
) -> None:
    """Broken if an evaluator that another one cancels before it begins is waited for until its deadline."""
    asked: list[str] = []

    async def victim() -> None:
        asked.append("victim")

    async def culprit() -> str:
        own = asyncio.current_task()
        bench.start(ask(victim))
        # After the victim's task is made, and before its first step.
        asyncio.get_running_loop().call_soon(
            lambda: [task.cancel() for task in asyncio.all_tasks() if task is not own]
        )
        return "done"

    bench.start(ask(culprit))
    found = [answers.get(timeout=PATIENCE_S) for _ in range(2)]
    assert sorted(map(str, found)) == sorted(["done", str(Raised("CancelledError"))])
    assert asked == []


def test_closing_cancels_who_is_at_work(ask: Callable[..., Job], answers: SimpleQueue[Any]) -> None:
    """Broken if what awaits when the governor is closed is left hanging."""
    began = threading.Event()

    async def waiting() -> None:
        began.set()
        await asyncio.sleep(PATIENCE_S)

    bench = Bench()
    bench.start(ask(waiting))
    assert began.wait(PATIENCE_S)
    bench.close()
    assert answers.get(timeout=PATIENCE_S) == Raised("CancelledError")


def test_closing_tells_who_waits(ask: Callable[..., Job], answers: SimpleQueue[Any]) -> None:
    """Broken if a call that waits for a place when the governor is closed waits until its deadline."""
    going, began = threading.Event(), threading.Event()

    def holding() -> str:
        began.set()
        assert going.wait(PATIENCE_S)
        return "done"

    bench = Bench(1)
    bench.start(ask(holding))
    assert began.wait(PATIENCE_S)
    bench.start(ask(lambda: "never"))
    bench._crew.close()
    assert answers.get(timeout=PATIENCE_S) == Raised("RuntimeError")
    going.set()
    bench.close()
    assert answers.get(timeout=PATIENCE_S) == "done"


def test_a_bench_that_is_forgotten_ends_its_threads(
    ask: Callable[..., Job], answers: SimpleQueue[Any]
) -> None:
    """Broken if a governor that nobody closed leaves its threads for good."""
    before = set(threading.enumerate())
    bench = Bench()
    for function in (lambda: "sync", at_once):
        bench.start(ask(function))
        answers.get(timeout=PATIENCE_S)
    threads = set(threading.enumerate()) - before
    assert {thread.name for thread in threads} >= {
        "interlock-evaluator",
        "interlock-evaluators-loop",
    }
    del bench
    gc.collect()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert [thread for thread in threads if thread.is_alive()] == []


FORKED = """
import os
from queue import SimpleQueue
from interlock.evaluators.bench import Bench, Job

async def coroutine():
    return "async"

def asked(bench):
    answers = SimpleQueue()
    for function in (lambda: "sync", coroutine):
        is_async = function is coroutine
        bench.start(Job(function, lambda a: a, lambda job, a: answers.put(a), is_async=is_async))
    return {answers.get(timeout=20), answers.get(timeout=20)}

bench = Bench()
assert asked(bench) == {"sync", "async"}
child = os.fork()
if not child:
    os._exit(0 if asked(bench) == {"sync", "async"} else 1)
assert os.waitpid(child, 0)[1] == 0
assert asked(bench) == {"sync", "async"}
bench.close()
"""


def test_a_fork_has_threads_of_its_own() -> None:
    """Broken if after a fork the child counts on threads that only its parent has, and denies everything."""
    command = [sys.executable, "-W", "ignore", "-c", FORKED]
    assert subprocess.run(command, timeout=50, check=False).returncode == 0
