"""The pytest plugin: examples beside policies are tests, where that is asked for, and cost nothing where not."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

import pytest

from tests.policy_commands import EXPECT, POLICY

pytest_plugins = ["pytester"]

ARGUMENTS = ("-p", "pytest_interlock", "-p", "no:randomly", "-p", "no:cacheprovider")


def test_distribution_ships_the_plugin() -> None:
    """Broken if pytest would not find the plugin of an installed Interlock, or the wheel would lack it."""
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8")
    project = tomllib.loads(text)
    assert project["project"]["entry-points"]["pytest11"] == {
        "pytest_interlock": "pytest_interlock"
    }
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert "src/pytest_interlock.py" in wheel["packages"]


def test_each_example_is_a_test(pytester: pytest.Pytester) -> None:
    """Broken if examples are not collected, pass though they do not hold, or fail without saying why."""
    pytester.path.joinpath("policy.yaml").write_text(POLICY + EXPECT, "utf-8")
    wrong = "  - {name: wrong, call: {tool: export}, verdict: deny}\n"
    pytester.path.joinpath("team.policy.yaml").write_text(POLICY + EXPECT + wrong, "utf-8")
    result = pytester.runpytest_subprocess(*ARGUMENTS, "--interlock-policies")
    result.assert_outcomes(passed=8, failed=1)
    result.stdout.fnmatch_lines(
        ["*team.policy.yaml:*: example wrong", "*expected verdict deny, got allow"]
    )
    result.stdout.no_fnmatch_line("*Traceback*")


def test_a_setting_names_the_files(pytester: pytest.Pytester) -> None:
    """Broken if `interlock_policies` is not read, or another file is collected than it names."""
    pytester.makeini("[pytest]\ninterlock_policies = rules.yaml nested/*.yaml\n")
    (pytester.path / "nested").mkdir()
    for name in ("rules.yaml", "nested/one.yaml", "policy.yaml"):
        pytester.path.joinpath(name).write_text(POLICY + EXPECT, "utf-8")
    pytester.runpytest_subprocess(*ARGUMENTS).assert_outcomes(passed=8)


def test_a_broken_policy_is_an_error(pytester: pytest.Pytester) -> None:
    """Broken if tests go on as if nothing were, though the policy cannot be read."""
    pytester.path.joinpath("policy.yaml").write_text("version: 2\n", "utf-8")
    result = pytester.runpytest_subprocess(*ARGUMENTS, "--interlock-policies")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*policy.yaml:1: version*"])


@pytest.mark.parametrize("option", [[], ["--interlock-policies"]])
def test_nothing_is_imported_without_a_policy(pytester: pytest.Pytester, option: list[str]) -> None:
    """Broken if every run of pytest pays for Interlock because it is installed."""
    pytester.makepyfile(
        "import sys\ndef test_it():\n    assert [m for m in sys.modules if m.split('.')[0] == 'interlock'] == []\n"
    )
    if not option:
        pytester.path.joinpath("policy.yaml").write_text(POLICY + EXPECT, "utf-8")
    pytester.runpytest_subprocess(*ARGUMENTS, *option).assert_outcomes(passed=1)
    assert "interlock" in sys.modules  # that name is the one to look for
