"""Reasons: why a rule's condition holds or not: its tree, with the answer of each of its parts."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from interlock.policy.conditions import AllNode, AnyNode, NotNode
from interlock.policy.document import RuleDocument
from interlock.policy.leaves import Node
from interlock.policy.matching import MATCHERS
from interlock.policy.names import matcher
from interlock.policy.situation import Answer, Fault, Situation

_WORDS: dict[type[Node], str] = {AllNode: "all", AnyNode: "any", NotNode: "not"}


class Branch(msgspec.Struct, frozen=True):
    """
    A part of a condition.

    Attributes:
        text: What it says, as policies write it.
        answer: Whether it holds.
        branches: The conditions in it.
    """

    text: str
    answer: Answer
    branches: tuple[Branch, ...] = ()

    @property
    def data(self) -> dict[str, Any]:
        """The same as plain data."""
        plain: dict[str, Any] = {"condition": self.text, "answer": plain_answer(self.answer)}
        if isinstance(self.answer, Fault):
            plain["fault"] = self.answer.reason
        if self.branches:
            plain["in"] = [branch.data for branch in self.branches]
        return plain


def plain_answer(answer: Answer | None) -> bool | str | None:
    """Return *answer* as JSON has it: a fault is `"fault"`."""
    return "fault" if isinstance(answer, Fault) else answer


def branches(rule: RuleDocument, situation: Situation) -> tuple[Branch, ...]:
    """Return the conditions of *rule*, beyond the names that it is about, with their answers."""
    found = []
    if rule.resources is not None:
        resource = situation.call.resource
        answer = resource is not None and matcher(rule.resources)(resource)
        found.append(Branch(f"resources: {_flow(rule.resources)}", answer))
    if rule.when is not None:
        found.append(_branch(rule.when, situation))
    return tuple(found)


def about(rule: RuleDocument) -> str:
    """Return of which calls *rule* speaks, by names, as policies write it."""
    named = ((key, getattr(rule, key)) for key in MATCHERS if key != "resources")
    return ", ".join(f"{key}: {_flow(names)}" for key, names in named if names is not None)


def text_of(node: Node) -> str:
    """Return what *node* says, as policies write it."""
    if type(node) in _WORDS:
        return _WORDS[type(node)]
    plain = node.model_dump(mode="json", by_alias=True, exclude_unset=True)
    keys = sorted(plain, key=lambda key: key not in {"argument", "identity", "evaluator"})
    return ", ".join(f"{key}: {_flow(plain[key])}" for key in keys)


def _branch(node: Node, situation: Situation) -> Branch:
    inner = tuple(_branch(child, situation) for child in node.children)
    return Branch(text_of(node), node.predicate()(situation), inner)


def _flow(value: object) -> str:
    """A value in YAML's flow style, words without quotes."""
    match value:
        case str():
            return value
        case list() | tuple():
            return f"[{', '.join(map(_flow, value))}]"
        case dict():
            return "{" + ", ".join(f"{key}: {_flow(item)}" for key, item in value.items()) + "}"
        case _:
            return json.dumps(value)
