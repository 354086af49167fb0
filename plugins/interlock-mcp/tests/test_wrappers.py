"""The gate in a client's session and in a server of one's own."""

from __future__ import annotations

from typing import Any

import mcp_types as types
import pytest
from mcp import Client, MCPError
from mcp.server.mcpserver import MCPServer

from interlock import Misuse, Tool, governed
from interlock.store import tickets
from interlock_mcp import govern, govern_server

LOOK = {"tools": ["bank.look", "bank:resource"], "verdict": "allow"}
PAY = {"tools": ["bank.pay"], "verdict": "ask"}


async def scenario(desk: Any, client: Client, governor: Any) -> None:
    """Make calls of each verdict, and see that the client is told and the server is spared."""
    allowed = await client.call_tool("look", {"order": "o-1"})
    denied = await client.call_tool("slow", {})
    waiting = await client.call_tool("pay", {"amount": 900})
    governor.write(tickets.approve, waiting.meta["interlock/refusal"]["ticket"], by="ann")
    results = [await client.call_tool("pay", {"amount": 900}) for _ in range(2)]
    read = await client.read_resource("bank://ledger")
    with pytest.raises(MCPError, match="bank:prompt is denied"):
        await client.get_prompt("review", {"order": "o-1"})
    assert [one.is_error for one in (allowed, denied, waiting, *results)] == [
        False,
        True,
        True,
        False,
        True,
    ]
    assert allowed.structured_content == {"order": "o-1", "secret": "hunter2"}
    assert "bank.slow is denied" in desk.told(denied)
    assert read.contents[0].text == "all is well"
    assert desk.done == ["look o-1", "pay 900", "ledger"]


async def test_client(desk: Any, mode: str) -> None:
    """Broken if a governed client sends what the policy denies, or cannot send what it allows."""
    with desk.open(LOOK, PAY) as (governor, session):
        async with desk.direct(mode) as client:
            assert client is govern(client, name="bank", session=session)
            await scenario(desk, client, governor)


async def test_server(desk: Any, mode: str) -> None:
    """Broken if a governed server does what the policy denies, or does not do what it allows."""
    with desk.open(LOOK, PAY) as (governor, session):
        assert desk.bank is govern_server(desk.bank, name="bank", session=session)
        async with desk.direct(mode) as client:
            await scenario(desk, client, governor)


async def test_session_around(desk: Any, mode: str) -> None:
    """Broken if the session around is not found where none is given."""
    govern_server(desk.bank, name="bank")
    with desk.open(LOOK):
        async with desk.direct(mode) as client:
            result = await client.call_tool("look", {"order": "o-1"})
    assert not result.is_error


@pytest.mark.promise(1)
async def test_without_a_session(desk: Any, mode: str) -> None:
    """Broken if a governed server or client works where nobody governs."""
    govern_server(desk.bank, name="bank")
    async with desk.direct(mode) as client:
        result = await client.call_tool("look", {"order": "o-1"})
    assert result.is_error
    assert result.meta["interlock/refusal"]["kind"] == "NotConfigured"
    assert desk.done == []


async def test_client_is_given_the_very_result(desk: Any) -> None:
    """Broken if a result that nobody changed loses what only its own class has."""
    with desk.open({"tools": ["bank.*"], "verdict": "allow"}) as (_, session):
        async with desk.direct("legacy") as client:
            bare = await client.call_tool("look", {"order": "o-1"})
            govern(client.session, name="bank", session=session)
            assert bare == await client.call_tool("look", {"order": "o-1"})


@pytest.mark.filterwarnings("ignore:The .* capability is deprecated")
async def test_client_is_asked(desk: Any) -> None:
    """Broken if a server gets a client's model to answer though the policy denies it."""
    asked: list[str] = []

    async def sample(_: Any, params: Any) -> types.CreateMessageResult:
        asked.append("model")
        content = types.TextContent(type="text", text="because")
        return types.CreateMessageResult(role="assistant", content=content, model="m-1")

    for rule, told in (
        ((), "denied"),
        (({"tools": ["bank:sampling"], "verdict": "allow"},), "because"),
    ):
        with desk.open({"tools": ["bank.*"], "verdict": "allow"}, *rule) as (_, session):
            async with Client(desk.bank, mode="legacy", sampling_callback=sample) as client:
                govern(client, name="bank", session=session)
                try:
                    found = desk.told(await client.call_tool("think", {}))
                except MCPError as error:
                    found = error.error.message
        assert told in found
    assert asked == ["model"]


