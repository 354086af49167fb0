"""
The canary: a call that must be refused, driven through the real path of each way in which requests are governed.

The places that Interlock stands in are the protocol package's, and some of them may change with its versions. What
would then run ungoverned is found here, before anything is served.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
import mcp_types as types
from mcp import Client
from mcp.server.lowlevel import Server
from mcp.shared.memory import create_client_server_memory_streams

from interlock import Session
from interlock.canaries import DeadCanaryError, cage, sing
from interlock_mcp.proxy import Proxy
from interlock_mcp.wrappers import govern, govern_server

_RULES = [{"id": "never", "tools": ["canary.never"], "verdict": "deny"}]


def canary() -> None:
    """
    Make a call that must be refused, by proxy, server and client and in both eras of the protocol.

    It takes a moment and touches nothing of the host's: books in memory, no process, no network. It may be called
    where an event loop runs.

    Raises:
        PluginError: the call ran, or it was not told why it did not, or a call that is allowed did not run.
    """
    sing("mcp", partial(anyio.run, _song))


async def _song() -> None:
    with cage(_RULES) as governor, governor.session("canary", agent="canary") as session:
        for way in ("proxy", "server", "client"):
            for mode in ("legacy", "auto"):
                ran: list[str] = []
                told = await _driven(way, mode, session, ran)
                if ran != ["ever"] or "canary.never is denied" not in told:
                    raise DeadCanaryError(
                        f"a {way} ({mode}) that is governed does not refuse what the policy denies, and only that "
                        f"(ran: {', '.join(ran) or 'nothing'})"
                    )


async def _driven(way: str, mode: str, session: Session, ran: list[str]) -> str:
    """Make both calls, and return what the client is told of the one that must be refused."""
    server = _server(ran)
    if way == "proxy":
        server = Proxy(lambda: _in_process(_server(ran)), session, name="canary").server
    elif way == "server":
        govern_server(server, name="canary", session=session)
    async with Client(server, mode=mode) as client:
        if way == "client":
            govern(client, name="canary", session=session)
        refused = await client.call_tool("never", {})
        await client.call_tool("ever", {})
    texts = [part.text for part in refused.content if isinstance(part, types.TextContent)]
    return " ".join(texts) if refused.is_error else ""


def _server(ran: list[str]) -> Server[Any]:
    async def listed(_: Any, __: Any) -> types.ListToolsResult:
        schema: dict[str, Any] = {"type": "object"}
        return types.ListToolsResult(
            tools=[types.Tool(name=name, input_schema=schema) for name in ("never", "ever")]
        )

    async def called(_: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
        ran.append(params.name)
        return types.CallToolResult(content=[types.TextContent(type="text", text="ran")])

    return Server("canary", on_list_tools=listed, on_call_tool=called)


@asynccontextmanager
async def _in_process(server: Server[Any]) -> AsyncIterator[tuple[Any, Any]]:
    async with (
        create_client_server_memory_streams() as (client, (read, write)),
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(server.run, read, write, server.create_initialization_options())
        yield client
        tasks.cancel_scope.cancel()
