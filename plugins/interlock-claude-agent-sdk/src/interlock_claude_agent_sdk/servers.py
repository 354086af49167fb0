"""Tools that run in this process: an SDK server runs one only within a call that was judged, with what was judged."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import claude_agent_sdk
from claude_agent_sdk import SdkMcpTool
from claude_agent_sdk.types import McpSdkServerConfig
from mcp import MCPError
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext

from interlock_claude_agent_sdk.ongoing import Ongoing, current

CALL_ID = "claudecode/toolUseId"
"""Under this key Claude Code says in a request's `_meta` which of its tool uses makes it."""

_REFUSED = -32050

Find = Callable[[str], Ongoing | None]
"""Returns the call that is under way for a tool use, by its id."""


def create_sdk_mcp_server(
    name: str, version: str = "1.0.0", tools: list[SdkMcpTool[Any]] | None = None
) -> McpSdkServerConfig:
    """
    Do as `claude_agent_sdk.create_sdk_mcp_server`, so that the books know what its tools raise.

    With a server of the SDK's own, they know that a tool has failed, and the class is `ToolFailed`.
    """
    noting = [dataclasses.replace(tool, handler=_noting(tool.handler)) for tool in tools or ()]
    return claude_agent_sdk.create_sdk_mcp_server(name, version, noting)


def _noting(handler: Callable[[Any], Any]) -> Callable[[Any], Any]:
    async def noted(arguments: Any) -> Any:
        try:
            return await handler(arguments)
        except Exception as error:
            call = current()
            if call is not None:
                call.note(error)
            raise

    return noted


def governed_servers(servers: Any, find: Find) -> Any:
    """Return *servers*, the option, with each SDK server's tools run within their calls; the servers are copies."""
    if not isinstance(servers, Mapping):
        return servers
    return {name: _governed(server, find) for name, server in servers.items()}


def _governed(config: Any, find: Find) -> Any:
    if not isinstance(config, Mapping) or config.get("type") != "sdk":
        return config
    server: Any = copy.copy(config["instance"])

    async def within(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        if ctx.method != "tools/call":
            return await call_next(ctx)
        params: Mapping[str, Any] = ctx.params or {}
        meta: Mapping[str, Any] = params.get("_meta") or {}
        ongoing = find(str(meta.get(CALL_ID)))
        if (
            ongoing is None
            or ongoing.is_over
            or (params.get("arguments") or {}) != ongoing.arguments
        ):
            raise MCPError(
                code=_REFUSED,
                message=f"{params.get('name')} was not run: this call was never judged.",
            )
        return await ongoing.carry(lambda: call_next(ctx))

    server.middleware = [*server.middleware, within]
    return {**config, "instance": server}
