"""What a policy remembers of tools: never more than so many names, and never another answer for it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock import Opinion, Tool, Verdict
from interlock.policy import Policy
from interlock.policy import compile as compiling
from tests.policies import document, documents, rule
from tests.samples import call_of

names = st.lists(st.sampled_from(["pay", "PAY", "refund", "wire_x", "other", "p"]), max_size=12)


def said(policy: Policy, tool: str) -> Opinion:
    """What the policy says of a call of *tool*."""
    return policy.opinion(call_of({"yes": True}, tool=Tool(name=tool)))


@pytest.mark.promise(1)
@given(documents(), names, st.integers(1, 3))
def test_what_is_remembered_is_what_would_be_found(
    data: dict[str, Any], asked: list[str], room: int
) -> None:
    """Broken if a name that was asked about before, or pushed out since, gets another answer than the first time."""
    policy = Policy.build(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiling, "MAX_NAMES", room)
        answers = [said(policy, name) for name in asked]
        assert len(policy._candidates) <= room
    assert [said(Policy.build(data), name) for name in asked] == answers


def test_names_from_outside_fill_no_memory() -> None:
    """Broken if a model that makes up names of tools makes a policy grow without end."""
    policy = Policy.build(document(rule("a", "pay"), default="ask"))
    for number in range(compiling.MAX_NAMES * 2 + 10):
        assert said(policy, f"made-up-{number}").verdict is Verdict.ASK
    assert len(policy._candidates) <= compiling.MAX_NAMES
    assert said(policy, "pay").verdict is Verdict.ALLOW


def test_rules_are_sought_once_for_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Broken if the patterns of all rules are matched again at every call."""
    policy = Policy.build(document(*(rule(f"r{n}", f"t{n}") for n in range(50)), rule("p", "p*")))
    first = said(policy, "pay")
    monkeypatch.setattr(compiling.Rule, "is_about", None)
    assert said(policy, "pay") is first
    assert first.rule == "p"


class Forgetful(dict[str, Any]):
    """What is remembered, while other threads make the policy forget it at once."""

    def __setitem__(self, tool: str, found: Any) -> None:
        super().__setitem__(tool, found)
        self.clear()


@pytest.mark.promise(1)
def test_what_is_forgotten_at_once_was_found_all_the_same() -> None:
    """Broken if what another thread makes the policy forget is missing in the middle of a decision."""
    policy = Policy.build(document(rule("a", "pay"), default="deny"))
    policy._candidates = Forgetful()
    assert [said(policy, tool).rule for tool in ("pay", "pay", "other")] == ["a", "a", None]
    assert policy._candidates == {}


def test_the_opinion_of_a_rule_is_made_once() -> None:
    """Broken if each decision makes the opinions anew that the policy has made already."""
    policy = Policy.build(document(rule("a", "pay"), default="ask"))
    assert said(policy, "pay") is said(policy, "pay")
    assert said(policy, "other") is said(policy, "another")
