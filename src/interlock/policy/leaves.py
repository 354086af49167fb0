"""
Leaves: the conditions that look at a call and at what is known around it.

Each answers True, False or a `Fault`, when it cannot be told.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StrictInt, StrictStr, model_validator

from interlock._argument import MISSING, ArgumentPath, Place
from interlock._call import Risk
from interlock._memory import Calls, Steps, Tracker
from interlock.policy.comparisons import Comparison
from interlock.policy.expressions import Expression
from interlock.policy.questions import Question
from interlock.policy.situation import Answer, Fault, Predicate, Situation
from interlock.policy.times import TimeRange
from interlock.policy.values import Level, Name, OneOrMore, Strict


class Node(Strict):
    """A condition."""

    @property
    def children(self) -> tuple[Node, ...]:
        """The conditions in it."""
        return ()

    def predicate(self) -> Predicate:
        """Return a function that says of a situation whether the condition holds."""
        raise NotImplementedError

    @property
    def trackers(self) -> tuple[Tracker, ...]:
        """What it wants the session to remember."""
        return ()

    @property
    def needs_time(self) -> bool:
        """Whether it asks for the time."""
        return False


class ArgumentNode(Comparison, Node):
    """An argument, or a part of one: `order.items.0.price`, or a list of keys where a key holds a dot."""

    argument: ArgumentPath

    def predicate(self) -> Predicate:
        """Compare what stands at the path; a path that leads nowhere is a fault."""
        place = Place(self.argument)
        subject = f"argument {place.name}"
        nowhere = Fault(f"{subject} does not exist")
        find, test = place.find, self.test(subject)

        def is_met(situation: Situation) -> Answer:
            value = find(situation.call.arguments)
            return nowhere if value is MISSING else test(value)

        return is_met


class CostNode(Node):
    """The cost of the call in US dollars, as its tool declares it or its estimate says."""

    cost: Comparison

    def predicate(self) -> Predicate:
        """Compare the cost; a call without one is a fault."""
        test = self.cost.test("the cost")
        unknown = Fault("the call's cost is not known")

        def is_met(situation: Situation) -> Answer:
            cost = situation.call.cost
            return unknown if cost is None else test(cost)

        return is_met


class RiskRange(Strict):
    """Bounds on the scale low, medium, high, critical; several bounds must all hold."""

    _needs_one_of = ("at_most", "at_least", "equals")

    at_most: Level | None = None
    at_least: Level | None = None
    equals: Level | None = None

    @model_validator(mode="after")
    def _bounds_something(self) -> RiskRange:
        if not self.model_fields_set:
            raise ValueError("nothing to compare with; add at_most, at_least or equals")
        return self


class RiskNode(Node):
    """The risk of the call: what its tool declares, and what policy, plugins and the session's past make of it."""

    risk: RiskRange

    def predicate(self) -> Predicate:
        """Compare the risk, which every call has."""
        wanted = self.risk
        least = max(Risk(word) for word in (wanted.equals, wanted.at_least, "low") if word)
        most = min(Risk(word) for word in (wanted.equals, wanted.at_most, "critical") if word)
        within = {risk: least <= risk <= most for risk in Risk}
        return lambda situation: within[situation.risk]


class ResourceNode(Node):
    """What the call acts on, as text."""

    resource: Comparison

    def predicate(self) -> Predicate:
        """Compare the resource; a call without one is a fault."""
        test = self.resource.test("the resource")
        unknown = Fault("the call has no resource")

        def is_met(situation: Situation) -> Answer:
            resource = situation.call.resource
            return unknown if resource is None else test(resource)

        return is_met


class IdentityNode(Comparison, Node):
    """On whose behalf the session runs: its `agent`, `user`, `team` or `org`; null where it has none."""

    identity: Literal["agent", "user", "team", "org"]

    def predicate(self) -> Predicate:
        """Compare the name."""
        who, test = self.identity, self.test(f"the {self.identity}")
        return lambda situation: test(getattr(situation.call.identity, who))


class AgentNode(Node):
    """Which agent acts."""

    agent: Comparison

    def predicate(self) -> Predicate:
        """Compare the agent's name."""
        test = self.agent.test("the agent")
        return lambda situation: test(situation.call.identity.agent)


class LabelRange(Strict):
    """Which labels there are; several of these must all hold."""

    _needs_one_of = ("any_of", "all_of", "none_of")

    any_of: tuple[Name, ...] | None = Field(default=None, min_length=1)
    all_of: tuple[Name, ...] | None = Field(default=None, min_length=1)
    none_of: tuple[Name, ...] | None = Field(default=None, min_length=1)

    @model_validator(mode="after")
    def _asks_something(self) -> LabelRange:
        if not self.model_fields_set:
            raise ValueError("nothing to compare with; add any_of, all_of or none_of")
        return self


