"""Leaves: each says that it holds, that it does not, or that it cannot be told, and nothing in between."""

from __future__ import annotations

import itertools
from decimal import Decimal
from typing import Any

import pytest

from interlock import Identity, Risk, Tool, Verdict
from interlock._memory import Calls, Steps
from interlock._verdict import Mode
from interlock.errors import PolicyError
from interlock.policy import Policy
from interlock.policy.situation import Answer, Situation
from tests.language._asking import CANNOT_TELL, LEAVES, key_of, policy, said, thought
from tests.samples import call_of


def situation(around: dict[str, Any]) -> dict[str, Any]:
    """What `said` needs; the words of a call are made into one."""
    words = {word: value for word, value in around.items() if word in ("resource", "cost", "team")}
    if not words:
        return dict(around)
    tool = Tool(
        name="t",
        resource="on" if "resource" in words else None,
        cost=Decimal(words["cost"]) if "cost" in words else None,
    )
    identity = Identity(agent="bot", team=words.get("team"))
    return {"call": call_of({"on": words.get("resource")}, tool=tool, identity=identity)}


CASES = [
    (kind, answer, when, around)
    for kind, (when, situations) in LEAVES.items()
    for answer, around in situations.items()
]


@pytest.mark.promise(1)
@pytest.mark.parametrize(("kind", "answer", "when", "around"), CASES)
def test_each_leaf_has_three_answers(
    kind: str, answer: Answer | str, when: dict[str, Any], around: dict[str, Any]
) -> None:
    """Broken if a leaf takes what it cannot tell for a yes or a no, or `not` turns that into either."""
    assert kind in when
    assert answer == said(when, **situation(around))
    opposite = {True: False, False: True, CANNOT_TELL: CANNOT_TELL}
    assert opposite[answer] == said({"not": when}, **situation(around))


def _full(answers: dict[str, Answer | str]) -> Situation:
    """One situation in which each kind of leaf gives the answer that is wanted of it."""
    found: dict[str, Any] = {}
    for kind, answer in answers.items():
        around = LEAVES[kind][1][answer]
        memory = {**found.get("memory", {}), **around.get("memory", {})}
        found |= {key: value for key, value in around.items() if key != "call"}
        found["memory"] = memory
    tool = Tool(
        name="t",
        resource="on",
        cost=Decimal(found.pop("cost")) if "cost" in found else None,
    )
    arguments = {"on": found.pop("resource", None)}
    if "argument" in answers and answers["argument"] != CANNOT_TELL:
        arguments["amount"] = 5 if answers["argument"] is True else 6
    identity = Identity(agent="bot", team=found.pop("team", None))
    call = call_of(arguments, tool=tool, identity=identity)
    return Situation(call, Risk.LOW, **found)


TRIPLES = list(itertools.combinations(LEAVES, 3))


@pytest.mark.promise(1)
@pytest.mark.parametrize("kinds", TRIPLES, ids="-".join)
def test_the_truth_table_over_every_three_kinds_of_leaves(kinds: tuple[str, ...]) -> None:
    """Broken if a tree of any three kinds of leaves lets a call through that it cannot tell about."""
    place = {False: 0, CANNOT_TELL: 1, True: 2}
    verdicts = {2: Verdict.ALLOW, 0: Verdict.ASK, 1: Verdict.DENY}
    first, second, third = (LEAVES[kind][0] for kind in kinds)
    trees = {
        "all": ({"all": [first, second, third]}, min),
        "any": ({"any": [first, second, third]}, max),
        "not": (
            {"not": {"all": [first, {"any": [second, {"not": third}]}]}},
            lambda values: 2 - min(values[0], max(values[1], 2 - values[2])),
        ),
    }
    compiled = {name: (policy(when), expected) for name, (when, expected) in trees.items()}
    for answers in itertools.product((True, False, CANNOT_TELL), repeat=3):
        around = _full(dict(zip(kinds, answers, strict=True)))
        values = [place[answer] for answer in answers]
        for name, (asked, expected) in compiled.items():
            [opinion] = asked.opinions(around)
            assert verdicts[expected(values)] is opinion.verdict, (name, answers)


def test_a_pattern_is_of_the_whole_text() -> None:
    """Broken if `matches` is content with a part, or compares what is no text."""
    when = {"argument": "x", "matches": "[a-z]+@acme\\.com"}
    found = {
        text: said(when, call_of({"x": text}))
        for text in ("ann@acme.com", "ann@acme.com.evil", "to ann@acme.com", "ann@acme.com\n", "")
    }
    assert found == {text: text == "ann@acme.com" for text in found}
    for other in (5, None, b"ann@acme.com", ["ann@acme.com"], "\ud800"):
        assert said(when, call_of({"x": other})) == CANNOT_TELL


def test_a_pattern_that_takes_too_long_cannot_be_told() -> None:
    """Broken if a long argument keeps the program busy, or is let through unmatched."""
    when = {"argument": "x", "matches": "(?:a?){500}b"}
    assert said(when, call_of({"x": "a" * 500_000})) == CANNOT_TELL


