"""The tools of an answer: run through the flow, and answered in the form of the endpoint."""

from __future__ import annotations

from typing import Any

import pytest
from anthropic import beta_async_tool, beta_tool

from interlock import Misuse, governed
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

    @pytest.mark.promise(1)
    @pytest.mark.parametrize("streamed", [False, True])
    async def test_the_runner_of_the_sdk_is_refused(
        self, desk: Any, done: Any, streamed: bool
    ) -> None:
        """Broken if functions that the SDK runs by itself run unjudged, though nobody has accepted that."""
        ran: list[int] = []
        desk.provider.script = [desk.says(calls=CALLS[:1])]
        with desk.open(*RULES), pytest.raises(Misuse, match="run_tools"):
            await done(_run(desk.client(), _tool(desk, ran.append), stream=streamed).until_done())
        assert (ran, desk.provider.received) == ([], [])

    @pytest.mark.parametrize("verdict", ["allow", "deny"])
    async def test_governed_functions_of_the_runner(
        self, desk: Any, done: Any, verdict: str
    ) -> None:
        """Broken if a governed function is not judged where the SDK runs it, or the model is not told why not."""
        ran: list[int] = []
        desk.provider.script = [desk.says(calls=CALLS[:1])]
        with desk.open({"tools": ["pay"], "verdict": verdict, "reason": "the till is closed"}):
            tool = _tool(desk, ran.append, is_governed=True)
            client = desk.client(accepted=["tool_runner"])
            await done(_run(client, tool).until_done())
        told = str(desk.provider.bodies[1]["messages"][-1]["content"])
        assert [one.tool for one in desk.decided()].count("pay") == 1
        if verdict == "allow":
            assert (ran, "paid" in told) == ([5], True)
        else:
            assert (ran, "the till is closed" in told) == ([], True)


def _run(client: Any, tool: Any, **more: Any) -> Any:
    return client.beta.messages.tool_runner(
        model="m-1",
        max_tokens=9,
        tools=[tool],
        messages=[{"role": "user", "content": "go"}],
        max_iterations=3,
        **more,
    )


def _tool(desk: Any, note: Any, *, is_governed: bool = False) -> Any:
    """Return a tool for the SDK's runner, of the kind that its client wants."""

    def pay(amount: int) -> str:
        """Pay."""
        note(amount)
        return f"{amount} paid"

    async def apay(amount: int) -> str:
        """Pay."""
        return pay(amount)

    apay.__name__ = "pay"
    function: Any = apay if desk.is_async else pay
    made = beta_async_tool if desk.is_async else beta_tool
    return made(governed(function) if is_governed else function)
