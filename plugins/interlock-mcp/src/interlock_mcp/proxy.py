"""
The proxy: a server for any client, with any server behind it, and the gate between them.

Requests are passed on as they came and results as they are, within what the protocol's version has; a method that is
not known here is not found.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.abc
import mcp_types as types
from mcp import MCPError
from mcp.server.context import CallNext, HandlerResult
from mcp.server.lowlevel import Server
from mcp_types import INTERNAL_ERROR
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import BaseModel, ConfigDict

from interlock import Session
from interlock_mcp.catalogue import Catalogue
from interlock_mcp.gate import Gate, Result
from interlock_mcp.link import Connect, Context, Link, as_wire
from interlock_mcp.surfaces import complete

FORWARDED = frozenset(
    {
        "completion/complete",
        "logging/setLevel",
        "prompts/get",
        "prompts/list",
        "resources/list",
        "resources/read",
        "resources/subscribe",
        "resources/templates/list",
        "resources/unsubscribe",
        "tools/call",
        "tools/list",
    }
)
"""Requests of clients that the server behind is sent."""

_MODERN_CLIENTS = 8
"""So many kinds of clients without a connection of their own have one to the server each; more are refused."""


class _Params(types.RequestParams):
    """Any parameters: those of each method were checked before, and the raw ones are passed on."""

    model_config = ConfigDict(extra="allow")


class Proxy:
    """
    A governing proxy.

    Attributes:
        server: What clients are served by, over stdio or streamable HTTP.
        gate: What their requests pass.
        failure: Why the server behind could not be reached; None while it could.
    """

    def __init__(
        self,
        connect: Connect,
        session: Session,
        *,
        name: str = "mcp",
        catalogue: Catalogue | None = None,
        timeout: float | None = None,
    ) -> None:
        """
        Put a proxy before the server that *connect* leads to.

        Args:
            connect: Opens a transport to it. Each client with a connection of its own gets one of its own.
            session: In which calls are made.
            name: What policies call the server.
            catalogue: What is pinned of its tools.
            timeout: How many seconds it may take for one request; None: as many as the client waits.

        Raises:
            Misuse: it cannot be called so.
        """
        self.gate = Gate(name, session, catalogue=catalogue)
        self.failure: str | None = None
        self.server: Server[Any] = Server(f"interlock-{name}", lifespan=self._lifespan)
        self._connect = connect
        self._timeout = timeout
        self._tasks: anyio.abc.TaskGroup | None = None
        self._shared: dict[str, Link] = {}
        self._opening = anyio.Lock()
        for method in sorted(FORWARDED):
            self.server.add_request_handler(method, _Params, self._forward)
        self.server.add_request_handler("server/discover", _Params, self._discover)
        self.server.add_notification_handler(
            "notifications/roots/list_changed", types.NotificationParams, self._roots_changed
        )
        self.server.middleware.append(self._greet)

    @asynccontextmanager
    async def _lifespan(self, _: Server[Any]) -> AsyncIterator[None]:
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            try:
                yield
            finally:
                tasks.cancel_scope.cancel()
                self._tasks = None
                self._shared.clear()

    async def _forward(self, context: Context, _: _Params) -> Result:
        link = await self._link(context)

        async def forward(params: dict[str, Any]) -> Result:
            return await link.request(context, context.method, params)

        result = await self.gate.request(
            context.method, context.params or {}, forward, lister=link.tools
        )
        return complete(context.method, result, context.protocol_version)

    async def _discover(self, context: Context, _: _Params) -> types.DiscoverResult:
        session = (await self._link(context)).session
        return types.DiscoverResult(
            supported_versions=list(MODERN_PROTOCOL_VERSIONS),
            capabilities=_known(session.server_capabilities, is_modern=True),
            instructions=session.instructions,
        )

    async def _roots_changed(self, context: Context, _: types.NotificationParams) -> None:
        await (await self._link(context)).notify(types.RootsListChangedNotification())

    async def _greet(self, ctx: Context, call_next: CallNext) -> HandlerResult:
        """Let the server behind say what it can, in the answer to `initialize`."""
        result = await call_next(ctx)
        if ctx.method != "initialize" or not isinstance(result, dict):
            return result
        said = types.InitializeRequestParams.model_validate(ctx.params, by_name=False)
        connection = ctx.session._connection  # noqa: SLF001 - its state has no public name yet; the canary looks
        link = await self._opened(said.client_info, said.capabilities, is_modern=False)
        connection.state[_LINK] = link
        connection.exit_stack.push_async_callback(link.close)
        session = link.session
        shown: dict[str, BaseModel] = {
            "capabilities": _known(session.server_capabilities, is_modern=False)
        }
        if session.server_info is not None:
            shown["serverInfo"] = session.server_info
        wire: dict[str, Any] = {key: as_wire(value) for key, value in shown.items()}
        if session.instructions is not None:
            wire["instructions"] = session.instructions
        return {**result, **wire}

    async def _link(self, context: Context) -> Link:
        """Return the connection for the client whose request this is."""
        own = context.session._connection.state.get(_LINK)  # noqa: SLF001 - see above
        if own is not None:
            return own  # type: ignore[no-any-return]
        capabilities = context.session.client_capabilities
        client = context.session.client_params
        info = None if client is None else client.client_info
        key = repr((info, capabilities))
        async with self._opening:
            link = self._shared.get(key)
            if link is None or link.is_over:
                self._shared.pop(key, None)
                if len(self._shared) >= _MODERN_CLIENTS:
                    raise MCPError(code=INTERNAL_ERROR, message="too many kinds of clients at once")
                link = self._shared[key] = await self._opened(info, capabilities, is_modern=True)
        return link

    async def _opened(
        self,
        client: types.Implementation | None,
        capabilities: types.ClientCapabilities | None,
        *,
        is_modern: bool,
    ) -> Link:
        link = Link(
            self._connect,
            self.gate,
            client=client,
            capabilities=capabilities,
            is_modern=is_modern,
            timeout=self._timeout,
        )
        if self._tasks is None:
            raise MCPError(code=INTERNAL_ERROR, message="the proxy is not running")
        try:
            await self._tasks.start(link.run)
        except MCPError as error:
            self.failure = error.error.message
            raise
        self.failure = None
        return link


_LINK = "interlock.link"


def _known(
    capabilities: types.ServerCapabilities | None, *, is_modern: bool
) -> types.ServerCapabilities:
    """Return what of the server's *capabilities* the proxy passes on."""
    found = capabilities or types.ServerCapabilities()
    if not is_modern:
        return types.ServerCapabilities(
            tools=found.tools,
            resources=found.resources,
            prompts=found.prompts,
            logging=found.logging,
            completions=found.completions,
        )
    # Changes are told to clients of this era by `subscriptions/listen`, which is not passed on.
    return types.ServerCapabilities(
        tools=None if found.tools is None else types.ToolsCapability(list_changed=False),
        resources=None
        if found.resources is None
        else types.ResourcesCapability(list_changed=False, subscribe=False),
        prompts=None if found.prompts is None else types.PromptsCapability(list_changed=False),
        completions=found.completions,
    )
