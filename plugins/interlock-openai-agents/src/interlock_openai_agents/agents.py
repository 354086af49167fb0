"""govern(): an agent, and all that it can hand over to, with every tool governed or refused."""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Iterable
from functools import cache, partial
from typing import Any, ClassVar, TypeAlias, overload

from agents import Agent, FunctionTool, Handoff, Model, ModelProvider, RunConfig, RunContextWrapper
from agents import handoff as handoff_to
from agents.sandbox import SandboxAgent
from agents.tool import Tool as AnyTool

from interlock_openai_agents.errors import Misuse
from interlock_openai_agents.handoffs import GovernedHandoff, govern_handoff
from interlock_openai_agents.models import GovernedModel, NamedModel, govern_model, govern_provider
from interlock_openai_agents.tools import Governed, govern_tool, is_agent

# The original, so that its id stays its own, and its governed copy.
_Known: TypeAlias = dict[int, tuple[Agent[Any], "GovernedAgent"]]


@overload
def govern(
    given: Agent[Any], *, accept: Iterable[str] = (), provider: ModelProvider | None = None
) -> Agent[Any]: ...


@overload
def govern(given: RunConfig) -> RunConfig: ...


def govern(
    given: Agent[Any] | RunConfig,
    *,
    accept: Iterable[str] = (),
    provider: ModelProvider | None = None,
) -> Agent[Any] | RunConfig:
    """
    Return a copy of *given* whose calls are made only as the current Interlock session lets them.

    Run it inside `with governor.session(…):`. Covered of an agent are its model calls, its function tools, those of its
    MCP servers, governed agents as tools, its handoffs, and the same of every agent that it can hand over to. Covered
    of a `RunConfig` are the calls of its model, or of the models that its provider finds; it overrides those of agents,
    so a run that is given one needs it governed. *given* itself stays as it is.

    Args:
        given: The agent, or the configuration of runs.
        accept: Names of tools that Interlock cannot govern, such as hosted ones, and that may be used all the same.
        provider: Finds models that agents know by name; None: the SDK's own does.

    Raises:
        Misuse: a tool cannot be governed and is not accepted. One that turns up later ends the run with it.
    """
    if isinstance(given, RunConfig):
        return _configured(given)
    return _governed(given, _Terms(frozenset(accept), provider), {})


@dataclasses.dataclass(frozen=True)
class _Terms:
    """What holds for an agent and all that it leads to."""

    accept: frozenset[str] = frozenset()
    provider: ModelProvider | None = None


class GovernedAgent(Agent[Any]):
    """An agent whose tools are governed. The class of each derives from this one and from its original's."""

    _terms: ClassVar[_Terms] = _Terms()

    def __post_init__(self) -> None:
        """Govern what a clone was given."""
        super().__post_init__()  # type: ignore[no-untyped-call]
        self.model = _model(self.model, self._terms)
        self.tools = [_tool(tool, self._terms.accept) for tool in self.tools]
        self.handoffs = [_handoff(handoff, self, self._terms, {}) for handoff in self.handoffs]

    async def get_all_tools(self, run_context: RunContextWrapper[Any]) -> list[AnyTool]:
        """Return the tools of this turn, governed: also those of MCP servers and those added since."""
        if not isinstance(self.model, (GovernedModel, NamedModel)):
            raise Misuse(
                f"the governed agent {self.name!r} was given another model, whose calls are not governed; give it to "
                "the original before govern(), or to clone(model=…)"
            )
        if not all(_is_governed(handoff) for handoff in self.handoffs):
            raise Misuse(
                f"a handoff was added to the governed agent {self.name!r}, and what it leads to is not governed; "
                "add it to the original before govern(), or add govern(target)"
            )
        tools = [
            _tool(tool, self._terms.accept) for tool in await super().get_all_tools(run_context)
        ]
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
def _class_for(original: Any, terms: _Terms) -> type[GovernedAgent]:
    shown = {name: getattr(original, name) for name in ("__module__", "__qualname__", "__doc__")}
    return type(original.__name__, (GovernedAgent, original), {**shown, "_terms": terms})


def _governed(agent: object, terms: _Terms, known: _Known) -> GovernedAgent:
    if isinstance(agent, GovernedAgent):
        return agent
    if id(agent) in known:
        return known[id(agent)][1]
    if not isinstance(agent, Agent) or isinstance(agent, SandboxAgent):
        raise Misuse(f"a {type(agent).__name__} cannot be governed yet; only an agents.Agent can")
    tools = [_tool(tool, terms.accept) for tool in agent.tools]
    result: Any = agent.clone(tools=tools, handoffs=[])
    result.model = _model(
        agent.model, terms
    )  # not through the clone, which would take its settings for another's
    original: Any = type(agent)
    result.__class__ = _class_for(original, terms)
    known[id(agent)] = agent, result  # before what it hands over to: that may lead back here
    result.handoffs = [_handoff(handoff, result, terms, known) for handoff in agent.handoffs]
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


def _handoff(
    given: Agent[Any] | Handoff[Any, Any], owner: Agent[Any], terms: _Terms, known: _Known
) -> Handoff[Any, Any]:
    if isinstance(given, Handoff):
        if isinstance(
            given.on_invoke_handoff, GovernedHandoff
        ):  # of the agent that this is a clone of
            given = given.on_invoke_handoff.original
        target = given._agent_ref() if given._agent_ref is not None else None  # noqa: SLF001
    else:
        target, given = given, handoff_to(given)
    result = govern_handoff(given, owner, partial(_governed, terms=terms, known=known))
    # Where the SDK looks for the agents of a run that it restores: the ungoverned one must not be found there.
    result._agent_ref = (  # noqa: SLF001
        None if target is None else weakref.ref(_governed(target, terms, known))
    )
    return result


def _is_governed(handoff: Agent[Any] | Handoff[Any, Any]) -> bool:
    return isinstance(handoff, Handoff) and isinstance(handoff.on_invoke_handoff, GovernedHandoff)


def _model(model: str | Model | None, terms: _Terms) -> Model:
    if isinstance(model, (GovernedModel, NamedModel)):
        return model
    if isinstance(model, Model):
        return govern_model(model)
    return NamedModel(model, terms.provider)


def _configured(config: RunConfig) -> RunConfig:
    model = govern_model(config.model) if isinstance(config.model, Model) else config.model
    return dataclasses.replace(
        config, model=model, model_provider=govern_provider(config.model_provider)
    )
