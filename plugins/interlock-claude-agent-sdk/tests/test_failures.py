"""What fails: a tool does not run then, or has its outcome in the books. And what was asked in the background."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from claude_agent_sdk import (
    AgentDefinition,
    PermissionResultAllow,
    PermissionUpdate,
    ProcessError,
    ResultMessage,
)
from pydantic import BaseModel

from interlock import Call, Opinion, Usage
from interlock.errors import StoreUnavailable
from interlock.events import CallFinished
from interlock_claude_agent_sdk import Script, govern, query, say, use

DONE = [say("done")]


@pytest.mark.promise(1)
async def test_a_store_that_is_gone(desk: Any) -> None:
    """Broken if a tool runs, or a model is asked, although nothing can be recorded."""

    def close(_: dict[str, Any]) -> list[dict[str, Any]]:
        governor.close()
        return [desk.touch("A")]

    with (
        Script(close, DONE) as script,
        contextlib.suppress(StoreUnavailable),
        desk.open(default="allow") as (governor, session),
    ):
        told = await desk.run(script)
        with pytest.raises(StoreUnavailable):
            await desk.run(script, governed={"session": session})
    assert len(script.requests) == 2
    assert "the store is closed" in told[0]
    assert desk.left == []


class Config(BaseModel):
    """Nothing to configure."""


class Broken:
    """An evaluator that fails."""

    Config = Config

    def __init__(self, config: Config) -> None:
        """Begin."""

    async def evaluate(self, call: Call) -> Opinion | None:
        """Fail."""
        raise OSError("gone")


@pytest.mark.promise(1)
async def test_an_evaluator_that_fails(desk: Any) -> None:
    """Broken if a tool runs that could not be judged, or the model is not told that it did not run."""
    policy = {"evaluators": [{"use": "broken", "tools": ["Bash"]}]}
    with (
        desk.open(default="allow", policy=policy, evaluators={"broken": Broken}),
        Script([desk.touch("A")], DONE) as script,
    ):
        told = await desk.run(script)
    assert "Bash was not run, because it could not be judged" in told[0]
    assert desk.left == []


@pytest.mark.promise(1)
async def test_a_callback_that_fails(desk: Any) -> None:
    """Broken if a tool runs although the host's own callback failed, or answered nonsense."""

    async def own(name: str, given: dict[str, Any], _: Any) -> Any:
        if "touch A" in given["command"]:
            raise OSError("gone")
        return {"behavior": "allow"}

    uses = [desk.touch("A")], [desk.touch("B")], DONE
    with desk.open(default="allow"), Script(*uses) as script:
        await desk.run(script, can_use_tool=own)
    assert desk.left == []
    assert desk.booked() == []


async def test_permissions_that_the_host_changes(desk: Any) -> None:
    """Broken if what the host's callback changes of the rules has later uses run unjudged."""

    async def own(_: str, __: dict[str, Any], ___: Any) -> Any:
        mode = PermissionUpdate(type="setMode", mode="bypassPermissions", destination="session")
        return PermissionResultAllow(updated_permissions=[mode])

    rule = {
        "tools": ["Bash"],
        "when": {"argument": "command", "contains": "touch A"},
        "verdict": "allow",
    }
    with desk.open(rule), Script([desk.touch("A")], [desk.touch("B")], DONE) as script:
        await desk.run(script, can_use_tool=own)
    assert desk.left == ["A"]


@pytest.mark.promise(6)
async def test_an_end_of_claude_code(desk: Any) -> None:
    """Broken if what ran when Claude Code died is left without an outcome in the books."""
    kill = use("Bash", command="touch A; kill -9 $PPID; sleep 1", description="d")
    with (
        desk.open(default="allow") as (governor, _),
        Script([kill], DONE) as script,
    ):
        with pytest.raises(ProcessError):
            await desk.run(script)
        assert [report.in_doubt for report in governor.verify()] == [()]
    assert desk.left == ["A"]
    outcomes = [one[:2] for one in desk.booked(queries=True)]
    assert [(tool, "cancelled") in outcomes for tool in ("Bash", "chat")] == [True, True]


async def test_a_subagent_in_the_background(desk: Any) -> None:
    """Broken if what goes on after a result is not judged, settled, or charged."""
    helper = AgentDefinition(description="helps", prompt="You help.", tools=["Bash"])
    start = use(
        "Agent", subagent_type="helper", description="x", prompt="DO IT", run_in_background=True
    )
    inside = [use("Bash", command="sleep 0.5; touch A", description="d")]
    with (
        desk.open(default="allow") as (governor, _),
        Script([start], DONE, subagents={"DO IT": [inside, DONE]}) as script,
    ):
        await desk.run(script, tools=["Bash", "Agent"], agents={"helper": helper})
        assert [report.in_doubt for report in governor.verify()] == [()]
    assert desk.left == ["A"]
    assert ("Bash", "returned") in desk.booked()
    results = [one for one in desk.messages if isinstance(one, ResultMessage)]
    charged = [
        one.usage.input_tokens
        for one in desk.recorder.events
        if isinstance(one, CallFinished) and one.usage is not None
    ]
    assert sum(charged) == 1230 * len(script.requests)
    assert len(results) == len(charged)


async def test_several_prompts(desk: Any) -> None:
    """Broken if prompts that come one after the other are not each judged and charged."""

    async def prompts() -> Any:
        for text in ("one", "two"):
            yield {
                "type": "user",
                "message": {"role": "user", "content": text},
                "parent_tool_use_id": None,
            }

    with desk.open(default="allow"), Script(DONE) as script:
        options = govern(desk.options(script))
        results = [
            one
            async for one in query(prompt=prompts(), options=options)
            if isinstance(one, ResultMessage)
        ]
    assert len(results) == 2
    charged = [one.usage for one in desk.recorder.events if isinstance(one, CallFinished)]
    assert [isinstance(one, Usage) and one.tokens == 1280 for one in charged] == [True, True]
