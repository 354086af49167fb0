"""Streams are settled however they end: left early, forgotten, collected anywhere, or with their event loop."""

from __future__ import annotations

import contextlib
import gc
import threading
import time
import warnings
from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from interlock import Denied, Governor, Session, governed
from interlock.events import Outcome
from interlock.store import calls
from interlock.testing import Recorder
from tests.books import ended, has_ended
from tests.conftest import ALLOW_ALL
from tests.streams import Conversation

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


@pytest.fixture
def collector_off() -> Iterator[None]:
    """The garbage collector runs when the test says so."""
    gc.disable()
    yield
    gc.enable()


def forget(stream: object) -> None:
    """Put *stream* into a cycle that only the garbage collector can find."""
    cycle = [stream]
    cycle.append(cycle)


@pytest.mark.promise(6)
def test_break_settles(session: Session) -> None:
    """Broken if a loop that is left early leaves its call in doubt."""
    conversation = Conversation()

    for item in governed(conversation.stream)():
        assert item == "first"
        break

    assert conversation.said == ["finally"]
    assert ended(session) == {Outcome.ABANDONED: 1}


@pytest.mark.promise(6)
async def test_break_settles_async(session: Session, anyio_backend: str) -> None:
    """Broken if an async loop that is left early leaves its call in doubt once the event loop has gone on."""
    conversation = Conversation()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # trio's, about any stream that is dropped
        async for item in governed(conversation.astream)():
            assert item == "first"
            break
        gc.collect()
    await has_ended(session)

    assert conversation.said == ["finally"]
    assert ended(session) == {Outcome.ABANDONED: 1}


@pytest.mark.promise(6)
def test_garbage_collection_settles(session: Session, collector_off: None) -> None:
    """Broken if a stream that is forgotten in a cycle leaves its call in doubt."""
    conversation = Conversation()
    stream = governed(conversation.stream)()
    next(stream)
    forget(stream)
    del stream
    assert dict(session.state().outcomes) == {}

    gc.collect()

    assert conversation.said == ["finally"]
    assert ended(session) == {Outcome.ABANDONED: 1}


@pytest.mark.promise(6)
@pytest.mark.parametrize("driver", ["caller", "writer"])
def test_garbage_collection_inside_the_store_settles(
    driver: str, books: Governor, collector_off: None
) -> None:
    """Broken if the collector, which may interrupt the store itself, makes it wait for its own end for ever."""
    conversation = Conversation()
    seen: list[list[object]] = []
    finished = threading.Event()

    def collect(_: object) -> None:
        seen.append([*conversation.said])
        gc.collect()
        seen.append([*conversation.said])

    def collect_in_a_transaction() -> None:
        if driver == "caller":
            books.write(collect)
        else:
            anyio.run(books.awrite, collect)
        finished.set()

    with books.session("s", agent="bot") as session:
        stream = governed(conversation.stream)()
        next(stream)
        forget(stream)
        del stream

        threading.Thread(target=collect_in_a_transaction, daemon=True).start()
        assert finished.wait(20), "the store waits for itself"
        assert seen == [[], ["finally"]], "it was not collected inside the store"
        while not session.state().outcomes:
            time.sleep(0.001)

        assert ended(session) == {Outcome.ABANDONED: 1}


