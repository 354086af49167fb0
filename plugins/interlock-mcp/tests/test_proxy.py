"""The proxy: what is denied never reaches the server, and the client is told in the protocol's own words."""

from __future__ import annotations

from typing import Any

import anyio
import mcp_types as types
import pytest
from mcp import Client, MCPError
from mcp.server.lowlevel import Server
from mcp.server.mcpserver import MCPServer
from pydantic import BaseModel

from interlock import Call, Opinion, Verdict
from interlock.errors import StoreUnavailable
from interlock.evaluators import Redacted

ALLOW = {"tools": ["bank.*"], "verdict": "allow"}


async def test_allowed_runs_once(desk: Any, mode: str) -> None:
    """Broken if a call that the policy allows does not run, or runs twice, or is not in the books."""
    with desk.open(ALLOW) as (_, session):
        async with desk.proxied(session, mode) as client:
            result = await client.call_tool("pay", {"amount": 5})
    assert (desk.told(result), result.is_error) == ("paid 5", False)
    assert desk.done == ["pay 5"]
    assert desk.booked() == [("bank.pay", "allow"), ("bank.pay", "returned")]


@pytest.mark.promise(1)
async def test_denied_never_runs(desk: Any, mode: str) -> None:
    """Broken if a denied call reaches the server, or the model is not told that it must not try again."""
    with desk.open() as (_, session):
        async with desk.proxied(session, mode) as client:
            result = await client.call_tool("pay", {"amount": 5})
    assert result.is_error
    assert (
        desk.told(result)
        == "bank.pay is denied: no rule matches, and the policy's default is deny. Do not retry it."
    )
    assert (result.meta or {})["interlock/refusal"] == {"kind": "Denied", "ran": False}
    assert desk.done == []


async def test_steered(desk: Any, mode: str) -> None:
    """Broken if the model is not told of the better way, or the better way does not run."""
    steer = {
        "tools": ["bank.pay"],
        "verdict": "steer",
        "guidance": "Look first.",
        "suggest": ["bank.look"],
    }
    with desk.open(steer, ALLOW) as (_, session):
        async with desk.proxied(session, mode) as client:
            refused = await client.call_tool("pay", {"amount": 5})
            better = await client.call_tool("look", {"order": "o-1"})
    assert "Look first." in desk.told(refused)
    assert "bank.look" in desk.told(refused)
    assert (refused.is_error, better.is_error) == (True, False)
    assert desk.done == ["look o-1"]


async def error_of(client: Client, uri: str) -> types.ErrorData:
    """Return the protocol's error for a resource that cannot be read."""
    with pytest.raises(MCPError) as raised:
        await client.read_resource(uri)
    return raised.value.error


@pytest.mark.promise(8)
async def test_error_is_unmodified(desk: Any, mode: str) -> None:
    """Broken if the proxy changes what a failing tool says, or what the protocol says of a request that is wrong."""
    async with desk.direct(mode) as direct:
        bare = await direct.call_tool("fail", {}), await error_of(direct, "bank://nothing")
    with desk.open({"tools": ["bank*"], "verdict": "allow"}) as (_, session):
        async with desk.proxied(session, mode) as client:
            governed = await client.call_tool("fail", {}), await error_of(client, "bank://nothing")
    assert (bare[0].content, bare[0].is_error) == (governed[0].content, governed[0].is_error)
    assert bare[1] == governed[1]
    assert ("bank:resource", "raised", "MCPError") in desk.booked()


async def test_what_was_judged_is_what_runs(desk: Any, mode: str) -> None:
    """Broken if a server is given other arguments than those that were judged and recorded."""
    with desk.open(ALLOW) as (_, session):
        async with desk.proxied(session, mode) as client:
            await client.call_tool("pay", {"amount": 7})
    assert desk.recorder.events[1].arguments == '{"amount":7}'
    assert desk.done == ["pay 7"]


async def test_parallel_calls(desk: Any, mode: str) -> None:
    """Broken if calls that are made at once are mixed up, lost or judged twice."""
    found: dict[int, str] = {}
    rules = (
        {"tools": ["bank.pay"], "when": {"argument": "amount", "at_most": 25}, "verdict": "allow"},
    )
    with desk.open(*rules) as (_, session):
        async with desk.proxied(session, mode) as client, anyio.create_task_group() as tasks:

            async def call(amount: int) -> None:
                found[amount] = desk.told(await client.call_tool("pay", {"amount": amount}))

            for amount in range(1, 51):
                tasks.start_soon(call, amount)
    assert [f"paid {amount}" for amount in range(1, 26)] == [found[n] for n in range(1, 26)]
    assert all("is denied" in found[amount] for amount in range(26, 51))
    assert sorted(f"pay {amount}" for amount in range(1, 26)) == sorted(desk.done)
    verdicts = [what for _, what, *_ in desk.booked()]
    assert tuple(map(verdicts.count, ("allow", "deny", "returned"))) == (25, 25, 25)


