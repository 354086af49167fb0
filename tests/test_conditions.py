"""Conditions: three answers, combined as Kleene has it, and comparisons that never guess."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock import Call, Risk, Tool, Verdict
from interlock.errors import PolicyError
from interlock.policy import Policy
from interlock.policy.conditions import MAX_DEPTH
from interlock.policy.situation import Fault, Situation
from tests.samples import call_of
from tests.values import Colour, Order, Point

TRUE: dict[str, Any] = {"argument": "yes", "equals": True}
FALSE: dict[str, Any] = {"argument": "yes", "equals": False}
FAULT: dict[str, Any] = {"argument": "nowhere", "equals": True}
LEAVES = {2: TRUE, 0: FALSE, 1: FAULT}
CALL = call_of({"yes": True})

Tree = tuple[Any, ...] | int
"""A leaf is 0 (False), 1 (cannot be told) or 2 (True); a node is its word and its children."""


def written(tree: Tree) -> dict[str, Any]:
    """The tree in the language of policies."""
    if isinstance(tree, int):
        return LEAVES[tree]
    word, *children = tree
    return {word: written(children[0])} if word == "not" else {word: [*map(written, children)]}


def kleene(tree: Tree) -> int:
    """What the tree answers, by Kleene's tables: `all` is the least, `any` the greatest, `not` the opposite."""
    if isinstance(tree, int):
        return tree
    word, *children = tree
    answers = [*map(kleene, children)]
    return {"all": min(answers), "any": max(answers), "not": 2 - answers[0]}[word]


def policy(when: dict[str, Any], verdict: str = "allow") -> Policy:
    """A policy of one rule with that condition; what it does not match is asked about."""
    rule = {"id": "r", "tools": ["*"], "verdict": verdict, "when": when}
    return Policy.build({"version": 1, "name": "p", "default": "ask", "rules": [rule]})


def answer(when: dict[str, Any], call: Call = CALL) -> bool | Fault:
    """What a condition says of a call."""
    [rule] = policy(when).document.rules
    assert rule.when is not None
    return rule.when.predicate()(Situation(call, call.tool.risk))


def place(found: bool | Fault) -> int:
    """An answer on the scale of `Tree`."""
    return 1 if isinstance(found, Fault) else 2 * found


SHAPES: list[Callable[..., Tree]] = [
    lambda a, b, c, d: ("all", a, b, c, d),
    lambda a, b, c, d: ("any", a, b, c, d),
    lambda a, b, c, d: ("not", ("all", a, ("any", b, c, d))),
    lambda a, b, c, d: ("all", ("any", a, b), ("any", c, d)),
    lambda a, b, c, d: ("any", ("all", a, b), ("not", ("all", c, d))),
    lambda a, b, c, d: ("any", ("not", a), ("all", b, ("not", ("any", c, ("not", d))))),
    lambda a, b, c, d: ("all", ("not", ("not", a)), b, ("not", ("any", c)), d),
]


@pytest.mark.promise(1)
@pytest.mark.parametrize("shape", SHAPES, ids=range(len(SHAPES)))
def test_trees_answer_as_kleene_has_it(shape: Callable[..., Tree]) -> None:
    """Broken if, for any of the 81 ways to fill in the leaves, a fault turns into a match or a silent no-match."""
    for leaves in itertools.product((0, 1, 2), repeat=4):
        tree = shape(*leaves)
        assert kleene(tree) == place(answer(written(tree))), tree


@pytest.mark.promise(1)
@pytest.mark.parametrize("shape", SHAPES, ids=range(len(SHAPES)))
def test_a_fault_denies_whatever_the_rule_says(shape: Callable[..., Tree]) -> None:
    """Broken if a rule that cannot be told about lets a call through, or leaves it to the rules after it."""
    verdicts = {2: Verdict.ALLOW, 0: Verdict.ASK, 1: Verdict.DENY}
    for leaves in itertools.product((0, 1, 2), repeat=4):
        tree = shape(*leaves)
        assert verdicts[kleene(tree)] is policy(written(tree)).opinion(CALL).verdict, tree


