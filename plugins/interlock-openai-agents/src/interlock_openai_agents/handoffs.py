"""Governed handoffs: each is a call of its own, and leads to a governed agent."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from agents import Agent, Handoff, RunContextWrapper

from interlock import InterlockError, Refused, Tool, current_session
from interlock.errors import EvaluatorFailed
from interlock.tool_use import arguments_in
from interlock_openai_agents.errors import Misuse, stop

_refused: ContextVar[str | None] = ContextVar("interlock_openai_agents_refused", default=None)
"""What the model is to be told instead of the handoff that has just been refused in this task."""


class GovernedHandoff:
    """What a governed handoff has in the place of its `on_invoke_handoff`."""

    def __init__(
        self, original: Handoff[Any, Any], owner: Agent[Any], govern: Callable[[Any], Agent[Any]]
    ) -> None:
        """Govern *original*, of the agent *owner*; what it leads to is governed by *govern*."""
        self.original = original
        self._owner = weakref.ref(owner)
        self._govern = govern

    async def __call__(self, context: RunContextWrapper[Any], raw: str) -> Agent[Any]:
        """Judge the handoff, and make it; where it is refused, the run stays with its agent, and the model is told."""
        original = self.original
        tool = Tool(name=original.tool_name, kind="handoff", resource="to")
        reached: list[Agent[Any]] = []
        raised: list[BaseException] = []

        async def run(judged: dict[str, Any]) -> str:
            if judged["to"] != original.agent_name:
                raise Misuse(
                    f"{tool.name} leads to {original.agent_name!r}, and nobody can change where to"
                )
            try:
                target = await original.on_invoke_handoff(context, raw)
            except BaseException as error:
                raised.append(error)
                raise
            reached.append(self._govern(target))
            return str(target.name)

        _refused.set(None)
        try:
            arguments = {"to": original.agent_name, "input": arguments_in(raw)}
            await current_session(tool.name).acall(tool, arguments, run)
        except ValueError as error:
            if raised and error is raised[0]:
                raise
            return self._stay(
                f"{tool.name} was not done: {error}. Call it again with one JSON object."
            )
        except InterlockError as error:
            if raised and error is raised[0]:
                raise
            if isinstance(error, (Refused, EvaluatorFailed)) and not reached:
                return self._stay(str(error))
            stop(error)
        if not reached:  # a dry run
            return self._stay(f"This is a dry run: {tool.name} was not done.")
        return reached[0]

    def _stay(self, told: str) -> Agent[Any]:
        owner = self._owner()
        if owner is None:
            raise Misuse(f"{told} The agent that wanted it is gone, so the run cannot go on.")
        _refused.set(told)
        return owner


def govern_handoff(
    original: Handoff[Any, Any], owner: Agent[Any], govern: Callable[[Any], Agent[Any]]
) -> Handoff[Any, Any]:
    """Return a copy of *original* that is judged, for the agent *owner*, and leads to what *govern* makes of it."""
    result = copy.copy(original)
    result.on_invoke_handoff = GovernedHandoff(original, owner, govern)

    def message(agent: Agent[Any]) -> str:
        told = _refused.get()
        return original.get_transfer_message(agent) if told is None else told

    result.__dict__["get_transfer_message"] = message
    return result
