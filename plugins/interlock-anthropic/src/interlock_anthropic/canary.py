"""
The canary: a call that must be refused, driven through the SDK's real path to a transport that would answer it.

The places that Interlock stands in are the SDK's, and some of them are not public. What would then run ungoverned is
found here, before anything is served.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from typing import Any

import httpx2
from anthropic import Anthropic, AsyncAnthropic
from opentelemetry import trace

from interlock import Denied, Governor, hookimpl
from interlock.errors import PluginError
from interlock.events import CallFinished, Recorded
from interlock_anthropic.client import govern

_POLICY: dict[str, Any] = {
    "version": 1,
    "name": "canary",
    "default": "allow",
    "rules": [{"id": "never", "models": ["never"], "verdict": "deny"}],
}

_USAGE = {"input_tokens": 3, "output_tokens": 2}

_UNSEEN = trace.NonRecordingSpan(
    trace.SpanContext(1, 1, is_remote=False, trace_flags=trace.TraceFlags(0))
)
"""A parent that is not sampled, so that the host's traces show nothing of this."""


class _Books:
    """What was booked, in tokens."""

    def __init__(self) -> None:
        self.booked: list[int | None] = []

    @hookimpl
    def interlock_recorded(self, recorded: Recorded) -> None:
        """Keep what a call has used."""
        found = recorded.event
        if isinstance(found, CallFinished) and found.usage is not None:
            self.booked.append(found.usage.tokens)


def canary() -> None:
    """
    Make calls that must be refused, and calls that must be booked, by a sync and by an async client.

    It takes a moment and touches nothing of the host's: books in memory, no process, no network. It may be called
    where an event loop runs.

    Raises:
        PluginError: a call was sent that must not be, or one that is allowed was not sent, or not booked.
    """
    try:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(_sing).result()
    except PluginError:
        raise
    except Exception as error:
        raise _dead(f"no call can be made: {type(error).__name__}") from error


def _dead(why: str) -> PluginError:
    return PluginError(
        f"the canary is dead: with anthropic {version('anthropic')}, {why}. Nothing is served.",
        plugin="anthropic",
        distribution=f"interlock-anthropic {version('interlock-anthropic')}",
    )


def _sing() -> None:
    books = _Books()
    with (
        trace.use_span(_UNSEEN),
        Governor(
            "sqlite://",
            policy=_POLICY,
            plugins=[books],
            tracer_provider=trace.NoOpTracerProvider(),
        ) as governor,
        governor.session("canary", agent="canary"),
    ):
        for way, drive in (("sync", _driven), ("async", lambda sent: asyncio.run(_adriven(sent)))):
            sent: list[str] = []
            before = len(books.booked)
            refused = drive(sent)
            booked = books.booked[before:]
            if (refused, sent, booked) != (3, ["ever"] * 3, [5] * 3):
                raise _dead(
                    f"a governed client ({way}) does not refuse what the policy denies, and only that, or does not "
                    f"book what it uses (refused: {refused}, sent: {', '.join(sent) or 'nothing'}, booked: {booked})"
                )


def _driven(sent: list[str]) -> int:
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

        ways: list[Callable[[str], Any]] = [
            lambda model: client.messages.create(model=model, messages=[], max_tokens=9),
            streamed,
            lambda model: client.beta.messages.with_raw_response.create(
                model=model, messages=[], max_tokens=9
            ).parse(),
        ]
        refused = 0
        for way in ways:
            try:
                way("never")
            except Denied:
                refused += 1
            way("ever")
    return refused


async def _adriven(sent: list[str]) -> int:
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

        ways: list[Callable[[str], Any]] = [
            lambda model: client.messages.create(model=model, messages=[], max_tokens=9),
            streamed,
            lambda model: client.beta.messages.with_raw_response.create(
                model=model, messages=[], max_tokens=9
            ),
        ]
        refused = 0
        for way in ways:
            try:
                await way("never")
            except Denied:
                refused += 1
            await way("ever")
    return refused


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
