"""The door of the condition `cel`: what is refused, what is told, and what is bounded."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from importlib.metadata import entry_points
from typing import Any

import pytest
from immutabledict import immutabledict

from interlock import Denied, Governor, governed
from interlock_cel import MAX_LENGTH, TooExpensive, compile_expression

FACTS: Mapping[str, Any] = {
    "arguments": immutabledict(
        {
            "amount": 5,
            "price": Decimal("1.50"),
            "text": "hello",
            "items": (immutabledict({"count": 2}), immutabledict({"count": 3})),
        }
    ),
    "tool": {"name": "order", "kind": "tool", "labels": ("shop",), "capabilities": ()},
    "risk": "medium",
    "cost": Decimal("1.50"),
    "resource": None,
    "model": None,
    "mode": "enforce",
    "identity": {"agent": "bot", "user": "ann", "team": None, "org": None},
}


def test_the_entry_point_is_this_function() -> None:
    """Broken if a policy that says `cel` does not reach this engine."""
    [point] = entry_points(group="interlock.conditions", name="cel")
    assert compile_expression is point.load()


@pytest.mark.parametrize(
    ("expected", "expression"),
    [
        (True, "arguments.amount == 5"),
        (False, "arguments.amount > 5"),
        (True, "arguments.price < 2.0 && cost < 2.0"),
        (True, "arguments.items.all(item, item.count < 4)"),
        (False, "arguments.items.exists(item, item.count > 4)"),
        (True, "'shop' in tool.labels"),
        (True, "arguments.text.matches('^hel+o$')"),
        (False, "has(arguments.missing)"),
        (True, "identity.user == 'ann' && identity.team == null"),
        (True, "risk in ['low', 'medium']"),
        (True, "type(arguments.amount) == int"),
        (True, "size(arguments.items) == 2"),
    ],
)
def test_what_holds(expected: bool, expression: str) -> None:
    """Broken if an expression is told wrongly, or with something else than True or False."""
    assert compile_expression(expression)(FACTS) is expected


@pytest.mark.parametrize(
    "expression",
    [
        "arguments.missing == 1",
        "arguments.amount > 'a'",
        "arguments.amount",
        "arguments.items",
        "arguments.text",
        "resource",
        "arguments.amount / 0 == 1",
        "!!risk",
        "arguments.items[9].count == 1",
        "arguments.amount * 9223372036854775807 == 1",
    ],
)
def test_what_cannot_be_told_raises(expression: str) -> None:
    """Broken if an error or an answer that is no bool becomes True or False."""
    holds = compile_expression(expression)
    with pytest.raises((ArithmeticError, LookupError, RuntimeError, TypeError, ValueError)):
        holds(FACTS)


HOSTILE = {
    "empty": "",
    "blank": "   ",
    "half": "1 +",
    "number": "1 + 1",
    "text": "'true'",
    "list": "[true]",
    "null": "null",
    "always-fails": "1 / 0 == 1",
    "unknown-name": "secrets == 1",
    "dunder": "__import__ == 1",
    "function": "open('/etc/passwd') == 1",
    "bind": "cel.bind(x, 1, x == 1)",
    "too-long": "true || " * MAX_LENGTH + "true",
    "brackets": "[" * 1500 + "]" * 1500 + " == []",
    "parentheses": "(" * 2000 + "true" + ")" * 2000,
    "nested": "(" * 17 + "true" + ")" * 17,
    "negations": "!" * 4000 + "true",
    "sum": "cost" + "+1" * 300 + " == 2",
    "path": "arguments" + ".a" * 300 + " == 2",
    "macros-behind-a-raw-text": r'''r"\" == "" || [1].all(a, [1].all(b, [1].all(c, true))) || "" == ""''',
    "macros-behind-a-comment": "true // '\n || [1].all(a, [1].all(b, [1].all(c, true))) // '",
    "three-macros": "[1].all(a, [1].all(b, [1].all(c, true)))",
    "spaced-macros": "[1] . all (a, [1]. all( b, [1] .all(c, true)))",
    "pattern-of-argument": "arguments.text.matches(arguments.amount)",
    "pattern-joined": "arguments.text.matches('a' + arguments.text)",
    "pattern-as-function": "matches(arguments.text, arguments.text)",
    "huge-pattern": "'a'.matches('(a{1000}){1000}')",
    "null-character": "true\0",
    "surrogate": "'\ud800' == 'a'",
}


@pytest.mark.parametrize("expression", HOSTILE.values(), ids=HOSTILE)
def test_hostile_expressions_are_refused(expression: str) -> None:
    """Broken if an expression is taken that is wrong, never a bool, or without a bound."""
    with pytest.raises(ValueError, match=r".+"):
        compile_expression(expression)


def test_macros_over_big_lists_are_not_begun() -> None:
    """Broken if a call with large arguments holds up its thread in an engine that cannot be stopped."""
    once = compile_expression("arguments.items.all(a, a < 0 || a >= 0)")
    twice = compile_expression("arguments.items.all(a, arguments.items.all(b, a + b >= 0))")
    hundred = {**FACTS, "arguments": {"items": tuple(range(100))}}
    assert (once(hundred), twice(hundred)) == (True, True)
    many = {**FACTS, "arguments": {"items": tuple(range(1000))}}
    assert once(many) is True
    for holds, items in ((twice, range(1000)), (once, range(200_000))):
        with pytest.raises(TooExpensive):
            holds({**FACTS, "arguments": {"items": tuple(items)}})
    texts = compile_expression("arguments.items.all(a, arguments.text.matches('(a+)+$'))")
    with pytest.raises(TooExpensive):
        texts({**FACTS, "arguments": {"items": tuple(range(500)), "text": "a" * 1_000_000}})


ran: list[object] = []


@governed
def order(amount: object) -> str:
    """Order something."""
    ran.append(amount)
    return "ordered"


POLICY = {
    "version": 1,
    "name": "shop",
    "rules": [
        {
            "id": "small",
            "tools": ["order"],
            "when": {"cel": "arguments.amount < 10"},
            "verdict": "allow",
        }
    ],
}


def test_a_policy_uses_it() -> None:
    """Broken if a governor does not judge by the expression, or what cannot be compared is allowed."""
    ran.clear()
    with Governor("sqlite://", policy=POLICY) as governor, governor.session("s", agent="a"):
        assert order(9) == "ordered"
        with pytest.raises(Denied):
            order(11)
        with pytest.raises(Exception, match="order"):
            order("9")
    assert ran == [9]
