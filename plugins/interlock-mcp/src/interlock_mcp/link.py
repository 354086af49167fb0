"""
One connection to the server behind the proxy, on behalf of one client in front of it.

It says of the client what the client says of itself, so that the server behaves as without a proxy. Requests go to
the server as they came; what the server asks of the client passes the gate, and its notifications are passed on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeAlias

import anyio
import anyio.abc
import mcp_types as types
from mcp import ClientSession, MCPError
from mcp.client.session import ClientRequestContext, IncomingMessage
from mcp.server.context import ServerRequestContext
from mcp.shared.dispatcher import ProgressFnT
from mcp.shared.message import ServerMessageMetadata
from mcp_types import (
    CONNECTION_CLOSED,
    INTERNAL_ERROR,
    LOG_LEVEL_META_KEY,
    UNSUPPORTED_PROTOCOL_VERSION,
)
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import BaseModel, TypeAdapter, ValidationError

from interlock_mcp.catalogue import Definition
from interlock_mcp.gate import Gate, Result

log = logging.getLogger("interlock.mcp")

Connect: TypeAlias = Callable[[], AbstractAsyncContextManager[tuple[Any, Any]]]
"""Opens the transport to the server: a stream to read from and one to write to."""

Context: TypeAlias = ServerRequestContext[Any, Any]

_ENVELOPE = frozenset(
    {
        "progressToken",
        types.PROTOCOL_VERSION_META_KEY,
        types.CLIENT_INFO_META_KEY,
        types.CLIENT_CAPABILITIES_META_KEY,
    }
)
"""The keys of `_meta` that belong to one connection; each connection has its own."""

_PAGES = 100
"""A list of tools has no more pages: a server that never ends it must not keep calls waiting."""

_RAW: TypeAdapter[dict[str, Any]] = TypeAdapter(dict[str, Any])


class _Raw(types.Request[dict[str, Any] | None, str]):
    """A request whose parameters are sent as they are."""


class Link:
    """
    A connection to the server.

    Attributes:
        is_over: Whether the server has gone.
    """

    def __init__(
        self,
        connect: Connect,
        gate: Gate,
        *,
        client: types.Implementation | None,
        capabilities: types.ClientCapabilities | None,
        is_modern: bool,
        timeout: float | None,
    ) -> None:
        """Describe the connection; `run` opens it."""
        self.is_over = False
        self._connect = connect
        self._gate = gate
        self._client = client
        self._capabilities = capabilities or types.ClientCapabilities()
        self._is_modern = is_modern
        self._timeout = timeout
        self._closing = anyio.Event()
        self._session: ClientSession | None = None
        self._in_flight: dict[int, Context] = {}
        self._last: Context | None = None

    @property
    def session(self) -> ClientSession:
        """The client's side of the connection, once it is open."""
        if self._session is None:
            raise MCPError(code=CONNECTION_CLOSED, message="the MCP server is not connected")
        return self._session

    async def run(self, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        """
        Open the connection, say that it is, and keep it until it is closed.

        Raises:
            MCPError: it cannot be opened.
        """
        is_open = False
        try:
            async with self._connect() as (read, write), self._made(read, write) as session:
                await self._greet(session)
                self._session = session
                is_open = True
                task_status.started()
                await self._closing.wait()
        except Exception as error:
            if not is_open:
                raise MCPError(
                    code=INTERNAL_ERROR,
                    message=f"the MCP server cannot be reached: {first(error)}",
                ) from error
            log.warning("the connection to the MCP server ended: %s", first(error))
        finally:
            self.is_over = True

    async def close(self) -> None:
        """Let `run` end."""
        self._closing.set()

    async def request(self, context: Context, method: str, params: Mapping[str, Any]) -> Result:
        """
        Pass a request of the client's on, and return the server's result as it is on the wire.

        Raises:
            MCPError: the server's error, itself; or there is no server any more; or what it answered is no result.
        """
        key = id(context)
        self._in_flight[key] = self._last = context
        try:
            # It does nothing where the client does not want to hear of progress.
            return await self.send(method, params, context.session.report_progress)
        finally:
            del self._in_flight[key]

    async def send(
        self, method: str, params: Mapping[str, Any], progress: ProgressFnT | None = None
    ) -> Result:
        """Send a request of nobody's in particular; else as `request`."""
        sent = {key: value for key, value in params.items() if key != "_meta"}
        meta = {k: v for k, v in (params.get("_meta") or {}).items() if k not in _ENVELOPE}
        if meta:
            sent["_meta"] = meta
        try:
            if (
                method == "tools/list"
            ):  # so that the session learns the headers that each tool wants
                page = types.PaginatedRequestParams.model_validate(sent, by_name=False)
                return as_wire(await self.session.list_tools(params=page))
            send: Any = self.session.send_request
            result: Result = await send(
                _Raw(method=method, params=sent or None),
                _RAW,
                request_read_timeout_seconds=self._timeout,
                progress_callback=progress,
            )
            return result  # noqa: TRY300 - it is made here
        except ValidationError as error:
            log.warning("the MCP server answered %s with what is no result", method)
            raise MCPError(
                code=INTERNAL_ERROR,
                message=f"the MCP server answered {method} with what is no result",
            ) from error
        except MCPError as error:
            if error.error.code == CONNECTION_CLOSED:
                self.is_over = True
            raise

    async def tools(self) -> list[Definition]:
        """Return the definitions of all the server's tools."""
        found: list[Definition] = []
        cursor: str | None = None
        for _ in range(_PAGES):
            page = await self.send("tools/list", {} if cursor is None else {"cursor": cursor})
            found.extend(page["tools"])
            cursor = page.get("nextCursor")
            if cursor is None:
                return found
        raise MCPError(
            code=INTERNAL_ERROR,
            message=f"the MCP server's list of tools has more than {_PAGES} pages",
        )

    async def notify(self, notification: types.ClientNotification) -> None:
        """Pass a notification of the client's on."""
        await self.session.send_notification(notification)

    def _made(self, read: Any, write: Any) -> ClientSession:
        can = self._capabilities
        return ClientSession(
            read,
            write,
            client_info=self._client,
            sampling_callback=self._sample if can.sampling is not None else None,
            sampling_capabilities=can.sampling,
            elicitation_callback=self._elicit if can.elicitation is not None else None,
            list_roots_callback=self._roots if can.roots is not None else None,
            message_handler=self._heard,
        )

    async def _greet(self, session: ClientSession) -> None:
        """Agree on a version, in the era of the client if the server speaks it."""
        if not self._is_modern:
            try:
                await session.initialize()
            except MCPError as error:
                if error.error.code != UNSUPPORTED_PROTOCOL_VERSION:
                    raise
                await session.discover()
            return
        try:
            await session.discover()
        except (MCPError, RuntimeError, ValidationError):
            await session.initialize()

    async def _sample(
        self,
        context: ClientRequestContext,  # noqa: ARG002 - the callback's form
        params: types.CreateMessageRequestParams,
    ) -> types.CreateMessageResult | types.CreateMessageResultWithTools | types.ErrorData:
        kind: type[BaseModel] = types.CreateMessageResult
        if params.tools is not None or params.tool_choice is not None:
            kind = types.CreateMessageResultWithTools
        found: Any = await self._asked(types.CreateMessageRequest(params=params), kind)
        return found  # type: ignore[no-any-return]

    async def _elicit(
        self,
        context: ClientRequestContext,  # noqa: ARG002 - the callback's form
        params: types.ElicitRequestParams,
    ) -> types.ElicitResult | types.ErrorData:
        found: Any = await self._asked(types.ElicitRequest(params=params), types.ElicitResult)
        return found  # type: ignore[no-any-return]

    async def _roots(
        self,
        context: ClientRequestContext,  # noqa: ARG002 - the callback's form
    ) -> types.ListRootsResult | types.ErrorData:
        found: Any = await self._asked(types.ListRootsRequest(), types.ListRootsResult)
        return found  # type: ignore[no-any-return]

    async def _asked(
        self, request: types.ServerRequest, kind: type[BaseModel]
    ) -> BaseModel | types.ErrorData:
        """Judge what the server asks of the client, and pass it on; an error is the server's to read."""
        data = as_wire(request)

        async def forward(params: dict[str, Any]) -> Result:
            changed: Any = type(request).model_validate({**data, "params": params}, by_name=False)
            return as_wire(await self._ask_client(changed, kind))

        try:
            answer = await self._gate.request(request.method, data.get("params") or {}, forward)
            return kind.model_validate(answer, by_name=False)
        except MCPError as error:
            return error.error

    async def _ask_client(self, request: types.ServerRequest, kind: type[BaseModel]) -> BaseModel:
        for context in self._in_flight.values():
            if context.session.can_send_request:
                # In the stream of a call that waits: a client need not have another one open.
                related = ServerMessageMetadata(related_request_id=context.request_id)
                return await context.session.send_request(request, kind, metadata=related)
        if self._last is None:
            raise MCPError(code=INTERNAL_ERROR, message="there is no client to ask")
        return await self._last.session.send_request(request, kind)

    async def _heard(self, message: IncomingMessage) -> None:
        """Pass a notification of the server's on; progress has a way of its own."""
        if isinstance(message, Exception):
            log.warning("the MCP server sent what is no message: %s", type(message).__name__)
            return
        if isinstance(message, types.ToolListChangedNotification):
            self._gate.catalogue.outdate()
        if self._last is None or isinstance(message, types.ProgressNotification):
            return
        if not isinstance(message, types.LoggingMessageNotification):
            await self._last.session.send_notification(message)
            return
        for context in self._in_flight.values():
            if _wants_log(context):
                await context.session.send_notification(message, context.request_id)
                return
        if not _is_modern(self._last):
            await self._last.session.send_notification(message)


def _is_modern(context: Context) -> bool:
    return context.protocol_version in MODERN_PROTOCOL_VERSIONS


def _wants_log(context: Context) -> bool:
    """Whether the client wants what the server logs: since 2026-07-28 it says so with each request."""
    return not _is_modern(context) or LOG_LEVEL_META_KEY in (
        (context.params or {}).get("_meta") or {}
    )


def as_wire(model: BaseModel) -> dict[str, Any]:
    """Return *model* as it is on the wire."""
    return model.model_dump(by_alias=True, mode="json", exclude_none=True)


def first(error: BaseException) -> BaseException:
    """Return the first of those that a task group has bundled."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