trees = st.recursive(
    st.sampled_from([0, 1, 2]),
    lambda inner: (
        st.tuples(st.sampled_from(["all", "any"]), inner, inner)
        | st.tuples(st.just("not"), inner)
        | st.tuples(st.just("any"), inner)
    ),
    max_leaves=12,
)


def settled(tree: Tree, value: int) -> Tree:
    """The tree with every leaf that cannot be told replaced by *value*."""
    if isinstance(tree, int):
        return value if tree == 1 else tree
    word, *children = tree
    return (word, *(settled(child, value) for child in children))


@pytest.mark.promise(1)
@given(trees)
def test_a_definite_answer_does_not_hang_on_what_cannot_be_told(tree: Tree) -> None:
    """Broken if a tree answers True or False although another value of a faulty leaf would turn it over."""
    found = place(answer(written(tree)))
    assert kleene(tree) == found
    if found != 1:
        assert {place(answer(written(settled(tree, value)))) for value in (0, 2)} == {found}


def nested(levels: int, wrap: Callable[[Any], Any]) -> dict[str, Any]:
    """A condition of so many levels."""
    when = TRUE
    for _ in range(levels - 1):
        when = wrap(when)
    return when


@pytest.mark.parametrize(
    "wrap",
    [lambda when: {"not": when}, lambda when: {"all": [when]}, lambda when: {"any": [FALSE, when]}],
    ids=["not", "all", "any"],
)
def test_depth_has_a_bound(wrap: Callable[[Any], Any]) -> None:
    """Broken if 32 levels are refused, or 33 are not."""
    deepest = policy(nested(MAX_DEPTH, wrap))
    assert deepest.digest == Policy.parse(deepest.text).digest
    assert not isinstance(answer(nested(MAX_DEPTH, wrap)), Fault)
    with pytest.raises(PolicyError, match="nested deeper than 32 levels"):
        policy(nested(MAX_DEPTH + 1, wrap))


