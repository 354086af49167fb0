"""Matching: of which calls a rule speaks, and that what is remembered of it never confuses two of them."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock import Call, Identity, Risk, Tool, Verdict, governed
from interlock._memory import Steered
from interlock.errors import Denied, PolicyError
from interlock.policy import Policy
from interlock.policy.risk import MAX_NAMES
from tests.language._asking import situation
from tests.language._naive import speaks
from tests.policies import document, rule
from tests.samples import call_of


def a_call(**names: Any) -> Call:
    """A call with that tool, labels, agent, user, team, org, model or resource, and no others."""
    model = names.get("model")
    tool = Tool(
        name=names.get("tool", "t"),
        kind="tool" if model is None else "model",
        labels=tuple(sorted(names.get("labels", ()))),
        resource="on",
        model=None if model is None else "model",
    )
    identity = Identity(
        agent=names.get("agent", "bot"),
        user=names.get("user"),
        team=names.get("team"),
        org=names.get("org"),
    )
    arguments = {"on": names.get("resource"), "model": model, **names.get("arguments", {})}
    return call_of(arguments, tool=tool, identity=identity)


def matches(keys: dict[str, list[str]], call: Call) -> bool:
    """Whether a rule with those keys speaks of the call."""
    policy = Policy.build(document({"id": "r", "verdict": "allow", **keys}))
    return policy.opinion(call).verdict is Verdict.ALLOW


KEYS = {
    "tools": "tool",
    "agents": "agent",
    "users": "user",
    "teams": "team",
    "orgs": "org",
    "models": "model",
    "resources": "resource",
}


@pytest.mark.parametrize(("key", "of"), KEYS.items())
def test_exact_names_globs_and_no_name(key: str, of: str) -> None:
    """Broken if a list of names matches another name, or a call that has no such name."""
    expected = {
        "acme": True,
        "acme-eu": True,
        "eu1": True,
        "eu": False,
        "xacme": False,
        "acme\nx": False,
        "eu12": False,
    }
    patterns = {key: ["acme", "acme-*", "eu?"]}
    assert expected == {name: matches(patterns, a_call(**{of: name})) for name in expected}
    if key not in ("tools", "agents"):
        assert not matches(patterns, a_call())
        assert not matches({key: ["*"]}, a_call())


@pytest.mark.parametrize("key", [key for key in KEYS if key != "models"])
def test_case_counts(key: str) -> None:
    """Broken if another name is taken for this one; names of models alone are compared in lower case."""
    assert not matches({key: ["ACME"]}, a_call(**{KEYS[key]: "acme"}))
    assert matches({"models": ["ACME"]}, a_call(model="acme"))


def test_one_label_of_many_is_enough() -> None:
    """Broken if a tool with several labels is judged by the first of them only."""
    labels = {"labels": ["pii", "money*"]}
    found = {
        words: matches(labels, a_call(labels=words.split()))
        for words in ("", "ops", "pii", "ops pii", "ops money-out", "PII")
    }
    assert found == {
        "": False,
        "ops": False,
        "pii": True,
        "ops pii": True,
        "ops money-out": True,
        "PII": False,
    }


def test_all_keys_of_a_rule_must_match() -> None:
    """Broken if a rule for one tool of one org speaks of another org's, or of another tool."""
    keys = {"tools": ["pay"], "orgs": ["acme"], "labels": ["money"], "resources": ["o-*"]}
    whole = {"tool": "pay", "org": "acme", "labels": ["money"], "resource": "o-1"}
    assert matches(keys, a_call(**whole))
    for name, other in (("tool", "x"), ("org", "x"), ("labels", ["x"]), ("resource", "x")):
        assert not matches(keys, a_call(**{**whole, name: other})), name


@pytest.mark.promise(1)
def test_a_rule_about_nothing_is_refused() -> None:
    """Broken if a rule that names nothing is taken for one about everything."""
    for keys in ({}, {"tools": []}, {"orgs": None}, {"when": {"risk": {"equals": "low"}}}):
        with pytest.raises(PolicyError):
            matches(keys, a_call())


def test_sessions_of_two_orgs_are_told_apart(governor: Any) -> None:
    """Broken if what was found for one org's call of a tool is said to another's, from any thread."""

    @governed(name="pay")
    def pay() -> str:
        return "paid"

    rules = [
        rule("acme", "pay") | {"orgs": ["acme"]},
        rule("late", "pay") | {"users": ["ann"]},
    ]
    its = governor(document(*rules))
    barrier = threading.Barrier(4)

    def work(number: int) -> list[bool]:
        barrier.wait()
        found: list[bool] = []
        for turn in range(10):
            org = ("acme", "evil", None)[(number + turn) % 3]
            with its.session("s", agent="bot", org=org):
                try:
                    found.append(pay() == "paid" and org == "acme")
                except Denied:
                    found.append(org != "acme")
        return found

    with ThreadPoolExecutor(4) as pool:
        assert {True} == {one for found in pool.map(work, range(4)) for one in found}


