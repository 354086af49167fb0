"""Expressions: conditions in a language of their own, whose engine an installed distribution offers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from interlock._entry_points import find_entry_point, load, version_of
from interlock.errors import PluginError
from interlock.policy.situation import Answer, Fault, Situation

GROUP = "interlock.conditions"
"""The entry-point group in which distributions offer engines: functions from an expression to what evaluates it."""


class Expression:
    """An expression, compiled."""

    def __init__(self, language: str, text: str) -> None:
        """
        Compile *text*.

        Raises:
            ValueError: the engine is not installed, or does not take the expression; the message says why.
        """
        self._language = language
        try:
            self._evaluate = _compiled(language, text)
        except PluginError as error:
            raise ValueError(
                f"{error}. Install the engine: pip install interlock-{language}"
            ) from None

    def holds(self, situation: Situation) -> Answer:
        """Evaluate the expression; whatever is not exactly true or false is a fault."""
        try:
            answer = self._evaluate(_facts(situation))
        except Exception as error:  # noqa: BLE001 - whatever an engine of somebody else's raises
            return Fault(f"the {self._language} expression raised {type(error).__name__}")
        if answer is True or answer is False:
            return answer
        return Fault(f"the {self._language} expression is a {type(answer).__name__}")


@lru_cache(maxsize=4096)
def _compiled(language: str, text: str) -> Callable[[Mapping[str, Any]], object]:
    point = find_entry_point(GROUP, language)
    compile_ = load(point)
    if not callable(compile_):
        raise PluginError(
            f"{language!r}, from {version_of(point.dist)}, is no function of an expression",
            plugin=language,
            distribution=version_of(point.dist),
        )
    try:
        evaluate: Any = compile_(text)
    except ValueError:
        raise
    except Exception as error:
        raise ValueError(f"the {language} engine failed: {type(error).__name__}") from error
    found: Callable[[Mapping[str, Any]], object] = evaluate
    return found


def _facts(situation: Situation) -> dict[str, Any]:
    """What an expression may look at: plain data, by the names of the policy language."""
    call = situation.call
    tool, identity = call.tool, call.identity
    return {
        "arguments": call.arguments,
        "tool": {
            "name": tool.name,
            "kind": tool.kind,
            "labels": tool.labels,
            "capabilities": tool.capabilities,
        },
        "risk": situation.risk.value,
        "cost": call.cost,
        "resource": call.resource,
        "model": call.model,
        "mode": situation.mode.value,
        "identity": {
            "agent": identity.agent,
            "user": identity.user,
            "team": identity.team,
            "org": identity.org,
        },
    }
