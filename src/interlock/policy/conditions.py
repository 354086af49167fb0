"""
Conditions: the `when` of a rule, parsed to models and compiled to closures.

A condition answers True, False or a `Fault`: it could not be told. Trees combine the three as Kleene's strong
logic does, so `all` with one False is False and `any` with one True is True whatever the others are, and every
other tree with a fault in it is a fault. A fault is never a match and never a silent no-match: the policy turns
it into a DENY.

Source: S. C. Kleene, Introduction to Metamathematics (1952), section 64.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from pydantic import (
    Discriminator,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    Tag,
    model_serializer,
    model_validator,
)

from interlock._argument import MISSING, ArgumentPath, Place
from interlock._call import Call, Risk
from interlock.policy.values import Strict

MAX_DEPTH = 32
"""Trees deeper than this are refused when the policy is parsed: nobody can read them, and the closures nest as deep."""


class Fault(msgspec.Struct, frozen=True):
    """Why a condition cannot be told; a sentence without argument values."""

    reason: str


Answer: TypeAlias = bool | Fault
Predicate: TypeAlias = Callable[[Call], Answer]
Finite: TypeAlias = Annotated[StrictFloat, Field(allow_inf_nan=False)]
Scalar: TypeAlias = StrictBool | StrictInt | Finite | StrictStr | None
Sortable: TypeAlias = StrictInt | Finite | StrictStr


class _Node(Strict):
    pass


class _Comparison(_Node):
    """What a value is compared with; several comparisons must all hold."""

    _may_be_null = frozenset({"equals", "contains"})

    equals: Scalar = None
    in_: tuple[Scalar, ...] | None = Field(default=None, alias="in")
    at_most: Sortable | None = None
    at_least: Sortable | None = None
    starts_with: StrictStr | None = None
    ends_with: StrictStr | None = None
    contains: Scalar = None

    @model_validator(mode="after")
    def _compares_something(self) -> _Comparison:
        if not self._comparisons():
            raise ValueError(
                "nothing to compare with; add one of equals, in, at_most, at_least, "
                "starts_with, ends_with, contains"
            )
        if self.in_ is not None and not self.in_:
            raise ValueError("'in' of an empty list would match nothing; remove the rule instead")
        return self

    def _comparisons(self) -> list[tuple[str, Any]]:
        names = _Comparison.model_fields
        return [(name, getattr(self, name)) for name in names if name in self.model_fields_set]

    @model_serializer
    def _as_written(self) -> dict[str, Any]:
        """What is given, a null too: `exclude_defaults` would leave out `equals: null`, which says something."""
        fields = type(self).model_fields
        return {
            field.alias or name: getattr(self, name)
            for name, field in fields.items()
            if name in self.model_fields_set
        }

    def test(self, subject: str) -> Callable[[Any], Answer]:
        """Return a function that compares a value, called *subject* in faults, with all that is given."""
        tests = [
            (name.rstrip("_"), _OPERATORS[name], _exact(wanted))
            for name, wanted in self._comparisons()
        ]

        def fault(value: Any, word: str) -> Fault:
            return Fault(f"{subject} is a {type(value).__name__}, which {word!r} cannot compare")

        def holds(value: Any) -> Answer:
            met = True
            for word, operator, wanted in tests:
                answer = operator(value, wanted)
                if answer is None:
                    return fault(value, word)
                met = met and answer
            return met

        if len(tests) > 1:
            return holds
        [(only, operator, wanted)] = tests  # nearly always, and then there is nothing to add up

        def is_met(value: Any) -> Answer:
            answer = operator(value, wanted)
            return fault(value, only) if answer is None else answer

        return is_met


class ArgumentNode(_Comparison):
    """An argument, or a part of one: `order.items.0.price`, or a list of keys where a key holds a dot."""

    argument: ArgumentPath

    def predicate(self) -> Predicate:
        """Compare what stands at the path; a path that leads nowhere is a fault."""
        place = Place(self.argument)
        subject = f"argument {place.name}"
        nowhere = Fault(f"{subject} does not exist")
        find, test = place.find, self.test(subject)

        def is_met(call: Call) -> Answer:
            value = find(call.arguments)
            return nowhere if value is MISSING else test(value)

        return is_met


class CostNode(_Node):
    """The cost of the call in US dollars, as its tool declares it."""

    cost: _Comparison

    def predicate(self) -> Predicate:
        """Compare the cost; a call without one is a fault."""
        test = self.cost.test("the cost")
        unknown = Fault("the tool declares no cost")
        return lambda call: unknown if call.cost is None else test(call.cost)


class RiskRange(_Node):
    """Bounds on the scale low, medium, high, critical; several bounds must all hold."""

    at_most: Literal["low", "medium", "high", "critical"] | None = None
    at_least: Literal["low", "medium", "high", "critical"] | None = None
    equals: Literal["low", "medium", "high", "critical"] | None = None

    @model_validator(mode="after")
    def _bounds_something(self) -> RiskRange:
        if not self.model_fields_set:
            raise ValueError("nothing to compare with; add at_most, at_least or equals")
        return self


class RiskNode(_Node):
    """The risk that the tool declares."""

    risk: RiskRange

    def predicate(self) -> Predicate:
        """Compare the risk, which every call has."""
        wanted = self.risk
        least = max(Risk(word) for word in (wanted.equals, wanted.at_least, "low") if word)
        most = min(Risk(word) for word in (wanted.equals, wanted.at_most, "critical") if word)
        within = {risk: least <= risk <= most for risk in Risk}
        return lambda call: within[call.tool.risk]


class AllNode(_Node):
    """Every one of the conditions."""

    all: tuple[Condition, ...] = Field(min_length=1)

    def predicate(self) -> Predicate:
        """False as soon as one is False, else a fault if one is, else True."""
        return _kleene([child.predicate() for child in self.all], decisive=False)


class AnyNode(_Node):
    """At least one of the conditions."""

    any: tuple[Condition, ...] = Field(min_length=1)

    def predicate(self) -> Predicate:
        """True as soon as one is True, else a fault if one is, else False."""
        return _kleene([child.predicate() for child in self.any], decisive=True)


class NotNode(_Node):
    """The opposite of the condition."""

    not_: Condition = Field(alias="not")

    def predicate(self) -> Predicate:
        """The opposite; a fault stays a fault."""
        child = self.not_.predicate()

        def holds(call: Call) -> Answer:
            answer = child(call)
            return answer if isinstance(answer, Fault) else not answer

        return holds


NODES: dict[str, type[_Node]] = {
    "all": AllNode,
    "any": AnyNode,
    "not": NotNode,
    "argument": ArgumentNode,
    "risk": RiskNode,
    "cost": CostNode,
}
"""The conditions, by the key that makes a mapping one of them."""


def _kind(data: object) -> str | None:
    if isinstance(data, _Node):
        return f"<{next(name for name, node in NODES.items() if isinstance(data, node))}>"
    found = [name for name in NODES if isinstance(data, Mapping) and name in data]
    return f"<{found[0]}>" if len(found) == 1 else None


Condition = Annotated[
    Annotated[AllNode, Tag("<all>")]
    | Annotated[AnyNode, Tag("<any>")]
    | Annotated[NotNode, Tag("<not>")]
    | Annotated[ArgumentNode, Tag("<argument>")]
    | Annotated[RiskNode, Tag("<risk>")]
    | Annotated[CostNode, Tag("<cost>")],
    Discriminator(
        _kind,
        custom_error_type="condition",
        custom_error_message=f"a condition is a mapping with exactly one of: {', '.join(NODES)}",
    ),
]


def depth_of(node: _Node) -> int:
    """Return how many levels of conditions *node* has."""
    match node:
        case AllNode(all=children) | AnyNode(any=children):
            return 1 + max(depth_of(child) for child in children)
        case NotNode(not_=child):
            return 1 + depth_of(child)
        case _:
            return 1


def _kleene(children: list[Predicate], *, decisive: bool) -> Predicate:
    def holds(call: Call) -> Answer:
        fault: Fault | None = None
        for child in children:
            answer = child(call)
            if isinstance(answer, Fault):
                fault = fault or answer
            elif answer is decisive:
                return decisive
        return fault if fault is not None else not decisive

    return holds


def _exact(wanted: Any) -> Any:
    """What values are compared with, its numbers made exact once and not at each comparison."""
    if isinstance(wanted, tuple):
        return tuple(map(_exact, wanted))
    number = _number(wanted)
    return wanted if number is None else number


def _number(value: object) -> Decimal | None:
    """A number as exactly what its text says; None for what is no number, and a bool is none."""
    if type(value) is Decimal:
        return value if value.is_finite() else None
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, Decimal)):
        number = Decimal(value)
    elif isinstance(value, float):
        number = Decimal(repr(value))
    else:
        return None
    return number if number.is_finite() else None


def _equals(value: object, wanted: object) -> bool | None:
    left, right = _number(value), _number(wanted)
    if left is not None and right is not None:
        return left == right
    if type(value) is not type(wanted) or isinstance(value, (float, Decimal)):  # not finite
        return None
    return value == wanted


def _one_of(value: object, wanted: tuple[object, ...]) -> bool | None:
    answers = [_equals(value, candidate) for candidate in wanted]
    return None if all(answer is None for answer in answers) else any(answers)


def _order(value: object, wanted: object) -> int | None:
    left, right = _number(value), _number(wanted)
    if left is not None and right is not None:
        return (left > right) - (left < right)
    if type(value) is str and type(wanted) is str:
        return (value > wanted) - (value < wanted)
    return None


def _at_most(value: object, wanted: object) -> bool | None:
    return None if (order := _order(value, wanted)) is None else order <= 0


def _at_least(value: object, wanted: object) -> bool | None:
    return None if (order := _order(value, wanted)) is None else order >= 0


def _starts_with(value: object, wanted: str) -> bool | None:
    return value.startswith(wanted) if type(value) is str else None


def _ends_with(value: object, wanted: str) -> bool | None:
    return value.endswith(wanted) if type(value) is str else None


def _contains(value: object, wanted: object) -> bool | None:
    if type(value) is str:
        return wanted in value if type(wanted) is str else None
    if isinstance(value, (tuple, frozenset)):
        answers = [_equals(item, wanted) for item in value]
        return True if any(answers) else None if None in answers else False
    return None


_OPERATORS: dict[str, Callable[[Any, Any], bool | None]] = {
    "equals": _equals,
    "in_": _one_of,
    "at_most": _at_most,
    "at_least": _at_least,
    "starts_with": _starts_with,
    "ends_with": _ends_with,
    "contains": _contains,
}
