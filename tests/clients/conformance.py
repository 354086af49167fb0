"""How the suite for adapters drives a governed client: by the loop that a host writes around it."""

from __future__ import annotations

import asyncio
import inspect
import json
from abc import abstractmethod
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from itertools import count
from typing import Any, ClassVar, TypeVar

from interlock import Session
from interlock.testing import AdapterHarness, Ran, Script
from interlock.tool_use import ToolResult, ToolUse, told
from tests.clients.server import Provider, Says

_T = TypeVar("_T")

NO_PAUSE = "A loop of one's own has no pause: a ticket waits in the store, and the model makes its call again."
ONE_BY_ONE = "run_tools makes the calls of an answer one after the other."
UNCANCELLED = "Nothing cancels a sync call."


class ClientHarness(AdapterHarness):
    """
    A loop that asks the model, runs the calls in its answer, and tells it what came of them, until there are none.

    Attributes:
        provider: The class of the provider on a loopback socket.
        client: The SDK's client.
        govern: What governs it.
        run_tools: What runs the calls in an answer; the harness waits for it if need be.
        tool_uses: What finds them.
        tool_messages: What makes messages of their results.
    """

    provider: ClassVar[type[Provider]]
    client: ClassVar[Callable[..., Any]]
    govern: ClassVar[Callable[..., Any]]
    run_tools: ClassVar[Callable[..., Any]]
    tool_uses: ClassVar[Callable[..., Any]]
    tool_messages: ClassVar[Callable[..., Any]]

    @abstractmethod
    def asked(self, client: Any, messages: Sequence[Any], *, is_streamed: bool) -> Any:
        """Ask the model, in the SDK's way to stream if that is wanted; return its answer, or what is awaited for it."""

    @abstractmethod
    def said(self, message: Mapping[str, Any]) -> Iterator[str]:
        """Yield what *message* tells the model of its calls."""

    @abstractmethod
    def surface(self, client: Any) -> Any:
        """Use a part of the SDK that the adapter does not know."""

    def run(self, script: Script) -> Ran:
        """Run *script*, in an event loop if the client wants one."""
        if self.is_async:
            return self.awaited(lambda: self._run(script), script)
        try:
            return _at_once(self._run(script))
        except Exception as error:  # noqa: BLE001 - the suite judges it
            return Ran(error=error)

    def offer_unknown(self, session: Session) -> None:
        """Use what the adapter does not know."""
        offered = self._offered()
        if self.is_async:
            asyncio.run(offered)
        else:
            _at_once(offered)

    async def _offered(self) -> None:
        async with self._client(()) as client:
            await _settled(self.surface(type(self).govern(client)))

    async def _run(self, script: Script) -> Ran:
        numbers = count(1)
        turns = [
            tuple((f"call-{next(numbers)}", name, json.dumps(dict(sent))) for name, sent in turn)
            for turn in script.turns
        ]
        messages: list[Any] = [{"role": "user", "content": "go"}]
        async with self._client([Says(text="", calls=turn) for turn in turns]) as plain:
            client = type(self).govern(plain) if script.is_governed else plain
            ask = partial(self.asked, client, messages, is_streamed=script.is_streamed)
            answer = await _settled(ask())
            while more := await self._ran(script, answer):
                messages += more
                answer = await _settled(ask())
        return Ran(told=tuple(text for message in messages for text in self.said(message)))

    async def _ran(self, script: Script, answer: Any) -> list[Any]:
        if script.is_governed:
            run = type(self).run_tools(answer, tools=script.tools, session=script.session)
            return list(await _settled(run))
        results = [await _by_hand(script, use) for use in type(self).tool_uses(answer)]
        return list(type(self).tool_messages(answer, results))

    @asynccontextmanager
    async def _client(self, script: Sequence[Says]) -> AsyncIterator[Any]:
        with type(self).provider() as provider:
            provider.script = [*script, Says(text="done")]
            client = type(self).client(api_key="k", base_url=provider.url, max_retries=0)
            try:
                yield client
            finally:
                await _settled(client.close())


def _at_once(work: Coroutine[Any, Any, _T]) -> _T:
    """Return what comes of *work*, which waits for nothing."""
    try:
        work.send(None)
    except StopIteration as ended:
        result: _T = ended.value
        return result
    raise AssertionError("a sync loop has waited for something")


async def _settled(answer: Any) -> Any:
    return await answer if inspect.isawaitable(answer) else answer


async def _by_hand(script: Script, use: ToolUse) -> ToolResult:
    """Run one call as a host does who has no Interlock."""
    [tool] = [one for one in script.tools if one.__name__ == use.name]
    sent = use.arguments if isinstance(use.arguments, Mapping) else json.loads(use.arguments)
    try:
        return ToolResult(id=use.id, name=use.name, text=await _settled(tool(**sent)))
    except LookupError as error:
        return ToolResult(id=use.id, name=use.name, text=told(use, error), is_error=True)