async def test_changed_tool_at_the_client(desk: Any) -> None:
    """Broken if a governed client uses a tool that the server has changed."""
    with desk.open({"tools": ["bank.*"], "verdict": "allow"}) as (_, session):
        async with desk.direct("legacy") as client:
            govern(client, name="bank", session=session)
            await client.call_tool("redo", {})
            await client.list_tools()
            result = await client.call_tool("pay", {"amount": 1})
    assert "has changed its tool pay" in desk.told(result)
    assert desk.done == []


@pytest.mark.parametrize("declares", [True, False])
async def test_governed_function_is_judged_once(desk: Any, declares: bool) -> None:
    """Broken if a governed function behind a governed server is judged twice, or its declaration is not known."""
    server = MCPServer("own")

    @governed(name="wire", cost="amount", secrets=["pin"])
    def wire(amount: int, pin: str) -> str:
        """Wire money."""
        return f"wired {amount}"

    server.add_tool(wire, name="wire")
    rules = ({"tools": ["wire", "own.wire"], "verdict": "allow"},)
    with desk.open(*rules) as (_, session):
        govern_server(server, name="own", session=session, tools=[wire] if declares else [])
        async with Client(server) as client:
            result = await client.call_tool("wire", {"amount": 5, "pin": "1234"})
    assert desk.told(result) == "wired 5"
    tools = [tool for tool, what in desk.booked() if what == "allow"]
    assert (["wire"] if declares else ["own.wire", "wire"]) == tools
    assert declares == ("1234" not in str(desk.recorder.events))


async def test_declared_tool(desk: Any) -> None:
    """Broken if what a host declares of a tool, such as its cost, is not held against the budgets."""
    pay = Tool(name="pay", cost="amount")
    budgets = [{"name": "day", "per": "session", "cost_usd": 10}]
    with desk.open({"tools": ["pay"], "verdict": "allow"}, policy={"budgets": budgets}) as (
        _,
        session,
    ):
        govern_server(desk.bank, name="bank", session=session, tools=[pay])
        async with desk.direct("auto") as client:
            results = [await client.call_tool("pay", {"amount": n}) for n in (9, 2)]
    assert [result.is_error for result in results] == [False, True]
    assert desk.done == ["pay 9"]


async def test_unknown_method(desk: Any) -> None:
    """Broken if a method that Interlock does not know reaches a server, or cannot be accepted by name."""
    asked: list[str] = []

    async def answer(_: Any, params: Any) -> dict[str, Any]:
        asked.append("bank/audit")
        return {"is": "well"}

    class Audit(types.Request[dict[str, Any], str]):
        method: str = "bank/audit"

    low = desk.bank._lowlevel_server
    low.add_request_handler("bank/audit", types.RequestParams, answer)
    with desk.open(default="allow") as (_, session):
        async with desk.direct("legacy") as client:
            govern(client, name="bank", session=session)
            with pytest.raises(MCPError, match="is not governed"):
                await client.session.send_request(Audit(params={}), types.EmptyResult)
        async with desk.direct("legacy") as client:
            govern(client, name="bank", session=session, accept=["bank/audit"])
            await client.session.send_request(Audit(params={}), types.EmptyResult)
    assert asked == ["bank/audit"]


async def test_governed_once(desk: Any) -> None:
    """Broken if a server or client can be governed twice, so that each call counts twice."""
    govern_server(desk.bank)
    with pytest.raises(Misuse, match="governed already"):
        govern_server(desk.bank)
    async with desk.direct("legacy") as client:
        govern(client)
        with pytest.raises(Misuse, match="governed already"):
            govern(client.session)


@pytest.mark.parametrize("name", ["", "a.b", "a:b", "a b", "x" * 65])
def test_name_of_a_server(desk: Any, name: str) -> None:
    """Broken if a server can be called so that a tool of one is mistaken for another's."""
    with pytest.raises(Misuse, match="name of a server"):
        govern_server(desk.bank, name=name)
