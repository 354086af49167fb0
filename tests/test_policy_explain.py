"""`interlock policy explain`: every rule and condition, with the answer that it gave."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from interlock import Governor, governed
from interlock.errors import Misuse, PolicyError
from tests.policy_commands import POLICY, lines, policy


@governed
def refund(order: str, amount: int) -> str:
    """Pay money back."""
    return order


@governed
def export() -> str:
    """Send everything away."""
    return "sent"


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A policy's file."""
    found = tmp_path / "policy.yaml"
    found.write_text(POLICY, "utf-8")
    return str(found)


def test_each_condition_is_answered(path: str) -> None:
    """Broken if an explanation leaves out a rule, a leaf, the one that speaks, or what outvotes it."""
    arguments = ("explain", path, "--tool", "refund", "--arg", "amount=20", "--arg", "order=o-9")
    [found] = lines(policy(*arguments, "--json"))
    assert (found["verdict"], found["authors"]) == ("deny", ["evaluator:list"])
    small, large, exports, _ = found["rules"]
    assert (small["answer"], small["speaks"], exports["about"]) == (True, True, False)
    assert (large["answer"], large["speaks"]) == (True, False)
    [tree] = small["conditions"]
    assert [(leaf["condition"], leaf["answer"]) for leaf in tree["in"]] == [
        ("argument: amount, at_most: 50", True),
        ("risk: {at_most: medium}", True),
    ]
    assert (found["budgets"], found["risk"]) == (["per-run"], "medium")
    printed = policy(*arguments).stdout
    assert "✔ small-refunds: matches, so it speaks: allow" in printed
    assert "deny evaluator:list" in printed


def test_what_cannot_be_told_is_said(path: str) -> None:
    """Broken if a fault is shown as a condition that does not hold."""
    arguments = ("explain", path, "--tool", "refund", "--risk", "low")
    [found] = lines(policy(*arguments, "--json"))
    small = found["rules"][0]
    assert (small["answer"], small["speaks"], found["verdict"]) == ("fault", True, "deny")
    assert small["conditions"][0]["in"][0]["fault"] == "argument 'amount' does not exist"


def test_a_call_in_json_and_options_on_top(path: str) -> None:
    """Broken if --call is not read with the keys of examples, or options do not count beside it."""
    call = '{"tool": "refund", "arguments": {"amount": 20, "order": "o-1"}, "risk": "low"}'
    [low] = lines(policy("explain", path, "--call", call, "--json"))
    [high] = lines(policy("explain", path, "--call", call, "--risk", "high", "--json"))
    assert (low["verdict"], high["verdict"]) == ("allow", "ask")


def test_a_recorded_decision(path: str, database: str, governor: Callable[..., Governor]) -> None:
    """Broken if a recorded decision is explained without its session's past, or by another policy than decided it."""
    with governor(path).session("case", agent="bot") as session:
        refund("o-1", 20)
        with pytest.raises(Exception, match="exports"):
            export()
    Path(path).write_text("version: 1\nname: other\ndefault: allow\n", "utf-8")
    arguments = ("explain", "--event", session.id, "4", "--db", database, "--json")
    [found] = lines(policy(*arguments))
    assert (found["policy"]["name"], found["verdict"]) == ("support", "deny")
    assert [one["id"] for one in found["rules"] if one["speaks"]] == ["exports"]
    assert found["recorded"]["verdict"] == "deny"
    [other] = lines(policy("explain", path, *arguments[1:]))
    assert (other["policy"]["name"], other["verdict"]) == ("other", "allow")
    with pytest.raises(Misuse, match="is no decision"):
        policy("explain", "--event", session.id, "1", "--db", database)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "say which call"),
        (["--call", "{", "--tool"], "No such"),
        (["--call", "[]"], "is an object"),
        (["--call", "{"], "no JSON"),
        (["--tool", "t", "--arg", "amount"], "NAME=VALUE"),
        (["--event", "s", "1", "--tool", "t"], "--event is a call already"),
    ],
)
def test_what_is_no_call_is_an_error(path: str, arguments: list[str], said: str) -> None:
    """Broken if a call that was not understood is explained as some other."""
    if said == "No such":
        assert policy("explain", path, *arguments).exit_code == 2
        return
    with pytest.raises(Misuse, match=said):
        policy("explain", path, *arguments)


def test_a_misspelt_key_of_a_call_is_an_error(path: str) -> None:
    """Broken if a key of --call that says nothing is passed over."""
    with pytest.raises(PolicyError, match="argument"):
        policy("explain", path, "--call", '{"tool": "refund", "argumens": {}}')
