"""The canary: it sings where refusals are refusals, and start fails where they are not."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

import pytest
from mcp import ClientSession
from mcp.server.runner import ServerRunner

from interlock.errors import PluginError
from interlock_mcp import canary


def test_it_sings() -> None:
    """Broken if a governed proxy, server or client does not refuse what it must."""
    canary()


async def test_it_sings_in_a_running_loop() -> None:
    """Broken if a host that is async already cannot have the canary sing."""
    canary()


def test_it_is_offered() -> None:
    """Broken if the command that runs every canary does not find this one."""
    (point,) = [one for one in entry_points(group="interlock.canaries") if one.name == "mcp"]
    assert canary is point.load()


def test_without_middleware(monkeypatch: pytest.MonkeyPatch) -> None:
    """Broken if a release that does not ask middleware any more is not noticed."""
    monkeypatch.setattr(ServerRunner, "_compose_server_middleware", lambda self, inner: inner)
    with pytest.raises(PluginError, match="the canary is dead"):
        canary()


def test_without_the_funnel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Broken if a release whose sessions send calls in another way is not noticed."""
    plain = ClientSession.send_request

    async def call_tool(
        self: Any, name: str, arguments: Any = None, *args: Any, **kwargs: Any
    ) -> Any:
        import mcp_types as types  # noqa: PLC0415

        params = types.CallToolRequestParams(name=name, arguments=arguments)
        return await plain(self, types.CallToolRequest(params=params), types.CallToolResult)

    monkeypatch.setattr(ClientSession, "call_tool", call_tool)
    with pytest.raises(PluginError, match=r"a client \(legacy\) that is governed does not refuse"):
        canary()


def test_where_nothing_works(monkeypatch: pytest.MonkeyPatch) -> None:
    """Broken if what keeps every call from being made counts as a refusal."""

    async def call_tool(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("gone")

    monkeypatch.setattr(ClientSession, "call_tool", call_tool)
    with pytest.raises(PluginError, match="no call can be made"):
        canary()
