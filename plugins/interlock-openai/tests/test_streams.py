"""Streams: judged before anything is sent, given byte for byte as they come, settled however they end."""

from __future__ import annotations

import gc
import threading
from typing import Any

import anyio
import anyio.lowlevel
import openai
import pytest

from interlock import BudgetExceeded, Denied, HaltedError, Usage

ASK: dict[str, Any] = {"model": "m-1", "messages": [{"role": "user", "content": "hi"}]}
INPUT: dict[str, Any] = {"model": "m-1", "input": "hi"}
CHAT = Usage(input_tokens=100, output_tokens=20, cache_read_tokens=40, reasoning_tokens=5)
RESPONSE = Usage(
    input_tokens=100,
    output_tokens=20,
    cache_read_tokens=40,
    cache_write_tokens=10,
    reasoning_tokens=5,
)

STREAMS: dict[str, Any] = {
    "chat": (lambda c: c.chat.completions.create(**ASK, stream=True), CHAT),
    "completions": (
        lambda c: c.completions.create(model="m-1", prompt="hi", stream=True),
        CHAT,
    ),
    "responses": (lambda c: c.responses.create(**INPUT, stream=True), RESPONSE),
}


def without_usage(events: list[Any]) -> list[Any]:
    """Return *events* without the field that says that usage comes later."""
    return [event.model_dump(exclude={"usage"}) for event in events]


@pytest.mark.promise(8)
@pytest.mark.parametrize("way", STREAMS)
async def test_the_stream_is_the_providers(desk: Any, every: Any, way: str) -> None:
    """Broken if a caller is given other events than without governance, or usage that it did not ask for."""
    call, used = STREAMS[way]
    plain = await every(call(desk.plain()))
    with desk.open():
        governed = await every(call(desk.client()))
    assert without_usage(governed) == without_usage(plain)
    assert all(not getattr(event, "usage", None) for event in governed)
    assert [(one.outcome, one.usage) for one in desk.finished()] == [("returned", used)]


async def test_usage_that_was_asked_for(desk: Any, every: Any) -> None:
    """Broken if a caller who wants the usage is not given it."""
    options = {"include_usage": True}
    with desk.open():
        made = desk.client().chat.completions.create(**ASK, stream=True, stream_options=options)
        chunks = await every(made)
    assert chunks[-1].usage.total_tokens == 120
    assert chunks[-1].choices == []


@pytest.mark.parametrize("name", ["chat", "responses"])
async def test_helpers_that_stream(
    desk: Any, within: Any, done: Any, every: Any, name: str
) -> None:
    """Broken if the helpers of the SDK that gather a stream do not work, or go past the books."""
    with desk.open():
        client = desk.client()
        made = (
            client.chat.completions.stream(**ASK)
            if name == "chat"
            else client.responses.stream(**INPUT)
        )
        async with within(made) as stream:
            await every(stream)
            if name == "chat":
                text = (await done(stream.get_final_completion())).choices[0].message.content
            else:
                text = (await done(stream.get_final_response())).output_text
    assert text.split() == ["hello", "big", "world"]
    assert [one.outcome for one in desk.finished()] == ["returned"]


async def test_raw_streams(desk: Any, within: Any, done: Any, every: Any) -> None:
    """Broken if a stream that is read as bytes, or parsed by the caller, is not booked."""
    with desk.open():
        client = desk.client().chat.completions
        raw = await done(client.with_raw_response.create(**ASK, stream=True))
        assert len(await every(raw.parse())) == 5
        async with within(client.with_streaming_response.create(**ASK, stream=True)) as unread:
            lines = await every(unread.iter_lines())
        assert lines[-2:] == ["data: [DONE]", ""]
    assert [(one.outcome, one.usage) for one in desk.finished()] == [("returned", CHAT)] * 2


@pytest.mark.promise(1)
@pytest.mark.parametrize("way", STREAMS)
async def test_denied_stream(desk: Any, every: Any, way: str) -> None:
    """Broken if a denied stream is sent, or refused only when it is read."""
    with (
        desk.open({"models": ["m-1"], "verdict": "deny"}),
        pytest.raises(Denied),
    ):
        await every(STREAMS[way][0](desk.client()))
    assert desk.provider.received == []