UNTOLD = None
NAN, INF = float("nan"), float("inf")
COMPARISONS: list[tuple[str, Any, Any, bool | None]] = [
    # equals: numbers with numbers, whatever their type; else like with like
    *[("equals", value, 1, True) for value in (1, 1.0, Decimal(1), Decimal("1.00"))],
    *[("equals", value, 2, False) for value in (1, 1.5, Decimal("1.99"))],
    *[("equals", value, 1, UNTOLD) for value in (True, "1", b"1", None, [1], {"a": 1}, NAN, INF)],
    *[("equals", value, 1.5, UNTOLD) for value in (NAN, INF, Decimal("NaN"), Decimal("sNaN"))],
    *[("equals", value, True, UNTOLD) for value in (1, 1.0, "true", None)],
    ("equals", True, True, True),
    ("equals", False, True, False),
    ("equals", None, None, True),
    ("equals", "x", None, UNTOLD),
    ("equals", "x", "x", True),
    ("equals", "X", "x", False),
    ("equals", "é", "e\u0301", False),
    ("equals", Colour.RED, "red", True),
    ("equals", dt.date(2026, 1, 1), "2026-01-01", UNTOLD),
    ("equals", 0.1, 0.1, True),
    ("equals", Decimal("0.1"), 0.1, True),
    ("equals", 2**53 + 1, float(2**53), False),
    # in: comparable with one of them is enough
    ("in", 1, [2, 1.0], True),
    ("in", 3, [2, 1], False),
    ("in", "b", [1, "a"], False),
    ("in", None, [None, "a"], True),
    ("in", "b", [None, "a"], False),
    ("in", b"a", ["a", 1], UNTOLD),
    ("in", True, [1, "a"], UNTOLD),
    # order: numbers with numbers, text with text
    ("at_most", 50, 50, True),
    ("at_most", Decimal("50.00"), 50, True),
    ("at_most", Decimal("50.01"), 50, False),
    ("at_most", 0.30000000000000004, 0.3, False),
    ("at_most", -1, 50, True),
    ("at_most", 10**400, 1e308, False),
    ("at_most", Decimal("1E+999999"), 50, False),
    *[
        ("at_most", value, 50, UNTOLD)
        for value in ("49", True, None, [1], NAN, INF, b"1", Order("o"))
    ],
    *[("at_most", Decimal(word), 50, UNTOLD) for word in ("NaN", "sNaN", "Infinity", "-Infinity")],
    ("at_most", "b", "c", True),
    ("at_most", "c", "b", False),
    ("at_most", 1, "2", UNTOLD),
    ("at_least", 50, 50, True),
    ("at_least", Decimal("49.99"), 50, False),
    ("at_least", False, 0, UNTOLD),
    ("at_least", "b", "b", True),
    # text
    ("starts_with", "refund-1", "refund", True),
    ("starts_with", "Refund-1", "refund", False),
    ("starts_with", b"refund", "refund", UNTOLD),
    ("starts_with", 1, "1", UNTOLD),
    ("ends_with", "a@acme.com", "@acme.com", True),
    ("ends_with", "a@acme.com.evil", "@acme.com", False),
    ("ends_with", None, "x", UNTOLD),
    # contains: a part of a text, an item of a list or set
    ("contains", "an evil text", "evil", True),
    ("contains", "a text", "evil", False),
    ("contains", "text", 1, UNTOLD),
    ("contains", ["a", "evil"], "evil", True),
    ("contains", ("a",), "evil", False),
    ("contains", [], "evil", False),
    ("contains", {1, 2.0}, 2, True),
    ("contains", [b"evil"], "evil", UNTOLD),
    ("contains", ["a", b"evil"], "evil", UNTOLD),
    ("contains", [b"x", "evil"], "evil", True),
    ("contains", [NAN], 1.5, UNTOLD),
    ("contains", [["evil"]], "evil", UNTOLD),
    ("contains", Point("evil", 1), "evil", True),
    ("contains", {"evil": 1}, "evil", UNTOLD),
    ("contains", 5, 5, UNTOLD),
]


@pytest.mark.parametrize("number", range(len(COMPARISONS)))
def test_comparisons_are_typed(number: int) -> None:
    """Broken if unlike things compare, or if what cannot be compared is a silent no-match, which `not` would turn."""
    word, value, wanted, expected = COMPARISONS[number]
    call = call_of({"x": value})
    assert call.faults == ()
    for when, turned in (({"argument": "x", word: wanted}, False), (None, True)):
        found = answer(when or {"not": {"argument": "x", word: wanted}}, call)
        if expected is UNTOLD:
            assert isinstance(found, Fault)
            assert "argument 'x'" in found.reason
            assert repr(word) in found.reason
        else:
            assert (expected != turned) == found


@given(st.integers(-(10**30), 10**30), st.integers(0, 12), st.integers(-(10**30), 10**30))
def test_numbers_compare_exactly(whole: int, places: int, limit: int) -> None:
    """Broken if a limit is missed by rounding, as doubles would."""
    call = call_of({"x": Decimal(f"{whole}E-{places}")})
    assert (whole <= limit * 10**places) == answer({"argument": "x", "at_most": limit}, call)
    assert (whole >= limit * 10**places) == answer({"argument": "x", "at_least": limit}, call)


def test_several_comparisons_must_all_hold() -> None:
    """Broken if of two bounds only one counts."""
    when = {"argument": "x", "at_least": 10, "at_most": 20}
    found = {value: answer(when, call_of({"x": value})) for value in (9, 10, 20, 21)}
    assert found == {9: False, 10: True, 20: True, 21: False}
    mixed = answer({"argument": "x", "at_most": 20, "starts_with": "a"}, call_of({"x": 5}))
    assert isinstance(mixed, Fault)


