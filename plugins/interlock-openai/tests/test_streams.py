"""Streams: judged before anything is sent, given byte for byte as they come, settled however they end."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import httpx2
import openai
import pytest

from interlock import Usage
from tests.clients.streams import StreamSuite

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


class TestStreams(StreamSuite):
    """What holds of every stream."""

    streams = MappingProxyType({name: stream for name, (stream, _) in STREAMS.items()})


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


@pytest.mark.promise(3)
@pytest.mark.parametrize("way", STREAMS)
async def test_stream_that_breaks(desk: Any, every: Any, way: str) -> None:
    """Broken if what was written until a stream broke is free, or the error is not the SDK's own."""
    desk.provider.script = [desk.says(breaks=True)] * 2
    with pytest.raises((openai.OpenAIError, httpx2.HTTPError)) as plain:  # which, its releases say
        await every(STREAMS[way][0](desk.plain()))
    with desk.open(), pytest.raises(plain.type):
        await every(STREAMS[way][0](desk.client(assume=Usage(output_tokens=70))))
    (finished,) = desk.finished()
    assert (finished.outcome, finished.usage.output_tokens) == ("raised", 70)


async def test_stream_that_a_caller_posts(desk: Any, done: Any) -> None:
    """Broken if a stream that is read as a whole is not booked, or holds what the caller did not ask for."""
    with desk.open():
        body = {**ASK, "stream": True}
        text = await done(desk.client().post("/chat/completions", body=body, cast_to=str))
    assert text.endswith("data: [DONE]\n\n")
    assert "total_tokens" not in text
    assert [one.usage for one in desk.finished()] == [CHAT]