async def test_budget_spent_mid_run(desk: Any, mode: str) -> None:
    """Broken if a budget that is spent by earlier calls lets a later one reach the server."""
    budgets = [{"name": "few", "per": "session", "calls": 2}]
    with desk.open(ALLOW, policy={"budgets": budgets}) as (_, session):
        async with desk.proxied(session, mode) as client:
            results = [await client.call_tool("pay", {"amount": n}) for n in (1, 2, 3)]
    assert [result.is_error for result in results] == [False, False, True]
    assert "few" in desk.told(results[2])
    assert desk.done == ["pay 1", "pay 2"]


@pytest.mark.promise(4)
async def test_halt_mid_run(desk: Any, mode: str) -> None:
    """Broken if a halt leaves the server at work, or lets the next call through."""
    with desk.open(ALLOW) as (governor, session):
        async with desk.proxied(session, mode) as client, anyio.create_task_group() as tasks:
            results: list[types.CallToolResult] = []

            async def call() -> None:
                results.append(await client.call_tool("slow", {}))

            tasks.start_soon(call)
            await desk.until(lambda: desk.done == ["slow began"])
            await governor.ahalt(system=True, reason="a leak", by="ann")
            await desk.until(lambda: len(results) == 1)
            results.append(await client.call_tool("pay", {"amount": 1}))
    assert [result.is_error for result in results] == [True, True]
    assert "was cancelled while it ran, and may have had its effect" in desk.told(results[0])
    assert "a leak" in desk.told(results[1])
    assert desk.done == ["slow began", "slow was cancelled"]


async def test_cancellation_reaches_the_server(desk: Any, mode: str) -> None:
    """Broken if a client that gives up leaves the server at work, or the books without an end of the call."""
    with desk.open(ALLOW) as (_, session):
        async with desk.proxied(session, mode) as client:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(client.call_tool, "slow", {})
                await desk.until(lambda: desk.done == ["slow began"])
                tasks.cancel_scope.cancel()
            await desk.until(lambda: len(desk.booked()) == 2)
            await desk.until(lambda: len(desk.done) == 2)
    assert desk.done == ["slow began", "slow was cancelled"]
    assert desk.booked()[1][:2] == ("bank.slow", "cancelled")


async def test_progress(desk: Any, mode: str) -> None:
    """Broken if a server's progress does not reach the client that waits."""
    heard: list[tuple[float, float | None, str | None]] = []

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        heard.append((progress, total, message))

    with desk.open(ALLOW) as (_, session):
        async with desk.proxied(session, mode) as client:
            await client.call_tool("steps", {}, progress_callback=hear)
            await desk.until(lambda: len(heard) == 3)
    assert [(n, 3, f"step {n}") for n in (1, 2, 3)] == sorted(heard)


async def test_resources_and_prompts(desk: Any, mode: str) -> None:
    """Broken if a resource or a prompt is read without being judged by its own name."""
    rules = (
        {"tools": ["bank:resource"], "resources": ["bank://ledger"], "verdict": "allow"},
        {"tools": ["bank:prompt"], "verdict": "allow"},
    )
    with desk.open(*rules) as (_, session):
        async with desk.proxied(session, mode) as client:
            assert len((await client.list_resources()).resources) == 1
            assert len((await client.list_resource_templates()).resource_templates) == 1
            assert len((await client.list_prompts()).prompts) == 1
            read = await client.read_resource("bank://ledger")
            with pytest.raises(MCPError) as refused:
                await client.read_resource("bank://account/7")
            prompt = await client.get_prompt("review", {"order": "o-1"})
            reference = types.PromptReference(type="ref/prompt", name="review")
            with pytest.raises(MCPError) as uncompleted:
                await client.complete(reference, {"name": "order", "value": "o"})
    assert read.contents[0].text == "all is well"
    assert (refused.value.error.code, refused.value.error.data["kind"]) == (-32050, "Denied")
    assert "bank:resource is denied" in refused.value.error.message
    assert prompt.messages[0].content.text == "review o-1"
    assert "bank:completion is denied" in uncompleted.value.error.message
    assert desk.done == ["ledger", "review o-1"]


async def test_completion_and_level(desk: Any) -> None:
    """Broken if what a server completes, or the level at which it logs, does not pass the proxy."""
    with desk.open({"tools": ["bank:completion"], "verdict": "allow"}) as (_, session):
        async with desk.proxied(session) as client:
            reference = types.PromptReference(type="ref/prompt", name="review")
            found = await client.complete(reference, {"name": "order", "value": "o"})
    assert found.completion.values == ["o!"]
    assert desk.done == ["complete o"]


