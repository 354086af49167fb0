"""Generators and async generators: send, throw, close and return value pass through as if ungoverned."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import AsyncGenerator, Callable, Generator, Iterator

import pytest

from interlock import Governor, Session, governed
from interlock.events import CallFinished, Outcome
from interlock.testing import Recorder
from tests.books import ended
from tests.streams import Answered, Conversation

MakeGovernor = Callable[..., Governor]


class ToolFailed(Exception):
    """What a tool raises here."""


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Both event loops."""
    backend: str = request.param
    return backend


@pytest.fixture
def books(governor: MakeGovernor, recorder: Recorder) -> Governor:
    """A governor that allows everything."""
    return governor(url="sqlite://", plugins=[recorder])


@pytest.fixture
def session(books: Governor) -> Iterator[Session]:
    """An open session in which everything is allowed."""
    with books.session("s", agent="bot") as session:
        yield session


@pytest.mark.promise(8)
def test_send_throw_and_return_value_pass_through(session: Session) -> None:
    """Broken if a generator is not sent, thrown and asked to return just what its consumer and it say."""
    conversation, answer = Conversation(), Answered()
    stream = governed(conversation.stream)()

    assert next(stream) == "first"
    assert stream.send("a") == "heard a"
    assert stream.throw(answer) == "caught"
    assert stream.send("b") == "heard b"
    with pytest.raises(StopIteration) as stopped:
        stream.send("stop")

    assert stopped.value.value == "result"
    assert conversation.said == ["a", answer, "b", "finally"]
    assert ended(session) == {Outcome.RETURNED: 1}
    with pytest.raises(StopIteration):
        next(stream)


@pytest.mark.promise(8)
async def test_asend_and_athrow_pass_through(session: Session) -> None:
    """Broken if an async generator is not sent and thrown just what its consumer sends and throws."""
    conversation, answer = Conversation(), Answered()
    stream = governed(conversation.astream)()

    assert await anext(stream) == "first"
    assert await stream.asend("a") == "heard a"
    assert await stream.athrow(answer) == "caught"
    assert await stream.asend("b") == "heard b"
    with pytest.raises(StopAsyncIteration):
        await stream.asend("stop")

    assert conversation.said == ["a", answer, "b", "finally"]
    assert ended(session) == {Outcome.RETURNED: 1}
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


@pytest.mark.promise(8)
def test_yield_from_a_governed_generator(session: Session) -> None:
    """Broken if a generator that delegates to a governed one does not get its result."""

    def outer() -> Generator[object, object, object]:
        return (yield from governed(Conversation().stream)())

    stream = outer()
    items = [next(stream), stream.send("a")]
    with pytest.raises(StopIteration) as stopped:
        stream.send("stop")

    assert (items, stopped.value.value) == (["first", "heard a"], "result")
    assert ended(session) == {Outcome.RETURNED: 1}


@pytest.mark.promise(8)
def test_thrown_exception_that_nobody_catches(session: Session, recorder: Recorder) -> None:
    """Broken if an exception thrown in comes back as another object, or is booked as something else."""
    conversation, error = Conversation(), ToolFailed("thrown")
    stream = governed(conversation.stream)()
    next(stream)

    with pytest.raises(ToolFailed) as caught:
        stream.throw(error)

    assert caught.value is error
    assert error.__context__ is None
    assert "stream" in [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    assert conversation.said == ["finally"]
    assert ended(session) == {Outcome.RAISED: 1}
    (finished,) = [event for event in recorder.events if isinstance(event, CallFinished)]
    assert finished.error_type == "ToolFailed"


@pytest.mark.promise(8)
async def test_athrown_exception_that_nobody_catches(session: Session) -> None:
    """Broken if an exception thrown in comes back as another object, or is booked as something else."""
    conversation, error = Conversation(), ToolFailed("thrown")
    stream = governed(conversation.astream)()
    await anext(stream)

    with pytest.raises(ToolFailed) as caught:
        await stream.athrow(error)

    assert caught.value is error
    assert error.__context__ is None
    assert "astream" in [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    assert conversation.said == ["finally"]
    assert ended(session) == {Outcome.RAISED: 1}


@pytest.mark.promise(8)
async def test_exception_raised_later_has_no_foreign_context(session: Session) -> None:
    """Broken if what a tool raises after it dealt with a thrown exception is said to come from that one."""

    @governed
    async def stream() -> AsyncGenerator[int]:
        with contextlib.suppress(Answered):
            yield 1
        raise ToolFailed

    items = stream()
    await anext(items)
    with pytest.raises(ToolFailed) as caught:
        await items.athrow(Answered())

    assert caught.value.__context__ is None


@pytest.mark.promise(8)
def test_close_runs_the_tools_finally_and_settles(session: Session) -> None:
    """Broken if `close` does not reach the tool, or leaves its call in doubt."""
    conversation = Conversation()
    stream = governed(conversation.stream)()
    next(stream)

    stream.close()

    assert conversation.said == ["finally"]
    assert ended(session) == {Outcome.ABANDONED: 1}
    stream.close()
    assert ended(session) == {Outcome.ABANDONED: 1}


@pytest.mark.promise(8)
async def test_aclose_runs_the_tools_finally_and_settles(session: Session) -> None:
    """Broken if `aclose` does not reach the tool, or leaves its call in doubt."""
    conversation = Conversation()
    stream = governed(conversation.astream)()
    await anext(stream)

    await stream.aclose()

    assert conversation.said == ["finally"]
    assert ended(session) == {Outcome.ABANDONED: 1}
    await stream.aclose()
    assert ended(session) == {Outcome.ABANDONED: 1}


def test_finally_that_raises_on_close(session: Session) -> None:
    """Broken if an exception out of a tool's `finally` is swallowed by `close`."""

    @governed
    def stream() -> Iterator[int]:
        try:
            yield 1
        finally:
            raise ToolFailed

    items = stream()
    next(items)
    with pytest.raises(ToolFailed) as caught:
        items.close()

    assert isinstance(caught.value.__context__, GeneratorExit)
    assert ended(session) == {Outcome.RAISED: 1}


async def test_finally_that_raises_on_aclose(session: Session) -> None:
    """Broken if an exception out of a tool's `finally` is swallowed by `aclose`."""

    @governed
    async def stream() -> AsyncGenerator[int]:
        try:
            yield 1
        finally:
            raise ToolFailed

    items = stream()
    await anext(items)
    with pytest.raises(ToolFailed) as caught:
        await items.aclose()

    assert isinstance(caught.value.__context__, GeneratorExit)
    assert ended(session) == {Outcome.RAISED: 1}


@pytest.mark.parametrize("ignores", [True, False], ids=["yields on", "returns"])
async def test_a_stream_that_does_not_want_to_close(ignores: bool, session: Session) -> None:
    """Broken if a tool that catches GeneratorExit behaves otherwise than ungoverned."""

    def body() -> Iterator[int]:
        try:
            yield 1
        except GeneratorExit:
            if ignores:
                yield 2

    async def abody() -> AsyncGenerator[int]:
        try:
            yield 1
        except GeneratorExit:
            if ignores:
                yield 2

    expected = pytest.raises(RuntimeError, match="ignored GeneratorExit")
    for stream in (body(), governed(body)()):
        next(stream)
        with expected if ignores else contextlib.nullcontext():
            stream.close()
    for astream in (abody(), governed(abody)()):
        await anext(astream)
        with expected if ignores else contextlib.nullcontext():
            await astream.aclose()

    assert ended(session) == {Outcome.RAISED if ignores else Outcome.ABANDONED: 2}
