"""The canary: calls that must be refused, made by the real SDK to a transport that would answer them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import httpx2
from anthropic import Anthropic, AsyncAnthropic

from interlock.clients import sing
from interlock_anthropic.client import govern

_USAGE = {"input_tokens": 3, "output_tokens": 2}


def canary() -> None:
    """
    Make calls that must be refused, and calls that must be booked, by a sync and by an async client.

    It takes a moment and touches nothing of the host's: books in memory, no process, no network. It may be called
    where an event loop runs.

    Raises:
        PluginError: a call was sent that must not be, or one that is allowed was not sent, or not booked.
    """
    sing("anthropic", _ways, _aways, tokens=5)


@contextmanager
def _ways(sent: list[str]) -> Iterator[list[Callable[[str], Any]]]:
    transport = httpx2.MockTransport(_server(sent))
    with Anthropic(
        api_key="canary",
        base_url="http://canary.invalid",
        http_client=httpx2.Client(transport=transport),
    ) as plain:
        client = govern(plain)

        def streamed(model: str) -> None:
            with client.messages.stream(model=model, messages=[], max_tokens=9) as stream:
                stream.until_done()

        yield [
            lambda model: client.messages.create(model=model, messages=[], max_tokens=9),
            streamed,
            lambda model: client.beta.messages.with_raw_response.create(
                model=model, messages=[], max_tokens=9
            ).parse(),
        ]


@asynccontextmanager
async def _aways(sent: list[str]) -> AsyncIterator[list[Callable[[str], Awaitable[Any]]]]:
    transport = httpx2.MockTransport(_server(sent))
    async with AsyncAnthropic(
        api_key="canary",
        base_url="http://canary.invalid",
        http_client=httpx2.AsyncClient(transport=transport),
    ) as plain:
        client = govern(plain)

        async def streamed(model: str) -> None:
            async with client.messages.stream(model=model, messages=[], max_tokens=9) as stream:
                await stream.until_done()

        yield [
            lambda model: client.messages.create(model=model, messages=[], max_tokens=9),
            streamed,
            lambda model: client.beta.messages.with_raw_response.create(
                model=model, messages=[], max_tokens=9
            ),
        ]


def _server(sent: list[str]) -> Callable[[httpx2.Request], httpx2.Response]:
    def answer(request: httpx2.Request) -> httpx2.Response:
        body = json.loads(request.content)
        sent.append(body["model"])
        head = {"id": "m", "type": "message", "role": "assistant", "model": body["model"]}
        message = {**head, "content": [], "stop_reason": "end_turn", "usage": _USAGE}
        if not body.get("stream"):
            return httpx2.Response(200, json=message)
        events: list[dict[str, Any]] = [
            {"type": "message_start", "message": message},
            {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": _USAGE},
            {"type": "message_stop"},
        ]
        text = "".join(f"event: {one['type']}\ndata: {json.dumps(one)}\n\n" for one in events)
        return httpx2.Response(200, content=text, headers={"content-type": "text/event-stream"})

    return answer