async def test_server_is_shown_as_it_is(desk: Any, mode: str) -> None:
    """Broken if the client learns less of the server, or of its tools, than it would without the proxy."""
    async with desk.direct(mode) as direct:
        bare = (await direct.list_tools()).tools, direct.instructions
    with desk.open() as (_, session):
        async with desk.proxied(session, mode) as client:
            governed = (await client.list_tools()).tools, client.instructions
    assert bare == governed


class Sampled:
    """A client that a server can ask."""

    def __init__(self) -> None:
        """Begin unasked."""
        self.asked: list[str] = []

    async def sample(self, _: Any, params: Any) -> types.CreateMessageResult:
        """Answer as a model would."""
        self.asked.append("model")
        content = types.TextContent(type="text", text="because")
        return types.CreateMessageResult(role="assistant", content=content, model="m-1")

    async def elicit(self, _: Any, params: Any) -> types.ElicitResult:
        """Answer as a person would."""
        self.asked.append("person")
        return types.ElicitResult(action="accept", content={"sure": True})

    async def roots(self, _: Any) -> types.ListRootsResult:
        """Say where the files are."""
        self.asked.append("roots")
        return types.ListRootsResult(roots=[types.Root(uri="file:///home/ann")])

    @property
    def callbacks(self) -> dict[str, Any]:
        """What a client takes."""
        return {
            "sampling_callback": self.sample,
            "elicitation_callback": self.elicit,
            "list_roots_callback": self.roots,
        }


@pytest.mark.filterwarnings("ignore:The .* capability is deprecated")
async def test_server_asks_the_client(desk: Any) -> None:
    """Broken if what a server asks of its client is not judged, or does not reach the client though it may."""
    asked = Sampled()
    rules = (ALLOW, {"tools": ["bank:*"], "verdict": "allow"})
    with desk.open(*rules) as (_, session):
        async with desk.proxied(session, **asked.callbacks) as client:
            results = [
                desk.told(await client.call_tool(n, {})) for n in ("think", "confirm", "where")
            ]
    assert results == ["because", "accept", "file:///home/ann"]
    assert asked.asked == ["model", "person", "roots"]
    judged = [one for one in desk.booked() if one[0].startswith("bank:") and one[1] == "allow"]
    assert [tool for tool, _ in judged] == ["bank:sampling", "bank:elicitation", "bank:roots"]


@pytest.mark.filterwarnings("ignore:The .* capability is deprecated")
async def test_server_may_not_ask(desk: Any) -> None:
    """Broken if a server's question reaches the client's model, person or files though the policy denies it."""
    asked = Sampled()
    with desk.open(ALLOW) as (_, session):
        async with desk.proxied(session, **asked.callbacks) as client:
            for name in ("think", "confirm", "where"):
                with pytest.raises(MCPError, match="is denied: no rule matches"):
                    await client.call_tool(name, {})
    assert asked.asked == []
    assert desk.done == []


@pytest.mark.filterwarnings("ignore:The .* capability is deprecated")
async def test_sampling_is_a_model_call(desk: Any) -> None:
    """Broken if the tokens that a server wants sampled are not held against the budgets."""
    asked = Sampled()
    budgets = [{"name": "thought", "per": "session", "tokens": 30}]
    rules = (ALLOW, {"tools": ["bank:*"], "verdict": "allow"})
    with desk.open(*rules, policy={"budgets": budgets}) as (_, session):
        async with desk.proxied(session, **asked.callbacks) as client:
            with pytest.raises(MCPError, match="thought"):
                await client.call_tool("think", {})
    assert asked.asked == []


def wishful(asked: Sampled) -> Server[Any]:
    """Return a server that asks by a result: for a model's answer, and then for the roots."""

    async def listed(_: Any, __: Any) -> types.ListToolsResult:
        return types.ListToolsResult(
            tools=[types.Tool(name="ask", input_schema={"type": "object"})]
        )

    async def called(_: Any, params: types.CallToolRequestParams) -> Any:
        if params.input_responses is None:
            said = types.TextContent(type="text", text="why?")
            message = types.SamplingMessage(role="user", content=said)
            wanted = types.CreateMessageRequestParams(messages=[message], max_tokens=5)
            return types.InputRequiredResult(
                input_requests={
                    "model": types.CreateMessageRequest(params=wanted),
                    "roots": types.ListRootsRequest(),
                },
                request_state="s-1",
            )
        text = " ".join(sorted(params.input_responses))
        return types.CallToolResult(content=[types.TextContent(type="text", text=text)])

    return Server("wishful", on_list_tools=listed, on_call_tool=called)


