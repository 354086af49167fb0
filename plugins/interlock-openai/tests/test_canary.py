"""The canary: it sings where refusals are refusals, and start fails where they are not."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

import pytest
from openai import AsyncOpenAI, OpenAI

from interlock.errors import PluginError
from interlock_openai import canary
from interlock_openai.client import GovernedAsyncOpenAI, GovernedOpenAI


def test_it_sings() -> None:
    """Broken if a governed client does not refuse what it must, or does not book what it uses."""
    canary()


async def test_it_sings_in_a_running_loop() -> None:
    """Broken if a host that is async already cannot have the canary sing."""
    canary()


def test_it_is_offered() -> None:
    """Broken if the command that runs every canary does not find this one."""
    (point,) = [one for one in entry_points(group="interlock.canaries") if one.name == "openai"]
    assert canary is point.load()


@pytest.mark.parametrize(
    ("kind", "way"), [(GovernedOpenAI, "sync"), (GovernedAsyncOpenAI, "async")], ids=str
)
@pytest.mark.parametrize("method", ["request", "_process_response"])
def test_without_the_funnel(
    monkeypatch: pytest.MonkeyPatch, kind: Any, way: str, method: str
) -> None:
    """Broken if a release that sends or reads in another way is not noticed."""
    monkeypatch.delattr(kind, method)
    with pytest.raises(PluginError, match=rf"a governed client \({way}\) does not refuse"):
        canary()


@pytest.mark.parametrize("kind", [OpenAI, AsyncOpenAI], ids=str)
def test_where_nothing_works(monkeypatch: pytest.MonkeyPatch, kind: Any) -> None:
    """Broken if what keeps every call from being made counts as a refusal."""

    def post(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("gone")

    monkeypatch.setattr(kind, "post", post)
    with pytest.raises(PluginError, match="no call can be made"):
        canary()