def test_names_beyond_count_are_still_told_apart() -> None:
    """Broken if, once more names were seen than are remembered, one is taken for another."""
    policy = Policy.build(document(rule("mine", "*") | {"users": ["u-7"]}))
    verdicts = [
        policy.opinion(a_call(tool=f"t-{number}", user=user)).verdict
        for number in range(MAX_NAMES // 2 + 50)
        for user in ("u-7", f"u-{number + 10}")
    ]
    assert verdicts == [Verdict.ALLOW, Verdict.DENY] * (MAX_NAMES // 2 + 50)


leaves: st.SearchStrategy[dict[str, Any]] = (
    st.builds(
        lambda name, limit: {"argument": name, "at_most": limit},
        st.sampled_from(["amount", "nowhere", "text"]),
        st.integers(0, 3),
    )
    | st.builds(lambda word: {"risk": {"at_least": word}}, st.sampled_from(["medium", "high"]))
    | st.just({"identity": "team", "equals": "desk"})
    | st.just({"labels": {"any_of": ["pii", "ops"]}})
)
trees = st.recursive(
    leaves,
    lambda inner: (
        st.builds(
            lambda word, items: {word: items},
            st.sampled_from(["all", "any"]),
            st.lists(inner, min_size=1, max_size=3),
        )
        | st.builds(lambda item: {"not": item}, inner)
    ),
    max_leaves=4,
)
PATTERNS = ["a", "b", "*", "a*", "?", "[ab]", "[!a]", "ab"]
NAMES = ["a", "b", "ab", "c", "pii"]


@st.composite
def rules(draw: st.DrawFn) -> dict[str, Any]:
    """Any rule about some of the names, of any mode."""
    keys = draw(st.sets(st.sampled_from([*KEYS, "labels"]), min_size=1, max_size=3))
    made: dict[str, Any] = {
        key: draw(st.lists(st.sampled_from(PATTERNS), min_size=1, max_size=2))
        for key in sorted(keys)
    }
    made["verdict"] = draw(st.sampled_from(["allow", "ask", "steer", "deny"]))
    if made["verdict"] == "steer":
        made["guidance"] = "elsewhere"
        if draw(st.booleans()):
            made["retries"] = draw(st.integers(0, 2))
    if draw(st.booleans()):
        made["when"] = draw(trees)
    if draw(st.booleans()):
        made["mode"] = draw(st.sampled_from(["enforce", "observe"]))
    return made


names = st.sampled_from(NAMES)
calls = st.fixed_dictionaries(
    {"tool": names, "agent": names, "labels": st.sets(st.sampled_from(["a", "pii", "ops"]))},
    optional={
        "user": names,
        "team": names | st.just("desk"),
        "org": names,
        "model": names,
        "resource": names,
        "arguments": st.fixed_dictionaries(
            {}, optional={"amount": st.integers(0, 4), "text": st.just("x")}
        ),
    },
)


@pytest.mark.promise(1)
@settings(max_examples=400)
@given(
    st.lists(rules(), max_size=6),
    st.sampled_from(["allow", "ask", "deny"]),
    st.lists(calls, min_size=1, max_size=5),
    st.sampled_from(Risk),
    st.integers(0, 2),
)
def test_the_policy_says_what_a_naive_reading_of_it_says(
    made: list[dict[str, Any]],
    default: str,
    asked: list[dict[str, Any]],
    risk: Risk,
    steered: int,
) -> None:
    """Broken if what is prepared and remembered for speed answers anything but what the document says."""
    data = document(*({"id": f"r{n}", **item} for n, item in enumerate(made)), default=default)
    policy = Policy.build(data)
    memory = {tracker.key: steered for tracker in policy.trackers}
    counts = {one["id"]: steered for one in data["rules"]}
    assert {Steered(one["id"]).key for one in data["rules"] if "retries" in one} == set(memory)
    for _ in range(2):  # the second time from memory
        for call in (a_call(**words) for words in asked):
            said = policy.opinions(situation(policy, call, risk, memory))
            found = [(one.rule, one.verdict.value) for one in said]
            observed, spoken = speaks(data, call, risk, counts)
            assert [*observed, spoken] == found
            assert [True] * len(observed) + [False] == [one.observed for one in said]
            steps = [*policy.explained(situation(policy, call, risk, memory))]
            assert [spoken[0]] == [step.rule.id for step in steps if step.speaks] or not spoken[0]
