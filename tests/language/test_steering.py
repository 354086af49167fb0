"""Steering: how often a model is told where to go instead, before it is told no."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from interlock import Governor, Opinion, Verdict, governed, hookimpl
from interlock.errors import BudgetExceeded, Denied, Refused, Steered
from tests.judges import judge
from tests.language._joining import decisions, joined
from tests.language.test_memory import meeting, restarted
from tests.policies import document, rule

WIRES = rule("no-wires", "wire", verdict="steer", guidance="Use pay.", retries=2)
THREADS = 8


def attempt(name: str = "wire") -> str:
    """What became of one call of a tool."""
    try:
        return str(governed(name=name)(lambda: "done")())
    except Refused as error:
        return error.decision.verdict.value


def test_a_rule_steers_as_often_as_it_says(governor: Any) -> None:
    """Broken if a model that does not listen is told the same for ever, or is denied too soon."""
    its = governor(document(WIRES, rule("rest", "*")))
    with its.session("s", agent="bot"):
        assert [attempt() for _ in range(4)] == ["steer", "steer", "deny", "deny"]
        assert attempt("pay") == "done"
        with pytest.raises(Denied, match=r"rule no-wires says steer, and has said so 2 times"):
            governed(name="wire")(lambda: "done")()
    with its.session("another", agent="bot"):
        assert attempt() == "steer"


def test_no_retries_is_a_denial(governor: Any) -> None:
    """Broken if a rule that may steer no session steers one."""
    with governor(document({**WIRES, "retries": 0})).session("s", agent="bot"):
        assert attempt() == "deny"


def test_each_rule_counts_for_itself(governor: Any) -> None:
    """Broken if one rule's patience is worn out by another's."""
    other = rule("no-cash", "cash", verdict="steer", guidance="Use pay.", retries=1)
    with governor(document(WIRES, other)).session("s", agent="bot"):
        found = [attempt(name) for name in ("cash", "wire", "cash", "wire", "wire")]
        assert found == ["steer", "steer", "deny", "steer", "deny"]


def plugin() -> object:
    """A plugin that steers one tool."""

    class Plugin:
        @hookimpl
        def interlock_opinion(self, call: Any) -> Opinion | None:
            steers = call.tool.name == "by_plugin"
            said = Opinion(verdict=Verdict.STEER, reason="so", author="x", guidance="go")
            return said if steers else None

    return Plugin()


def test_all_who_steer_count_together(governor: Any) -> None:
    """Broken if a session is steered more often than the policy allows, by taking turns."""

    def evaluate(_self: Any, call: Any) -> Opinion | None:
        steers = call.tool.name == "by_evaluator"
        said = Opinion(verdict=Verdict.STEER, reason="so", author="x", guidance="go")
        return said if steers else None

    budget = {
        "name": "b",
        "per": "session",
        "tools": ["by_budget"],
        "calls": 0,
        "on_exceed": "steer",
        "guidance": "go",
    }
    policy = document(
        rule("by-rule", "by_rule", verdict="steer", guidance="go"),
        rule("rest", "*"),
        steering={"retries": 4},
        evaluators=[{"use": "e", "timeout": "30s"}],
        budgets=[budget],
    )
    its = governor(policy, evaluators={"e": judge(evaluate)}, plugins=[plugin()])
    ways = ["by_rule", "by_evaluator", "by_plugin", "by_budget"]
    with its.session("s", agent="bot") as session:
        assert [attempt(name) for name in ways] == ["steer"] * 4
        assert [attempt(name) for name in ways] == ["deny"] * 4
        assert attempt("other") == "done"
        last = [one for one in decisions(its, session.id) if one.tool == "by_rule"][-1]
        assert "steered elsewhere as often as the policy allows" in last.reason
        assert {"steering", "policy:p"} == {one.author for one in last.opinions}
    with its.session("another", agent="bot"), pytest.raises((Steered, BudgetExceeded)):
        governed(name="by_budget")(lambda: "done")()


@pytest.mark.promise(3)
@pytest.mark.parametrize("whose", ["rule", "session"])
def test_patience_is_exact_among_threads(either: str, whose: str) -> None:
    """Broken if calls that are made at once are steered more often than one after the other."""
    plain = {key: value for key, value in WIRES.items() if key != "retries"}
    policy = document(WIRES) if whose == "rule" else document(plain, steering={"retries": 2})
    with (
        Governor(either, policy=policy, plugins=[meeting(THREADS)]) as governor,
        governor.session("s", agent="bot") as session,
        ThreadPoolExecutor(THREADS) as pool,
    ):
        barrier = threading.Barrier(THREADS)

        def work(_: int) -> str:
            with joined(governor, session.id):
                barrier.wait(30)
                return attempt()

        found = sorted(pool.map(work, range(THREADS)))
    assert found == ["deny"] * (THREADS - 2) + ["steer"] * 2


def test_patience_survives_the_process(either: str) -> None:
    """Broken if an agent is steered anew by being started anew."""
    policy = document(WIRES, rule("rest", "*"))
    with Governor(either, policy=policy) as its, its.session("s", agent="bot") as session:
        assert attempt() == "steer"
        assert restarted(either, policy, session.id, "wire", "wire", "pay") == [
            *["steer", "deny", "done"]
        ]
        assert json.loads(json.dumps([attempt()])) == ["deny"]
        assert [report.problem for report in its.verify()] == [None]
