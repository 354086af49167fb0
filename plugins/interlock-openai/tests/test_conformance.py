"""The adapter passes the suite that every adapter has to pass, with chat completions and responses, async and sync."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from openai import AsyncOpenAI, OpenAI

from interlock.testing import AdapterSuite
from interlock_openai import arun_tools, govern, run_tools, tool_messages, tool_uses
from tests.clients.conformance import NO_PAUSE, ONE_BY_ONE, UNCANCELLED, ClientHarness
from tests.clients.desk import module

PROVIDER = module(Path(__file__).with_name("provider.py"))


class Harness(ClientHarness):
    """The async client, with chat completions."""

    readme = Path(__file__).parents[1] / "README.md"
    lacks = {"pause": NO_PAUSE}  # noqa: RUF012 - as users write it
    provider = PROVIDER.Provider
    client = AsyncOpenAI
    govern = staticmethod(govern)
    run_tools = staticmethod(arun_tools)
    tool_uses = staticmethod(tool_uses)
    tool_messages = staticmethod(tool_messages)

    async def streamed(self, client: Any, messages: Sequence[Any]) -> Any:
        """Ask by a stream; return the answer that it adds up to."""
        async with client.chat.completions.stream(model="m-1", messages=messages) as stream:
            return await stream.get_final_completion()

    def asked(self, client: Any, messages: Sequence[Any], *, is_streamed: bool) -> Any:
        """Ask the model."""
        if is_streamed:
            return self.streamed(client, messages)
        return client.chat.completions.create(model="m-1", messages=messages)

    def said(self, message: Mapping[str, Any]) -> Iterator[str]:
        """Yield what it tells of a call."""
        if message["role"] == "tool":
            yield message["content"]

    def surface(self, client: Any) -> Any:
        """Make an image."""
        return client.images.generate(prompt="a lamp")


class SyncHarness(Harness):
    """The sync client, likewise."""

    is_async = False
    lacks = {"cancel": UNCANCELLED, "parallel": ONE_BY_ONE, "pause": NO_PAUSE}  # noqa: RUF012
    client = OpenAI
    run_tools = staticmethod(run_tools)

    def streamed(self, client: Any, messages: Sequence[Any]) -> Any:
        """Ask by a stream; return the answer that it adds up to."""
        with client.chat.completions.stream(model="m-1", messages=messages) as stream:
            return stream.get_final_completion()


class Responses(Harness):
    """The async client, with responses."""

    async def streamed(self, client: Any, messages: Sequence[Any]) -> Any:
        """Ask by a stream; return the answer that it adds up to."""
        async with client.responses.stream(model="m-1", input=messages) as stream:
            return await stream.get_final_response()

    def asked(self, client: Any, messages: Sequence[Any], *, is_streamed: bool) -> Any:
        """Ask the model."""
        if is_streamed:
            return self.streamed(client, messages)
        return client.responses.create(model="m-1", input=messages)

    def said(self, message: Mapping[str, Any]) -> Iterator[str]:
        """Yield what it tells of a call."""
        if message.get("type") == "function_call_output":
            yield message["output"]


class SyncResponses(SyncHarness):
    """The sync client, with responses."""

    said = Responses.said
    asked = Responses.asked

    def streamed(self, client: Any, messages: Sequence[Any]) -> Any:
        """Ask by a stream; return the answer that it adds up to."""
        with client.responses.stream(model="m-1", input=messages) as stream:
            return stream.get_final_response()


class TestAsync(AdapterSuite):
    """The async client."""

    harness = Harness


class TestSync(AdapterSuite):
    """The sync client."""

    harness = SyncHarness


class TestResponses(AdapterSuite):
    """The async client, with responses."""

    harness = Responses


class TestSyncResponses(AdapterSuite):
    """The sync client, with responses."""

    harness = SyncResponses
