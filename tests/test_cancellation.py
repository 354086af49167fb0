"""Cancellation is an outcome: recorded whenever it comes, delivered as it came, and no call is left in doubt."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from typing import ClassVar

import anyio
import anyio.from_thread
import anyio.lowlevel
import pytest
from pydantic import BaseModel

from interlock import Call, Governor, Opinion, Session, Verdict, governed
from interlock._state import SessionStatus
from interlock.events import CallFinished, Outcome
from interlock.store import sessions
from interlock.testing import Recorder
from tests.books import booked
from tests.cancelling import WAYS, Announces, holding

MakeGovernor = Callable[..., Governor]
Cancelled = Callable[..., Awaitable[None]]

ways = pytest.mark.parametrize(("anyio_backend", "cancelled"), WAYS)


class Slow(BaseModel):
    """The configuration of `Waits`: none."""


class Waits:
    """An evaluator that says that it is asked, and never answers."""

    Config = Slow
    asked: ClassVar[list[Callable[[], None]]] = []

    def __init__(self, config: Slow) -> None:
        """Take no configuration."""

    async def evaluate(self, call: Call) -> Opinion | None:
        """Wait for ever."""
        self.asked[-1]()
        await anyio.sleep_forever()


@pytest.fixture
def session(governor: MakeGovernor, recorder: Recorder) -> Iterator[Session]:
    """An open session in which everything is allowed."""
    with governor(url="sqlite://", plugins=[recorder]).session("s", agent="bot") as session:
        yield session


@pytest.mark.promise(8)
@ways
async def test_while_it_is_judged(cancelled: Cancelled, governor: MakeGovernor) -> None:
    """Broken if a call that is cancelled before it is admitted runs, is recorded, or waits for its judges."""
    ran: list[int] = []
    policy = {
        "version": 1,
        "name": "slow",
        "default": "allow",
        "evaluators": [{"use": "waits", "timeout": "1h"}],
    }
    asked = anyio.Event()
    here = anyio.lowlevel.current_token()
    # Evaluators have an event loop of their own.
    Waits.asked.append(lambda: anyio.from_thread.run_sync(asked.set, token=here))

    @governed
    async def tool() -> None:
        ran.append(1)

    with governor(policy, url="sqlite://", evaluators={"waits": Waits}).session(
        "s", agent="bot"
    ) as session:
        await cancelled(tool, asked, lambda: None)
        assert booked(session) == ({}, {}, {})

    assert ran == []


@pytest.mark.promise(6, 8)
@ways
async def test_while_it_is_admitted(cancelled: Cancelled, governor: MakeGovernor) -> None:
    """Broken if a call that is cancelled while its intent is written runs all the same, or leaves the intent open."""
    ran: list[int] = []
    ready = anyio.Event()
    books = governor(url="sqlite://", plugins=[Announces(ready)])

    @governed
    async def tool() -> None:
        ran.append(1)

    with books.session("s", agent="bot") as session, holding(books) as hold:
        hold.take()
        await cancelled(tool, ready, hold.release)
        assert booked(session) == ({Verdict.ALLOW: 1}, {Outcome.CANCELLED: 1}, {})

    assert ran == []


@pytest.mark.promise(6, 8)
@ways
async def test_while_it_runs(cancelled: Cancelled, session: Session, recorder: Recorder) -> None:
    """Broken if a running tool is not cancelled as ungoverned, or its end is not recorded."""
    said: list[str] = []
    ready = anyio.Event()

    @governed
    async def tool() -> None:
        try:
            ready.set()
            await anyio.sleep_forever()
        except BaseException as error:
            said.append(type(error).__name__)
            raise
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.001)
            said.append("cleaned up")

    await cancelled(tool, ready, lambda: None)

    assert said[1] == "cleaned up"
    assert booked(session) == ({Verdict.ALLOW: 1}, {Outcome.CANCELLED: 1}, {})
    (finished,) = [event for event in recorder.events if isinstance(event, CallFinished)]
    assert finished.error_type == said[0]


@pytest.mark.promise(6, 8)
@ways
async def test_while_it_is_settled(cancelled: Cancelled, governor: MakeGovernor) -> None:
    """Broken if what a tool did is lost because its caller is cancelled while that is written."""
    ready = anyio.Event()
    books = governor(url="sqlite://")

    with books.session("s", agent="bot") as session, holding(books) as hold:

        @governed
        async def tool() -> str:
            hold.take()
            ready.set()
            return "done"

        async def run() -> None:
            await tool()
            await anyio.lowlevel.checkpoint()  # where a scope delivers what it held back

        await cancelled(run, ready, hold.release)
        assert booked(session) == ({Verdict.ALLOW: 1}, {Outcome.RETURNED: 1}, {})


@pytest.mark.promise(6, 8)
@ways
async def test_while_its_failure_is_settled(cancelled: Cancelled, governor: MakeGovernor) -> None:
    """Broken if that a tool failed is lost because its caller is cancelled while that is written."""
    ready = anyio.Event()
    books = governor(url="sqlite://")

    with books.session("s", agent="bot") as session, holding(books) as hold:

        @governed
        async def tool() -> None:
            hold.take()
            ready.set()
            raise ValueError

        async def run() -> None:
            with contextlib.suppress(ValueError):
                await tool()
            await anyio.lowlevel.checkpoint()

        await cancelled(run, ready, hold.release)
        assert booked(session) == ({Verdict.ALLOW: 1}, {Outcome.RAISED: 1}, {})


@pytest.mark.promise(6, 8)
@ways
async def test_while_a_stream_waits(cancelled: Cancelled, session: Session) -> None:
    """Broken if an async stream that is cancelled between its items is not booked as such."""
    ready = anyio.Event()

    @governed
    async def stream() -> AsyncGenerator[int]:
        yield 1
        ready.set()
        await anyio.sleep_forever()

    async def run() -> None:
        async for _ in stream():
            pass

    await cancelled(run, ready, lambda: None)

    assert booked(session) == ({Verdict.ALLOW: 1}, {Outcome.CANCELLED: 1}, {})


@pytest.mark.promise(6, 8)
@ways
async def test_while_a_stream_is_consumed(cancelled: Cancelled, session: Session) -> None:
    """Broken if a stream whose consumer is cancelled is not closed and booked as abandoned."""
    ready = anyio.Event()

    @governed
    async def stream() -> AsyncGenerator[int]:
        yield 1

    async def run() -> None:
        async with contextlib.aclosing(stream()) as items:
            async for _ in items:
                ready.set()
                await anyio.sleep_forever()

    await cancelled(run, ready, lambda: None)

    assert booked(session) == ({Verdict.ALLOW: 1}, {Outcome.ABANDONED: 1}, {})


@pytest.mark.promise(8)
@ways
async def test_a_returned_coroutine(cancelled: Cancelled, session: Session) -> None:
    """Broken if a function that returns a coroutine is booked as done when that is cancelled."""
    ready = anyio.Event()

    async def later() -> None:
        ready.set()
        await anyio.sleep_forever()

    @governed
    def tool() -> Awaitable[None]:
        return later()

    async def run() -> None:
        await tool()

    await cancelled(run, ready, lambda: None)

    assert booked(session) == ({Verdict.ALLOW: 1}, {Outcome.CANCELLED: 1}, {})


@ways
async def test_while_a_session_is_opened(cancelled: Cancelled, governor: MakeGovernor) -> None:
    """Broken if a session that is cancelled while it is opened stays open, or its body runs."""
    ready = anyio.Event()
    books = governor(url="sqlite://")
    entered: list[int] = []

    async def run() -> None:
        ready.set()
        async with books.session("s", agent="bot"):
            await anyio.lowlevel.checkpoint()
            entered.append(1)

    with holding(books) as hold:
        hold.take()
        await cancelled(run, ready, hold.release)

    assert entered == []
    (row,) = books.read(sessions.newest)
    assert row.status is SessionStatus.ABORTED


@ways
async def test_while_a_session_is_closed(cancelled: Cancelled, governor: MakeGovernor) -> None:
    """Broken if a session that is cancelled while it is closed stays open."""
    ready = anyio.Event()
    books = governor(url="sqlite://")

    with holding(books) as hold:

        async def run() -> None:
            async with books.session("s", agent="bot"):
                hold.take()
                ready.set()
            await anyio.lowlevel.checkpoint()

        await cancelled(run, ready, hold.release)

    (row,) = books.read(sessions.newest)
    assert row.status is SessionStatus.COMPLETED


@ways
async def test_while_an_operation_is_written(cancelled: Cancelled, governor: MakeGovernor) -> None:
    """Broken if a caller is told of its cancellation before it is certain what was written."""
    ready = anyio.Event()
    books = governor(url="sqlite://")
    done: list[int] = []

    async def run() -> None:
        ready.set()
        await books.awrite(lambda _: done.append(1))
        await anyio.lowlevel.checkpoint()

    with holding(books) as hold:
        hold.take()
        await cancelled(run, ready, hold.release)

    assert done == [1]
