"""Asking a condition: what it says of a call and of what is known around it."""

from __future__ import annotations

from typing import Any

from interlock import Call, Opinion, Risk, Verdict
from interlock._memory import Calls, Memory, Steps
from interlock.policy import Policy
from interlock.policy.situation import Answer, Fault, Situation
from tests.samples import NOW, call_of

CANNOT_TELL = "cannot be told"
_NOTHING: Memory = {}


def policy(when: dict[str, Any], verdict: str = "allow", **head: Any) -> Policy:
    """A policy of one rule with that condition; what it does not match is asked about."""
    rule = {"id": "r", "tools": ["*"], "verdict": verdict, "when": when}
    return Policy.build({"version": 1, "name": "p", "default": "ask", **head, "rules": [rule]})


def said(when: dict[str, Any], call: Call | None = None, **around: Any) -> Answer | str:
    """What a condition says: True, False, or `CANNOT_TELL`."""
    [rule] = policy(when).document.rules
    assert rule.when is not None
    asked = call or call_of({"yes": True})
    found = rule.when.predicate()(Situation(asked, around.pop("risk", asked.tool.risk), **around))
    return CANNOT_TELL if isinstance(found, Fault) else found


def situation(asked: Policy, call: Call, risk: Risk, memory: Memory = _NOTHING) -> Situation:
    """The situation of a call in which nothing is known but what the session remembers."""
    around: dict[str, Any] = {"mode": asked.mode, "at": None, "answers": {}}
    return asked.situation(call, risk, memory=memory, **around)


def key_of(when: dict[str, Any]) -> str:
    """By what key the answer to an `evaluator` condition is found."""
    (key,) = policy(when).questions
    return key


def thought(verdict: Verdict, *, fault: bool = False) -> Opinion:
    """What an evaluator thinks."""
    return Opinion(verdict=verdict, reason="so it is", author="evaluator:e", fault=fault)


CALLS = Calls(("pay",)).key
STEPS = Steps(("read", "send")).key
ASKED = key_of({"evaluator": "e"})

# Of every kind of leaf: a condition, and situations in which it holds, does not hold, and cannot be told.
LEAVES: dict[str, tuple[dict[str, Any], dict[Answer | str, dict[str, Any]]]] = {
    "argument": (
        {"argument": "amount", "at_most": 5},
        {
            True: {"call": call_of({"amount": 5})},
            False: {"call": call_of({"amount": 6})},
            CANNOT_TELL: {"call": call_of({})},
        },
    ),
    "resource": (
        {"resource": {"starts_with": "order/"}},
        {True: {"resource": "order/1"}, False: {"resource": "user/1"}, CANNOT_TELL: {}},
    ),
    "cost": (
        {"cost": {"at_most": 5}},
        {True: {"cost": "5"}, False: {"cost": "5.01"}, CANNOT_TELL: {}},
    ),
    "identity": (
        {"identity": "team", "equals": "desk"},
        {True: {"team": "desk"}, False: {"team": "ops"}, CANNOT_TELL: {"team": None}},
    ),
    "time": (
        {"time": {"not_before": "2026-01-01"}},
        {
            True: {"at": NOW},
            False: {"at": NOW.replace(year=2025)},
            CANNOT_TELL: {"at": None},
        },
    ),
    "calls": (
        {"calls": {"tools": ["pay"], "at_most": 2}},
        {
            True: {"memory": {CALLS: 2}},
            False: {"memory": {CALLS: 3}},
            CANNOT_TELL: {"memory": {}},
        },
    ),
    "after": (
        {"after": ["read", "send"]},
        {
            True: {"memory": {STEPS: 2}},
            False: {"memory": {STEPS: 1}},
            CANNOT_TELL: {"memory": {}},
        },
    ),
    "evaluator": (
        {"evaluator": "e"},
        {
            True: {"answers": {ASKED: thought(Verdict.ASK)}},
            False: {"answers": {ASKED: thought(Verdict.ALLOW)}},
            CANNOT_TELL: {"answers": {ASKED: thought(Verdict.DENY, fault=True)}},
        },
    ),
}
