"""The canary: it sings where refusals are refusals, and start fails where they are not."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

import pytest

from interlock.clients.client import GovernedAsyncClient, GovernedClient
from interlock.errors import PluginError
from tests.clients.desk import Sdk


class CanarySuite:
    """What holds of every canary."""

    def test_it_sings(self, sdk: Sdk) -> None:
        """Broken if a governed client does not refuse what it must, or does not book what it uses."""
        sdk.canary()

    async def test_it_sings_in_a_running_loop(self, sdk: Sdk) -> None:
        """Broken if a host that is async already cannot have the canary sing."""
        sdk.canary()

    def test_it_is_offered(self, sdk: Sdk) -> None:
        """Broken if the command that runs every canary does not find this one."""
        offered = entry_points(group="interlock.canaries", name=sdk.dialect.name)
        assert [point.load() for point in offered] == [sdk.canary]

    @pytest.mark.parametrize(
        ("kind", "way"), [(GovernedClient, "sync"), (GovernedAsyncClient, "async")], ids=str
    )
    @pytest.mark.parametrize("method", ["request", "_process_response"])
    def test_without_the_funnel(
        self, sdk: Sdk, monkeypatch: pytest.MonkeyPatch, kind: Any, way: str, method: str
    ) -> None:
        """Broken if a release that sends or reads in another way is not noticed."""
        monkeypatch.delattr(kind, method)
        with pytest.raises(PluginError, match=rf"a governed client \({way}\) does not refuse"):
            sdk.canary()

    @pytest.mark.parametrize("way", ["sync", "async"])
    def test_where_nothing_works(self, sdk: Sdk, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
        """Broken if what keeps every call from being made counts as a refusal."""

        def post(*args: Any, **kwargs: Any) -> Any:
            raise RuntimeError("gone")

        monkeypatch.setattr(sdk.clients[way], "post", post)
        with pytest.raises(PluginError, match="no call can be made"):
            sdk.canary()