NESTED = {
    "order": {"lines": [{"price": 5}, {"price": 7}], "a.b": 1, "0": "zero"},
    "rec": Order("o"),
}
PATHS: list[tuple[Any, Any]] = [
    ("order.lines.0.price", 5),
    ("order.lines.1.price", 7),
    (["order", "lines", 1, "price"], 7),
    (["order", "a.b"], 1),
    ("order.0", "zero"),
    ("rec.id", "o"),
]
NOWHERE: list[Any] = [
    *["order.lines.2.price", "order.lines.-1.price", "order.lines.x", "order.lines.0.price.0"],
    *["order.a.b", "Order.lines.0.price", "order.lines.0.Price", "order.", ".order", "nothing"],
    *["order.lines.1e0.price", "order.lines. 1.price", "order.lines.\u0661.price", "rec.nothing"],
    *[["order", ""], ["order", "lines", -1], "order.lines." + "9" * 5_000, "order.__class__"],
]


@pytest.mark.parametrize(("path", "value"), PATHS, ids=str)
def test_a_path_leads_into_an_argument(path: Any, value: Any) -> None:
    """Broken if a condition looks at another part of the arguments than it names."""
    assert answer({"argument": path, "equals": value}, call_of(NESTED)) is True


@pytest.mark.promise(1)
@pytest.mark.parametrize("path", NOWHERE, ids=lambda path: str(path)[:30])
def test_a_path_that_leads_nowhere_is_a_fault(path: Any) -> None:
    """Broken if a misspelt path is a silent no-match: a rule that was to forbid would not."""
    assert isinstance(answer({"argument": path, "equals": 5}, call_of(NESTED)), Fault)


@pytest.mark.promise(1)
@pytest.mark.parametrize("path", ["", []], ids=["text", "list"])
def test_a_path_of_nothing_is_refused(path: Any) -> None:
    """Broken if a condition that names no argument is taken for one that does."""
    with pytest.raises(PolicyError, match=r"when\.argument"):
        answer({"argument": path, "equals": 5}, call_of(NESTED))


@pytest.mark.promise(9)
@pytest.mark.parametrize("word", ["equals", "at_most", "starts_with", "contains"])
def test_faults_hold_no_values(word: str) -> None:
    """Broken if the reason for a refusal, which is logged and shown to models, quotes an argument."""
    planted: list[Any] = [b"4111-planted", Order("4111-planted"), {"4111-planted": 1}]
    for value in planted:
        opinion = policy({"argument": "x", word: "y"}).opinion(call_of({"x": value}))
        assert "planted" not in opinion.reason
        assert "rule r cannot be applied" in opinion.reason


RANGES = [
    dict(zip(("at_least", "at_most", "equals"), words, strict=True))
    for words in itertools.product([None, *(str(risk) for risk in Risk)], repeat=3)
    if any(words)
]


@pytest.mark.promise(1)
def test_every_bound_on_the_risk_counts() -> None:
    """Broken if, of several bounds on the risk, one is passed over."""
    for bounds in RANGES:
        stated = {word: Risk(value) for word, value in bounds.items() if value}
        when = {"risk": {word: str(risk) for word, risk in stated.items()}}
        for risk in Risk:
            expected = (
                risk >= stated.get("at_least", Risk.LOW)
                and risk <= stated.get("at_most", Risk.CRITICAL)
                and risk is stated.get("equals", risk)
            )
            assert expected == answer(when, call_of(tool=Tool(name="t", risk=risk))), (bounds, risk)


def test_cost_is_the_declared_one() -> None:
    """Broken if a bound on the cost looks at anything but the cost, or passes a tool that declares none."""
    when = {"cost": {"at_most": 50}}
    priced = Tool(name="pay", cost="amount")
    assert answer(when, call_of({"amount": "50.00"}, tool=priced)) is True
    assert answer(when, call_of({"amount": Decimal("50.01")}, tool=priced)) is False
    assert isinstance(answer(when, call_of({"amount": 5})), Fault)
    assert isinstance(
        answer({"cost": {"starts_with": "5"}}, call_of({"amount": 5}, tool=priced)), Fault
    )
