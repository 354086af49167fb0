"""Streams: judged before anything is sent, given byte for byte as they come, settled however they end."""

from __future__ import annotations

import gc
import threading
from typing import Any

import anthropic
import anyio
import anyio.lowlevel
import httpx2
import pytest

from interlock import BudgetExceeded, Denied, HaltedError, Usage

ASK: dict[str, Any] = {
    "model": "m-1",
    "max_tokens": 50,
    "messages": [{"role": "user", "content": "hi"}],
}
USED = Usage(
    input_tokens=100,
    output_tokens=20,
    cache_read_tokens=40,
    cache_write_tokens=10,
    reasoning_tokens=5,
)

STREAMS: dict[str, Any] = {
    "messages": lambda c: c.messages.create(**ASK, stream=True),
    "beta": lambda c: c.beta.messages.create(**ASK, stream=True),
}


@pytest.mark.promise(8)
@pytest.mark.parametrize("way", STREAMS)
async def test_the_stream_is_the_providers(desk: Any, every: Any, way: str) -> None:
    """Broken if a caller is given other events than without governance, or usage that it did not ask for."""
    plain = await every(STREAMS[way](desk.plain()))
    with desk.open():
        governed = await every(STREAMS[way](desk.client()))
    assert governed == plain
    assert [(one.outcome, one.usage) for one in desk.finished()] == [("returned", USED)]


@pytest.mark.parametrize("name", ["messages", "beta"])
async def test_helpers_that_stream(
    desk: Any, within: Any, done: Any, every: Any, name: str
) -> None:
    """Broken if the helpers of the SDK that gather a stream do not work, or go past the books."""
    with desk.open():
        client = desk.client()
        made = (client if name == "messages" else client.beta).messages.stream(**ASK)
        async with within(made) as stream:
            await every(stream)
            message = await done(stream.get_final_message())
    assert message.content[0].text.split() == ["hello", "big", "world"]
    assert message.usage.output_tokens == 20
    assert [one.outcome for one in desk.finished()] == ["returned"]


async def test_raw_streams(desk: Any, within: Any, done: Any, every: Any) -> None:
    """Broken if a stream that is read as bytes, or parsed by the caller, is not booked."""
    with desk.open():
        client = desk.client().messages
        raw = await done(client.with_raw_response.create(**ASK, stream=True))
        assert len(await every(await done(raw.parse()))) == 8
        async with within(client.with_streaming_response.create(**ASK, stream=True)) as unread:
            lines = await every(unread.iter_lines())
        assert lines[-2:] == ['data: {"type": "message_stop"}', ""]
    assert [(one.outcome, one.usage) for one in desk.finished()] == [("returned", USED)] * 2


@pytest.mark.promise(1)
@pytest.mark.parametrize("way", STREAMS)
async def test_denied_stream(desk: Any, every: Any, way: str) -> None:
    """Broken if a denied stream is sent, or refused only when it is read."""
    with (
        desk.open({"models": ["m-1"], "verdict": "deny"}),
        pytest.raises(Denied),
    ):
        await every(STREAMS[way](desk.client()))
    assert desk.provider.received == []


@pytest.mark.promise(3)
@pytest.mark.parametrize("way", ["left", "forgotten", "context"])
async def test_abandoned_stream(desk: Any, done: Any, within: Any, way: str) -> None:
    """Broken if a stream that is left early holds its reservation for ever, or is free."""
    budgets = [{"name": "run", "per": "session", "tokens": 1_000}]
    held = threading.Event()
    desk.provider.script = [desk.says(waits=held)]
    with desk.open(policy={"budgets": budgets}) as (_, session):
        made = desk.client().messages.create(**ASK, stream=True)
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
    assert [(one.outcome, one.usage) for one in desk.finished()] == [
        ("abandoned", Usage(input_tokens=100, cache_read_tokens=40, cache_write_tokens=10))
    ]


@pytest.mark.promise(3)
@pytest.mark.parametrize("way", STREAMS)
async def test_stream_that_breaks(desk: Any, every: Any, way: str) -> None:
    """Broken if what was written until a stream broke is free, or the error is not the SDK's own."""
    desk.provider.script = [desk.says(breaks=True)]
    with desk.open(), pytest.raises((anthropic.APIConnectionError, httpx2.RemoteProtocolError)):
        await every(STREAMS[way](desk.client()))
    (finished,) = desk.finished()
    assert (finished.outcome, finished.usage.tokens) == ("raised", 100 + 50)


async def test_stream_without_usage(desk: Any, every: Any) -> None:
    """Broken if a provider that tells no usage makes calls free."""
    desk.provider.script = [desk.says(usage=False)]
    budgets = [{"name": "run", "per": "session", "tokens": 1_000}]
    with desk.open(policy={"budgets": budgets}) as (_, session):
        await every(desk.client().messages.create(**ASK, stream=True))
        assert session.budgets()[0].spent.tokens == desk.decided()[0].reserved.tokens
    assert [one.usage for one in desk.finished()] == [Usage()]


@pytest.mark.promise(4)
async def test_halt_stops_a_stream(desk: Any, done: Any, every: Any) -> None:
    """Broken if a stream goes on once its session is halted."""
    held = threading.Event()
    desk.provider.script = [desk.says(waits=held)]
    with desk.open() as (_, session):
        stream = await done(desk.client().messages.create(**ASK, stream=True))
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
        await every(desk.client().messages.create(**ASK, stream=True))
    assert [one.usage for one in desk.finished()] == [USED]


async def test_stream_that_a_caller_posts(desk: Any, done: Any) -> None:
    """Broken if a stream that is read as a whole is not booked."""
    with desk.open():
        body = {**ASK, "stream": True}
        text = await done(desk.client().post("/v1/messages", body=body, cast_to=str))
    assert text.endswith('data: {"type": "message_stop"}\n\n')
    assert [one.usage for one in desk.finished()] == [USED]


async def _one(stream: Any) -> Any:
    if hasattr(stream, "__anext__"):
        return await anext(stream)
    return next(stream)