@pytest.mark.parametrize("may", [True, False])
async def test_server_asks_by_a_result(desk: Any, *, may: bool) -> None:
    """Broken if what a server of the newer era wants of its client is not judged."""
    asked = Sampled()
    desk.bank = MCPServer("unused")
    desk.bank._lowlevel_server = wishful(asked)
    rules = (ALLOW, {"tools": ["bank:roots"] + ["bank:sampling"] * may, "verdict": "allow"})
    with desk.open(*rules) as (_, session):
        async with desk.proxied(session, "auto", **asked.callbacks) as client:
            result = await client.call_tool("ask", {})
    assert result.is_error == (not may)
    assert ("model roots" if may else "bank:sampling is denied") in desk.told(result)
    assert sorted(asked.asked) == (["model", "roots"] if may else [])


async def test_client_can_what_it_says(desk: Any) -> None:
    """Broken if the server is told that its client can what this client cannot, or the reverse."""
    asked = Sampled()
    said: list[Any] = []

    async def look(context: Any, call_next: Any) -> Any:
        if context.method == "initialize":
            said.append(context.params["capabilities"])
        return await call_next(context)

    desk.bank.middleware.append(look)
    with desk.open() as (_, session):
        async with desk.proxied(session, sampling_callback=asked.sample) as client:
            await client.list_tools()
        async with desk.proxied(session) as client:
            await client.list_tools()
    assert [sorted(one) for one in said] == [["sampling"], []]


async def test_dry_run(desk: Any, mode: str) -> None:
    """Broken if a dry run reaches the server, or looks to the client like a run."""
    with desk.open(ALLOW, dry_run=True) as (_, session):
        async with desk.proxied(session, mode) as client:
            result = await client.call_tool("pay", {"amount": 5})
    assert (
        desk.told(result),
        result.is_error,
    ) == ("This is a dry run: bank.pay was not run.", True)
    assert desk.booked() == [("bank.pay", "allow")]
    assert desk.done == []


class Config(BaseModel):
    """Nothing to configure."""


class Reviewer:
    """Withholds results that have a secret in their structured part, and takes it out of the others."""

    Config = Config
    stage = "after"

    def __init__(self, config: Config) -> None:
        """Begin."""

    async def review(self, call: Call, result: Any) -> Opinion | Redacted | None:
        """Look for the secret."""
        if "hunter2" in repr(result):
            return Opinion(verdict=Verdict.DENY, reason="a password", author="me")
        if "paid" in repr(result):
            content = [{"type": "text", "text": "****"}]
            return Redacted(result={**result, "content": content}, reason="an amount")
        return None


async def test_review_of_results(desk: Any, mode: str) -> None:
    """Broken if a result reaches the client that its reviewer withholds, or what the reviewer takes out of it."""
    policy = {"evaluators": [{"use": "reviewer", "tools": ["bank.*"]}]}
    with desk.open(ALLOW, policy=policy, evaluators={"reviewer": Reviewer}) as (_, session):
        async with desk.proxied(session, mode) as client:
            results = [
                await client.call_tool("look", {"order": "o-1"}),
                await client.session.call_tool("pay", {"amount": 5}),
            ]
    assert [result.is_error for result in results] == [True, False]
    assert "its result is withheld" in desk.told(results[0])
    assert "hunter2" not in str(results[0])
    assert desk.told(results[1]) == "****"
    assert desk.done == ["look o-1", "pay 5"]


async def test_timeout(desk: Any, mode: str) -> None:
    """Broken if a server that does not answer keeps its client waiting beyond the time it was given."""
    with desk.open(ALLOW) as (_, session):
        async with desk.proxied(session, mode, timeout=1) as client:
            with pytest.raises(MCPError, match="timed out"):
                await client.call_tool("slow", {})
            await desk.until(lambda: len(desk.done) == 2)
    assert desk.done == ["slow began", "slow was cancelled"]
    assert desk.booked()[1] == ("bank.slow", "raised", "MCPError")


async def test_store_is_lost(desk: Any, mode: str) -> None:
    """Broken if a call runs that cannot be recorded."""
    results = []
    with pytest.raises(StoreUnavailable), desk.open(ALLOW) as (governor, session):  # noqa: PT012 - its end raises
        async with desk.proxied(session, mode) as client:
            governor.close()
            results.append(await client.call_tool("pay", {"amount": 5}))
    assert results[0].is_error
    assert results[0].meta["interlock/refusal"]["kind"] == "StoreUnavailable"
    assert desk.done == []
