"""govern(): an agent, and all that it can hand over to, with every tool governed or refused."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Iterable
from functools import cache
from typing import Any, ClassVar, TypeAlias

from agents import Agent, FunctionTool, Handoff, RunContextWrapper
from agents.sandbox import SandboxAgent
from agents.tool import Tool as AnyTool

from interlock_openai_agents.tools import Governed, Misuse, govern_tool, is_agent

# The original, so that its id stays its own, and its governed copy.
_Known: TypeAlias = dict[int, tuple[Agent[Any], "GovernedAgent"]]


def govern(agent: Agent[Any], *, accept: Iterable[str] = ()) -> Agent[Any]:
    """
    Return a copy of *agent* whose function tools run only as the current Interlock session lets them.

    Run it inside `with governor.session(…):`. Covered are its function tools, those of its MCP servers, governed
    agents as tools, and the same of every agent that it can hand over to. *agent* itself stays as it is.

    Args:
        agent: The agent.
        accept: Names of tools that Interlock cannot govern, such as hosted ones, and that may be used all the same.

    Raises:
        Misuse: a tool cannot be governed and is not accepted. One that turns up later ends the run with it.
    """
    return _governed(agent, frozenset(accept), {})


class GovernedAgent(Agent[Any]):
    """An agent whose tools are governed. The class of each derives from this one and from its original's."""

    _accept: ClassVar[frozenset[str]] = frozenset()

    def __post_init__(self) -> None:
        """Govern what a clone was given."""
        super().__post_init__()  # type: ignore[no-untyped-call]
        self.tools = [_tool(tool, self._accept) for tool in self.tools]
        self.handoffs = [_handoff(handoff, self._accept, {}) for handoff in self.handoffs]

    async def get_all_tools(self, run_context: RunContextWrapper[Any]) -> list[AnyTool]:
        """Return the tools of this turn, governed: also those of MCP servers and those added since."""
        if not all(_is_governed(handoff) for handoff in self.handoffs):
            raise Misuse(
                f"a handoff was added to the governed agent {self.name!r}, and what it leads to is not governed; "
                "add it to the original before govern(), or add govern(target)"
            )
        tools = [_tool(tool, self._accept) for tool in await super().get_all_tools(run_context)]
        invokers = self.__dict__.setdefault("_interlock_invokers", {})
        for tool in tools:
            if isinstance(tool, FunctionTool) and isinstance(tool.on_invoke_tool, Governed):
                invokers[tool.qualified_name] = tool.on_invoke_tool
        return tools

    def invoker(self, name: str | None) -> Governed | None:
        """Return what runs the tool called *name*; None if that is not governed, or was not offered yet."""
        found: Governed | None = self.__dict__.get("_interlock_invokers", {}).get(name)
        return found


@cache
def _class_for(original: Any, accept: frozenset[str]) -> type[GovernedAgent]:
    shown = {name: getattr(original, name) for name in ("__module__", "__qualname__", "__doc__")}
    return type(original.__name__, (GovernedAgent, original), {**shown, "_accept": accept})


def _governed(agent: object, accept: frozenset[str], known: _Known) -> GovernedAgent:
    if isinstance(agent, GovernedAgent):
        return agent
    if id(agent) in known:
        return known[id(agent)][1]
    if not isinstance(agent, Agent) or isinstance(agent, SandboxAgent):
        raise Misuse(f"a {type(agent).__name__} cannot be governed yet; only an agents.Agent can")
    result: Any = agent.clone(tools=[_tool(tool, accept) for tool in agent.tools], handoffs=[])
    original: Any = type(agent)
    result.__class__ = _class_for(original, accept)
    known[id(agent)] = agent, result  # before what it hands over to: that may lead back here
    result.handoffs = [_handoff(handoff, accept, known) for handoff in agent.handoffs]
    governed: GovernedAgent = result
    return governed


def _tool(tool: AnyTool, accept: frozenset[str]) -> AnyTool:
    if not isinstance(tool, FunctionTool):
        if tool.name not in accept:
            raise Misuse(
                f"{tool.name} is a {type(tool).__name__}, which Interlock cannot govern yet; take it away, "
                f'or let it through ungoverned with govern(agent, accept=["{tool.name}"])'
            )
        return tool
    if is_agent(tool):
        inside = getattr(tool, "_agent_instance", None)
        if not isinstance(inside, GovernedAgent) and tool.name not in accept:
            raise Misuse(
                f"{tool.name} is an agent as a tool, and that agent's own tools are not governed; make it with "
                f'govern(inner).as_tool(…), or accept that with govern(agent, accept=["{tool.name}"])'
            )
    return govern_tool(tool)


class _GovernedHandoff:
    """What a governed handoff has in the place of its `on_invoke_handoff`: it leads to a governed agent."""

    def __init__(self, original: Handoff[Any, Any], accept: frozenset[str], known: _Known) -> None:
        self._original = original
        self._accept = accept
        self._known = known

    async def __call__(self, context: RunContextWrapper[Any], raw: str) -> GovernedAgent:
        target = await self._original.on_invoke_handoff(context, raw)
        return _governed(target, self._accept, self._known)


def _handoff(
    given: Agent[Any] | Handoff[Any, Any], accept: frozenset[str], known: _Known
) -> Agent[Any] | Handoff[Any, Any]:
    if not isinstance(given, Handoff):
        return _governed(given, accept, known)
    if _is_governed(given):
        return given
    result = copy.copy(given)
    result.on_invoke_handoff = _GovernedHandoff(given, accept, known)
    # Where the SDK looks for the agents of a run that it restores: the ungoverned one must not be found there.
    target = given._agent_ref() if given._agent_ref is not None else None  # noqa: SLF001
    result._agent_ref = None if target is None else weakref.ref(_governed(target, accept, known))  # noqa: SLF001
    return result


def _is_governed(handoff: Agent[Any] | Handoff[Any, Any]) -> bool:
    if isinstance(handoff, Handoff):
        return isinstance(handoff.on_invoke_handoff, _GovernedHandoff)
    return isinstance(handoff, GovernedAgent)
