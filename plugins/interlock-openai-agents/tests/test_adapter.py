"""Calls of function tools: what runs, what the model is told, what is recorded."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest
from agents import (
    Agent,
    AgentsException,
    FunctionTool,
    RunConfig,
    RunContextWrapper,
    Runner,
    UserError,
    function_tool,
)
from pydantic import BaseModel

from interlock import Call, Governor, Opinion, errors, hookimpl
from interlock_openai_agents import govern

GENERIC = "An error occurred while running the tool. Please try again."
"""What the SDK tells the model of any exception, unless told otherwise."""


async def test_allowed_call_runs_once(desk: Any) -> None:
    """Broken if an allowed call is lost, repeated, changed or not recorded."""
    agent = govern(desk.agent([desk.pay()], [("pay", {"amount": 5})]))
    with desk.open("allow"):
        result = await Runner.run(agent, "go")
    assert (desk.told(result), desk.paid, result.final_output) == (["paid 5"], [5], "done")
    assert desk.booked() == [("pay", "allow"), ("pay", "returned")]


@pytest.mark.promise(1)
@pytest.mark.parametrize("streamed", [False, True])
async def test_denied_call_never_runs_and_the_model_is_told_why(desk: Any, streamed: bool) -> None:
    """Broken if a denied call runs, or ends the run instead of telling the model."""
    agent = govern(desk.agent([desk.pay()], [("pay", {"amount": 5})]))
    rules = [{"tools": ["pay"], "verdict": "deny", "reason": "the till is closed"}]
    with desk.open("allow", rules):
        if streamed:
            result: Any = Runner.run_streamed(agent, "go")
            async for _ in result.stream_events():
                pass
        else:
            result = await Runner.run(agent, "go")
    assert desk.told(result) == ["pay is denied: the till is closed. Do not retry it."]
    assert (desk.paid, result.final_output, desk.booked()) == ([], "done", [("pay", "deny")])


@pytest.fixture
def loop() -> Iterator[None]:
    """Give the SDK's sync runner a loop that is closed afterwards; its own it leaves open."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    asyncio.set_event_loop(None)
    loop.close()


@pytest.mark.usefixtures("loop")
def test_sync_runner_is_governed_too(desk: Any) -> None:
    """Broken if the session is lost on the way into the SDK's own event loop."""
    agent = govern(desk.agent([desk.pay()], [("pay", {"amount": 5})]))
    with desk.open("allow"):
        result = Runner.run_sync(agent, "go")
    assert (
        desk.told(result),
        desk.booked(),
    ) == (["paid 5"], [("pay", "allow"), ("pay", "returned")])


async def test_steered_call_shows_the_way(desk: Any) -> None:
    """Broken if the model does not read guidance and alternatives, or cannot take one in the same run."""
    tools = [desk.pay("wire"), desk.pay("request")]
    agent = govern(desk.agent(tools, [("wire", {"amount": 1})], [("request", {"amount": 1})]))
    steer = {"tools": ["wire"], "verdict": "steer", "reason": "wires are final"}
    rule = {**steer, "guidance": "Ask finance.", "suggest": ["request"]}
    with desk.open("allow", [rule]):
        result = await Runner.run(agent, "go")
    refusal = "wire was not run: wires are final. Ask finance. Use instead: request."
    assert ([refusal, "paid 1"], [1]) == (desk.told(result), desk.paid)


@pytest.mark.promise(1)
async def test_call_that_cannot_be_judged_does_not_run(desk: Any) -> None:
    """Broken if the failure of a judge lets the call through, or ends the run without a word to the model."""

    class Broken:
        @hookimpl
        def interlock_opinion(self, call: Call) -> Opinion | None:
            if call.tool.name == "chat":
                return None
            raise ZeroDivisionError

    agent = govern(desk.agent([desk.pay()], [("pay", {"amount": 5})]))
    with desk.open("allow", plugins=[Broken()]):
        result = await Runner.run(agent, "go")
    assert desk.paid == []
    assert "pay was not run, because it could not be judged" in desk.told(result)[0]
    assert "Broken raised ZeroDivisionError" in desk.told(result)[0]


@pytest.mark.promise(1)
@pytest.mark.parametrize(
    ("lacking", "says"),
    [
        ("session", "called outside any session"),
        ("policy", "its governor has no policy"),
        ("store", "Nothing was written"),
    ],
)
async def test_run_ends_when_nothing_can_be_decided(desk: Any, lacking: str, says: str) -> None:
    """Broken if the tool runs without governance, or the host is given less than Interlock's own error."""
    agent = govern(desk.agent([desk.pay()], [("pay", {"amount": 5})]))
    kind = errors.StoreUnavailable if lacking == "store" else errors.NotConfigured
    with contextlib.ExitStack() as stack:
        if lacking == "store":
            stack.enter_context(pytest.raises(kind))  # the session cannot be closed either
            stack.enter_context(desk.open("allow"))
            with contextlib.closing(sqlite3.connect(desk.url.removeprefix("sqlite:///"))) as file:
                file.execute("DROP TABLE events")
        elif lacking == "policy":
            governor = stack.enter_context(Governor(desk.url))
            stack.enter_context(governor.session("case", agent="desk"))
        with pytest.raises(kind, match=says) as caught:
            await Runner.run(agent, "go")
    assert (desk.paid, isinstance(caught.value, AgentsException)) == ([], True)


