"""How a proxy in a test reaches a server in the same process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
from mcp.server.mcpserver import MCPServer
from mcp.shared.memory import create_client_server_memory_streams


@asynccontextmanager
async def in_process(server: MCPServer) -> AsyncIterator[tuple[Any, Any]]:
    """Connect to a server in this process, by streams that carry its messages."""
    inner = server._lowlevel_server
    async with (
        create_client_server_memory_streams() as (client, (read, write)),
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(inner.run, read, write, inner.create_initialization_options())
        yield client
        tasks.cancel_scope.cancel()