@pytest.mark.promise(3)
@pytest.mark.parametrize("way", ["left", "forgotten", "context"])
async def test_abandoned_stream(desk: Any, done: Any, within: Any, way: str) -> None:
    """Broken if a stream that is left early holds its reservation for ever, or is free."""
    budgets = [{"name": "run", "per": "session", "tokens": 1_000}]
    held = threading.Event()
    desk.provider.script = [desk.says(waits=held)]
    with desk.open(policy={"budgets": budgets}) as (_, session):
        made = desk.client().chat.completions.create(**ASK, stream=True, max_tokens=50)
        stream = await done(made)
        try:
            if way == "context":
                async with within(stream):
                    await _one(stream)
            else:
                await _one(stream)
                assert session.budgets()[0].reserved.tokens > 50
            if way == "left":
                await done(stream.close())
            del stream, made
            gc.collect()
            await anyio.lowlevel.checkpoint()
            with anyio.fail_after(20):
                while not desk.finished():  # noqa: ASYNC110 - the collector tells nobody
                    await anyio.sleep(0.01)
        finally:
            held.set()
        (account,) = session.budgets()
    assert (account.reserved.tokens, account.spent.tokens) == (
        0,
        desk.decided()[0].reserved.tokens,
    )
    assert [(one.outcome, one.usage) for one in desk.finished()] == [("abandoned", Usage())]


@pytest.mark.promise(3)
@pytest.mark.parametrize("way", STREAMS)
async def test_stream_that_breaks(desk: Any, every: Any, way: str) -> None:
    """Broken if what was written until a stream broke is free, or the error is not the SDK's own."""
    desk.provider.script = [desk.says(breaks=True)]
    with desk.open(), pytest.raises(openai.APIConnectionError):
        await every(STREAMS[way][0](desk.client(assume=Usage(output_tokens=70))))
    (finished,) = desk.finished()
    assert (finished.outcome, finished.usage.output_tokens) == ("raised", 70)


async def test_stream_without_usage(desk: Any, every: Any) -> None:
    """Broken if a provider that tells no usage makes calls free."""
    desk.provider.script = [desk.says(usage=False)]
    budgets = [{"name": "run", "per": "session", "tokens": 1_000}]
    with desk.open(policy={"budgets": budgets}) as (_, session):
        await every(desk.client().chat.completions.create(**ASK, stream=True, max_tokens=50))
        assert session.budgets()[0].spent.tokens == desk.decided()[0].reserved.tokens
    assert [one.usage for one in desk.finished()] == [Usage()]


@pytest.mark.promise(4)
async def test_halt_stops_a_stream(desk: Any, done: Any, every: Any) -> None:
    """Broken if a stream goes on once its session is halted."""
    held = threading.Event()
    desk.provider.script = [desk.says(waits=held)]
    with desk.open() as (_, session):
        stream = await done(desk.client().chat.completions.create(**ASK, stream=True))
        await _one(stream)
        session.halt(reason="stop", by="ann")
        held.set()
        with pytest.raises(HaltedError, match="stop"):
            await every(stream)
    assert [one.outcome for one in desk.finished()] == ["cancelled"]


async def test_overrun_is_told_at_the_end(desk: Any, every: Any) -> None:
    """Broken if a stream that cost more than was left is booked as if it had not, or nobody is told."""
    budgets = [{"name": "run", "per": "session", "tokens": 100, "on_overrun": "raise"}]
    with (
        desk.open(policy={"budgets": budgets}),
        pytest.raises(BudgetExceeded, match="ran, was booked"),
    ):
        await every(desk.client().chat.completions.create(**ASK, stream=True, max_tokens=10))
    assert [one.usage for one in desk.finished()] == [CHAT]


async def test_stream_that_a_caller_posts(desk: Any, done: Any) -> None:
    """Broken if a stream that is read as a whole is not booked, or holds what the caller did not ask for."""
    with desk.open():
        body = {**ASK, "stream": True}
        text = await done(desk.client().post("/chat/completions", body=body, cast_to=str))
    assert text.endswith("data: [DONE]\n\n")
    assert "total_tokens" not in text
    assert [one.usage for one in desk.finished()] == [CHAT]


async def _one(stream: Any) -> Any:
    if hasattr(stream, "__anext__"):
        return await anext(stream)
    return next(stream)
