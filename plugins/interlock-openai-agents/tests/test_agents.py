"""The agents around an agent: handoffs, agents as tools, tools of other kinds, MCP servers."""

from __future__ import annotations

from typing import Any

import pytest
from agents import Agent, RunContextWrapper, Runner, RunState, WebSearchTool, handoff
from agents.mcp import MCPServer
from agents.realtime import RealtimeAgent
from agents.sandbox import SandboxAgent
from agents.testing import assistant_message
from mcp.types import CallToolResult, GetPromptResult, ListPromptsResult, TextContent
from mcp.types import Tool as MCPTool

from interlock import Misuse
from interlock_openai_agents import apply_answers, govern

DENIED = "pay is denied: the till is closed. Do not retry it."
CLOSED = [{"tools": ["pay"], "verdict": "deny", "reason": "the till is closed"}]


def _desk_and_till(desk: Any, how: str) -> tuple[Any, Any]:
    """Two agents that can hand over to each other; the second one has the tool."""
    till = desk.agent([desk.pay()], [("pay", {"amount": 5})], name="till")
    front = desk.agent([], [("transfer_to_till", {})], name="front")
    front.handoffs = [till if how == "agent" else handoff(till)]
    till.handoffs = [front if how == "agent" else handoff(front)]
    return front, till


@pytest.mark.promise(1)
@pytest.mark.parametrize("how", ["agent", "handoff"])
async def test_what_it_hands_over_to_is_governed(desk: Any, how: str) -> None:
    """Broken if a handoff leads out of governance, or agents that lead to each other never end."""
    front, till = _desk_and_till(desk, how)
    agent = govern(front)
    with desk.open("allow", CLOSED):
        result = await Runner.run(agent, "go")
    assert (result.last_agent.name, desk.told(result), desk.paid) == ("till", [DENIED], [])
    assert (len(front.handoffs), type(till)) == (1, Agent)


@pytest.mark.promise(1, 5)
@pytest.mark.parametrize("how", ["agent", "handoff"])
async def test_restored_run_is_governed(desk: Any, how: str) -> None:
    """Broken if a paused run that is restored from its text goes on with the ungoverned agent it was handed to."""
    with desk.open("allow", [{"tools": ["pay"], "verdict": "ask"}]):
        result = await Runner.run(govern(_desk_and_till(desk, how)[0]), "go")
        text = result.to_state().to_string()
        front, till = _desk_and_till(desk, how)
        till.model.enqueue([assistant_message("done")])
        agent = govern(front)
        state = await RunState.from_string(agent, text)
        (ticket,) = await apply_answers(state)
        for item in state.get_interruptions():
            state.approve(item)  # nobody has said yes
        result = await Runner.run(agent, state)
    assert ticket.arguments == '{"amount":5}'
    assert desk.paid == []
    assert "pay needs approval by a human" in desk.told(result)[-1]


async def test_agent_as_tool_has_to_be_governed(desk: Any) -> None:
    """Broken if an agent inside of a tool works ungoverned without anybody having said so."""
    till = desk.agent([desk.pay()], [("pay", {"amount": 5})], name="till")
    tool = till.as_tool("ask_till", "Ask the till.")
    with pytest.raises(Misuse, match=r"ask_till is an agent as a tool.*govern\(inner\)\.as_tool"):
        govern(desk.agent([tool]))
    accepted = govern(desk.agent([tool]), accept=["ask_till"])
    assert [one.name for one in accepted.tools] == ["ask_till"]
    inner = govern(till).as_tool("ask_till", "Ask the till.")
    agent = govern(desk.agent([inner], [("ask_till", {"input": "pay"})]))
    with desk.open("allow", CLOSED):
        result = await Runner.run(agent, "go")
    assert (desk.told(result), desk.paid) == (["done"], [])
    assert desk.booked() == [("ask_till", "allow"), ("pay", "deny"), ("ask_till", "returned")]


async def test_pause_inside_an_agent_as_tool(desk: Any) -> None:
    """Broken if a human cannot be asked about what an agent inside of a tool wants to do."""
    inner = govern(desk.agent([desk.pay()], [("pay", {"amount": 5})], name="till"))
    tool = inner.as_tool("ask_till", "Ask the till.")
    agent = govern(desk.agent([tool], [("ask_till", {"input": "pay"})]))
    with desk.open("allow", [{"tools": ["pay"], "verdict": "ask"}]) as (governor, _):
        result = await Runner.run(agent, "go")
        state = result.to_state()
        (ticket,) = await apply_answers(state)
        governor.write(desk.approve, ticket.id, by="ann")
        assert await apply_answers(state) == []
        result = await Runner.run(agent, state)
    assert (desk.told(result), result.final_output, desk.paid) == (["done"], "done", [5])


