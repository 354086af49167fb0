"""
Conditions: the `when` of a rule, parsed to models and compiled to closures.

A condition answers True, False or a `Fault`: it could not be told. Trees combine the three as Kleene's strong
logic does, so `all` with one False is False and `any` with one True is True whatever the others are, and every
other tree with a fault in it is a fault. A fault is never a match and never a silent no-match: the policy turns
it into a DENY.

Source: S. C. Kleene, Introduction to Metamathematics (1952), section 64.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated

from pydantic import Discriminator, Field, Tag

from interlock.policy.leaves import (
    AfterNode,
    AgentNode,
    ArgumentNode,
    CallsNode,
    CelNode,
    CostNode,
    EvaluatorNode,
    IdentityNode,
    LabelsNode,
    ModeNode,
    Node,
    ResourceNode,
    RiskNode,
    TimeNode,
)
from interlock.policy.situation import Answer, Fault, Predicate, Situation

MAX_DEPTH = 32
"""Trees deeper than this are refused when the policy is parsed: nobody can read them, and the closures nest as deep."""


class AllNode(Node):
    """Every one of the conditions."""

    all: tuple[Condition, ...] = Field(min_length=1)

    @property
    def children(self) -> tuple[Node, ...]:
        """The conditions in it."""
        return self.all

    def predicate(self) -> Predicate:
        """False as soon as one is False, else a fault if one is, else True."""
        return _kleene([child.predicate() for child in self.all], decisive=False)


class AnyNode(Node):
    """At least one of the conditions."""

    any: tuple[Condition, ...] = Field(min_length=1)

    @property
    def children(self) -> tuple[Node, ...]:
        """The conditions in it."""
        return self.any

    def predicate(self) -> Predicate:
        """True as soon as one is True, else a fault if one is, else False."""
        return _kleene([child.predicate() for child in self.any], decisive=True)


class NotNode(Node):
    """The opposite of the condition."""

    not_: Condition = Field(alias="not")

    @property
    def children(self) -> tuple[Node, ...]:
        """The condition in it."""
        return (self.not_,)

    def predicate(self) -> Predicate:
        """The opposite; a fault stays a fault."""
        child = self.not_.predicate()

        def holds(situation: Situation) -> Answer:
            answer = child(situation)
            return answer if isinstance(answer, Fault) else not answer

        return holds


NODES: dict[str, type[Node]] = {
    "all": AllNode,
    "any": AnyNode,
    "not": NotNode,
    "argument": ArgumentNode,
    "risk": RiskNode,
    "cost": CostNode,
    "resource": ResourceNode,
    "identity": IdentityNode,
    "agent": AgentNode,
    "labels": LabelsNode,
    "mode": ModeNode,
    "time": TimeNode,
    "calls": CallsNode,
    "after": AfterNode,
    "evaluator": EvaluatorNode,
    "cel": CelNode,
}
"""The conditions, by the key that makes a mapping one of them."""


def _kind(data: object) -> str | None:
    if isinstance(data, Node):
        return f"<{next(name for name, node in NODES.items() if isinstance(data, node))}>"
    found = [name for name in NODES if isinstance(data, Mapping) and name in data]
    return f"<{found[0]}>" if len(found) == 1 else None


Condition = Annotated[
    Annotated[AllNode, Tag("<all>")]
    | Annotated[AnyNode, Tag("<any>")]
    | Annotated[NotNode, Tag("<not>")]
    | Annotated[ArgumentNode, Tag("<argument>")]
    | Annotated[RiskNode, Tag("<risk>")]
    | Annotated[CostNode, Tag("<cost>")]
    | Annotated[ResourceNode, Tag("<resource>")]
    | Annotated[IdentityNode, Tag("<identity>")]
    | Annotated[AgentNode, Tag("<agent>")]
    | Annotated[LabelsNode, Tag("<labels>")]
    | Annotated[ModeNode, Tag("<mode>")]
    | Annotated[TimeNode, Tag("<time>")]
    | Annotated[CallsNode, Tag("<calls>")]
    | Annotated[AfterNode, Tag("<after>")]
    | Annotated[EvaluatorNode, Tag("<evaluator>")]
    | Annotated[CelNode, Tag("<cel>")],
    Discriminator(
        _kind,
        custom_error_type="condition",
        custom_error_message=f"a condition is a mapping with exactly one of: {', '.join(NODES)}",
    ),
]


def within(node: Node) -> Iterator[Node]:
    """Yield *node* and all conditions in it."""
    yield node
    for child in node.children:
        yield from within(child)


def depth_of(node: Node) -> int:
    """Return how many levels of conditions *node* has."""
    return 1 + max((depth_of(child) for child in node.children), default=0)


def _kleene(children: list[Predicate], *, decisive: bool) -> Predicate:
    def holds(situation: Situation) -> Answer:
        fault: Fault | None = None
        for child in children:
            answer = child(situation)
            if isinstance(answer, Fault):
                fault = fault or answer
            elif answer is decisive:
                return decisive
        return fault if fault is not None else not decisive

    return holds
