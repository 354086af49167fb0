"""`interlock policy lint`: what it finds is there, and where nothing is wrong it finds nothing."""

from __future__ import annotations

from datetime import date
from fnmatch import fnmatchcase
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock import Policy
from interlock.policy.containment import contains
from interlock.policy.document import parse_data
from interlock.policy.lint import lint
from tests.policy_commands import EXPECT, POLICY, lines, policy

TODAY = date(2026, 6, 1)


def rule(**keys: Any) -> dict[str, Any]:
    """Make a rule that allows everything, but for what is given."""
    return {"id": "r", "tools": ["*"], "verdict": "allow", **keys}


def codes(
    *rules: dict[str, Any], tools: list[str] | None = None, **others: Any
) -> list[tuple[str, str]]:
    """Return the code and key of each finding in a policy of those rules, missing examples aside."""
    data = {"version": 1, "name": "p", "rules": list(rules), **others}
    found = lint(parse_data(data), today=TODAY, tools=tools, examples=1)
    return [(finding.code, finding.key) for finding in found]


def leaf(**bounds: Any) -> dict[str, Any]:
    """Make a condition on the argument `a`."""
    return {"argument": "a", **bounds}


NEVER = [
    {"all": [leaf(at_most=5), leaf(at_least=10)]},
    {"all": [leaf(at_most=5), {"all": [leaf(at_least=5.5)]}]},
    {"all": [leaf(equals=3), leaf(at_least=4)]},
    {"all": [leaf(equals=3), leaf(equals=4)]},
    leaf(at_most=1, at_least=2),
    {"risk": {"at_least": "high", "at_most": "low"}},
    {"calls": {"at_least": 3, "at_most": 2}},
    {"all": [{"cost": {"at_most": 1}}, {"cost": {"at_least": 2}}]},
]
SOMETIMES = [
    {"any": [leaf(at_most=5), leaf(at_least=10)]},
    {"all": [leaf(at_most=5), leaf(at_least=5)]},
    {"all": [leaf(at_most=5), {"argument": "b", "at_least": 10}]},
    {"all": [leaf(at_most=5), {"not": leaf(at_least=10)}]},
    {"all": [leaf(at_most="5"), leaf(at_least="10")]},
    {"all": [{"argument": "a.b", "at_most": 5}, {"argument": ["a.b"], "at_least": 10}]},
    {"risk": {"at_least": "low", "at_most": "high"}},
    {
        "all": [
            {"calls": {"tools": ["x"], "at_least": 3}},
            {"calls": {"tools": ["y"], "at_most": 2}},
        ]
    },
]


@pytest.mark.parametrize("when", NEVER)
def test_bounds_that_exclude_each_other_are_found(when: dict[str, Any]) -> None:
    """Broken if a condition that never holds goes unsaid."""
    assert ("contradiction", "rules.0.when") in codes(rule(when=when))


@pytest.mark.parametrize("when", SOMETIMES)
def test_bounds_that_can_hold_are_left_alone(when: dict[str, Any]) -> None:
    """Broken if a condition that can hold is called a contradiction."""
    assert codes(rule(when=when)) == []


WHEN = leaf(at_most=5)
DEAD = [
    ({}, {}),
    ({"tools": ["pay*"]}, {"tools": ["pay_*", "pay"]}),
    ({"tools": ["pay"]}, {"tools": ["pay"], "agents": ["bot"], "when": WHEN}),
    ({"tools": ["pay"], "when": WHEN}, {"tools": ["pay"], "when": WHEN}),
    ({"agents": ["b*"]}, {"agents": ["bot"]}),
    ({"resources": ["o-*"]}, {"resources": ["o-1"]}),
    ({"tools": None, "models": ["openai/gpt-4o"]}, {"models": ["gpt-4o"]}),
]
ALIVE = [
    ({"tools": ["pay_*"]}, {"tools": ["pay*"]}),
    ({"tools": ["pay"], "when": WHEN}, {"tools": ["pay"]}),
    ({"when": WHEN}, {"when": leaf(at_most=6)}),
    ({"mode": "observe"}, {}),
    ({"agents": ["bot"]}, {}),
    ({"resources": ["o-1"]}, {}),
    ({"tools": ["[a-c]x"]}, {"tools": ["[a-d]x"]}),
    ({"tools": ["a?"]}, {"tools": ["a*"]}),
]


def two(first: dict[str, Any], second: dict[str, Any]) -> list[dict[str, Any]]:
    """Make two rules, the keys that are None left out."""
    both = [rule(id="first", **first), rule(id="second", **second, verdict="deny")]
    return [{key: value for key, value in one.items() if value is not None} for one in both]


@pytest.mark.parametrize(("first", "second"), DEAD)
def test_a_rule_that_never_speaks_is_found(first: dict[str, Any], second: dict[str, Any]) -> None:
    """Broken if a rule behind one that takes all its calls goes unsaid."""
    assert ("unreachable", "rules.1") in codes(*two(first, second))


