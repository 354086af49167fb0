"""The tools of an answer: run through the flow, and answered in the form of the endpoint."""

from __future__ import annotations

from typing import Any

import pytest

from interlock import Misuse
from interlock_anthropic import arun_tools, run_tools, tool_uses
from tests.clients.tools import CALLS, RULES, TOOLS, ToolSuite

ASK: dict[str, Any] = {
    "model": "m-1",
    "max_tokens": 9,
    "messages": [{"role": "user", "content": "hi"}],
}


class TestTools(ToolSuite):
    """What the model is told, in the form of each endpoint."""

    plain = staticmethod(run_tools)
    awaited = staticmethod(arun_tools)

    @pytest.mark.parametrize("way", ["create", "parse", "stream", "beta"])
    async def test_messages(self, desk: Any, done: Any, within: Any, run: Any, way: str) -> None:
        """Broken if the model is not told of each call what came of it, in a form that the provider takes."""
        desk.provider.script = [desk.says(text="so", calls=CALLS)]
        with desk.open(*RULES):
            client = desk.client()
            messages = (client.beta if way == "beta" else client).messages
            if way == "stream":
                async with within(messages.stream(**ASK)) as stream:
                    answer = await done(stream.get_final_message())
            else:
                answer = await done((messages.parse if way == "parse" else messages.create)(**ASK))
            said, results = await run(answer, tools=TOOLS)
            sent = [*ASK["messages"], said, results]
            again = await done(messages.create(**{**ASK, "messages": sent}))
            assert await run(again, tools=TOOLS) == []
        assert said["role"] == "assistant"
        assert [one["type"] for one in said["content"]] == ["text", "tool_use", "tool_use"]
        assert results == {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "a", "content": "5 paid", "is_error": False},
                {
                    "type": "tool_result",
                    "tool_use_id": "b",
                    "content": "drop is denied: never. Do not retry it.",
                    "is_error": True,
                },
            ],
        }
        assert desk.provider.bodies[-1]["messages"] == sent
        assert all("parsed_output" not in one for one in said["content"])

    async def test_what_is_no_answer(self, desk: Any, run: Any) -> None:
        """Broken if what has no calls that can be known is taken for an answer without calls."""
        with desk.open(), pytest.raises(Misuse, match="no message of a model"):
            await run({"id": "x"}, tools=TOOLS)
        assert tool_uses({"content": [{"type": "text", "text": "x"}]}) == []
