"""
The canary: calls that must be refused, driven through the SDK's real path for tools, handoffs and models.

The places that Interlock stands in are the SDK's, and some of them may change with its versions. What would then run
ungoverned is found here.
"""

from __future__ import annotations

import asyncio
from typing import Any

from agents import Agent, RunConfig, Runner, function_tool
from agents.testing import ScriptedModel, assistant_message, function_call

from interlock import Denied
from interlock.canaries import DeadCanaryError, cage, sing
from interlock_openai_agents.agents import govern

_RULES: list[dict[str, Any]] = [
    {"id": "never", "tools": ["never", "transfer_to_never"], "verdict": "deny"},
    {"id": "model", "tools": ["chat"], "agents": ["mute"], "verdict": "deny"},
]

_UNTRACED = RunConfig(tracing_disabled=True)


def canary() -> None:
    """
    Make calls that must be refused: of a tool, a handoff and a model, streamed and not.

    It takes a moment and touches nothing of the host's: books in memory, no process, no network. It may be called
    where an event loop runs.

    Raises:
        PluginError: one of them was made, or its refusal was not told, or a call that is allowed was not made.
    """
    sing("openai-agents", lambda: asyncio.run(_song()))


async def _song() -> None:
    with cage(_RULES) as governor:
        for is_streamed in (False, True):
            way = "streamed" if is_streamed else "whole"
            with governor.session("canary", agent="canary"):
                ran, told = await _tools(is_streamed=is_streamed)
                if ran != ["ever"] or told.count("is denied") != 2:  # noqa: PLR2004 - the tool and the handoff
                    raise DeadCanaryError(
                        f"a run ({way}) that is governed does not refuse what the policy denies, and only that (ran: "
                        f"{', '.join(ran) or 'nothing'})"
                    )
            with governor.session("canary", agent="mute"):
                if await _asked(is_streamed=is_streamed):
                    raise DeadCanaryError(f"a model that the policy denies is asked ({way})")


async def _tools(*, is_streamed: bool) -> tuple[list[str], str]:
    """Make a run that wants all of it; return what ran, and what the model was told."""
    ran: list[str] = []

    def never() -> str:
        ran.append("never")
        return "ran"

    def ever() -> str:
        ran.append("ever")
        return "ran"

    wanted = [function_call(name, {}, call_id=name) for name in ("never", "ever")]
    handed = [function_call("transfer_to_never", {}, call_id="handoff")]
    ended = [assistant_message("done")]
    other: Agent[Any] = Agent(name="never", model=ScriptedModel([ended]))
    agent: Agent[Any] = Agent(
        name="canary",
        tools=[function_tool(never), function_tool(ever)],
        handoffs=[other],
        model=ScriptedModel([wanted, handed, ended]),
    )
    result = await _run(govern(agent), is_streamed=is_streamed)
    if result.last_agent.name != "canary":
        ran.append("transfer_to_never")
    return ran, str([getattr(item, "raw_item", "") for item in result.new_items])


async def _asked(*, is_streamed: bool) -> bool:
    """Whether a model that is denied is asked."""
    model = ScriptedModel([[assistant_message("done")]])
    try:
        await _run(govern(Agent(name="canary", model=model)), is_streamed=is_streamed)
    except Denied:
        return not model.remaining_steps
    return True


async def _run(agent: Agent[Any], *, is_streamed: bool) -> Any:
    if not is_streamed:
        return await Runner.run(agent, "sing", run_config=_UNTRACED)
    result = Runner.run_streamed(agent, "sing", run_config=_UNTRACED)
    async for _ in result.stream_events():
        pass
    return result
