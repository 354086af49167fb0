"""Queries: judged before a model is asked, and charged what Claude Code reports."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from claude_agent_sdk import AgentDefinition, ResultError, ResultMessage

from interlock import BudgetExceeded, Denied, Usage
from interlock.events import AppNoted, CallFinished
from interlock.store import usage
from interlock_claude_agent_sdk import GovernedClient, Script, govern, say, use

DONE = [say("done")]


def charged(desk: Any) -> list[tuple[int | None, int | None]]:
    """Return the tokens in and out that each query was charged, in order."""
    return [
        (event.usage.input_tokens, event.usage.output_tokens)
        for event in desk.recorder.events
        if isinstance(event, CallFinished) and event.usage is not None
    ]


async def test_a_query_is_charged_what_it_took(desk: Any) -> None:
    """Broken if what all turns of a query took is not in the ledger: tokens, money, for whom."""
    with (
        desk.open(default="allow") as (governor, session),
        Script([desk.touch("A")], DONE) as script,
    ):
        await desk.run(script)
        (row,) = governor.read(usage.summary, by=["model", "provider", "user", "session_id"])
    result = desk.messages[-1]
    assert isinstance(result, ResultMessage)
    assert ("claude-sonnet-4-5", "anthropic", "u-17", session.id) == row.of
    assert (2460, 100, Decimal(str(result.total_cost_usd))) == (
        row.input_tokens,
        row.output_tokens,
        row.cost_usd,
    )
    (noted,) = [event for event in desk.recorder.events if isinstance(event, AppNoted)]
    assert noted.name == "claude_code.result"


async def test_each_query_of_a_client_is_charged_its_own(desk: Any) -> None:
    """Broken if what Claude Code reports in total is charged again with each query."""
    with desk.open(default="allow"), Script(DONE) as script:
        async with GovernedClient(govern(desk.options(script))) as client:
            for _ in range(3):
                await client.query("go")
                async for _message in client.receive_response():
                    pass
            await client.disconnect()
            await client.connect()  # another conversation
            await client.query("go")
            [_ async for _ in client.receive_response()]
    assert charged(desk) == [(1230, 50)] * 4


async def test_a_conversation_that_goes_on_is_charged_what_is_new(desk: Any) -> None:
    """Broken if what a conversation took before it was resumed, continued or forked is charged again."""
    ways: list[dict[str, Any]] = [
        {},
        {"resume": True},
        {"resume": True, "fork_session": True},
        {"continue_conversation": True},
        {"continue_conversation": True, "fork_session": True},
    ]
    with desk.open(default="allow"), Script(DONE) as script:
        for way in ways:
            last = desk.messages[-1].session_id if desk.messages else None
            options = {**way, "resume": last} if "resume" in way else way
            await desk.run(script, **options)
    assert charged(desk) == [(1230, 50)] * len(ways)


async def test_a_model_that_is_not_allowed_is_not_asked(desk: Any) -> None:
    """Broken if a model is asked that the policy does not let this user have."""
    models = {
        "tiers": {"claude-sonnet-4-5": "standard", "claude-opus-4-5": "premium"},
        "access": [{"tier": "premium", "orgs": ["acme"]}],
    }
    with desk.open(default="allow", policy={"models": models}), Script(DONE) as script:
        with pytest.raises(Denied, match="premium"):
            await desk.run(script, model="claude-opus-4-5")
        assert script.requests == []
        async with GovernedClient(govern(desk.options(script))) as client:
            await client.set_model("claude-opus-4-5")
            await client.query("go")
            with pytest.raises(Denied, match="premium"):
                [_ async for _ in client.receive_response()]
            await client.set_model("claude-sonnet-4-5")
            await client.query("go")
            assert len([_ async for _ in client.receive_response()]) > 0
    asked = [request["model"] for request in script.requests if request["max_tokens"] > 1]
    assert asked == ["claude-sonnet-4-5"]


async def test_a_prompt_is_judged(desk: Any) -> None:
    """Broken if what a policy says of a prompt does not keep it from the model."""
    rule = {
        "tools": ["chat"],
        "when": {"argument": "prompt", "contains": "secret"},
        "verdict": "deny",
    }
    with desk.open(rule), Script(DONE) as script:
        with pytest.raises(Denied):
            await desk.run(script, "tell me the secret")
        await desk.run(script, "tell me the time")
    assert len(script.requests) == 1


@pytest.mark.promise(3)
async def test_a_budget_that_is_spent(desk: Any) -> None:
    """Broken if a query is asked for which a budget has no room, or a budget is not charged what one took."""
    budgets = [{"name": "run", "per": "session", "tokens": 4_000}]
    estimate = Usage(input_tokens=1_500, output_tokens=500)
    with (
        desk.open(default="allow", policy={"budgets": budgets}) as (_, session),
        Script(DONE) as script,
    ):
        for _ in range(2):
            await desk.run(script, governed={"estimate": estimate})
        (account,) = session.budgets()
        assert (account.spent.tokens, account.reserved.tokens) == (2_560, 0)
        with pytest.raises(BudgetExceeded):
            await desk.run(script, governed={"estimate": estimate})
    assert len(script.requests) == 2


async def test_a_budget_that_is_spent_within_a_run(desk: Any) -> None:
    """Broken if tools run on when a budget is spent, or the run ends by it instead of the model being told."""
    budgets = [{"name": "two", "per": "session", "calls": 2, "tools": ["Bash"]}]
    turns = [[desk.touch(name)] for name in "ABC"]
    with desk.open(default="allow", policy={"budgets": budgets}), Script(*turns, DONE) as script:
        told = await desk.run(script)
    assert desk.left == ["A", "B"]
    assert "Bash was not run" in told[2]


async def test_subagents_are_delegations(desk: Any) -> None:
    """Broken if starting a sub-agent is not judged, or what it does is not, or is not known as its own."""
    helper = AgentDefinition(description="helps", prompt="You help.", tools=["Bash"])
    start = use(
        "Agent", subagent_type="helper", description="x", prompt="DO IT", run_in_background=False
    )
    rules = [
        {"tools": ["Agent"], "resources": ["helper"], "verdict": "allow"},
        {
            "tools": ["Bash"],
            "labels": ["subagent:helper"],
            "when": {"argument": "command", "contains": "touch A"},
            "verdict": "allow",
        },
    ]
    inside = [desk.touch("A"), desk.touch("B")]
    other = use("Agent", subagent_type="general-purpose", description="x", prompt="DO THAT")
    with (
        desk.open(*rules),
        Script(
            [start, other, desk.touch("A2")], DONE, subagents={"DO IT": [inside, DONE]}
        ) as script,
    ):
        told = await desk.run(script, tools=["Bash", "Agent"], agents={"helper": helper})
    assert desk.left == ["A"]
    assert sorted(" is denied: " in one for one in told) == [False, True, True]
    assert ("Agent", "returned") in desk.booked()
    kinds = {
        event.tool: event.tool_kind for event in desk.recorder.events if hasattr(event, "tool_kind")
    }
    assert (kinds["Agent"], kinds["Bash"]) == ("handoff", "tool")


async def test_the_model_of_a_subagent(desk: Any) -> None:
    """Broken if a sub-agent asks a model that is not allowed, or what it took is charged to another model, or twice."""
    models = {
        "tiers": {"claude-sonnet-4-5": "standard", "claude-haiku-4-5": "small", "opus": "premium"},
        "access": [{"tier": "premium", "orgs": ["acme"]}],
    }
    agents = {
        "helper": AgentDefinition(
            description="helps", prompt="You help.", model="claude-haiku-4-5"
        ),
        "thinker": AgentDefinition(description="thinks", prompt="You think.", model="opus"),
    }
    starts = [
        use("Agent", subagent_type=name, description="x", prompt="DO IT", run_in_background=False)
        for name in agents
    ]
    with (
        desk.open(default="allow", policy={"models": models}) as (governor, _),
        Script(starts, DONE, subagents={"DO IT": [DONE]}) as script,
    ):
        told = await desk.run(script, tools=["Agent"], agents=agents)
        rows = governor.read(usage.summary, by=["model"])
        assert ("Agent", "cancelled") in [one[:2] for one in desk.booked()]
    assert {"claude-sonnet-4-5", "claude-haiku-4-5"} == {
        request["model"] for request in script.requests
    }
    assert sum("chat is denied" in one for one in told) == 1
    found = {row.of[0]: (row.input_tokens, row.output_tokens) for row in rows}
    assert found == {"claude-sonnet-4-5": (2460, 100), "claude-haiku-4-5": (1230, 50)}


async def test_a_query_that_fails(desk: Any) -> None:
    """Broken if the SDK's own error does not reach the host, or the books call such a query a success."""
    with desk.open(default="allow"), Script(400) as script, pytest.raises(ResultError):
        await desk.run(script)
    assert ("chat", "raised", "ToolFailed") in desk.booked(queries=True)
