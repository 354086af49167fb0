"""The session around: it reaches the code that was started in it, and nothing that was not, or that outlives it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

import pytest

from interlock import Denied, Governor, current_session, governed
from interlock._scope import current_scope
from interlock._state import SessionStatus
from interlock.errors import NotConfigured

Make = Callable[..., Governor]


@governed
def where() -> str:
    """Say which session this runs in."""
    return current_session("where").name


@pytest.fixture
def made(governor: Make) -> Governor:
    """A governor that refuses nothing."""
    return governor("observe")


def test_a_copy_of_the_context_for_each_job(made: Governor) -> None:
    """Broken if jobs of a pool, each in a copy of the context, end up in another session, or leave theirs behind."""
    with ThreadPoolExecutor(2) as pool:
        begun = threading.Barrier(2)

        def job(name: str) -> str:
            with made.session(name, agent="bot"):
                begun.wait()
                jobs = [pool.submit(copy_context().run, where) for _ in range(20)]
                return ",".join({one.result() for one in jobs})

        with ThreadPoolExecutor(2) as hosts:
            assert list(hosts.map(job, ["a", "b"])) == ["a", "b"]
        for _ in range(4):  # of two threads, both of which were in both sessions
            with pytest.raises(NotConfigured):
                pool.submit(where).result()
        assert pool.submit(current_scope).result() is None


def test_what_outlives_its_session_is_refused(made: Governor) -> None:
    """Broken if a job that was put off runs in a session that is over, or in none."""
    with made.session("over", agent="bot"):
        context = copy_context()
    with ThreadPoolExecutor(1) as pool, pytest.raises(Denied, match="the session is completed"):
        pool.submit(context.run, where).result()


def test_a_task_from_before_is_outside(made: Governor) -> None:
    """Broken if a session reaches a task that was not started in it, or outlasts its block for one that was."""

    async def scenario() -> None:
        go = asyncio.Event()

        async def work() -> str:
            await go.wait()
            return where()

        before = asyncio.create_task(work())
        async with made.session("s", agent="bot"):
            inside = asyncio.create_task(work())
            late = asyncio.create_task(work())
            go.set()
            assert await inside == "s"
            with pytest.raises(NotConfigured):
                await before
            assert await asyncio.to_thread(where) == "s"
            assert await late == "s"
            go.clear()
            left = asyncio.create_task(work())
            await asyncio.sleep(0)
        go.set()
        with pytest.raises(Denied, match="the session is completed"):
            await left
        assert current_scope() is None

    asyncio.run(scenario())


@governed
def stream(made: Governor) -> Iterator[str]:
    """Start an agent, and pass on what it says."""
    with made.session("inner", agent="other"):
        yield where()
        yield where()


@governed
async def astream(made: Governor) -> AsyncIterator[str]:
    """Start an agent, and pass on what it says."""
    async with made.session("inner", agent="other"):
        yield where()
        yield where()


def test_a_stream_keeps_its_session_to_itself(made: Governor) -> None:
    """Broken if who reads a governed stream is in the session that it has opened, or the stream itself is not."""
    with made.session("outer", agent="bot"):
        found = [(item, where()) for item in stream(made)]
        assert found == [("inner", "outer")] * 2
        assert where() == "outer"
        for item in stream(made):  # and where it is left early
            assert (item, where()) == ("inner", "outer")
            break
        assert where() == "outer"


def test_a_stream_whose_steps_are_taken_anywhere(made: Governor) -> None:
    """Broken if a server that takes each item in another context has the stream stay in a session it has left."""

    @governed
    def two(made: Governor) -> Iterator[str]:
        with made.session("inner", agent="other"):
            yield where()
        yield where()

    with made.session("outer", agent="bot"):
        items = two(made)
        found = [copy_context().run(next, items) for _ in range(2)]
        assert list(copy_context().run(list, items)) == []
    assert found == ["inner", "outer"]
    assert [report.state.status for report in made.verify()] == [SessionStatus.COMPLETED] * 2


def test_an_async_stream_keeps_its_session_to_itself(made: Governor) -> None:
    """Broken if who reads a governed async stream is in the session that it has opened, or the stream itself is not."""

    async def scenario() -> list[tuple[str, str]]:
        async with made.session("outer", agent="bot"):
            found = [(item, where()) async for item in astream(made)]
            found.append(("", where()))
        return found

    assert asyncio.run(scenario()) == [("inner", "outer")] * 2 + [("", "outer")]


def test_an_exception_takes_the_session_with_it(made: Governor) -> None:
    """Broken if code that goes on after a run has failed is still in that run."""

    def fail() -> Any:
        with made.session("s", agent="bot"):
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert current_scope() is None
    with pytest.raises(NotConfigured):
        where()
