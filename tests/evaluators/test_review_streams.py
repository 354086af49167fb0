"""Streams and model calls that are reviewed: held back until their end, and then given as a whole or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from interlock import (
    Call,
    Denied,
    Governor,
    Verdict,
    events,
    governed,
)
from interlock._bodies import MAX_HELD
from interlock.errors import EvaluatorFailed, Misuse
from interlock.evaluators import Redacted, Streamed
from tests.callers import history
from tests.reviews import SECRET, answering, finished
from tests.samples import opinion

Make = Callable[..., Governor]


def stream(is_async: bool, items: Iterator[Any], log: list[str], returns: Any = None) -> Any:
    """Make a governed stream of *items*, called `pay`, that says in *log* when it begins and ends."""

    @governed(name="pay")
    def pay() -> Any:
        log.append("began")
        try:
            yield from items
        finally:
            log.append("ended")
        return returns

    @governed(name="pay")
    async def apay() -> Any:
        log.append("began")
        try:
            for item in items:
                await anyio.lowlevel.checkpoint()
                yield item
        finally:
            log.append("ended")

    return apay if is_async else pay


class Consumer:
    """
    Consumes a stream within a session of its own.

    Attributes:
        got: The items that it was given.
        returned: What a generator has returned.
        error: What was raised to it.
        history: The session's events.
    """

    def __init__(self, governor: Governor, tool: Any, *, is_async: bool) -> None:
        self.got: list[Any] = []
        self.returned: Any = None
        self.error: Exception | None = None
        with governor.session("s", agent="bot") as session:
            try:
                if is_async:
                    asyncio.run(self._aconsume(tool))
                else:
                    self._consume(tool)
            except Exception as error:  # noqa: BLE001 - what was raised is what is asked for
                self.error = error
            self.history = history(governor, session.id)

    def _consume(self, tool: Any) -> None:
        items = tool()
        try:
            while True:
                self.got.append(next(items))
        except StopIteration as stop:
            self.returned = stop.value

    async def _aconsume(self, tool: Any) -> None:
        async for item in tool():
            self.got.append(item)


@pytest.mark.promise(8)
@pytest.mark.parametrize("is_async", [False, True])
def test_a_reviewed_stream_gives_its_items(is_async: bool, made: Make) -> None:
    """Broken if a stream that nobody objects to loses items, order or its return value, or they are copied."""
    items, log, shown = [object(), object()], [], []
    governor = made(judge=lambda self, call, result: shown.append(result))
    found = Consumer(governor, stream(is_async, iter(items), log, "end"), is_async=is_async)
    returned = None if is_async else "end"
    assert (found.got, found.returned, found.error) == (items, returned, None)
    assert all(got is item for got, item in zip(found.got, items, strict=True))
    assert shown == [Streamed(items=tuple(items), returned=returned)]
    assert log == ["began", "ended"]
    assert finished([found.history]).outcome is events.Outcome.RETURNED


@pytest.mark.parametrize("is_async", [False, True])
def test_nothing_of_a_stream_is_given_before_its_end(is_async: bool, made: Make) -> None:
    """Broken if an item reaches the consumer although the stream's review withholds it: it may hold half a secret."""
    log: list[str] = []
    tool = stream(is_async, iter(["4111-", "planted"]), log)

    def review(self: Any, call: Call, result: Streamed) -> Any:
        joined = "".join(map(str, result.items))
        return opinion(Verdict.DENY, "a secret") if SECRET in joined else None

    found = Consumer(made(judge=review), tool, is_async=is_async)
    assert (found.got, type(found.error), log) == ([], Denied, ["began", "ended"])
    assert finished([found.history]).withheld is True


@pytest.mark.parametrize("is_async", [False, True])
def test_a_stream_is_redacted_as_a_whole(is_async: bool, made: Make) -> None:
    """Broken if redacting a stream lets an item of the original out, or its return value."""
    left = Streamed(items=("a", "b", "c"), returned="r")
    governor = made(judge=answering(Redacted(result=left, reason="all of it")))
    found = Consumer(governor, stream(is_async, iter([SECRET]), [], SECRET), is_async=is_async)
    assert (found.got, found.returned) == (["a", "b", "c"], None if is_async else "r")
    assert finished([found.history]).redacted_by == ("evaluator:judge",)


@pytest.mark.promise(1)
@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("left", ["text", ("a",), None, Streamed(items=["a"])])  # type: ignore[arg-type]
def test_what_is_no_stream_cannot_stand_for_one(left: Any, is_async: bool, made: Make) -> None:
    """Broken if a consumer is given what is no stream, or raises, where a reviewer answers carelessly."""
    governor = made(judge=answering(Redacted(result=left, reason="all of it")))
    found = Consumer(governor, stream(is_async, iter([SECRET]), []), is_async=is_async)
    assert (found.got, type(found.error)) == ([], EvaluatorFailed)
    assert "no Streamed" in str(found.error)