class LabelsNode(Node):
    """The labels that the tool declares."""

    labels: LabelRange

    def predicate(self) -> Predicate:
        """Compare the labels, of which there may be none."""
        some, every = self.labels.any_of, frozenset(self.labels.all_of or ())
        none = frozenset(self.labels.none_of or ())

        def is_met(situation: Situation) -> Answer:
            found = situation.call.tool.labels
            return (
                (some is None or any(label in found for label in some))
                and every.issubset(found)
                and none.isdisjoint(found)
            )

        return is_met


class ModeNode(Node):
    """What becomes of the decision: `enforce`, `observe` or `dry_run`."""

    mode: OneOrMore[Literal["enforce", "observe", "dry_run"]]

    def predicate(self) -> Predicate:
        """Compare the mode."""
        wanted = frozenset(self.mode)
        return lambda situation: situation.mode.value in wanted


class TimeNode(Node):
    """When the call is decided, by the store's clock."""

    time: TimeRange

    @property
    def needs_time(self) -> bool:
        """It does."""
        return True

    def predicate(self) -> Predicate:
        """Compare the time."""
        holds = self.time.test()
        unknown = Fault("the time is not known")
        return lambda situation: unknown if situation.at is None else holds(situation.at)


class CallCount(Strict):
    """How many calls of the session came before this one; several bounds must all hold."""

    _needs_one_of = ("at_most", "at_least", "equals")

    tools: tuple[Name, ...] = Field(default=("*",), min_length=1)
    outcome: Literal["admitted", "refused", "allow", "ask", "steer", "deny"] = "admitted"
    at_most: Annotated[StrictInt, Field(ge=0)] | None = None
    at_least: Annotated[StrictInt, Field(ge=0)] | None = None
    equals: Annotated[StrictInt, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _bounds_something(self) -> CallCount:
        if self.model_fields_set.isdisjoint({"at_most", "at_least", "equals"}):
            raise ValueError("nothing to compare with; add at_most, at_least or equals")
        return self


class CallsNode(Node):
    """How many calls of some tools the session has made before this one."""

    calls: CallCount

    @property
    def trackers(self) -> tuple[Tracker, ...]:
        """Their number."""
        return (Calls(self.calls.tools, self.calls.outcome),)

    def predicate(self) -> Predicate:
        """Compare the number."""
        (tracker,) = self.trackers
        key, wanted = tracker.key, self.calls
        unknown = Fault("the session's past calls are not known")

        def is_met(situation: Situation) -> Answer:
            number = situation.memory.get(key)
            if number is None:
                return unknown
            return (
                (wanted.at_most is None or number <= wanted.at_most)
                and (wanted.at_least is None or number >= wanted.at_least)
                and (wanted.equals is None or number == wanted.equals)
            )

        return is_met


class AfterNode(Node):
    """Calls that the session has made before this one, in this order; others may lie between."""

    after: OneOrMore[Name]

    @property
    def trackers(self) -> tuple[Tracker, ...]:
        """How far the session has come."""
        return (Steps(self.after),)

    def predicate(self) -> Predicate:
        """Whether all of them were made."""
        key, length = Steps(self.after).key, len(self.after)
        unknown = Fault("the session's past calls are not known")

        def is_met(situation: Situation) -> Answer:
            number = situation.memory.get(key)
            return unknown if number is None else number >= length

        return is_met


class EvaluatorNode(Question, Node):
    """What an evaluator says of the call: one of `says`, which is anything stricter than allow when left out."""

    def predicate(self) -> Predicate:
        """Compare the verdict; the evaluator's failure is a fault."""
        key, wanted = self.key, frozenset(self.says)
        unknown = Fault(f"evaluator {self.evaluator} was not asked")

        def is_met(situation: Situation) -> Answer:
            if key not in situation.answers:
                return unknown
            opinion = situation.answers[key]
            if opinion is None:
                return False
            return Fault(opinion.reason) if opinion.fault else opinion.verdict.value in wanted

        return is_met


class CelNode(Node):
    """An expression in CEL, the Common Expression Language; its engine is a plugin, `interlock-cel`."""

    cel: StrictStr

    @model_validator(mode="after")
    def _compiles(self) -> CelNode:
        Expression("cel", self.cel)
        return self

    def predicate(self) -> Predicate:
        """Evaluate the expression; what is not exactly true or false, or fails, is a fault."""
        return Expression("cel", self.cel).holds