async def test_pause_inside_that_cannot_end_is_said(desk: Any) -> None:
    """Broken if a run that can never go on looks like one that waits, so that its host asks for ever."""
    inner = govern(desk.agent([desk.pay()], [("pay", {"amount": 5})], name="till"))
    tool = inner.as_tool("ask_till", "Ask the till.")
    agent = govern(desk.agent([tool], [("ask_till", {"input": "pay"})]))
    with desk.open("ask") as (governor, _):
        result = await Runner.run(agent, "go")
        for name in ("ask_till", "pay"):
            state = result.to_state()
            (ticket,) = await apply_answers(state)
            assert ticket.tool == name
            governor.write(desk.approve, ticket.id, by="ann")
            assert await apply_answers(state) == []
            if name == "ask_till":
                result = await Runner.run(agent, state)
        with pytest.raises(Misuse, match="ask_till is an agent as a tool that paused inside"):
            await Runner.run(agent, state)
    assert desk.paid == []


def test_tools_of_other_kinds_are_refused_by_name(desk: Any) -> None:
    """Broken if a tool that runs elsewhere slips through, or cannot be accepted knowingly."""
    with pytest.raises(
        Misuse, match="web_search is a WebSearchTool, which Interlock cannot govern"
    ):
        govern(desk.agent([WebSearchTool()]))
    agent = govern(desk.agent([WebSearchTool(), desk.pay()]), accept=["web_search"])
    assert [tool.name for tool in agent.tools] == ["web_search", "pay"]
    assert [tool.name for tool in agent.clone(name="other").tools] == ["web_search", "pay"]


@pytest.mark.parametrize("kind", [RealtimeAgent, SandboxAgent])
def test_agents_of_other_kinds_are_refused(kind: Any) -> None:
    """Broken if an agent whose tools come by other ways is called governed."""
    with pytest.raises(Misuse, match=f"a {kind.__name__} cannot be governed yet"):
        govern(kind(name="other"))


@pytest.mark.promise(1)
@pytest.mark.parametrize("how", ["append", "clone"])
async def test_tool_added_later_is_governed(desk: Any, how: str) -> None:
    """Broken if a governed agent can be given an ungoverned tool afterwards, or one that cannot be asked about."""
    agent: Any = govern(desk.agent([], [("pay", {"amount": 5})]))
    if how == "append":
        agent.tools.append(desk.pay())
    else:
        agent = agent.clone(tools=[desk.pay()])
        assert await agent.get_all_tools(RunContextWrapper(None)) == agent.tools
    with desk.open("ask") as (governor, _):
        result = await Runner.run(agent, "go")
        assert desk.paid == []
        state = result.to_state()
        (ticket,) = await apply_answers(state)
        governor.write(desk.approve, ticket.id, by="ann")
        await apply_answers(state)
        result = await Runner.run(agent, state)
    assert (desk.told(result), desk.paid) == (["paid 5"], [5])


@pytest.mark.promise(1)
@pytest.mark.parametrize("what", ["tool", "handoff"])
async def test_what_cannot_be_governed_later_ends_the_run(desk: Any, what: str) -> None:
    """Broken if a hosted tool or an ungoverned agent can be added once nobody looks any more."""
    agent = govern(desk.agent([]))
    if what == "tool":
        agent.tools.append(WebSearchTool())
    else:
        agent.handoffs.append(desk.agent([desk.pay()], name="till"))
    with desk.open("allow"), pytest.raises(Misuse, match=r"not governed|cannot govern"):
        await Runner.run(agent, "go")


class Server(MCPServer):
    """An MCP server in this process."""

    def __init__(self) -> None:
        """Offer one tool, which remembers its calls."""
        super().__init__()
        self.calls: list[Any] = []

    @property
    def name(self) -> str:
        """Its name."""
        return "till"

    async def connect(self) -> None:
        """Do nothing."""

    async def cleanup(self) -> None:
        """Do nothing."""

    async def list_tools(self, *_: Any, **__: Any) -> list[MCPTool]:
        """Offer the tool."""
        schema = {"type": "object", "properties": {"amount": {"type": "integer"}}}
        return [MCPTool(name="pay", description="Pay.", input_schema=schema)]

    async def call_tool(self, tool_name: str, arguments: Any, *_: Any, **__: Any) -> CallToolResult:
        """Remember the call; refuse odd amounts in the server's own way."""
        self.calls.append((tool_name, arguments))
        if arguments["amount"] % 2:
            raise OSError("odd")
        return CallToolResult(content=[TextContent(type="text", text="paid")])

    async def list_prompts(self) -> ListPromptsResult:
        """Offer none."""
        return ListPromptsResult(prompts=[])

    async def get_prompt(self, *_: Any, **__: Any) -> GetPromptResult:
        """Offer none."""
        raise LookupError


async def test_tools_of_mcp_servers_are_governed(desk: Any) -> None:
    """Broken if what an MCP server offers reaches it ungoverned."""
    server = Server()
    turns = [[("pay", {"amount": amount})] for amount in (2, 900, 3)]
    agent = govern(desk.agent([], *turns, mcp_servers=[server]))
    rules = [{"tools": ["pay"], "when": {"argument": "amount", "at_most": 50}, "verdict": "allow"}]
    with desk.open("deny", rules):
        result = await Runner.run(agent, "go")
    assert server.calls == [("pay", {"amount": 2}), ("pay", {"amount": 3})]
    assert "pay is denied" in str(desk.told(result)[1])
    assert desk.booked()[:3] == [("pay", "allow"), ("pay", "returned"), ("pay", "deny")]
    assert [line[:2] for line in desk.booked()[3:]] == [("pay", "allow"), ("pay", "raised")]
