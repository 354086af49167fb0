"""The canary: it sings where refusals are refusals, and fails where they are not."""

from __future__ import annotations

from typing import Any

import pytest
from agents import Agent

from interlock.errors import PluginError
from interlock_openai_agents import canary
from interlock_openai_agents.agents import GovernedAgent
from interlock_openai_agents.handoffs import GovernedHandoff
from interlock_openai_agents.models import GovernedModel


def test_it_sings() -> None:
    """Broken if a governed tool, handoff or model is not refused where it must be."""
    canary()


async def test_it_sings_in_a_running_loop() -> None:
    """Broken if a host that is async already cannot have the canary sing."""
    canary()


def _around_tools(monkeypatch: pytest.MonkeyPatch) -> None:
    async def plain(self: Any, _: Any) -> Any:
        return [getattr(tool.on_invoke_tool, "_own", tool) for tool in self.tools]

    monkeypatch.setattr(GovernedAgent, "get_all_tools", plain)


def _around_handoffs(monkeypatch: pytest.MonkeyPatch) -> None:
    async def plain(self: Any, context: Any, raw: str) -> Agent[Any]:
        return await self.original.on_invoke_handoff(context, raw)

    monkeypatch.setattr(GovernedHandoff, "__call__", plain)


def _around_models(monkeypatch: pytest.MonkeyPatch) -> None:
    async def plain(self: Any, *args: Any, **kwargs: Any) -> Any:
        return await self._model.get_response(*args, **kwargs)

    monkeypatch.setattr(GovernedModel, "get_response", plain)


def _around_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    def plain(self: Any, *args: Any, **kwargs: Any) -> Any:
        return self._model.stream_response(*args, **kwargs)

    monkeypatch.setattr(GovernedModel, "stream_response", plain)


@pytest.mark.promise(1)
@pytest.mark.parametrize(
    ("around", "says"),
    [
        (_around_tools, r"\(whole\) that is governed does not refuse.*never"),
        (_around_handoffs, r"\(whole\) that is governed does not refuse.*transfer_to_never"),
        (_around_models, r"is asked \(whole\)"),
        (_around_streams, r"is asked \(streamed\)"),
    ],
    ids=["tools", "handoffs", "models", "streams"],
)
def test_release_with_a_way_around_is_noticed(
    monkeypatch: pytest.MonkeyPatch, around: Any, says: str
) -> None:
    """Broken if an SDK that goes another way than ours is taken to be governed."""
    around(monkeypatch)
    with pytest.raises(PluginError, match=says):
        canary()


def test_where_nothing_works(monkeypatch: pytest.MonkeyPatch) -> None:
    """Broken if what keeps every call from being made counts as a refusal."""

    async def gone(self: Any, _: Any) -> Any:
        raise RuntimeError("gone")

    monkeypatch.setattr(GovernedAgent, "get_all_tools", gone)
    with pytest.raises(PluginError, match="no call can be made: RuntimeError"):
        canary()
