"""What the SDK has: each of its methods is called on a governed client, and a release that adds one fails here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.clients.desk import Sdk
from tests.clients.surfaces import OWN, SurfaceSuite

VALUES: dict[str, Any] = {
    "max_tokens": 9,
    "messages": [],
    "model": "m-1",
    "tools": [],
    "file": b"x",
    "files": [b"x"],
    "image": b"x",
    "metadata": {},
    "requests": [],
    "bytes": 1,
    "part_ids": [],
    "file_ids": [],
    "chunks": [],
    "payload": "{}",
    "headers": {},
    "max_num_results": 1,
}

UNKNOWN: list[Any] = [
    ("/v1/messages/../files", ()),
    ("/v1//messages", ()),
    ("//other/v1/messages", ()),
    ("https://elsewhere/v1/messages", ("messages",)),
    ("/v1/unheard/of", ("files",)),
    ("/v1/files/../messages", ("files",)),
    ("/v1/messages/batches", ("message",)),
    ("/v2/messages", ()),
    ("", ("files",)),
]

BESIDE: list[Any] = [
    ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "web_search"),
    ({"tools": [{"type": "code_execution_20250825"}]}, "code_execution"),
    ({"tools": ["odd"]}, "None"),
    ({"mcp_servers": [{"type": "url", "url": "x", "name": "x"}]}, "mcp"),
    ({"container": "c-1"}, "container"),
    ({"fallbacks": [{"model": "m-2"}]}, "fallbacks"),
]


class TestSurfaces(SurfaceSuite):
    """What holds of every SDK, and what is this one's."""

    own = OWN | {"with_middleware"}  # a copy, governed as the client is
    known = json.loads((Path(__file__).parent / "surfaces.json").read_text("utf-8"))
    values = VALUES
    base_url = "https://api"

    def ask(self, client: Any, **more: Any) -> Any:
        """Make a call that can have tools."""
        return client.messages.create(model="m-1", max_tokens=9, messages=[], **more)

    @pytest.fixture(params=UNKNOWN, ids=str)
    def unknown(self, request: pytest.FixtureRequest) -> Any:
        """Give the test a URL, and what is accepted."""
        return request.param

    @pytest.fixture(params=BESIDE, ids=str)
    def beside(self, request: pytest.FixtureRequest) -> Any:
        """Give the test what a request has run at the provider, and the name of that."""
        return request.param

    def test_what_is_accepted_passes(self, sdk: Sdk) -> None:
        """Broken if a name that a host accepts does not let its endpoint through, or lets a model call through."""
        assert self.judged(sdk, "POST", "/v1/files?beta=true", "files") is None
        assert (
            self.judged(sdk, "POST", "/v1/messages/batches/b-1/cancel", "messages.batches") is None
        )
        assert self.judged(sdk, "POST", "/v1/messages", "messages") == "chat"
        assert self.judged(sdk, "POST", "https://api/v1/messages?beta=true") == "chat"
        assert self.judged(sdk, "POST", "v1/messages/count_tokens/") == "count_tokens"
        assert self.judged(sdk, "GET", "/v1/models") is None

    async def test_tools_of_the_callers_pass(self, desk: Any, done: Any) -> None:
        """Broken if a tool that the caller runs is taken for one of the provider's."""
        tools = [
            {"name": "pay", "input_schema": {"type": "object"}},
            {"type": "custom", "name": "x", "input_schema": {"type": "object"}},
            {"type": "bash_20250124", "name": "bash"},
            {"type": "text_editor_20250728", "name": "editor"},
        ]
        with desk.open():
            await done(self.ask(desk.client(), tools=tools))
        assert len(desk.provider.received) == 1
