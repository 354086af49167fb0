"""A naive interpreter of policy documents: rule by rule, call by call, nothing remembered and nothing prepared."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from fnmatch import fnmatchcase
from typing import Any, TypeAlias

from interlock import Call, Risk

Said: TypeAlias = tuple[str | None, str]
"""The id of a rule, None for the default, and a verdict."""

LEVELS = ["low", "medium", "high", "critical"]


def speaks(document: Mapping[str, Any], call: Call, risk: Risk, memory: Mapping[str, int]) -> Any:
    """What *document* says of *call*, and what its rules that only observe would say, in order."""
    observed: list[Said] = []
    for rule in document["rules"]:
        if not _is_about(rule, call):
            continue
        answer = _holds(rule["when"], call, risk) if "when" in rule else True
        if answer is False:
            continue
        verdict = "deny" if answer is None else rule["verdict"]
        if answer and "retries" in rule and memory[rule["id"]] >= rule["retries"]:
            verdict = "deny"
        if rule.get("mode") == "observe":
            observed.append((rule["id"], verdict))
        else:
            return observed, (rule["id"], verdict)
    return observed, (None, document.get("default", "deny"))


def _is_about(rule: Mapping[str, Any], call: Call) -> bool:
    who = call.identity
    names: dict[str, list[str | None]] = {
        "tools": [call.tool.name],
        "labels": [*call.tool.labels],
        "agents": [who.agent],
        "users": [who.user],
        "teams": [who.team],
        "orgs": [who.org],
        "models": [call.model],
        "resources": [call.resource],
    }
    return all(
        any(name is not None and fnmatchcase(name, one) for name in found for one in rule[key])
        for key, found in names.items()
        if key in rule
    )


def _holds(when: Mapping[str, Any], call: Call, risk: Risk) -> bool | None:
    """True, False, or None for what cannot be told."""
    if "all" in when or "any" in when:
        decisive = "any" in when
        answers = [_holds(part, call, risk) for part in when["any" if decisive else "all"]]
        if decisive in answers:
            return decisive
        return None if None in answers else not decisive
    if "not" in when:
        answer = _holds(when["not"], call, risk)
        return None if answer is None else not answer
    if "risk" in when:
        place = LEVELS.index(risk.value)
        least = LEVELS.index(when["risk"].get("at_least", "low"))
        return least <= place <= LEVELS.index(when["risk"].get("at_most", "critical"))
    if "identity" in when:
        found = getattr(call.identity, when["identity"])
        return None if found is None else bool(found == when["equals"])
    if "labels" in when:
        return any(label in call.tool.labels for label in when["labels"]["any_of"])
    value = call.arguments.get(when["argument"])
    if isinstance(value, bool) or not isinstance(value, (int, Decimal)):
        return None
    return bool(value <= when["at_most"])
