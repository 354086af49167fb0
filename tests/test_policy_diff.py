"""`interlock policy diff`: what changed, and which calls would notice."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from interlock import Governor, Policy, Refused, governed
from interlock.policy.differences import changes
from interlock.policy.document import parse_data
from tests.policy_commands import EXPECT, POLICY, lines, policy


@governed(resource="order", cost="amount")
def refund(order: str, amount: Any) -> str:
    """Pay money back."""
    return order


@governed
def export() -> str:
    """Send everything away."""
    return "sent"


def shape(old: dict[str, Any], new: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return kind, what and name of each change."""
    head = {"version": 1, "name": "p"}
    found = changes(parse_data({**head, **old}), parse_data({**head, **new}))
    return [(one.kind, one.what, one.name) for one in found]


def rules(*names: str, verdict: str = "allow") -> list[dict[str, Any]]:
    """Make rules with those ids."""
    return [{"id": name, "tools": [name], "verdict": verdict} for name in names]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ({}, {}, []),
        ({}, {"default": "allow"}, [("changed", "default", "default")]),
        ({"rules": rules("a")}, {"rules": rules("a", "b")}, [("added", "rule", "b")]),
        ({"rules": rules("a", "b")}, {"rules": rules("b")}, [("removed", "rule", "a")]),
        (
            {"rules": rules("a", "b", "c")},
            {"rules": rules("b", "c", "a")},
            [("moved", "rule", "a")],
        ),
        (
            {"rules": rules("a")},
            {"rules": rules("a", verdict="deny")},
            [("changed", "rule", "a")],
        ),
        (
            {"budgets": [{"name": "b", "per": "org", "calls": 1}]},
            {"budgets": [{"name": "b", "per": "org", "calls": 2}]},
            [("changed", "budget", "b")],
        ),
        (
            {"rules": rules("a")},
            {"rules": rules("a"), "expect": [{"call": {"tool": "a"}, "verdict": "allow"}]},
            [],
        ),
    ],
)
def test_changes(
    old: dict[str, Any], new: dict[str, Any], expected: list[tuple[str, str, str]]
) -> None:
    """Broken if a part that says something else goes unsaid, or one that says the same is named."""
    assert shape(old, new) == expected


def write(directory: Path) -> tuple[str, str]:
    """Write a policy, and one that allows ten times as much."""
    old, new = directory / "old.yaml", directory / "new.yaml"
    old.write_text(POLICY, "utf-8")
    new.write_text(POLICY.replace("at_most: 50", "at_most: 500"), "utf-8")
    return str(old), str(new)


def test_examples_show_what_is_loosened(tmp_path: Path) -> None:
    """Broken if a call that gets further than before passes for the same, or tightening for loosening."""
    old, new = write(tmp_path)
    Path(old).write_text(POLICY + EXPECT.replace("amount: 20,", "amount: 60,"), "utf-8")
    loosened = policy("diff", old, new, "--fail-on", "loosened", "--json")
    *_, call, summary = lines(loosened)
    assert (call["call"]["before"], call["call"]["after"]) == ("ask", "allow")
    assert (loosened.exit_code, summary) == (1, {"tried": 4, "changed": 1, "loosened": 1})
    tightened = policy("diff", new, old, "--fail-on", "loosened", "--json")
    assert (tightened.exit_code, lines(tightened)[-1]["loosened"]) == (0, 0)
    assert policy("diff", new, old, "--fail-on", "changed").exit_code == 1
    assert "The policies say the same." in policy("diff", new, new).stdout


def test_recorded_calls_are_judged_again(
    tmp_path: Path, database: str, governor: Callable[..., Governor]
) -> None:
    """Broken if history is judged without its past, or otherwise than the policy that decided it did."""
    old, new = write(tmp_path)
    made = governor(old)
    for amount in (20, 60.5, 900):
        with made.session("case", agent="bot"):
            with suppress(Refused):
                refund("o-1", amount)
            with suppress(Refused):
                export()
    same = lines(policy("diff", old, old, "--db", database, "--calls", "100", "--json"))
    assert same == [{"tried": 6, "changed": 0, "loosened": 0}]
    digest = Policy.load(old).digest
    found = lines(policy("diff", digest, new, "--db", database, "--calls", "100", "--json"))
    assert [one["call"]["tool"] for one in found if "call" in one] == ["refund"]
    assert found[-1] == {"tried": 6, "changed": 1, "loosened": 1}
    few = lines(policy("diff", old, new, "--db", database, "--calls", "2", "--json"))
    assert few[-1]["tried"] == 2
    free = tmp_path / "free.yaml"
    free.write_text(POLICY.replace("    verdict: deny", "    verdict: allow"), "utf-8")
    freed = lines(policy("diff", old, str(free), "--db", database, "--calls", "100", "--json"))
    # Only the first session had a refund that got in, so only its export was denied.
    assert [one["call"]["tool"] for one in freed if "call" in one] == ["export"]
    printed = policy("diff", old, new, "--db", database, "--calls", "100").stdout
    assert "1 of 6 calls get another verdict, 1 a looser one." in printed
