"""
What an adapter adds to a run: the same run governed and not, in each framework whose adapter is installed.

A run is what a framework makes of one scripted answer that wants one call of a tool, which sleeps for 20 ms, and one
that ends the run. Governed, the call of the tool and, where the adapter governs models, both model calls are judged and
recorded, each by two durable transactions on SQLite. Nothing listens to the spans.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager, contextmanager
from functools import partial
from importlib.util import find_spec
from typing import Any

from _harness import Options, Sample, directory, interleaved, show

from interlock import Governor
from interlock.tool_use import ToolResult

TOOL_S = 0.020
POLICY = {
    "version": 1,
    "name": "bench",
    "rules": [{"id": "work", "tools": ["chat", "work", "bench.work"], "verdict": "allow"}],
}
Run = Callable[[], Awaitable[object]]
Cell = Callable[[float], Sample]


@asynccontextmanager
async def openai_agents(*, governed: bool) -> AsyncIterator[Run]:
    """Give a run of the OpenAI Agents SDK."""
    from agents import Agent, RunConfig, Runner, function_tool  # noqa: PLC0415
    from agents.testing import ScriptedModel, assistant_message, function_call  # noqa: PLC0415

    from interlock_openai_agents import govern  # noqa: PLC0415

    config, model = RunConfig(tracing_disabled=True), ScriptedModel()
    plain: Agent[Any] = Agent(name="bench", tools=[function_tool(work)], model=model)
    agent = govern(plain) if governed else plain

    async def run() -> object:
        wanted = [function_call("work", {"amount": 5}, call_id="1")]
        model.extend([wanted, [assistant_message("done")]])
        return await Runner.run(agent, "go", run_config=config)

    yield run


@asynccontextmanager
async def mcp(*, governed: bool) -> AsyncIterator[Run]:
    """Give a call through a client and a server of the Model Context Protocol, in one process."""
    from mcp import Client  # noqa: PLC0415
    from mcp.server.mcpserver import MCPServer  # noqa: PLC0415

    from interlock_mcp import govern_server  # noqa: PLC0415

    server = MCPServer("bench", log_level="WARNING")
    server.tool()(work)
    if governed:
        govern_server(server, name="bench")
    async with Client(server) as client:
        yield partial(client.call_tool, "work", {"amount": 5})


@asynccontextmanager
async def openai(*, governed: bool) -> AsyncIterator[Run]:
    """Give a loop over the package `openai`, whose provider answers in this process."""
    import httpx2  # noqa: PLC0415
    from openai import AsyncOpenAI  # noqa: PLC0415

    from interlock_openai import arun_tools, govern, tool_messages, tool_uses  # noqa: PLC0415

    def provider(request: httpx2.Request) -> httpx2.Response:
        message: dict[str, Any] = {"role": "assistant", "content": "done"}
        if len(json.loads(request.content)["messages"]) == 1:
            function = {"name": "work", "arguments": '{"amount": 5}'}
            message["tool_calls"] = [{"id": "1", "type": "function", "function": function}]
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        usage = {"prompt_tokens": 9, "completion_tokens": 9, "total_tokens": 18}
        return httpx2.Response(200, json={"id": "c", "choices": [choice], "usage": usage})

    transport = httpx2.MockTransport(provider)
    plain = AsyncOpenAI(api_key="none", http_client=httpx2.AsyncClient(transport=transport))
    client = govern(plain) if governed else plain

    async def ask(messages: list[Any]) -> Any:
        return await client.chat.completions.create(
            model="gpt-5-mini", messages=messages, max_completion_tokens=99
        )

    run_tools: Any = arun_tools if governed else partial(_by_hand, tool_uses, tool_messages)
    yield partial(_loop, ask, run_tools)
    await plain.close()


@asynccontextmanager
async def anthropic(*, governed: bool) -> AsyncIterator[Run]:
    """Give a loop over the package `anthropic`, whose provider answers in this process."""
    import httpx2  # noqa: PLC0415
    from anthropic import AsyncAnthropic  # noqa: PLC0415

    from interlock_anthropic import arun_tools, govern, tool_messages, tool_uses  # noqa: PLC0415

    def provider(request: httpx2.Request) -> httpx2.Response:
        content: list[dict[str, Any]] = [{"type": "text", "text": "done"}]
        if len(json.loads(request.content)["messages"]) == 1:
            content = [{"type": "tool_use", "id": "1", "name": "work", "input": {"amount": 5}}]
        head = {"id": "m", "type": "message", "role": "assistant", "model": "m"}
        usage = {"input_tokens": 9, "output_tokens": 9}
        rest = {"content": content, "stop_reason": "end_turn", "usage": usage}
        return httpx2.Response(200, json={**head, **rest})

    transport = httpx2.MockTransport(provider)
    plain = AsyncAnthropic(api_key="none", http_client=httpx2.AsyncClient(transport=transport))
    client = govern(plain) if governed else plain

    async def ask(messages: list[Any]) -> Any:
        return await client.messages.create(
            model="claude-haiku-4-5", messages=messages, max_tokens=99
        )

    run_tools: Any = arun_tools if governed else partial(_by_hand, tool_uses, tool_messages)
    yield partial(_loop, ask, run_tools)
    await plain.close()


@asynccontextmanager
async def claude_agent_sdk(*, governed: bool) -> AsyncIterator[Run]:
    """Give a query of Claude Code, each a process of its own, with a provider on a loopback socket."""
    import claude_agent_sdk as sdk  # noqa: PLC0415

    from interlock_claude_agent_sdk import Script, govern, query, say, use  # noqa: PLC0415

    @sdk.tool("work", "Work.", {"amount": int})
    async def tool(_: dict[str, Any]) -> dict[str, Any]:
        return {"content": [{"type": "text", "text": await work(5)}]}

    async def allowed(*_: Any) -> Any:
        return sdk.PermissionResultAllow()

    async def run() -> object:
        with (
            tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home,
            Script([use("mcp__bench__work", amount=5)], [say("done")]) as script,
        ):
            options = sdk.ClaudeAgentOptions(
                model="claude-sonnet-4-5",
                tools=[],
                mcp_servers={"bench": sdk.create_sdk_mcp_server("bench", tools=[tool])},
                cwd=home,
                env=script.env(home),
                can_use_tool=allowed,
                setting_sources=[],
            )
            ask, told = (query, govern(options)) if governed else (sdk.query, options)
            return [message async for message in ask(prompt="go", options=told)]

    yield run


async def work(amount: int) -> str:
    """Work."""
    await asyncio.sleep(TOOL_S)
    return f"worked {amount}"


async def _loop(ask: Callable[[list[Any]], Awaitable[Any]], run_tools: Any) -> object:
    messages: list[Any] = [{"role": "user", "content": "go"}]
    answer = await ask(messages)
    while more := await run_tools(answer, tools=[work]):
        messages += more
        answer = await ask(messages)
    return answer


async def _by_hand(tool_uses: Any, tool_messages: Any, answer: Any, *, tools: list[Any]) -> Any:
    """Run the calls of an answer as a host does who has no Interlock."""
    del tools
    results = []
    for use in tool_uses(answer):
        sent = json.loads(use.arguments) if isinstance(use.arguments, str) else use.arguments
        results.append(ToolResult(id=use.id, name=use.name, text=await work(**sent)))
    return tool_messages(answer, results)


ADAPTERS: dict[str, Any] = {
    "interlock_openai_agents": openai_agents,
    "interlock_claude_agent_sdk": claude_agent_sdk,
    "interlock_mcp": mcp,
    "interlock_openai": openai,
    "interlock_anthropic": anthropic,
}


async def _sampled(made: AbstractAsyncContextManager[Run], seconds: float) -> Sample:
    clock = time.perf_counter
    times: list[float] = []
    async with made as run:
        await run()
        begun = last = clock()
        while last - begun < seconds:
            await run()
            now = clock()
            times.append(now - last)
            last = now
    return Sample(times, last - begun)


def _measured(runner: asyncio.Runner, make: Any, seconds: float, *, governed: bool) -> Sample:
    return runner.run(_sampled(make(governed=governed), seconds))


@contextmanager
def cells() -> Iterator[dict[str, Cell]]:
    """Give two cells for each adapter, with a session around."""
    with directory() as path, ExitStack() as stack:
        governor = stack.enter_context(Governor(f"sqlite:///{path / 'bench.db'}", policy=POLICY))
        stack.enter_context(governor.session("bench", agent="bench"))
        runner = stack.enter_context(asyncio.Runner())
        found: dict[str, Cell] = {}
        for package, make in ADAPTERS.items():
            if find_spec(package) is None:
                continue
            for governed in (False, True):
                name = f"{make.__name__}, {'governed' if governed else 'plain'}"
                found[name] = partial(_measured, runner, make, governed=governed)
        yield found


def main() -> None:
    """Measure and show."""
    options = Options(__doc__)
    with cells() as found:
        results = interleaved(options, found)
    names = [make.__name__ for make in ADAPTERS.values()]
    ratios: dict[str, float | None] = {}
    for name in names:
        plain, ours = results.get(f"{name}, plain"), results.get(f"{name}, governed")
        is_there = plain is not None and ours is not None
        ratios[f"{name}.over_plain"] = ours.typical_s / plain.typical_s if is_there else None
    show(
        options,
        title="Adapters",
        method=str(__doc__).strip(),
        results=results,
        ratios=ratios,
        meanings={
            f"{name}.over_plain": "time of a governed run over that of the same run without Interlock"
            for name in names
        },
    )


if __name__ == "__main__":
    main()
