"""Arguments: what is judged, what the tool is given, and what is refused unread."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import anyio
import pytest
from agents import Agent, FunctionTool, RunContextWrapper, Runner, function_tool
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field

from interlock import Governor, current_call, governed
from interlock.events import CallDecided
from interlock_openai_agents import apply_answers, govern


def _decided(desk: Any) -> CallDecided:
    (event,) = [e for e in desk.recorder.events if isinstance(e, CallDecided) and e.tool != "chat"]
    found: CallDecided = event
    return found


class Counter:
    """A tool that is a method."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.given: list[Any] = []

    @governed(name="refund", resource="order", cost="amount", risk="high", secrets=["card"])
    async def later(self, order: str, amount: Decimal, card: str = "none") -> str:
        """Refund later."""
        return self.now(order, amount, card)

    def now(self, order: str, amount: Decimal, card: str = "none") -> str:
        """Refund."""
        call = current_call()
        assert call is not None
        self.given.append((order, amount, card, call.tool.name))
        return "refunded"


@pytest.mark.parametrize("kind", ["sync", "async method"])
async def test_declared_function_is_judged_once_as_declared(desk: Any, kind: str) -> None:
    """Broken if `@governed` under the SDK's decorator is judged twice, or what it declares is not known."""
    counter = Counter()
    declare = governed(
        name="refund", resource="order", cost="amount", risk="high", secrets=["card"]
    )
    tool = function_tool(
        declare(counter.now) if kind == "sync" else counter.later, name_override="pay_back"
    )
    sent = {"order": "o-1", "amount": "20.10", "card": "4111"}
    agent = govern(desk.agent([tool], [("pay_back", sent)]))
    rules = [
        {
            "tools": ["refund"],
            "when": {"all": [{"risk": {"equals": "high"}}, {"cost": {"at_most": 21}}]},
            "verdict": "allow",
        }
    ]
    with desk.open("deny", rules):
        result = await Runner.run(agent, "go")
    assert desk.told(result) == ["refunded"]
    assert counter.given == [("o-1", Decimal("20.10"), "4111", "refund")]
    assert desk.booked() == [("refund", "allow"), ("refund", "returned")]
    event = _decided(desk)
    assert (event.resource, event.cost_usd) == ("o-1", Decimal("20.10"))
    assert json.loads(event.arguments) == {
        "amount": "20.10",
        "card": {"$secret": True},
        "order": "o-1",
    }


async def test_tool_with_context_is_judged_without_it(desk: Any) -> None:
    """Broken if the SDK's context, which no model fills in, is asked for or recorded as an argument."""

    @governed
    def look(context: RunContextWrapper[str], what: str) -> str:
        """Look."""
        return f"{context.context} sees {what}"

    agent = govern(desk.agent([function_tool(look)], [("look", {"what": "stars"})]))
    with desk.open("allow"):
        result = await Runner.run(agent, "go", context="ann")
    assert (desk.told(result), _decided(desk).arguments) == (["ann sees stars"], '{"what":"stars"}')


FEE: Any = Field(default=Decimal(7))


@pytest.mark.parametrize("is_declared", [False, True])
async def test_policy_sees_defaults(desk: Any, is_declared: bool) -> None:
    """Broken if leaving an argument out hides the value that the tool then uses."""
    paid: list[Decimal] = []

    def pay(amount: int = 900, fee: Decimal = FEE) -> str:
        """Pay."""
        paid.append(amount + fee)
        return "paid"

    function = governed(pay) if is_declared else pay
    tool = function_tool(function, strict_mode=False)
    agent = govern(desk.agent([tool], [("pay", {})], [("pay", {"amount": 1})]))
    rules = [
        {
            "tools": ["pay"],
            "verdict": "allow",
            "when": {
                "all": [{"argument": "amount", "at_most": 50}, {"argument": "fee", "equals": 7}]
            },
        }
    ]
    with desk.open("deny", rules):
        result = await Runner.run(agent, "go")
    denied = "pay is denied: no rule matches, and the policy's default is deny. Do not retry it."
    assert (desk.told(result), paid) == ([denied, "paid"], [Decimal(8)])


def _raw_tool(invoke: Any) -> FunctionTool:
    schema = {"type": "object", "properties": {}}
    return FunctionTool("echo", "", schema, invoke, strict_json_schema=False)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.promise(5, 8)
@settings(max_examples=60)
@given(sent=st.dictionaries(st.text(), JSON, max_size=3), ascii_only=st.booleans())
def test_tool_is_given_what_the_model_wrote(sent: dict[str, Any], ascii_only: bool) -> None:
    """Broken if any value changes between the model and the tool: its type, its digits, the order of its keys."""
    seen: list[str] = []

    async def invoke(_: RunContextWrapper[Any], raw: str) -> str:
        seen.append(raw)
        return "ok"

    tool = _raw_tool(invoke)
    (covered,) = govern(Agent(name="desk", tools=[tool])).tools
    assert isinstance(covered, FunctionTool)

    async def call() -> None:
        text = json.dumps(sent, ensure_ascii=ascii_only, indent=1)
        policy = {"version": 1, "name": "test", "default": "allow"}
        with Governor("sqlite://", policy=policy) as governor:
            async with governor.session("case", agent="desk"):
                assert await covered.on_invoke_tool(None, text) == "ok"  # type: ignore[arg-type]

    anyio.run(call)
    assert seen == [json.dumps(sent)]  # written anew, from what was judged


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        ("nonsense", "not JSON"),
        ("[1]", "not a JSON object"),
        ('{"amount": NaN}', "not JSON"),
        ('{"amount": 1e999}', "not JSON"),
        ('{"amount": 1, "amount": 900}', "name something twice"),
        ('{"amount": {"a": 1, "a": 2}}', "name something twice"),
        ('{"amount": ' + "1" * 5000 + "}", "not JSON"),
    ],
)
async def test_unreadable_arguments_reach_nothing(desk: Any, raw: str, says: str) -> None:
    """Broken if what cannot be judged for certain is run, or repeated to the model or the log."""
    agent = govern(desk.agent([desk.pay()], [("pay", raw)]))
    with desk.open("allow"):
        result = await Runner.run(agent, "go")
        if result.interruptions:  # the SDK asks about what it cannot read; nobody needs to be asked
            state = result.to_state()
            assert await apply_answers(state) == []
            result = await Runner.run(agent, state)
        by_hand = await agent.tools[0].on_invoke_tool(None, raw)  # type: ignore[union-attr,arg-type]
    told = f"pay was not run: its arguments {'' if 'twice' in says else 'are '}{says}. "
    assert desk.told(result) == [told + "Call it again with one JSON object."] == [by_hand]
    assert (desk.paid, desk.booked()) == ([], [])


async def test_no_text_is_no_arguments(desk: Any) -> None:
    """Broken if a provider that leaves the arguments empty can no longer call a tool that has none."""

    @function_tool
    def ping() -> str:
        """Ping."""
        return "pong"

    agent = govern(desk.agent([ping], [("ping", "")]))
    with desk.open("allow"):
        result = await Runner.run(agent, "go")
        state = result.to_state()
        assert await apply_answers(state) == []
        result = await Runner.run(agent, state)
    assert desk.told(result) == ["pong"]
