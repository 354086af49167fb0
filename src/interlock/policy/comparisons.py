"""
Comparisons: what a value is compared with, typed and exact.

Comparing what cannot be compared answers neither yes nor no.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Annotated, Any, TypeAlias

from pydantic import (
    AfterValidator,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    model_serializer,
    model_validator,
)

from interlock._re2 import MAX_WORK, Pattern
from interlock.policy.situation import Answer, Fault
from interlock.policy.values import Strict

Finite: TypeAlias = Annotated[StrictFloat, Field(allow_inf_nan=False)]
Scalar: TypeAlias = StrictBool | StrictInt | Finite | StrictStr | None
Sortable: TypeAlias = StrictInt | Finite | StrictStr


def _pattern(text: str) -> str:
    Pattern(text)
    return text


class Comparison(Strict):
    """What a value is compared with; several comparisons must all hold."""

    _may_be_null = frozenset({"equals", "contains"})
    _needs_one_of = (
        *("equals", "in", "at_most", "at_least"),
        *("starts_with", "ends_with", "contains", "matches"),
    )

    equals: Scalar = None
    in_: tuple[Scalar, ...] | None = Field(
        default=None, alias="in", json_schema_extra={"minItems": 1}
    )
    at_most: Sortable | None = None
    at_least: Sortable | None = None
    starts_with: StrictStr | None = None
    ends_with: StrictStr | None = None
    contains: Scalar = None
    matches: Annotated[StrictStr, AfterValidator(_pattern)] | None = None

    @model_validator(mode="after")
    def _compares_something(self) -> Comparison:
        if not self._comparisons():
            raise ValueError(
                "nothing to compare with; add one of equals, in, at_most, at_least, "
                "starts_with, ends_with, contains, matches"
            )
        if self.in_ is not None and not self.in_:
            raise ValueError("'in' of an empty list would match nothing; remove the rule instead")
        return self

    def _comparisons(self) -> list[tuple[str, Any]]:
        names = Comparison.model_fields
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
            (name.rstrip("_"), _OPERATORS[name], _wanted(name, wanted))
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


def _wanted(name: str, wanted: Any) -> Any:
    return Pattern(wanted) if name == "matches" else _exact(wanted)


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


def _matches(value: object, wanted: Pattern) -> bool | None:
    if type(value) is not str:
        return None
    try:
        text = value.encode()
    except UnicodeEncodeError:  # half of a surrogate pair is no text
        return None
    return wanted.matches(text) if wanted.size * len(text) <= MAX_WORK else None


_OPERATORS: dict[str, Callable[[Any, Any], bool | None]] = {
    "equals": _equals,
    "in_": _one_of,
    "at_most": _at_most,
    "at_least": _at_least,
    "starts_with": _starts_with,
    "ends_with": _ends_with,
    "contains": _contains,
    "matches": _matches,
}
