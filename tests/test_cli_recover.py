"""`interlock recover`, run as people and scripts run it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from interlock import Governor
from interlock.testing import ManualClock
from tests.commands import Cli, cli_of
from tests.recovery._left import POLICY, Process, again, hold, kinds, rows, sound

pytestmark = pytest.mark.promise(6)

Make = Callable[..., Governor]


@pytest.fixture
def database(either: str) -> str:
    """Run every test here on both databases."""
    return either


@pytest.fixture
def cli(database: str) -> Cli:
    """Run `interlock recover` on this test's store."""
    return cli_of(database, "recover", columns=120)


def objects(done: subprocess.CompletedProcess[str]) -> list[dict[str, object]]:
    """What the command prints for programs."""
    assert done.stderr == ""
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_from_a_crash_to_an_answer(
    governor: Make, database: str, clock: ManualClock, cli: Cli
) -> None:
    """Broken if an operator cannot find what a dead process left, see it, and say what became of it."""
    reader = governor(POLICY)
    left = Process(governor(POLICY, clock=clock))  # by the machine's clock it was never heard of
    left.begin(hold)
    left.begin(again)
    before = rows(reader)
    dry = cli("--dry-run")
    assert (dry.returncode, dry.stderr) == (1, "")
    assert "1 call would be put in doubt" in dry.stdout
    assert rows(reader) == before

    done = cli("--json")
    [found] = objects(done)
    assert done.returncode == 1  # a human has to look
    assert found["paused"] == [left.session.id]
    [doubted] = found["doubted"]  # type: ignore[misc]
    assert doubted["tool"] == "hold"

    [listed] = objects(cli("list", "--json"))
    assert listed["call_id"] == doubted["call_id"]
    assert doubted["call_id"] in cli("list").stdout
    again_ = cli()
    assert again_.returncode == 1
    assert "Nothing to recover." in again_.stdout
    assert "In doubt: 1." in again_.stdout

    said = cli("resolve", doubted["call_id"], "--not-happened", "--as", "ann", "--comment", "none")
    assert (said.returncode, said.stderr) == (0, "")
    assert said.stdout.split() == f"Call {doubted['call_id']} did not happen, says ann.".split()
    late = cli("resolve", doubted["call_id"], "--happened", "--as", "ann")
    assert (late.returncode, late.stdout) == (2, "")
    assert "is in doubt" in late.stderr

    quiet = cli()
    assert (quiet.returncode, quiet.stdout.strip()) == (0, "Nothing to recover.")
    assert cli("list").stdout.strip() == "No call is in doubt."
    assert kinds(reader, left.session.id)[-1] == "call_recovered"
    assert sound(reader)


def test_whether_it_happened_must_be_said(governor: Make, cli: Cli) -> None:
    """Broken if a call can be resolved without saying how."""
    governor()
    done = cli("resolve", "x", "--as", "ann")
    assert done.returncode == 2
    assert "--happened" in done.stderr


def test_stuck_by_a_policy(
    governor: Make, database: str, clock: ManualClock, cli: Cli, tmp_path: Path
) -> None:
    """Broken if the command cannot be told by a policy what is stuck."""
    left = Process(governor(POLICY))
    left.begin(hold)
    path = tmp_path / "policy.yaml"
    path.write_text('{version: 1, name: p, recovery: {call_stuck_after: "1ms", on_stuck: halt}}')
    [found] = objects(cli("--policy", str(path), "--json"))
    assert [one["tool"] for one in found["stuck_calls"]] == ["hold"]  # type: ignore[union-attr, index]
    assert found["halted"] == [left.session.id]
