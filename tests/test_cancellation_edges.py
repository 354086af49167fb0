"""Cancellation at its edges: twice, too early, swallowed, refused as well, with its loop; and other interruptions."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from interlock import Denied, Governor, Session, Verdict, governed, hookimpl
from interlock.events import CallDecided, CallFinished, Outcome, Recorded
from interlock.store import calls
from interlock.testing import Recorder
from tests.books import booked, of_kind
from tests.cancelling import Announces, holding

MakeGovernor = Callable[..., Governor]


@pytest.fixture
def session(governor: MakeGovernor, recorder: Recorder) -> Iterator[Session]:
    """An open session in which everything is allowed."""
    with governor(url="sqlite://", plugins=[recorder]).session("s", agent="bot") as session:
        yield session


@pytest.mark.promise(6)
async def test_cancelled_again_while_settling(governor: MakeGovernor) -> None:
    """Broken if a second cancellation breaks off the record of the first, or one of the two is forgotten."""
    running = asyncio.Event()
    books = governor()  # in a file, so that it can be read while the writer is held

    with books.session("s", agent="bot") as session, holding(books) as hold:

        @governed
        async def tool() -> None:
            running.set()
            try:
                await asyncio.sleep(1_000)
            finally:
                hold.take()

        task = asyncio.ensure_future(tool())
        await running.wait()
        task.cancel("first")
        for again in ("second", "third"):
            await asyncio.sleep(0.005)
            assert not task.done()
            task.cancel(again)
        assert booked_running(books) == 1
        hold.release()
        with pytest.raises(asyncio.CancelledError):
            await task

        assert task.cancelling() == 3
        assert booked(session) == ({Verdict.ALLOW: 1}, {Outcome.CANCELLED: 1}, {})


def booked_running(books: Governor) -> int:
    """How many calls are admitted and not finished, read beside the writer."""
    return len(books.read(calls.in_doubt))


@pytest.mark.promise(8)
async def test_inner_timeout_in_a_cancelled_task(governor: MakeGovernor) -> None:
    """Broken if a timeout takes the cancellation of its task, which came in the same moment, for its own."""
    ready = asyncio.Event()
    books = governor(url="sqlite://")
    caught: list[str] = []

    with books.session("s", agent="bot") as session, holding(books) as hold:

        @governed
        async def tool(limit: asyncio.Timeout) -> None:
            hold.take()
            limit.reschedule(asyncio.get_running_loop().time())
            ready.set()

        async def run() -> None:
            try:
                async with asyncio.timeout(None) as limit:
                    await tool(limit)
            except TimeoutError:
                caught.append("timeout")
                raise

        task = asyncio.ensure_future(run())
        await ready.wait()
        await asyncio.sleep(0.005)
        task.cancel()
        hold.release()
        with pytest.raises(asyncio.CancelledError):
            await task

        assert caught == []
        assert task.cancelled()
        assert booked(session) == ({Verdict.ALLOW: 1}, {Outcome.RETURNED: 1}, {})


@pytest.mark.promise(8)
async def test_a_tool_that_swallows_its_cancellation(session: Session) -> None:
    """Broken if a tool that decides to finish all the same cannot."""
    running = asyncio.Event()

    @governed
    async def tool() -> str:
        running.set()
        try:
            await asyncio.sleep(1_000)
        except asyncio.CancelledError:
            return "finished"
        return "slept"

    task = asyncio.ensure_future(tool())
    await running.wait()
    task.cancel()

    assert await task == "finished"
    assert booked(session) == ({Verdict.ALLOW: 1}, {Outcome.RETURNED: 1}, {})


@pytest.mark.promise(8)
@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (KeyboardInterrupt(), Outcome.CANCELLED),
        (asyncio.CancelledError("mine"), Outcome.CANCELLED),
        (SystemExit(3), Outcome.RAISED),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else str(value),
)
@pytest.mark.parametrize("kind", ["function", "generator"])
def test_interruptions_pass_through(
    kind: str, error: BaseException, outcome: Outcome, session: Session
) -> None:
    """Broken if what is no `Exception` is swallowed, changed, or leaves a call in doubt."""

    def tool() -> None:
        raise error

    def stream() -> Iterator[None]:
        yield tool()

    def run() -> None:
        if kind == "function":
            governed(tool)()
        else:
            next(governed(stream)())

    with pytest.raises(type(error)) as caught:
        run()

    assert caught.value is error
    assert booked(session) == ({Verdict.ALLOW: 1}, {outcome: 1}, {})


async def test_cancelled_before_its_first_step(session: Session) -> None:
    """Broken if a task that is cancelled before it began leaves a trace."""

    @governed
    async def tool() -> None:
        pass

    task = asyncio.ensure_future(tool())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert booked(session) == ({}, {}, {})


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_called_in_a_cancelled_scope(session: Session) -> None:
    """Broken if a tool still runs in a scope that is cancelled already."""
    ran: list[int] = []

    @governed
    async def tool() -> None:
        ran.append(1)

    with anyio.CancelScope() as scope:
        scope.cancel()
        await tool()

    assert scope.cancelled_caught
    assert ran == []
    assert booked(session) == ({Verdict.ALLOW: 1}, {Outcome.CANCELLED: 1}, {})


@pytest.mark.promise(8)
async def test_refused_and_cancelled(governor: MakeGovernor) -> None:
    """Broken if a refusal takes the place of a cancellation, so that a task that should end goes on."""
    ready = asyncio.Event()
    books = governor(
        {"version": 1, "name": "deny", "default": "deny"},
        url="sqlite://",
        plugins=[Announces(ready)],
    )

    @governed
    async def tool() -> None:
        pass

    async def run() -> None:
        with contextlib.suppress(Denied):
            await tool()

    with books.session("s", agent="bot") as session, holding(books) as hold:
        hold.take()
        task = asyncio.ensure_future(run())
        await ready.wait()
        task.cancel()
        hold.release()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert booked(session) == ({Verdict.DENY: 1}, {}, {})


@pytest.mark.promise(6)
@pytest.mark.parametrize("kind", ["coroutine", "returned coroutine"])
def test_dropped_with_its_event_loop(
    kind: str, session: Session, recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    """Broken if a coroutine that dies with its loop is left in doubt, or makes more noise than an ungoverned one."""
    said: list[str] = []
    running = asyncio.Event()

    async def wait() -> None:
        running.set()
        try:
            await asyncio.sleep(1_000)
        finally:
            said.append("finally")

    def returning() -> Awaitable[None]:
        return wait()

    tool: Any = governed(wait if kind == "coroutine" else returning)

    loop = asyncio.new_event_loop()
    task = loop.create_task(_awaited(tool))
    loop.run_until_complete(running.wait())
    loop.close()
    assert not task.done()
    del task
    gc.collect()

    assert said == ["finally"]
    assert booked(session) == ({Verdict.ALLOW: 1}, {Outcome.ABANDONED: 1}, {})
    assert [finished.outcome for finished in of_kind(recorder, CallFinished)] == [Outcome.ABANDONED]
    assert [record.name for record in caplog.records if record.name == "interlock"] == []


@pytest.mark.promise(6)
@pytest.mark.parametrize("kind", ["function", "generator"])
def test_interrupted_between_admission_and_tool(kind: str, governor: MakeGovernor) -> None:
    """Broken if ctrl-c that comes when the intent stands and the tool has not begun leaves the intent open."""
    ran: list[int] = []

    class Interrupts:
        @hookimpl
        def interlock_recorded(self, recorded: Recorded) -> None:
            if isinstance(recorded.event, CallDecided):
                raise KeyboardInterrupt

    @governed
    def function() -> None:
        ran.append(1)

    @governed
    def generator() -> Iterator[None]:
        yield ran.append(1)

    with governor(url="sqlite://", plugins=[Interrupts()]).session("s", agent="bot") as session:
        with pytest.raises(KeyboardInterrupt):
            function() if kind == "function" else next(generator())
        assert booked(session) == ({Verdict.ALLOW: 1}, {Outcome.CANCELLED: 1}, {})

    assert ran == []


async def _awaited(tool: Callable[[], Awaitable[object]]) -> None:
    await tool()
