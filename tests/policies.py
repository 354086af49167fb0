"""Policies for the tests: plain ones, and strategies that make any sound one."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from hypothesis import strategies as st

from interlock import Opinion, Tool
from interlock.policy import Policy
from tests.samples import call_of

WHENS: dict[str, dict[str, Any] | None] = {
    "always": None,
    "true": {"argument": "yes", "equals": True},
    "false": {"argument": "yes", "equals": False},
    "fault": {"argument": "nowhere", "equals": True},
}
CALL = {"yes": True}


def document(*rules: dict[str, Any], **head: Any) -> dict[str, Any]:
    """A policy of those rules."""
    return {"version": 1, "name": "p", **head, "rules": list(rules)}


def rule(name: str, *tools: str, verdict: str = "allow", **more: Any) -> dict[str, Any]:
    """A rule for those tools, or for all."""
    return {"id": name, "tools": list(tools) or ["*"], "verdict": verdict, **more}


def judged(data: dict[str, Any], tool: str = "pay", arguments: Any = CALL) -> Opinion:
    """What a policy thinks of a call."""
    return Policy.build(data).opinion(call_of(arguments, tool=Tool(name=tool)))


leaves = st.sampled_from([when for when in WHENS.values() if when])
whens = st.recursive(
    leaves
    | st.builds(
        lambda name, word, value: {"argument": name, word: value},
        st.sampled_from(["amount", "a.b"]),
        st.sampled_from(["equals", "at_most", "at_least"]),
        st.integers(-(2**70), 2**70)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.sampled_from(["", "é", "1", "true", "null", "~", "- x", "a: b", "# c", "\u200b"]),
    )
    | st.sampled_from([{"argument": "x", "equals": None}, {"argument": "x", "contains": None}])
    | st.sampled_from([{"risk": {"at_most": "low"}}, {"cost": {"at_least": 0.5}}]),
    lambda inner: (
        st.builds(lambda items: {"all": items}, st.lists(inner, min_size=1, max_size=3))
        | st.builds(lambda items: {"any": items}, st.lists(inner, min_size=1, max_size=3))
        | st.builds(lambda item: {"not": item}, inner)
    ),
    max_leaves=5,
)
patterns = st.sampled_from(["pay", "pa?", "p*", "*", "refund", "[pr]*", "PAY", "wire_*"])


@st.composite
def rules(draw: st.DrawFn, conditions: st.SearchStrategy[Any] = whens) -> dict[str, Any]:
    """Any sound rule; its id is given where it is used."""
    made: dict[str, Any] = {
        "tools": draw(st.lists(patterns, min_size=1, max_size=3)),
        "verdict": draw(st.sampled_from(["allow", "ask", "deny", "steer"])),
    }
    if made["verdict"] == "steer":
        made["guidance"] = "Ask."
    if made["verdict"] == "ask":
        made["expires"] = draw(st.sampled_from(["1h", "90s", "1500ms", timedelta(minutes=2)]))
    if (when := draw(st.none() | conditions)) is not None:
        made["when"] = when
    if draw(st.booleans()):
        made["reason"] = draw(st.sampled_from(["x", "é", "\U0001f600", "\ufffe", "a: b", "# c"]))
    return made


@st.composite
def documents(draw: st.DrawFn, conditions: st.SearchStrategy[Any] = whens) -> dict[str, Any]:
    """Any sound policy without evaluators."""
    made = draw(st.lists(rules(conditions), max_size=5))
    default = draw(st.sampled_from(["allow", "ask", "deny"]))
    return document(*({"id": f"r{n}", **item} for n, item in enumerate(made)), default=default)
