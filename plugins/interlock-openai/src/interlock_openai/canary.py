"""The canary: calls that must be refused, made by the real SDK to a transport that would answer them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import httpx2
from openai import AsyncOpenAI, OpenAI

from interlock.clients import sing
from interlock_openai.client import govern

_USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


def canary() -> None:
    """
    Make calls that must be refused, and calls that must be booked, by a sync and by an async client.

    It takes a moment and touches nothing of the host's: books in memory, no process, no network. It may be called
    where an event loop runs.

    Raises:
        PluginError: a call was sent that must not be, or one that is allowed was not sent, or not booked.
    """
    sing("openai", _ways, _aways, tokens=5)


@contextmanager
def _ways(sent: list[str]) -> Iterator[list[Callable[[str], Any]]]:
    transport = httpx2.MockTransport(_server(sent))
    with OpenAI(
        api_key="canary",
        base_url="http://canary.invalid/v1",
        http_client=httpx2.Client(transport=transport),
    ) as plain:
        client = govern(plain)
        yield [
            lambda model: client.chat.completions.create(model=model, messages=[]),
            lambda model: list(
                client.chat.completions.create(model=model, messages=[], stream=True)
            ),
            lambda model: client.responses.with_raw_response.create(model=model, input="").parse(),
        ]


@asynccontextmanager
async def _aways(sent: list[str]) -> AsyncIterator[list[Callable[[str], Awaitable[Any]]]]:
    transport = httpx2.MockTransport(_server(sent))
    async with AsyncOpenAI(
        api_key="canary",
        base_url="http://canary.invalid/v1",
        http_client=httpx2.AsyncClient(transport=transport),
    ) as plain:
        client = govern(plain)

        async def streamed(model: str) -> None:
            async for _ in await client.chat.completions.create(
                model=model, messages=[], stream=True
            ):
                pass

        yield [
            lambda model: client.chat.completions.create(model=model, messages=[]),
            streamed,
            lambda model: client.responses.with_raw_response.create(model=model, input=""),
        ]


def _server(sent: list[str]) -> Callable[[httpx2.Request], httpx2.Response]:
    def answer(request: httpx2.Request) -> httpx2.Response:
        body = json.loads(request.content)
        sent.append(body["model"])
        if request.url.path.endswith("/responses"):
            return httpx2.Response(200, json={"output": [], "usage": _USAGE})
        if not body.get("stream"):
            return httpx2.Response(200, json={"choices": [], "usage": _USAGE})
        text = f"data: {json.dumps({'choices': [], 'usage': _USAGE})}\n\ndata: [DONE]\n\n"
        return httpx2.Response(200, content=text, headers={"content-type": "text/event-stream"})

    return answer
