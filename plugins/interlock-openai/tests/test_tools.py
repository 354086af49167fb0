"""The tools of an answer: run through the flow, and answered in the form of the endpoint."""

from __future__ import annotations

from typing import Any

import pytest

from interlock import Misuse
from interlock_openai import arun_tools, run_tools, tool_uses
from tests.clients.tools import CALLS, RULES, TOOLS, ToolSuite

ASK: dict[str, Any] = {"model": "m-1", "messages": [{"role": "user", "content": "hi"}]}


class TestTools(ToolSuite):
    """What the model is told, in the form of each endpoint."""

    plain = staticmethod(run_tools)
    awaited = staticmethod(arun_tools)

    @pytest.mark.parametrize("streamed", [False, True])
    @pytest.mark.parametrize("parsed", [False, True])
    async def test_chat(
        self, desk: Any, done: Any, within: Any, run: Any, streamed: bool, parsed: bool
    ) -> None:
        """Broken if the model is not told of each call what came of it, in a form that the provider takes."""
        desk.provider.script = [desk.says(text="", calls=CALLS)]
        with desk.open(*RULES):
            chat = desk.client().chat.completions
            if streamed:
                async with within(chat.stream(**ASK)) as stream:
                    answer = await done(stream.get_final_completion())
            else:
                answer = await done((chat.parse if parsed else chat.create)(**ASK))
            said, paid, dropped = await run(answer, tools=TOOLS)
            assert (said["role"], [one["id"] for one in said["tool_calls"]]) == (
                "assistant",
                ["a", "b"],
            )
            assert paid == {"role": "tool", "tool_call_id": "a", "content": "5 paid"}
            assert dropped["tool_call_id"] == "b"
            assert dropped["content"] == "drop is denied: never. Do not retry it."
            messages = [*ASK["messages"], said, paid, dropped]
            again = await done(chat.create(**{**ASK, "messages": messages}))
            assert await run(again, tools=TOOLS) == []
        assert desk.provider.bodies[-1]["messages"] == messages
        assert set(said) <= {"role", "content", "tool_calls"}
        assert [sorted(one) for one in said["tool_calls"]] == [["function", "id", "type"]] * 2

    async def test_responses(self, desk: Any, done: Any, run: Any) -> None:
        """Broken if the same does not hold of a response."""
        desk.provider.script = [desk.says(text="so", calls=CALLS)]
        with desk.open(*RULES):
            answer = await done(desk.client().responses.create(model="m-1", input="hi"))
            items = await run(answer, tools=TOOLS)
        assert [one["type"] for one in items] == [
            "message",
            "function_call",
            "function_call",
            "function_call_output",
            "function_call_output",
        ]
        assert items[3] == {"type": "function_call_output", "call_id": "a", "output": "5 paid"}
        assert "never" in items[4]["output"]

    async def test_what_is_no_answer(self, desk: Any, run: Any) -> None:
        """Broken if what has no calls that can be known is taken for an answer without calls."""
        with desk.open():
            with pytest.raises(Misuse, match="no chat completion and no response"):
                await run({"id": "x"}, tools=TOOLS)
            with pytest.raises(Misuse, match="several choices"):
                await run({"choices": [{}, {}]}, tools=TOOLS)
        assert tool_uses({"choices": [{"message": {"content": "x"}}]}) == []