async def test_original_is_left_as_it_is(desk: Any) -> None:
    """Broken if governing an agent changes the one that the host goes on using."""
    tool = desk.pay()
    original = desk.agent([tool], [("pay", {"amount": 5})])
    invoker = tool.on_invoke_tool
    copy = govern(original)
    assert (copy.name, copy.instructions) == ("desk", None)
    assert isinstance(copy, Agent)
    assert copy is govern(copy)
    assert ([tool], type(original)) == (original.tools, Agent)
    assert (invoker, False) == (tool.on_invoke_tool, tool.needs_approval)
    result = await Runner.run(original, "go")
    assert (desk.told(result), desk.booked()) == (["paid 5"], [])


def _say(_: RunContextWrapper[Any], error: Exception) -> str:
    return f"sorry: {error}"


async def _outcome(desk: Any, agent: Agent[Any], config: RunConfig | None) -> Any:
    try:
        result = await Runner.run(agent, "go", run_config=config)
    except UserError as error:
        return type(error), str(error), type(error.__cause__)
    return desk.told(result), result.final_output


@pytest.mark.promise(8)
@pytest.mark.parametrize(
    ("options", "formatter", "expected"),
    [
        ({}, None, ([GENERIC], "done")),
        ({"failure_error_function": _say}, None, (["sorry: no ink"], "done")),
        ({}, lambda args: f"{args.tool_name}: {args.error}", (["print: no ink"], "done")),
        (
            {"failure_error_function": None},
            None,
            (UserError, "Error running tool print: no ink", OSError),
        ),
    ],
    ids=["default", "function", "formatter", "raised"],
)
@pytest.mark.parametrize("is_async", [False, True])
async def test_exception_of_the_tool_is_handled_as_ever(
    desk: Any, options: dict[str, Any], formatter: Any, expected: Any, is_async: bool
) -> None:
    """Broken if governing a tool changes what its failure does to a run, or the books call it a success."""

    def fails() -> str:
        raise OSError("no ink")

    async def fails_later() -> str:
        raise OSError("no ink")

    function = fails_later if is_async else fails
    tool = function_tool(function, name_override="print", **options)
    config = RunConfig(tool_error_formatter=formatter)
    plain = await _outcome(desk, desk.agent([tool], [("print", {})]), config)
    with desk.open("allow"):
        covered = await _outcome(desk, govern(desk.agent([tool], [("print", {})])), config)
    assert (expected, expected) == (plain, covered)
    assert desk.booked() == [("print", "allow"), ("print", "raised", "OSError")]


async def test_tool_without_the_sdks_failure_handling(desk: Any) -> None:
    """Broken if a tool that is no `function_tool` is treated in another way, or loses its own copy of itself."""

    async def invoke(context: RunContextWrapper[Any], raw: str) -> str:
        assert type(context) is RunContextWrapper  # what it declares is what it is given
        raise LookupError(raw)

    tool = FunctionTool(
        "raw", "", {"type": "object", "properties": {}}, invoke, strict_json_schema=False
    )
    plain = await _outcome(desk, desk.agent([tool], [("raw", '{"b": 1}')]), None)
    with desk.open("allow"):
        covered = await _outcome(desk, govern(desk.agent([tool], [("raw", '{"b": 1}')])), None)
    assert (UserError, 'Error running tool raw: {"b": 1}', LookupError) == plain == covered
    assert desk.booked() == [("raw", "allow"), ("raw", "raised", "LookupError")]


class Order(BaseModel):
    """What a tool with a schema for its results returns."""

    id: int


async def test_refusal_is_not_held_to_the_schema_of_results(desk: Any) -> None:
    """Broken if refusing a tool with a typed result ends the run instead of telling the model."""

    @function_tool(output_type=Order)
    def order(number: int) -> Order:
        """Order."""
        return Order(id=number)

    agent = govern(desk.agent([order], [("order", {"number": 1})], [("order", {"number": 9})]))
    rules = [{"tools": ["order"], "when": {"argument": "number", "at_most": 5}, "verdict": "allow"}]
    with desk.open("deny", rules):
        result = await Runner.run(agent, "go")
    denied = "order is denied: no rule matches, and the policy's default is deny. Do not retry it."
    assert [Order(id=1), denied] == desk.told(result)
