"""govern() and govern_server(): the gate in a client's session, and in a server of one's own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, TypeVar, cast

import mcp_types as types
from mcp import Client, ClientSession, MCPError
from mcp.client.session import ClientRequestContext
from mcp.server.context import CallNext, HandlerResult
from mcp.server.lowlevel import Server
from mcp.server.mcpserver import MCPServer
from pydantic import BaseModel, TypeAdapter

from interlock import Misuse, Session
from interlock_mcp.catalogue import Catalogue, Definition
from interlock_mcp.gate import Gate, Result
from interlock_mcp.link import Context, as_wire
from interlock_mcp.refusals import REFUSED
from interlock_mcp.surfaces import complete

_C = TypeVar("_C", Client, ClientSession)
_S = TypeVar("_S", MCPServer, Server[Any])

_MARK = "_interlock_gate"

_TOOLS = 10_000
"""So many tools are listed at most: a list that never ends must not keep calls waiting."""


def govern(
    client: _C,
    *,
    name: str = "mcp",
    session: Session | None = None,
    tools: Iterable[Any] = (),
    accept: Iterable[str] = (),
    catalogue: Catalogue | None = None,
) -> _C:
    """
    Govern what *client* asks its server for, and what the server asks of it; return *client*.

    Args:
        client: A connected client, or its session.
        name: What policies call the server.
        session: In which calls are made; None: in the one that is current then.
        tools: Governed functions, or declarations by `interlock.Tool`, of the tools that have their names.
        accept: Methods that Interlock does not know, and that may pass ungoverned.
        catalogue: What is pinned of the server's tools.

    Raises:
        Misuse: it is governed already, or the server cannot be called so.
    """
    found: Any = client
    made: ClientSession = found.session if hasattr(found, "session") else found
    gate = _gate(made, name, Gate(name, session, tools=tools, accept=accept, catalogue=catalogue))
    governed = _Governed(made, gate)
    replaced: Any = made
    replaced.send_request = governed.send_request
    replaced.dispatch_input_request = governed.dispatch_input_request
    return client


class _Governed:
    """What a governed session does in the place of its own: all that it sends, and all that it is asked."""

    def __init__(self, session: ClientSession, gate: Gate) -> None:
        """Put *gate* before what *session* does by itself."""
        self._gate = gate
        self._send: Any = session.send_request
        self._dispatch = session.dispatch_input_request

    async def send_request(self, request: Any, result_type: Any, *args: Any, **kwargs: Any) -> Any:
        """Do as `ClientSession.send_request`; a result that nobody changed is the very object."""
        data = as_wire(request)
        received: list[tuple[Result, Any]] = []

        async def forward(params: dict[str, Any]) -> Result:
            result = await self._send(_with(request, data, params), result_type, *args, **kwargs)
            received.append((as_wire(result), result))
            return dict(received[0][0])

        left = await self._gate.request(
            request.method, data.get("params") or {}, forward, lister=self._listed
        )
        if received and left == received[0][0]:
            return received[0][1]
        if isinstance(result_type, TypeAdapter):
            return result_type.validate_python(left, by_name=False)
        return result_type.model_validate(left, by_name=False)

    async def dispatch_input_request(
        self, ctx: ClientRequestContext, request: types.InputRequest
    ) -> types.InputResponse | types.ErrorData:
        """Do as `ClientSession.dispatch_input_request`; a refusal is an error for the server to read."""
        data = as_wire(request)
        kinds: list[type[BaseModel]] = []

        async def forward(params: dict[str, Any]) -> Result:
            answer = await self._dispatch(ctx, _with(request, data, params))
            if isinstance(answer, types.ErrorData):
                raise MCPError.from_error_data(answer)
            kinds.append(type(answer))
            return as_wire(answer)

        try:
            left = await self._gate.request(request.method, data.get("params") or {}, forward)
        except MCPError as error:
            return error.error
        if not kinds:  # a dry run
            return types.ErrorData(code=REFUSED, message=f"{request.method} was not done")
        answered: Any = kinds[0].model_validate(left, by_name=False)
        return cast("types.InputResponse", answered)

    async def _listed(self) -> list[Definition]:
        found: list[Definition] = []
        cursor: str | None = None
        while True:
            params = types.PaginatedRequestParams(cursor=cursor)
            page = await self._send(types.ListToolsRequest(params=params), types.ListToolsResult)
            found.extend(as_wire(tool) for tool in page.tools)
            cursor = page.next_cursor
            if cursor is None or len(found) > _TOOLS:
                return found


def govern_server(
    server: _S,
    *,
    name: str = "mcp",
    session: Session | None = None,
    tools: Iterable[Any] = (),
    accept: Iterable[str] = (),
) -> _S:
    """
    Govern what *server* is asked for by its clients; return *server*.

    It is the innermost of the server's middleware, so what it judges is what the server's handlers are given, as long
    as none is added afterwards.

    Args:
        server: A server of one's own.
        name: What policies call it.
        session: In which calls are made; None: in the one that is current then.
        tools: Governed functions, or declarations by `interlock.Tool`, of the tools that have their names.
        accept: Methods that Interlock does not know, and that may pass ungoverned.

    Raises:
        Misuse: it is governed already, or cannot be called so.
    """
    gate = _gate(server, name, Gate(name, session, tools=tools, accept=accept))

    async def judge(ctx: Context, call_next: CallNext) -> HandlerResult:
        if ctx.request_id is None:  # a notification
            return await call_next(ctx)

        async def forward(params: dict[str, Any]) -> Result:
            given = ctx if ctx.params is None and not params else replace(ctx, params=params)
            result = await call_next(given)
            return as_wire(result) if isinstance(result, BaseModel) else dict(result or {})

        result = await gate.request(ctx.method, ctx.params or {}, forward)
        return complete(ctx.method, result, ctx.protocol_version)

    server.middleware.append(judge)
    return server


def _gate(of: Any, name: str, gate: Gate) -> Gate:
    """Return *gate*, once for each object."""
    if _MARK in vars(of):
        raise Misuse(f"{name} is governed already; govern it once")
    vars(of)[_MARK] = gate
    return gate


def _with(request: Any, data: Result, params: dict[str, Any]) -> Any:
    """Return *request* with other *params*; itself where they are its own."""
    if params == (data.get("params") or {}):
        return request
    return type(request).model_validate({**data, "params": params}, by_name=False)
