"""`interlock policy test` and `check`: examples are judged as calls are, and what differs is said."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from interlock.errors import PluginError, PolicyError
from tests.policy_commands import EXPECT, HOSTILE, POLICY, lines, policy

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_examples_that_hold_pass() -> None:
    """Broken if examples of a sound policy fail, or the past before one does not count."""
    Path("policy.yaml").write_text(POLICY + EXPECT, "utf-8")
    result = policy("test", "--json")
    *found, summary = lines(result)
    assert (result.exit_code, [one["verdict"] for one in found]) == (
        0,
        ["allow", "ask", "deny", "allow"],
    )
    assert all(one["passed"] for one in found)
    assert found[2]["rules"] == ["large-refunds", "exports"]
    assert summary == {"path": "policy.yaml", "examples": 4, "failed": 0, "uncovered": []}


@pytest.mark.parametrize(
    ("example", "told"),
    [
        ("{call: {tool: export}, verdict: deny}", "expected verdict deny, got allow"),
        ("{call: {tool: export}, verdict: allow, rule: exports}", "got other-exports"),
        ("{call: {tool: export}, verdict: allow, reason: because}", "expected reason because"),
        (
            "{call: {tool: refund, arguments: {amount: 20, order: o-9}}, verdict: allow}",
            "evaluator:list",
        ),
    ],
)
def test_an_example_that_does_not_hold_fails(example: str, told: str) -> None:
    """Broken if a wrong expectation passes, an evaluator is not asked, or the report hides the difference."""
    Path("policy.yaml").write_text(f"{POLICY}expect:\n  - {example}\n", "utf-8")
    result = policy("test")
    assert (result.exit_code, told in result.stdout) == (1, True)
    assert "1 of 1 examples failed" in result.stdout


def test_rules_that_no_example_reaches_are_named() -> None:
    """Broken if coverage counts rules that did not speak, or is required and does not fail."""
    Path("policy.yaml").write_text(POLICY, "utf-8")
    Path("more.yaml").write_text("expect:\n  - {call: {tool: export}, verdict: allow}\n", "utf-8")
    arguments = ("test", "policy.yaml", "--examples", "more.yaml", "--json")
    result = policy(*arguments)
    assert result.exit_code == 0
    assert lines(result)[-1]["uncovered"] == ["small-refunds", "large-refunds", "exports"]
    assert policy(*arguments, "--require-coverage").exit_code == 1


def test_time_is_what_the_example_says() -> None:
    """Broken if an example is judged at another time than it names."""
    text = """\
version: 1
name: hours
rules:
  - {id: by-day, tools: [pay], when: {time: {from: "09:00", until: "17:00"}}, verdict: allow}
expect:
  - {call: {tool: pay}, at: "2031-01-31T10:00:00Z", verdict: allow}
  - {call: {tool: pay}, at: "2031-01-31T18:00:00Z", verdict: deny}
"""
    Path("policy.yaml").write_text(text, "utf-8")
    assert policy("test").exit_code == 0


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("support_desk.yaml")), ids=lambda p: p.name)
def test_our_own_examples_hold(path: Path) -> None:
    """Broken if a policy that is shipped as an example decides other than it says, or has a rule without example."""
    assert policy("test", str(path), "--require-coverage").exit_code == 0


def test_hostile_text_is_written_out() -> None:
    """Broken if names and reasons in a policy can act on the terminal."""
    named = HOSTILE.encode("unicode_escape").decode().replace("\\x1b", "\\u001b")
    Path("policy.yaml").write_text(
        "version: 1\nname: p\nrules:\n"
        f'  - {{id: "{named}", tools: ["*"], when: {{argument: a, equals: "{named}"}}, verdict: deny, '
        f'reason: "{named}"}}\n'
        f'expect:\n  - {{name: "{named}", call: {{tool: t, arguments: {{a: "{named}"}}}}, verdict: allow}}\n',
        "utf-8",
    )
    Path("new.yaml").write_text("version: 1\nname: p\n", "utf-8")
    call = f'{{"tool": "t", "arguments": {{"a": "{named}"}}}}'
    for arguments in (
        ("test",),
        ("lint", "policy.yaml"),
        ("explain", "--call", call),
        ("diff", "policy.yaml", "new.yaml"),
    ):
        printed = policy(*arguments).stdout
        assert "evil" in printed or arguments[0] == "lint"
        assert "\x1b[31m" not in printed
        assert "\u202e" not in printed


def test_check_builds_evaluators_and_sums_up() -> None:
    """Broken if check passes what no governor could be built from, or does not say what it found."""
    Path("policy.yaml").write_text(POLICY + EXPECT, "utf-8")
    [found] = lines(policy("check", "policy.yaml", "--json"))
    counts = {key: found[key] for key in ("rules", "evaluators", "budgets", "trackers", "examples")}
    assert counts == {"rules": 4, "evaluators": 1, "budgets": 1, "trackers": 1, "examples": 4}
    Path("policy.yaml").write_text(POLICY.replace("use: list", "use: nobody"), "utf-8")
    with pytest.raises(PluginError, match="nobody"):
        policy("check", "policy.yaml")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("missing.yaml", None, "cannot be read"),
        ("policy.yaml", "version: [", "policy.yaml"),
        ("policy.yaml", "version: 1\nname: p\nexpect: [{verdict: allow}]\n", "call"),
    ],
)
def test_a_file_that_is_no_policy_is_an_error(name: str, text: str | None, said: str) -> None:
    """Broken if a file that cannot be judged passes its tests."""
    if text is not None:
        Path(name).write_text(text, "utf-8")
    with pytest.raises(PolicyError, match=said):
        policy("test", name)


def test_as_a_process() -> None:
    """Broken if the exit codes or the message of an error are lost on the way to a shell."""
    Path("policy.yaml").write_text(POLICY + EXPECT, "utf-8")

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "interlock", "policy", *arguments],
            env={**os.environ, "COLUMNS": "100", "PYTHONIOENCODING": "ascii"},
            capture_output=True,
            text=True,
            check=False,
        )

    passed = run("test")
    assert (passed.returncode, passed.stderr, "4 examples passed" in passed.stdout) == (0, "", True)
    explained = run("explain", "--tool", "refund", "--arg", "amount=20")
    assert (explained.returncode, explained.stderr) == (0, "")
    failed = run("test", "missing.yaml")
    assert (failed.returncode, failed.stdout, "missing.yaml" in failed.stderr) == (2, "", True)
