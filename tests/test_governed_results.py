"""What a governed function returns is what its tool returned, whatever can be done with it."""

from __future__ import annotations

import asyncio
import types
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from typing import Any

import pytest

from interlock import Governor, Session, governed
from interlock.events import CallFinished, Outcome
from interlock.testing import Recorder


@pytest.fixture
def session(governor: Callable[..., Governor], recorder: Recorder) -> Iterator[Session]:
    """An open session in which everything is allowed."""
    with governor(url="sqlite://", plugins=[recorder]).session("s", agent="bot") as session:
        yield session


def finished(recorder: Recorder) -> list[Outcome]:
    """How the calls ended."""
    return [event.outcome for event in recorder.events if isinstance(event, CallFinished)]


@pytest.mark.promise(8)
def test_a_generator_that_is_returned_is_a_generator(session: Session, recorder: Recorder) -> None:
    """Broken if a function that returns a generator returns something to be awaited, as before Python 3.12."""

    @governed
    def numbers(n: int) -> Generator[int]:
        return (number for number in range(n))

    found = numbers(3)
    assert type(found) is types.GeneratorType
    assert list(found) == [0, 1, 2]
    assert finished(recorder) == [Outcome.RETURNED]


class Later:
    """Something to be awaited that is no coroutine."""

    def __await__(self) -> Generator[Any, None, int]:
        yield from asyncio.sleep(0).__await__()
        return 7


@pytest.mark.promise(8)
@pytest.mark.parametrize(
    "make",
    [
        Later,
        lambda: iter([1]),
        lambda: range(3),
        types.SimpleNamespace,
        lambda: types.MappingProxyType({}),
        lambda: Exception("a value"),
    ],
    ids=["awaitable", "iterator", "range", "object", "mapping", "exception"],
)
def test_other_results_are_the_same_object(make: Callable[[], Any], session: Session) -> None:
    """Broken if what a tool returns is run, consumed or replaced on its way out."""
    made = make()

    @governed
    def tool() -> Any:
        return made

    assert tool() is made


async def test_an_async_stream_that_is_returned_is_one(session: Session) -> None:
    """Broken if a function that returns an async generator returns something else."""

    async def stream() -> AsyncIterator[int]:
        yield 1

    @governed
    def tool() -> AsyncIterator[int]:
        return stream()

    assert [item async for item in tool()] == [1]


async def test_a_coroutine_that_is_returned_is_what_runs(
    session: Session, recorder: Recorder
) -> None:
    """Broken if a call whose effect is in awaiting its result is recorded as ended before that."""

    async def effect() -> int:
        await asyncio.sleep(0)
        return 7

    @governed
    def tool() -> Awaitable[int]:
        return effect()

    made = tool()
    assert finished(recorder) == []
    assert await made == 7
    assert finished(recorder) == [Outcome.RETURNED]
