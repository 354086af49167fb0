"""Streams: judged before anything is sent, given byte for byte as they come, settled however they end."""

from __future__ import annotations

from typing import Any

import anthropic
import httpx2
import pytest

from interlock import Usage
from tests.clients.streams import StreamSuite, one

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


class TestStreams(StreamSuite):
    """What holds of every stream."""

    streams = STREAMS


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


@pytest.mark.promise(3)
@pytest.mark.parametrize("way", STREAMS)
async def test_stream_that_breaks(desk: Any, every: Any, way: str) -> None:
    """Broken if what was written until a stream broke is free, or the error is not the SDK's own."""
    desk.provider.script = [desk.says(breaks=True)]
    with desk.open(), pytest.raises((anthropic.APIConnectionError, httpx2.RemoteProtocolError)):
        await every(STREAMS[way](desk.client()))
    (finished,) = desk.finished()
    assert (finished.outcome, finished.usage.tokens) == ("raised", 100 + 50)


async def test_stream_that_a_caller_posts(desk: Any, done: Any) -> None:
    """Broken if a stream that is read as a whole is not booked."""
    with desk.open():
        body = {**ASK, "stream": True}
        text = await done(desk.client().post("/v1/messages", body=body, cast_to=str))
    assert text.endswith('data: {"type": "message_stop"}\n\n')
    assert [one.usage for one in desk.finished()] == [USED]


async def test_stream_that_is_left_at_its_last_event(desk: Any, done: Any) -> None:
    """Broken if a caller who stops at the event that ends the message is taken to have left early."""
    with desk.open():
        stream = await done(desk.create(desk.client(), stream=True))
        events = [await one(stream) for _ in range(desk.sdk.parts)]
        await done(stream.close())
    assert events[-1].type == "message_stop"
    assert [(ended.outcome, ended.usage) for ended in desk.finished()] == [("returned", USED)]
