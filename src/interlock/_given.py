"""What a host gives a governor, in whatever form: its policy, budgets without one, and the tools that can be asked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from interlock._governed import probe_of, tool_of
from interlock._recovery import Probe
from interlock.errors import Misuse
from interlock.policy import Policy
from interlock.policy.budgets import Budgets

UNNAMED = "policy:budgets"
"""In whose name a governor without a policy halts what exceeds its budgets."""

_OBSERVE = {"version": 1, "name": "observe", "mode": "observe", "default": "allow"}


def policy_of(given: Policy | str | Path | Mapping[str, Any] | None) -> Policy | None:
    """
    Return the policy that is *given*: itself, its document, the path of its file, or the word `observe`.

    Raises:
        PolicyError: it is none.
    """
    match given:
        case None | Policy():
            return given
        case "observe":
            return Policy.build(_OBSERVE)
        case Mapping():
            return Policy.build(given)
        case str() | Path():
            return Policy.load(given)


def budgets_of(policy: Policy | None, given: Iterable[Mapping[str, Any]]) -> Budgets:
    """
    Return the budgets of *policy*, or those that are *given* where there is none.

    Raises:
        Misuse: there are both.
        PolicyError: what is given is no list of budgets.
    """
    if policy is None:
        # What is no list of mappings is told so by the same words as in a policy.
        listed = (
            given
            if isinstance(given, (str, Mapping)) or not isinstance(given, Iterable)
            else [*given]
        )
        return Policy.build({"version": 1, "name": "budgets", "budgets": listed}).budgets
    if given:
        raise Misuse("budgets= is for a governor without a policy; write them into the policy")
    return policy.budgets


def probes_of(tools: Iterable[Callable[..., Any]]) -> dict[str, Probe]:
    """
    Return what can be asked whether a call has happened, by the name of its tool.

    Raises:
        Misuse: one of *tools* is not governed.
    """
    found: dict[str, Probe] = {}
    for function in tools:
        tool, probe = tool_of(function), probe_of(function)
        if tool is None:
            raise Misuse(f"{function!r} is not governed, so recovery cannot ask it anything")
        if probe is not None:
            found[tool.name] = probe
    return found