@pytest.mark.parametrize("pattern", ["(", "a(?=b)", "(a)\\1", "[z-a]"])
def test_what_is_no_pattern_is_an_error(pattern: str) -> None:
    """Broken if a pattern that cannot be matched is found out by a call."""
    with pytest.raises(PolicyError, match=r"rules\.0\.when\.matches"):
        policy({"argument": "x", "matches": pattern})


def test_who_has_no_name_is_null() -> None:
    """Broken if somebody without a name is taken for somebody, or cannot be told from one."""
    nobody = call_of(identity=Identity(agent="bot"))
    assert said({"identity": "user", "equals": None}, nobody) is True
    assert said({"identity": "user", "in": [None, "ann"]}, nobody) is True
    assert said({"identity": "user", "in": [None, "ann"]}) is False
    assert said({"agent": {"equals": "bot"}}, nobody) is True
    assert said({"agent": {"in": ["cat", "dog"]}}, nobody) is False
    assert said({"identity": "agent", "ends_with": "ot"}, nobody) is True


LABELS = [
    ({"any_of": ["pii", "money"]}, {"pii": True, "": False, "money ops": True, "ops": False}),
    ({"all_of": ["pii", "money"]}, {"pii": False, "": False, "money pii": True, "ops": False}),
    ({"none_of": ["pii", "money"]}, {"pii": False, "": True, "money ops": False, "ops": True}),
    (
        {"any_of": ["ops"], "none_of": ["pii"]},
        {"ops": True, "ops pii": False, "": False, "OPS": False},
    ),
]


@pytest.mark.parametrize(("wanted", "expected"), LABELS)
def test_labels_are_those_that_the_tool_declares(
    wanted: dict[str, Any], expected: dict[str, bool]
) -> None:
    """Broken if a label is passed over, or one is seen that is not there."""
    found = {
        text: said({"labels": wanted}, call_of(tool=Tool(name="t", labels=tuple(text.split()))))
        for text in expected
    }
    assert expected == found


@pytest.mark.parametrize("wanted", ["observe", ["observe", "dry_run"], ["enforce"]])
def test_the_mode_is_the_one_in_force(wanted: str | list[str]) -> None:
    """Broken if a condition on the mode holds in another."""
    for mode in Mode:
        expected = mode.value in ([wanted] if isinstance(wanted, str) else wanted)
        assert expected == said({"mode": wanted}, mode=mode)


@pytest.mark.parametrize("risk", Risk)
def test_the_risk_is_the_one_all_told(risk: Risk) -> None:
    """Broken if a condition looks at what the tool declares, which is less than the risk of the call."""
    call = call_of(tool=Tool(name="t", risk=Risk.LOW))
    assert said({"risk": {"at_least": "high"}}, call, risk=risk) == (risk >= Risk.HIGH)


@pytest.mark.parametrize("verdict", Verdict)
def test_an_evaluator_is_compared_by_what_it_says(verdict: Verdict) -> None:
    """Broken if a condition takes another answer of an evaluator for the one that it names."""
    for says in (["allow"], ["ask", "steer"], ["deny"], None):
        when: dict[str, Any] = {"evaluator": "e", **({"says": says} if says else {})}
        wanted = says or ["ask", "steer", "deny"]
        found = said(when, answers={key_of(when): thought(verdict)})
        assert (verdict.value in wanted) == found
        assert said(when, answers={key_of(when): None}) is False
        assert said(when, answers={}) == CANNOT_TELL


def test_evaluators_are_told_apart_by_what_they_are_asked() -> None:
    """Broken if two conditions with unlike configurations share an answer, or two that ask the same ask twice."""
    same = [key_of({"evaluator": "e", "says": says}) for says in ("allow", ["deny"])]
    assert len(set(same)) == 1
    others = [
        {"evaluator": "e", "with": {"a": 1}},
        {"evaluator": "e", "with": {"a": 2}},
        {"evaluator": "e", "timeout": "1s"},
        {"evaluator": "f"},
    ]
    assert len({*same, *map(key_of, others)}) == 5


@pytest.mark.parametrize(
    ("bounds", "held"),
    [
        ({"at_most": 2}, {0, 1, 2}),
        ({"at_least": 2}, {2, 3, 4}),
        ({"equals": 2}, {2}),
        ({"at_least": 1, "at_most": 3}, {1, 2, 3}),
    ],
)
def test_every_bound_on_the_number_of_calls_counts(bounds: dict[str, int], held: set[int]) -> None:
    """Broken if a count is off by one."""
    when = {"calls": {"tools": ["pay"], **bounds}}
    memory = Calls(("pay",)).key
    assert held == {number for number in range(5) if said(when, memory={memory: number}) is True}


def test_after_one_call_is_written_without_a_list() -> None:
    """Broken if a single name is taken for its letters."""
    assert said({"after": "read"}, memory={Steps(("read",)).key: 1}) is True


def test_rules_keep_their_meaning_when_written_and_read() -> None:
    """Broken if the stored policy says something else than the one that was written."""
    for when, _ in LEAVES.values():
        first = policy(when)
        assert first.digest == Policy.parse(first.text).digest
