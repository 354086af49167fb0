"""The adapter passes the suite that every adapter has to pass, with the async client and with the sync one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from anthropic import Anthropic, AsyncAnthropic

from interlock.testing import AdapterSuite
from interlock_anthropic import arun_tools, govern, run_tools, tool_messages, tool_uses
from tests.clients.conformance import NO_PAUSE, ONE_BY_ONE, UNCANCELLED, ClientHarness
from tests.clients.desk import module

PROVIDER = module(Path(__file__).with_name("provider.py"))
ASK: dict[str, Any] = {"model": "m-1", "max_tokens": 50}


class Harness(ClientHarness):
    """The async client."""

    readme = Path(__file__).parents[1] / "README.md"
    lacks = {"pause": NO_PAUSE}  # noqa: RUF012 - as users write it
    provider = PROVIDER.Provider
    client = AsyncAnthropic
    govern = staticmethod(govern)
    run_tools = staticmethod(arun_tools)
    tool_uses = staticmethod(tool_uses)
    tool_messages = staticmethod(tool_messages)

    async def streamed(self, client: Any, messages: Sequence[Any]) -> Any:
        """Ask by a stream; return the answer that it adds up to."""
        async with client.messages.stream(messages=messages, **ASK) as stream:
            return await stream.get_final_message()

    def asked(self, client: Any, messages: Sequence[Any], *, is_streamed: bool) -> Any:
        """Ask the model."""
        if is_streamed:
            return self.streamed(client, messages)
        return client.messages.create(messages=messages, **ASK)

    def said(self, message: Mapping[str, Any]) -> Iterator[str]:
        """Yield what it tells of each call."""
        if message["role"] == "user" and not isinstance(message["content"], str):
            yield from (block["content"] for block in message["content"])

    def surface(self, client: Any) -> Any:
        """List files."""
        return client.beta.files.list()


class SyncHarness(Harness):
    """The sync client."""

    is_async = False
    lacks = {"cancel": UNCANCELLED, "parallel": ONE_BY_ONE, "pause": NO_PAUSE}  # noqa: RUF012
    client = Anthropic
    run_tools = staticmethod(run_tools)

    def streamed(self, client: Any, messages: Sequence[Any]) -> Any:
        """Ask by a stream; return the answer that it adds up to."""
        with client.messages.stream(messages=messages, **ASK) as stream:
            return stream.get_final_message()


class TestAsync(AdapterSuite):
    """The async client."""

    harness = Harness


class TestSync(AdapterSuite):
    """The sync client."""

    harness = SyncHarness