@pytest.mark.promise(1)
@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("more", [0, 1])
def test_a_stream_that_is_too_long_is_stopped(more: int, is_async: bool, made: Make) -> None:
    """Broken if a reviewed stream without an end fills the memory, goes on running, or is given without review."""
    log: list[str] = []
    asked: list[object] = []
    items = iter(range(MAX_HELD)) if not more else count()
    governor = made(judge=lambda self, call, result: asked.append(result))
    found = Consumer(governor, stream(is_async, items, log), is_async=is_async)
    end = finished([found.history])
    if not more:
        assert (len(found.got), len(asked), end.withheld) == (MAX_HELD, 1, False)
        return
    assert (found.got, asked, log) == ([], [], ["began", "ended"])
    assert type(found.error) is EvaluatorFailed
    assert "more than 10000 items" in str(found.error)
    assert (end.outcome, end.withheld) == (events.Outcome.ABANDONED, True)
    assert next(items) == MAX_HELD + 1


@pytest.mark.parametrize("is_async", [False, True])
def test_a_reviewed_stream_that_fails_gives_nothing(is_async: bool, made: Make) -> None:
    """Broken if items that nobody has reviewed are given because the stream has raised after them."""
    problem = LookupError("gone")

    def items() -> Iterator[str]:
        yield SECRET
        raise problem

    asked: list[object] = []
    governor = made(judge=lambda self, call, result: asked.append(result))
    found = Consumer(governor, stream(is_async, items(), []), is_async=is_async)
    assert (found.got, found.error is problem, asked) == ([], True, [])
    assert finished([found.history]).outcome is events.Outcome.RAISED


def test_a_cancelled_stream_that_is_held_back_is_settled(made: Make) -> None:
    """Broken if cancelling a stream before its end leaves its call in doubt, or lets items out."""
    log: list[str] = []
    got: list[object] = []

    @governed
    async def pay() -> Any:
        try:
            yield SECRET
            log.append("held")
            await anyio.sleep_forever()
        finally:
            log.append("ended")

    governor = made(judge=answering(None))

    async def main() -> list[events.Event]:
        async with governor.session("s", agent="bot") as session:

            async def consume() -> None:
                async for item in pay():
                    got.append(item)  # noqa: PERF401 - what came before the end counts

            task = asyncio.create_task(consume())
            while not log:  # noqa: ASYNC110 - it is appended to by the tool
                await asyncio.sleep(0)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            return history(governor, session.id)

    end = finished([asyncio.run(main())])
    assert (got, log, end.outcome) == ([], ["held", "ended"], events.Outcome.CANCELLED)


@pytest.mark.parametrize("is_async", [False, True])
def test_a_model_call_in_a_block_is_reviewed_when_it_is_left(is_async: bool, made: Make) -> None:
    """Broken if an answer that was handed over is not reviewed, or one that was not is vouched for."""
    shown: list[object] = []

    def review(self: Any, call: Call, result: object) -> Any:
        shown.append(result)
        return Redacted(result="****", reason="all of it") if result == SECRET else None

    governor = made(judge=review)
    fine = object()

    def block(*given: object) -> Any:
        call = governor.model_call(model="gpt-5-mini")
        with call:
            for one in given:
                call.review(one)
            with pytest.raises(Misuse, match="no reviewed answer"):
                _ = call.reviewed
        return call.reviewed

    async def ablock(*given: object) -> Any:
        call = governor.model_call(model="gpt-5-mini")
        async with call:
            for one in given:
                call.review(one)
        return call.reviewed

    def of(*given: object) -> Any:
        return asyncio.run(ablock(*given)) if is_async else block(*given)

    with governor.session("s", agent="bot") as session:
        assert of(fine) is fine
        assert of("first", SECRET) == "****"
        with pytest.raises(EvaluatorFailed, match="was not handed over") as error:
            of()
        assert error.value.ran is True
        ends = [e for e in history(governor, session.id) if isinstance(e, events.CallFinished)]
    assert shown == [fine, SECRET]
    assert [end.withheld for end in ends] == [False, False, True]


def test_a_model_call_that_nobody_reviews_needs_nothing(governor: Make) -> None:
    """Broken if a host has to hand over its answers where no policy asks for it, or cannot where none does."""
    made = governor(url="sqlite://")
    with made.session("s", agent="bot") as session:
        with session.model_call(model="gpt-5-mini") as call:
            pass
        with session.model_call(model="gpt-5-mini") as other:
            other.review("answer")
        assert other.reviewed == "answer"
        with pytest.raises(Misuse):
            _ = call.reviewed
