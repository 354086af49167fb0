"""Bounds: conditions that can never hold, as what they ask of one thing excludes itself, or that are said twice."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from interlock._call import Risk
from interlock.policy.comparisons import Comparison
from interlock.policy.conditions import AllNode, AnyNode, within
from interlock.policy.leaves import (
    AgentNode,
    ArgumentNode,
    CallCount,
    CallsNode,
    CostNode,
    IdentityNode,
    Node,
    ResourceNode,
    RiskNode,
    RiskRange,
)
from interlock.policy.reasons import text_of

_Bounded = Comparison | RiskRange | CallCount


def contradictions(node: Node) -> Iterator[str]:
    """Yield why *node* can never hold, a phrase each: bounds of numbers or risks that exclude each other."""
    subjects: dict[str, list[_Bounded]] = {}
    for leaf in _together(node):
        if (found := _subject(leaf)) is not None:
            subject, bounds = found
            subjects.setdefault(subject, []).append(bounds)
    for subject, ranges in subjects.items():
        least = max(_given(ranges, "at_least"), default=None, key=_bound)
        most = min(_given(ranges, "at_most"), default=None, key=_bound)
        if least is not None and most is not None and least[0] > most[0]:
            yield f"{subject} cannot be at least {least[1]} and at most {most[1]}"


def repetitions(node: Node) -> Iterator[str]:
    """Yield the conditions that stand twice in one list."""
    for inner in within(node):
        if not isinstance(inner, (AllNode, AnyNode)):
            continue
        children = inner.children
        for number, child in enumerate(children):
            if child in children[:number]:
                yield text_of(child)


def _together(node: Node) -> Iterator[Node]:
    """Yield the leaves that all have to hold where *node* does."""
    if isinstance(node, AllNode):
        for child in node.children:
            yield from _together(child)
    elif not node.children:
        yield node


def _subject(leaf: Node) -> tuple[str, _Bounded] | None:
    match leaf:
        case ArgumentNode():
            return f"argument {leaf.argument}", leaf  # a list of keys is written as one
        case IdentityNode():
            return f"the {leaf.identity}", leaf
        case CostNode():
            return "the cost", leaf.cost
        case ResourceNode():
            return "the resource", leaf.resource
        case AgentNode():
            return "the agent", leaf.agent
        case RiskNode():
            return "the risk", leaf.risk
        case CallsNode():
            counted = leaf.calls
            return f"the number of {counted.outcome} calls of {', '.join(counted.tools)}", counted
        case _:
            return None


def _given(ranges: list[_Bounded], word: str) -> Iterator[tuple[Decimal | Risk, object]]:
    """Yield the bounds with that word, those of `equals` too, and how each is written; text is left out."""
    for bounds in ranges:
        for key in (word, "equals"):
            value = getattr(bounds, key)
            if isinstance(bounds, RiskRange):
                if value is not None:
                    yield Risk(value), value
            elif isinstance(value, (int, float)) and not isinstance(value, bool):
                yield Decimal(repr(value)), value


def _bound(pair: tuple[Decimal | Risk, object]) -> Any:
    return pair[0]
