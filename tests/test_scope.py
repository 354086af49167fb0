"""The current session: who inherits it, what nests in it, that it leaks nowhere, and what runs in it as which call."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import random
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from interlock import Call, Governor, Session, current_call, governed
from interlock.errors import NotConfigured
from interlock.events import CallDecided, Outcome
from interlock.testing import Recorder

MakeGovernor = Callable[..., Governor]


@governed
def refund(order: str) -> Call | None:
    """Say which call is running."""
    return current_call()


@governed
async def arefund(order: str) -> Call | None:
    """Say which call is running, having waited."""
    await anyio.lowlevel.checkpoint()
    return current_call()


def is_governed_here() -> bool:
    """Whether a governed function finds a session here."""
    try:
        return refund("o-1") is not None
    except NotConfigured:
        return False


def in_thread(function: Callable[[], Any]) -> Any:
    """Run *function* in a thread of its own."""
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(function()))
    thread.start()
    thread.join()
    return results[0]


@pytest.fixture
def books(governor: MakeGovernor, recorder: Recorder) -> Governor:
    """A governor that allows everything."""
    return governor(url="sqlite://", plugins=[recorder])


@pytest.fixture
def session(books: Governor) -> Iterator[Session]:
    """An open session in which everything is allowed."""
    with books.session("s", agent="bot") as session:
        yield session


@pytest.mark.promise(1)
def test_threads_do_not_inherit(session: Session) -> None:
    """Broken if a thread that nobody put into a session runs governed functions, in whatever session."""
    assert is_governed_here()
    assert not in_thread(is_governed_here)
    with ThreadPoolExecutor(1) as pool:
        assert not pool.submit(is_governed_here).result()

    assert session.state().outcomes == {Outcome.RETURNED: 1}


def test_what_to_do_in_a_thread_is_said_and_works(session: Session) -> None:
    """Broken if the error in a thread does not say what to do, or what it says does not help."""
    caught: list[str] = []

    def bare() -> None:
        try:
            refund("o-1")
        except NotConfigured as error:
            caught.append(str(error))

    def attached() -> bool:
        with session.attach() as here:
            assert here is session
            return is_governed_here()

    in_thread(bare)
    assert "session.attach()" in caught[0]
    assert "copy_context().run" in caught[0]
    assert in_thread(attached)
    context = contextvars.copy_context()
    assert in_thread(lambda: context.run(is_governed_here))
    assert session.state().outcomes == {Outcome.RETURNED: 2}


async def test_tasks_and_their_threads_inherit(session: Session) -> None:
    """Broken if a task, a callback or `to_thread` of asyncio loses the session it was started in."""
    called: list[bool] = []
    loop = asyncio.get_running_loop()

    async with asyncio.TaskGroup() as group:
        task = group.create_task(arefund("o-1"))
    assert task.result() is not None
    assert [call is not None for call in await asyncio.gather(arefund("o-1"), arefund("o-2"))]
    assert await asyncio.to_thread(is_governed_here)
    loop.call_soon(lambda: called.append(is_governed_here()))
    await asyncio.sleep(0.001)
    assert called == [True]


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_anyio_tasks_and_threads_inherit(session: Session) -> None:
    """Broken if a task or a worker thread of anyio loses the session it was started in."""
    calls: list[Call | None] = []

    async def child() -> None:
        calls.append(await arefund("o-1"))

    async with anyio.create_task_group() as group:
        group.start_soon(child)
    assert calls[0] is not None
    assert await anyio.to_thread.run_sync(is_governed_here)


def test_sessions_nest(books: Governor) -> None:
    """Broken if leaving an inner session does not bring the outer one back."""
    seen: list[Any] = []

    with pytest.raises(NotConfigured):
        refund("o-1")
    with books.session("outer", agent="bot") as outer:
        seen.append(refund("o-1"))
        with books.session("inner", agent="bot") as inner:
            seen.append(refund("o-1"))
            with outer.attach():
                seen.append(refund("o-1"))
            seen.append(refund("o-1"))
        seen.append(refund("o-1"))
    with pytest.raises(NotConfigured):
        refund("o-1")

    assert [call.session_id for call in seen] == [
        outer.id,
        inner.id,
        outer.id,
        inner.id,
        outer.id,
    ]


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_a_session_of_one_task_is_not_its_siblings(books: Governor) -> None:
    """Broken if a session that a task opens becomes current in the tasks beside it, or in its parent."""
    opened, asked = anyio.Event(), anyio.Event()

    async def opens() -> None:
        async with books.session("s", agent="bot"):
            opened.set()
            await asked.wait()

    async with anyio.create_task_group() as group:
        group.start_soon(opens)
        await opened.wait()
        assert not is_governed_here()
        asked.set()
    assert not is_governed_here()


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_interleaved_tasks_record_into_their_own_sessions(
    books: Governor, recorder: Recorder
) -> None:
    """Broken if one of 1,000 interleaved calls in 10 sessions is recorded in another's, or with its arguments."""
    order: list[int] = []
    delays = random.Random(7)

    @governed
    async def tool(number: int) -> int:
        call = current_call()
        await anyio.sleep(delays.random() / 1_000)
        order.append(number)
        assert current_call() is call
        assert call is not None
        assert call.arguments["number"] == number
        return number

    async def one(number: int) -> None:
        await anyio.sleep(delays.random() / 1_000)
        assert await tool(number) == number

    async def run(session: Session) -> None:
        async with session, anyio.create_task_group() as group:
            for number in range(100):
                group.start_soon(one, number)

    sessions = [books.session(f"s-{number}", agent="bot") for number in range(10)]
    async with anyio.create_task_group() as group:
        for session in sessions:
            group.start_soon(run, session)

    assert sum(one > other for one, other in itertools.pairwise(order)) > 100, (
        "they did not interleave"
    )
    told: dict[str, list[str]] = {}
    for recorded in recorder.recorded:
        if isinstance(recorded.event, CallDecided):
            told.setdefault(recorded.session_id, []).append(recorded.event.arguments)
    expected = sorted(f'{{"number":{number}}}' for number in range(100))
    assert set(told) == {session.id for session in sessions}
    for session in sessions:
        assert sorted(told[session.id]) == expected
        assert session.state().outcomes == {Outcome.RETURNED: 100}


