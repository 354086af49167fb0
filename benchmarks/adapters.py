"""
What an adapter adds to a run: the same run governed and not, in each framework whose adapter is installed.

A run is what a framework makes of one scripted answer that wants one call of a tool, which sleeps for 20 ms, and one
that ends the run. Governed, the call of the tool and, where the adapter governs models, both model calls are judged and
recorded, each by two durable transactions on SQLite. Nothing listens to the spans.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager, contextmanager
from functools import partial
from importlib.util import find_spec
from typing import Any

from _harness import Options, Sample, directory, interleaved, show

from interlock import Governor

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

    @function_tool
    async def work(amount: int) -> str:
        """Work."""
        await asyncio.sleep(TOOL_S)
        return f"worked {amount}"

    config, model = RunConfig(tracing_disabled=True), ScriptedModel()
    plain: Agent[Any] = Agent(name="bench", tools=[work], model=model)
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

    server = MCPServer("bench")

    @server.tool()
    async def work(amount: int) -> str:
        """Work."""
        await asyncio.sleep(TOOL_S)
        return f"worked {amount}"

    if governed:
        govern_server(server, name="bench")
    async with Client(server) as client:
        yield partial(client.call_tool, "work", {"amount": 5})


ADAPTERS: dict[str, Any] = {"interlock_openai_agents": openai_agents, "interlock_mcp": mcp}


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
