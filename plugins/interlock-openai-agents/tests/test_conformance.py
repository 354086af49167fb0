"""The adapter passes the suite that every adapter has to pass, with the async runner and with the sync one."""

from __future__ import annotations

import asyncio
from itertools import count
from pathlib import Path
from typing import Any

from agents import Agent, Runner, RunState, WebSearchTool, function_tool, set_tracing_disabled
from agents.testing import ScriptedModel, assistant_message, function_call

from interlock import Session
from interlock.testing import AdapterHarness, AdapterSuite, Ran, Script
from interlock_openai_agents import apply_answers, govern


class Harness(AdapterHarness):
    """The SDK's async runner, with its own scripted model."""

    readme = Path(__file__).parents[1] / "README.md"

    def run(self, script: Script) -> Ran:
        """Run *script*."""
        return self.awaited(lambda: self._run(script), script)

    def offer_unknown(self, session: Session) -> None:
        """Offer a tool that runs at the provider."""
        govern(Agent(name="suite", tools=[WebSearchTool()]))

    def agent(self, script: Script) -> Agent[Any]:
        """Return the agent, whose model says what is written."""
        set_tracing_disabled(disabled=True)
        numbers = count(1)
        steps = [
            [
                function_call(name, dict(sent), call_id=f"call-{next(numbers)}")
                for name, sent in turn
            ]
            for turn in script.turns
        ]
        model = ScriptedModel([*steps, [assistant_message("done")]])
        tools: list[Any] = [function_tool(tool) for tool in script.tools]
        agent: Agent[Any] = Agent(name="suite", tools=tools, model=model)
        return govern(agent) if script.is_governed else agent

    async def _run(self, script: Script) -> Ran:
        agent = self.agent(script)
        given: Any = "go"
        if script.resumed is not None:
            given = await RunState.from_string(agent, script.resumed)
            await apply_answers(given)
        if script.is_streamed:
            result: Any = Runner.run_streamed(agent, given)
            async for _ in result.stream_events():
                pass
        else:
            result = await Runner.run(agent, given)
        return _ran(result)


class SyncHarness(Harness):
    """The SDK's sync runner, with plain functions as tools."""

    is_async = False
    lacks = {  # noqa: RUF012 - as users write it
        "cancel": "Runner.run_sync returns when the run is over, and nothing cancels it before.",
        "streaming": "The SDK streams from its async runner only.",
    }

    def run(self, script: Script) -> Ran:
        """Run *script*, in a loop that is closed afterwards; the SDK leaves its own open."""
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        try:
            agent = self.agent(script)
            given: Any = "go"
            if script.resumed is not None:
                given = loop.run_until_complete(RunState.from_string(agent, script.resumed))
                loop.run_until_complete(apply_answers(given))
            return _ran(Runner.run_sync(agent, given))
        except Exception as error:  # noqa: BLE001 - the suite judges it
            return Ran(error=error)
        finally:
            asyncio.set_event_loop(None)
            loop.close()


def _ran(result: Any) -> Ran:
    told = [str(one.output) for one in result.new_items if one.type == "tool_call_output_item"]
    paused = result.to_state().to_string() if result.interruptions else None
    return Ran(told=tuple(told), paused=paused)


class TestAsync(AdapterSuite):
    """The async runner."""

    harness = Harness


class TestSync(AdapterSuite):
    """The sync runner."""

    harness = SyncHarness