def test_threads_record_into_their_own_sessions(books: Governor) -> None:
    """Broken if the sessions of threads that run at once get into each other's way."""
    barrier = threading.Barrier(8)

    def run(number: int) -> tuple[str, set[str]]:
        with books.session(f"s-{number}", agent="bot") as session:
            barrier.wait(30)
            calls = [refund(f"o-{number}") for _ in range(20)]
            return session.id, {call.session_id for call in calls if call is not None}

    with ThreadPoolExecutor(8) as pool:
        seen = list(pool.map(run, range(8)))

    assert all(sessions == {own} for own, sessions in seen)
    assert len({own for own, _ in seen}) == 8


def test_current_call_is_the_running_one(session: Session) -> None:
    """Broken if a tool cannot learn its call, or learns another's."""

    @governed
    def outer(order: str) -> tuple[Call | None, Call | None, Call | None]:
        before = current_call()
        inner = refund(order)
        return before, inner, current_call()

    assert current_call() is None
    before, inner, after = outer("o-1")
    assert current_call() is None

    assert before is after
    assert before is not None
    assert inner is not None
    assert (before.tool.name, inner.tool.name) == ("outer", "refund")
    assert before.id != inner.id
    assert (before.session_id, before.identity.agent) == (session.id, "bot")


async def test_current_call_follows_into_tasks_and_threads(session: Session) -> None:
    """Broken if what a tool starts does not know for which call it works."""

    @governed
    async def tool() -> list[Call | None]:
        async def child() -> Call | None:
            return current_call()

        return [
            current_call(),
            await asyncio.create_task(child()),
            await asyncio.to_thread(current_call),
        ]

    own, task, thread = await tool()

    assert own is not None
    assert own is task is thread
    assert current_call() is None


def test_current_call_after_a_failure(session: Session) -> None:
    """Broken if a call that fails stays the current one."""

    @governed
    def tool() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        tool()

    assert current_call() is None


def test_a_stream_leaves_its_consumers_scope_alone(session: Session) -> None:
    """Broken if a stream does not know its call, or its consumer finds itself inside it between the items."""

    @governed
    def stream() -> Iterator[Call | None]:
        yield current_call()
        yield current_call()

    items = stream()
    seen = [(item, current_call()) for item in items]

    assert [around for _, around in seen] == [None, None]
    assert seen[0][0] is not None
    assert seen[0][0] is seen[1][0]


async def test_an_async_stream_leaves_its_consumers_scope_alone(session: Session) -> None:
    """Broken if an async stream does not know its call, or its consumer finds itself inside it between the items."""

    @governed
    async def stream() -> AsyncIterator[Call | None]:
        yield current_call()
        await anyio.lowlevel.checkpoint()
        yield current_call()

    seen = [(item, current_call()) async for item in stream()]

    assert [around for _, around in seen] == [None, None]
    assert seen[0][0] is not None
    assert seen[0][0] is seen[1][0]


def test_left_in_another_context(books: Governor) -> None:
    """Broken if a session that a framework enters in one thread and leaves in another stays open, or raises."""
    session = books.session("s", agent="bot")
    context = contextvars.copy_context()

    context.run(session.__enter__)
    assert context.run(is_governed_here)
    assert not is_governed_here()
    in_thread(lambda: session.__exit__(None, None, None))

    assert session.state().closed_at is not None
    assert not is_governed_here()
