"""The adapter passes the suite that every adapter has to pass: as a proxy, in a client's session, and in a server."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import mcp_types as types
from mcp import Client, MCPError
from mcp.server.mcpserver import MCPServer

from interlock import Session, tool_of
from interlock.testing import AdapterHarness, AdapterSuite, Ran, Script
from interlock_mcp import Proxy, govern, govern_server
from tests.clients.desk import module

LINKS = module(Path(__file__).with_name("links.py"))


class _Unheard(types.Request[dict[str, Any], str]):
    method: str = "suite/unheard-of"


class Harness(AdapterHarness):
    """A host that makes each call of its model by a client of the protocol."""

    readme = Path(__file__).parents[1] / "README.md"
    lacks = {  # noqa: RUF012 - as users write it
        "pause": "The protocol has no pause: a ticket waits in the store, and the same call is made again.",
        "streaming": "The protocol has no streams of results: one comes whole.",
    }
    refuses_with = MCPError
    fails_as = ("returned",)

    def name(self, tool: str) -> str:
        """Return what policies call a tool of the server."""
        return f"suite.{tool}"

    def run(self, script: Script) -> Ran:
        """Run *script*."""
        return self.awaited(lambda: self._run(script), script)

    def offer_unknown(self, session: Session) -> None:
        """Send a request that the protocol does not have, to a server that would answer it."""
        answered: list[object] = []

        async def answer(_: Any, params: Any) -> dict[str, Any]:
            answered.append(params)
            return {}

        async def send() -> None:
            server = _server(())
            low = server._lowlevel_server
            low.add_request_handler("suite/unheard-of", types.RequestParams, answer)
            async with self.governed(server, session, ()) as client:
                await client.session.send_request(_Unheard(params={}), types.EmptyResult)

        try:
            asyncio.run(send())
        except BaseExceptionGroup as group:
            raise _only(group) from None
        finally:
            assert answered == [], "the server was asked"

    @abstractmethod
    def governed(
        self, server: MCPServer, session: Session, known: tuple[Any, ...]
    ) -> AbstractAsyncContextManager[Client]:
        """Give a client of *server*, with the gate in this adapter's place."""

    async def _run(self, script: Script) -> Ran:
        server = _server(script.tools)
        known = tuple(tool for tool in script.tools if tool_of(tool) is not None)
        plain = Client(server)
        made = self.governed(server, script.session, known) if script.is_governed else plain
        told: list[str] = []
        async with made as client:
            for turn in script.turns:
                calls = [client.call_tool(name, dict(sent)) for name, sent in turn]
                told += [_text(result) for result in await asyncio.gather(*calls)]
        return Ran(told=tuple(told))


class ProxyHarness(Harness):
    """The proxy between a client and a server."""

    lacks = {  # noqa: RUF012 - as users write it
        **Harness.lacks,
        "nested": "A governed function of a server behind the proxy is judged there as well: that is another process.",
    }

    @asynccontextmanager
    async def governed(
        self, server: MCPServer, session: Session, known: tuple[Any, ...]
    ) -> AsyncIterator[Client]:
        """Give a client of the proxy."""
        proxy = Proxy(lambda: LINKS.in_process(server), session, name="suite")
        async with Client(proxy.server) as client:
            yield client


class ClientHarness(Harness):
    """The gate in a client's session."""

    @asynccontextmanager
    async def governed(
        self, server: MCPServer, session: Session, known: tuple[Any, ...]
    ) -> AsyncIterator[Client]:
        """Give the client, governed."""
        async with Client(server) as client:
            yield govern(client, name="suite", session=session, tools=known)


class ServerHarness(Harness):
    """The gate in a server of one's own."""

    @asynccontextmanager
    async def governed(
        self, server: MCPServer, session: Session, known: tuple[Any, ...]
    ) -> AsyncIterator[Client]:
        """Give a client of the server, which is governed."""
        govern_server(server, name="suite", session=session, tools=known)
        async with Client(server) as client:
            yield client


class TestProxy(AdapterSuite):
    """The proxy."""

    harness = ProxyHarness


class TestClient(AdapterSuite):
    """The client."""

    harness = ClientHarness


class TestServer(AdapterSuite):
    """The server."""

    harness = ServerHarness


def _server(tools: tuple[Any, ...]) -> MCPServer:
    server = MCPServer("suite")
    for tool in tools:
        server.tool()(tool)
    return server


def _text(result: types.CallToolResult) -> str:
    return " ".join(part.text for part in result.content if isinstance(part, types.TextContent))


def _only(group: BaseExceptionGroup[Any]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        [error] = error.exceptions
    return error