@pytest.mark.promise(6)
def test_garbage_collection_in_a_thread_that_begins_settles(
    tmp_path: Path, collector_off: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Broken if a thread of the store ends a stream while it is started, for which its starter keeps the store shut."""
    conversation = Conversation()
    seen: list[tuple[str, list[object]]] = []
    finished = threading.Event()
    goes_on = threading.Thread._set_native_id  # type: ignore[attr-defined]

    def collect(thread: threading.Thread) -> None:
        goes_on(thread)  # which is the last step before it says that it has started
        if thread.name == "interlock-writer":
            gc.collect()
            seen.append((thread.name, [*conversation.said]))

    begun, goes_on_writing = threading.Event(), threading.Event()

    def keep_the_store(_: object) -> None:
        begun.set()
        goes_on_writing.wait(20)

    def begin_the_writer() -> None:
        anyio.run(books.awrite, lambda _: None)
        finished.set()

    # In a file, where reading needs no writer, so that its thread is not there yet.
    books = Governor(f"sqlite:///{tmp_path / 'interlock.db'}", policy=ALLOW_ALL)
    with books, books.session("s", agent="bot") as session:
        stream = governed(conversation.stream)()
        next(stream)
        forget(stream)
        del stream
        threading.Thread(target=books.write, args=[keep_the_store], daemon=True).start()
        assert begun.wait(20)
        monkeypatch.setattr(threading.Thread, "_set_native_id", collect)

        threading.Thread(target=begin_the_writer, daemon=True).start()
        until = time.monotonic() + 20
        while not seen and time.monotonic() < until:
            time.sleep(0.001)
        goes_on_writing.set()
        assert finished.wait(20), "the thread and its starter wait for each other"
        assert seen == [("interlock-writer", ["finally"])], "it was not collected there"
        while not session.state().outcomes:
            time.sleep(0.001)

        assert ended(session) == {Outcome.ABANDONED: 1}


def test_a_stream_that_is_never_started_records_nothing(session: Session) -> None:
    """Broken if making a generator, which runs nothing, is taken for a call."""
    conversation = Conversation()
    stream = governed(conversation.stream)()
    other = governed(conversation.stream)()

    stream.close()
    del other
    gc.collect()

    assert conversation.said == []
    assert session.state().verdicts == {}


async def test_an_async_stream_that_is_never_started_records_nothing(session: Session) -> None:
    """Broken if making an async generator, which runs nothing, is taken for a call."""
    conversation = Conversation()
    stream = governed(conversation.astream)()
    other = governed(conversation.astream)()

    await stream.aclose()
    del other
    gc.collect()
    await anyio.lowlevel.checkpoint()

    assert conversation.said == []
    assert session.state().verdicts == {}


@pytest.mark.promise(6)
def test_intent_stands_while_a_stream_is_open(session: Session, books: Governor) -> None:
    """Broken if a stream has effects before its intent is recorded, or is booked as done before it is."""
    seen: list[int] = []

    @governed
    def stream() -> Iterator[int]:
        seen.append(len(books.read(calls.in_doubt)))
        yield 1
        seen.append(len(books.read(calls.in_doubt)))

    items = stream()
    assert books.read(calls.in_doubt) == []
    assert list(items) == [1]

    assert seen == [1, 1]
    assert ended(session) == {Outcome.RETURNED: 1}


@pytest.mark.promise(1)
def test_refused_stream_does_not_start(governor: MakeGovernor) -> None:
    """Broken if the first item of a forbidden stream is made."""
    conversation = Conversation()
    deny = {"version": 1, "name": "deny", "default": "deny"}

    with governor(deny, url="sqlite://").session("s", agent="bot") as session:
        stream = governed(conversation.stream)()
        with pytest.raises(Denied):
            next(stream)
        with pytest.raises(StopIteration):
            next(stream)
        assert session.state().running == {}

    assert conversation.said == []


def test_streams_may_be_interleaved(session: Session) -> None:
    """Broken if two open streams of one tool get into each other's way."""

    @governed
    def stream(name: str) -> Iterator[str]:
        for number in range(3):
            yield f"{name}{number}"

    pairs = list(zip(stream("a"), stream("b"), strict=True))

    assert pairs == [("a0", "b0"), ("a1", "b1"), ("a2", "b2")]
    assert ended(session) == {Outcome.RETURNED: 2}


@pytest.mark.promise(6)
async def test_garbage_collection_settles_async(session: Session, collector_off: None) -> None:
    """Broken if an async stream that is forgotten in a cycle, with what it awaits at its end, is left in doubt."""
    said: list[str] = []

    @governed
    async def stream() -> AsyncGenerator[int]:
        try:
            yield 1
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.001)
            said.append("finally")

    items = stream()
    await anext(items)
    forget(items)
    del items

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # trio's, about any stream that is dropped
        gc.collect()
    await has_ended(session)

    assert said == ["finally"]
    assert ended(session) == {Outcome.ABANDONED: 1}


@pytest.mark.promise(8)
@pytest.mark.parametrize("how", ["stream", "coroutine"])
async def test_nothing_is_kept_alive(how: str, session: Session, collector_off: None) -> None:
    """Broken if an exception, with all that its frames hold, stays alive when the tool has ended."""

    @governed
    async def stream() -> AsyncGenerator[int]:
        yield 1

    @governed
    async def coroutine() -> None:
        raise ToolFailed

    async def fail() -> None:
        with contextlib.suppress(ToolFailed):
            if how == "coroutine":
                await coroutine()
            else:
                items = stream()
                await anext(items)
                await items.athrow(ToolFailed())

    await fail()
    with anyio.fail_after(30):
        # Not collected: what waits for the collector is alive. But the writer's thread may need a moment.
        while any(isinstance(thing, ToolFailed) for thing in gc.get_objects()):  # noqa: ASYNC110
            await anyio.sleep(0.001)


@pytest.mark.promise(6)
def test_a_loop_that_ends_settles_its_open_streams(session: Session, anyio_backend: str) -> None:
    """Broken if a stream that is open when its event loop ends is left in doubt, or closed twice at once."""
    conversation = Conversation()
    kept: list[Any] = []

    async def main() -> None:
        kept.append(governed(conversation.astream)())
        await anext(kept[0])

    anyio.run(main, backend=anyio_backend)

    assert conversation.said == ["finally"]
    assert ended(session) == {Outcome.ABANDONED: 1}
