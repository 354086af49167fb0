"""What the SDK has: each of its methods is called on a governed client, and a release that adds one fails here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.clients.desk import Sdk
from tests.clients.surfaces import SurfaceSuite

VALUES: dict[str, Any] = {
    "messages": [],
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
    # These also go on with a response, and say only when they are called what they want.
    "Responses.stream": {"model": "m-1", "input": "x"},
    "AsyncResponses.stream": {"model": "m-1", "input": "x"},
}

UNKNOWN: list[Any] = [
    ("/chat/completions/../files", ()),
    ("/chat//completions", ()),
    ("//other/v1/chat/completions", ()),
    ("https://elsewhere/v1/chat/completions", ("chat",)),
    ("/unheard/of", ("files",)),
    ("/files/../chat/completions", ("files",)),
    ("/chat/completions/c-1", ("chatter",)),
    ("", ("files",)),
]

BESIDE: list[Any] = [
    ({"tools": [{"type": "web_search"}]}, "web_search"),
    ({"tools": [{"type": "mcp", "server_url": "x"}]}, "mcp"),
    ({"tools": [{"type": "shell", "environment": {"type": "container_auto"}}]}, "shell"),
    ({"tools": ["odd"]}, "None"),
    ({"background": True}, "background"),
    ({"web_search_options": {}}, "web_search"),
]


class TestSurfaces(SurfaceSuite):
    """What holds of every SDK, and what is this one's."""

    known = json.loads((Path(__file__).parent / "surfaces.json").read_text("utf-8"))
    values = VALUES
    base_url = "https://api/v1/"

    def ask(self, client: Any, **more: Any) -> Any:
        """Make a call that can have tools."""
        return client.responses.create(model="m-1", input="hi", **more)

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
        assert self.judged(sdk, "POST", "/files", "files") is None
        assert self.judged(sdk, "POST", "/fine_tuning/jobs/j-1/cancel", "fine_tuning.jobs") is None
        assert self.judged(sdk, "GET", "/responses/r-1", "responses") is None
        assert self.judged(sdk, "POST", "/responses", "responses") == "chat"
        assert self.judged(sdk, "POST", "https://api/v1/embeddings?x=1") == "embeddings"
        assert self.judged(sdk, "POST", "chat/completions/") == "chat"
        assert self.judged(sdk, "GET", "/models") is None

    async def test_tools_of_the_callers_pass(self, desk: Any, done: Any) -> None:
        """Broken if a tool that the caller runs is taken for one of the provider's."""
        local = {"type": "shell", "environment": {"type": "local"}}
        tools = [{"type": "function", "name": "pay"}, {"type": "custom", "name": "x"}, local]
        with desk.open():
            await done(self.ask(desk.client(), tools=tools))
        assert len(desk.provider.received) == 1