@pytest.mark.parametrize(("first", "second"), ALIVE)
def test_a_rule_that_can_speak_is_left_alone(first: dict[str, Any], second: dict[str, Any]) -> None:
    """Broken if a rule that has calls of its own is called unreachable."""
    assert "unreachable" not in dict(codes(*two(first, second)))


PATTERNS = st.text("ab*?", min_size=1, max_size=5) | st.text("ab*?[]!", min_size=1, max_size=5)
NAMES = ["".join(name) for size in range(6) for name in product("ab[", repeat=size)]


@settings(max_examples=500)
@given(PATTERNS, PATTERNS)
def test_containment_is_never_wrong(wide: str, narrow: str) -> None:
    """Broken if a pattern is said to match all that another does, and a name shows that it does not."""
    if contains(wide, narrow):
        inside = [name for name in NAMES if fnmatchcase(name, narrow)]
        assert [name for name in inside if not fnmatchcase(name, wide)] == []


@pytest.mark.parametrize(
    ("others", "rules", "expected"),
    [
        ({"default": "allow"}, [rule(tools=["t"])], ("default-allow", "default")),
        ({"mode": "observe"}, [rule()], ("observing", "mode")),
        ({}, [rule(verdict="ask")], ("no-approvers", "rules.0")),
        ({}, [rule(mode="observe")], ("observed-rule", "rules.0.mode")),
        ({}, [rule(when={"any": [WHEN, WHEN]})], ("repeated-condition", "rules.0.when")),
        ({}, [rule(when={"time": {"not_after": "2026-05-31"}})], ("expired", "rules.0.when")),
        (
            {},
            [rule(tools=["t"], verdict="steer", suggest=["u"])],
            ("refused-suggestion", "rules.0.suggest.0"),
        ),
        (
            {"evaluators": [{"use": "list", "tools": ["t"]}]},
            [rule(tools=["t"], verdict="deny")],
            ("idle-evaluator", "evaluators.0"),
        ),
        (
            {"budgets": [{"name": "b", "per": "org", "calls": 1, "tools": ["t"]}]},
            [rule(tools=["t"], verdict="deny")],
            ("idle-budget", "budgets.0"),
        ),
        (
            {"leases": [{"name": "l", "tools": ["t"]}]},
            [rule(tools=["t"], verdict="deny")],
            ("idle-lease", "leases.0"),
        ),
        (
            {"leases": [{"name": "l", "tools": ["t"], "max_concurrent": 0}]},
            [rule(tools=["t"])],
            ("closed-lease", "leases.0.max_concurrent"),
        ),
        (
            {"leases": [{"name": "l", "tools": ["t"], "while_asking": True}]},
            [rule(tools=["t"])],
            ("nobody-asks", "leases.0.while_asking"),
        ),
    ],
)
def test_each_finding(
    others: dict[str, Any], rules: list[dict[str, Any]], expected: tuple[str, str]
) -> None:
    """Broken if something that lint is to find goes unsaid, or something else is said beside it."""
    assert codes(*rules, **others) == [expected]


def test_dates_that_are_to_come_are_left_alone() -> None:
    """Broken if a rule is called expired on its last day."""
    assert codes(rule(when={"time": {"not_after": str(TODAY)}})) == []


def test_tools_of_the_host_are_compared() -> None:
    """Broken if a tool that no rule names, or a name that no tool has, goes unsaid."""
    found = codes(rule(tools=["pay", "wire_*"]), tools=["pay", "look"])
    assert found == [("unknown-tool", "rules.0.tools.1"), ("unnamed-tool", "rules")]


def test_command_tells_line_and_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Broken if findings name no line, an error exits with 0, or the host's module is not looked into."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [str(tmp_path), *__import__("sys").path])
    Path("lint_host.py").write_text(
        "from interlock import governed\n\n\n@governed\ndef refund(amount):\n    return amount\n\n\n"
        "class Desk:\n    @governed\n    def wipe(self):\n        return None\n",
        "utf-8",
    )
    Path("policy.yaml").write_text(POLICY + EXPECT, "utf-8")
    assert policy("lint", "policy.yaml", "--strict").exit_code == 0
    found = lines(policy("lint", "policy.yaml", "--json", "--import", "lint_host"))
    said = {(one["code"], one["line"]) for one in found}
    assert {("unknown-tool", 13), ("unknown-tool", 17), ("unnamed-tool", 3)} <= said
    assert any("wipe" in one["says"] for one in found)
    dead = "  - {id: dead, tools: [refund], verdict: deny}\n"
    Path("policy.yaml").write_text(POLICY.replace("evaluators:", f"{dead}evaluators:"), "utf-8")
    result = policy("lint", "policy.yaml")
    assert (result.exit_code, "policy.yaml:19: error unreachable" in result.stdout) == (1, True)


def test_warnings_alone_are_no_failure(tmp_path: Path) -> None:
    """Broken if a warning fails a build that did not ask for strictness, or passes one that did."""
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY, "utf-8")
    assert policy("lint", str(path)).exit_code == 0
    assert policy("lint", str(path), "--strict").exit_code == 1
    assert Policy.load(path).name == "support"
