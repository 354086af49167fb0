"""The policy as a judge: the first rule that matches speaks, whatever else the policy says."""

from __future__ import annotations

import random
from datetime import timedelta
from fnmatch import fnmatchcase
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock import Verdict
from tests.policies import WHENS, document, documents, judged, rule, rules

fillings = st.sampled_from([when for when in WHENS.values() if when])


def model(data: dict[str, Any], tool: str) -> tuple[str, str | None]:
    """Which rule speaks and what it says, as the guide for authors puts it: the first one from the top."""
    for item in data["rules"]:
        if any(fnmatchcase(tool, pattern) for pattern in item["tools"]):
            when = item.get("when")
            if when == WHENS["fault"]:
                return "deny", item["id"]
            if when in (None, WHENS["true"]):
                return item["verdict"], item["id"]
    return data["default"], None


@given(documents(fillings), st.sampled_from(["pay", "PAY", "refund", "wire_x", "other"]))
def test_the_first_rule_that_matches_speaks(data: dict[str, Any], tool: str) -> None:
    """Broken if any rule but the first matching one decides, or none where one matches."""
    opinion = judged(data, tool)
    assert model(data, tool) == (str(opinion.verdict), opinion.rule)


@pytest.mark.promise(1)
@given(documents(), documents())
def test_nothing_speaks_after_a_rule_without_condition(
    data: dict[str, Any], later: dict[str, Any]
) -> None:
    """Broken if a rule placed below one that always matches is heard."""
    tail = [{**item, "id": f"late-{item['id']}"} for item in later["rules"]]
    head = [*data["rules"], rule("stop", "*", verdict="deny")]
    assert judged(document(*head)) == judged(document(*head, *tail))


@given(documents(), st.lists(rules(), max_size=4), st.randoms(use_true_random=False))
def test_rules_for_other_tools_are_nothing(
    data: dict[str, Any], others: list[dict[str, Any]], by: random.Random
) -> None:
    """Broken if a rule changes the decision on a tool that it does not name."""
    mixed = list(data["rules"])
    for number, other in enumerate(others):
        elsewhere = {**other, "id": f"o{number}", "tools": ["refund_*", "PAY", "payment"]}
        mixed.insert(by.randrange(len(mixed) + 1), elsewhere)
    head = {"default": data["default"]}
    assert judged(data) == judged(document(*mixed, **head))


@pytest.mark.promise(1)
def test_what_no_rule_names_is_denied() -> None:
    """Broken if leaving something out of a policy means allowing it."""
    nothing = document()
    assert "default" not in nothing
    assert judged(nothing).verdict is Verdict.DENY
    assert judged(document(rule("a", "refund"))).verdict is Verdict.DENY
    assert judged(document(rule("a", "pay", when=WHENS["false"]))).verdict is Verdict.DENY
    assert [str(judged(document(default=word)).verdict) for word in ("allow", "ask", "deny")] == [
        *("allow", "ask", "deny")
    ]


GLOBS: list[tuple[str, list[str], list[str]]] = [
    (
        "pay",
        ["pay"],
        ["Pay", "PAY", "pay ", " pay", "payx", "xpay", "pay\n", "\uff50ay", "pay\u200b"],
    ),
    ("*", ["pay", "", "a b", "x\ny"], []),
    ("wire_*", ["wire_", "wire_eu"], ["Wire_eu", "wire", "xwire_eu"]),
    ("?ay", ["pay", "say"], ["ay", "ppay"]),
    ("[pr]ay", ["pay", "ray"], ["say", "Pay"]),
    ("[!p]ay", ["say"], ["pay"]),
    ("db.*", ["db.drop"], ["dbxdrop", "db"]),
    ("a[", ["a["], ["a"]),
]


@pytest.mark.parametrize("pattern", range(len(GLOBS)))
def test_patterns_match_whole_names_by_case(pattern: int) -> None:
    """Broken if a pattern matches a look-alike, a part of a name or another case."""
    text, matching, others = GLOBS[pattern]
    data = document(rule("a", text))
    assert [judged(data, name).rule for name in matching] == ["a"] * len(matching)
    assert [judged(data, name).rule for name in others] == [None] * len(others)


def test_a_rule_says_all_that_it_was_given() -> None:
    """Broken if guidance, alternatives, approvers or the time for an answer get lost between file and decision."""
    steer = rule("s", verdict="steer", guidance="Ask.", suggest=["a", "b"], reason="a wire")
    opinion = judged(document(steer))
    assert (opinion.guidance, opinion.suggestions, opinion.reason) == ("Ask.", ("a", "b"), "a wire")
    assert (opinion.author, opinion.rule, opinion.fault) == ("policy:p", "s", False)
    asked = judged(document(rule("q", verdict="ask", approvers=["ops"], expires="15m")))
    assert (asked.approvers, asked.expires) == (("ops",), timedelta(minutes=15))
    assert asked.reason == "rule q says ask"
