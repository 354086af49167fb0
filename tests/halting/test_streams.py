"""Streams under a halt: closed before their next step, what a step gives meanwhile is kept back, and it is booked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any

import pytest

from interlock import Governor, HaltedError, governed
from interlock.events import CallFinished, Outcome
from tests.callers import history
from tests.halting._policies import WHO

Make = Callable[..., Governor]


@pytest.fixture
def database(either: str) -> str:
    """Run every test here on both databases."""
    return either


class Source:
    """Two tools that count up for ever, and what became of them; *during* is called in their third step."""

    def __init__(self, during: Callable[[], Any] = lambda: None) -> None:
        self.closed = 0

        @governed
        def count() -> Generator[int, None, None]:
            try:
                for number in range(10**9):
                    if number == 2:
                        during()
                    yield number
            finally:
                self.closed += 1

        @governed
        async def acount() -> AsyncGenerator[int, None]:
            try:
                for number in range(10**9):
                    await asyncio.sleep(0)
                    if number == 2:
                        during()
                    yield number
            finally:
                self.closed += 1

        self.count, self.acount = count, acount

    def consume(self, shape: str, got: list[int], between: Callable[[int], Any]) -> None:
        """Take items until it ends."""
        if shape == "sync":
            for item in self.count():
                got.append(item)
                between(item)
            return

        async def run() -> None:
            async for item in self.acount():
                got.append(item)
                await asyncio.to_thread(between, item)

        asyncio.run(run())


def _ended(one: Governor, session_id: str) -> list[tuple[Outcome, str | None]]:
    events = history(one, session_id)
    return [(e.outcome, e.halt_id) for e in events if isinstance(e, CallFinished)]


@pytest.mark.promise(4)
@pytest.mark.parametrize("shape", ["sync", "async"])
@pytest.mark.parametrize("when", ["between", "during"])
def test_a_stream_stops_at_once_where_it_is_halted_here(
    when: str, shape: str, governor: Make
) -> None:
    """Broken if a stream goes on after a halt, gives what the step found during which it came, or stays open."""
    one, got = governor(), list[int]()
    with one.session("s", **WHO) as session:

        def halt() -> None:
            if not one.halts():
                one.halt(org="acme", reason="drill", by="ann")

        source = Source(halt if when == "during" else lambda: None)
        with pytest.raises(HaltedError, match="was cancelled while it ran") as caught:
            source.consume(
                shape, got, lambda item: halt() if (when, item) == ("between", 1) else None
            )
        assert (got, source.closed, caught.value.ran) == ([0, 1], 1, True)
        [halted] = one.halts()
        assert _ended(one, session.id) == [(Outcome.CANCELLED, halted.id)]


@pytest.mark.promise(4)
@pytest.mark.parametrize("shape", ["sync", "async"])
def test_a_stream_stops_where_another_halts(shape: str, governor: Make) -> None:
    """Broken if a stream goes on for ever once somebody else, elsewhere, has halted it: this would not end."""
    one, two, got = governor(), governor(), list[int]()
    source = Source()
    with one.session("s", **WHO) as session, pytest.raises(HaltedError):
        source.consume(
            shape,
            got,
            lambda item: two.halt(user="u-1", reason="drill", by="ann") if item == 3 else None,
        )
    assert got[:4] == [0, 1, 2, 3]
    assert source.closed == 1
    assert _ended(one, session.id) == [(Outcome.CANCELLED, two.halts()[0].id)]


@pytest.mark.promise(4)
@pytest.mark.parametrize("shape", ["sync", "async"])
def test_a_halt_of_somebody_else_leaves_a_stream_alone(shape: str, governor: Make) -> None:
    """Broken if a halt stops streams that it does not cover."""
    one, got = governor(), list[int]()

    @governed
    def few() -> Generator[int, None, None]:
        yield from range(4)

    @governed
    async def afew() -> AsyncGenerator[int, None]:
        for number in range(4):
            yield number

    source = Source()
    source.count, source.acount = few, afew
    with one.session("s", **WHO) as session:
        source.consume(shape, got, lambda item: one.halt(org=f"o-{item}", reason="drill", by="ann"))
        assert got == [0, 1, 2, 3]
        assert _ended(one, session.id) == [(Outcome.RETURNED, None)]


@pytest.mark.promise(4)
def test_an_async_step_is_cancelled_in_the_middle(governor: Make) -> None:
    """Broken if a stream that waits for its next item is only stopped once that has come: this would not end."""
    one, two = governor(), governor()
    closed: list[str] = []

    @governed
    async def slow() -> AsyncGenerator[int, None]:
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            closed.append("closed")

    async def run() -> None:
        halting: asyncio.Task[Any] | None = None
        async for _ in slow():
            halting = asyncio.create_task(two.ahalt(org="acme", reason="drill", by="ann"))
        assert halting is not None

    with one.session("s", **WHO) as session, pytest.raises(HaltedError):
        asyncio.run(run())
    assert closed == ["closed"]
    assert _ended(one, session.id) == [(Outcome.CANCELLED, two.halts()[0].id)]
