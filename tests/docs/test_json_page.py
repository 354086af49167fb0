"""The page on JSON: what every command prints with `--json`, each kind of line, with these keys in this order."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import mcp.client.stdio  # noqa: F401 - it keeps the stderr of when it is imported, which must not be the runner's
import pytest
from typer.testing import CliRunner

from interlock import ApprovalNeeded, Denied, Governor, Identity, governed
from interlock.cli import app
from interlock.testing import ManualClock
from tests.docs.pages import code, reference
from tests.docs.test_reference import COMMANDS
from tests.recovery import _left

Shapes: TypeAlias = dict[str, list[list[str]]]
"""By command, the keys of each kind of line that it printed."""

Run: TypeAlias = Callable[..., list[dict[str, Any]]]

POLICY = """\
version: 1
name: desk
default: ask
rules:
  - {id: look, tools: [look], verdict: allow}
  - {id: no-wires, tools: [wire], verdict: deny}
  - {id: wires, tools: [wire], verdict: allow}
budgets:
  - {name: run, per: session, calls: 20}
leases:
  - {name: one, tools: [look], max_concurrent: 1}
expect:
  - {call: {tool: look}, verdict: allow}
"""


@governed
def look(inside: Callable[[], object]) -> None:
    """Hold the lease while something else is done."""
    inside()


@governed
def wire() -> None:
    """Be denied."""


@governed
def pay(amount: int) -> None:
    """Be asked about."""


@pytest.fixture
def shapes(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shapes:
    """What every command printed, of a store in which everything has happened."""
    monkeypatch.chdir(tmp_path)
    for name, text in {
        "policy.yaml": POLICY,
        "next.yaml": POLICY.replace("tools: [look], verdict: allow", "tools: [look], verdict: ask"),
        "key": "k" * 32,
    }.items():
        Path(name).write_text(text, "utf-8")
    found: Shapes = {}

    def run(name: str, *arguments: str) -> list[dict[str, Any]]:
        given = [*name.split()[1:], *arguments, "--json"]
        done = CliRunner().invoke(app, given, env={"INTERLOCK_DB": database})
        lines: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
        assert lines, done.stderr
        kinds = {tuple(kind): kind for kind in [*found.get(name, []), *map(list, lines)]}
        found[name] = list(kinds.values())
        return lines

    run("interlock db upgrade")
    _calls(database, run)
    _reads(database, run)
    _left_open(database, run)
    return found


def _calls(database: str, run: Run) -> None:
    """Have calls allowed, denied and asked about, and answer as people do."""
    with Governor(database, policy="policy.yaml") as governor:
        with governor.session("one", agent="bot", user="u-17") as session:
            look(lambda: run("interlock leases"))
            with pytest.raises(Denied):
                wire()
            for verb in ("approve", "deny"):
                with pytest.raises(ApprovalNeeded):
                    pay(len(verb))
                (ticket,) = run("interlock approvals list")
                run("interlock approvals show", ticket["id"])
                run("interlock approvals watch", "--count", "1")
                run(f"interlock approvals {verb}", ticket["id"], "--as", "ann", "--yes")
        usage = {"model": "gpt-5-mini", "input_tokens": 10, "output_tokens": 5}
        governor.record_usage(**usage, identity=Identity(agent="bot", org="acme"))
        run("interlock policy explain", "--event", session.id, "2")
        run("interlock replay", session.id)
        run("interlock replay", session.id, "--check", "--policy", "next.yaml")


def _reads(database: str, run: Run) -> None:
    (halt,) = run("interlock halt", "--agent", "x", "--reason", "drill", "--as", "ann", "--yes")
    run("interlock halts")
    run("interlock release", halt["id"], "--reason", "over", "--as", "ann", "--yes")
    session = run("interlock sessions")[0]["id"]
    run("interlock sessions show", session)
    run("interlock events", session)
    run("interlock checkpoint", "--to", "checkpoints.jsonl", "--key", "key")
    for name in ("verify", "health", "scorecard", "budgets", "usage", "plugins", "doctor"):
        run(f"interlock {name}")
    for name in ("check", "test", "lint"):
        run(f"interlock policy {name}", "policy.yaml")
    run("interlock policy explain", "policy.yaml", "--tool", "look")
    run("interlock policy diff", "policy.yaml", "next.yaml", "--calls", "10")
    run("interlock db current")
    run("interlock db check")


def _left_open(database: str, run: Run) -> None:
    """Have a process die in the middle of a call, and say what became of it."""
    with Governor(database, policy=_left.POLICY, clock=ManualClock()) as governor:
        left = _left.Process(governor)  # by the machine's clock it was never heard of
        left.begin(_left.hold)
        run("interlock recover")
        (doubted,) = run("interlock recover list")
        run("interlock recover resolve", doubted["call_id"], "--not-happened", "--as", "ann")
        left.streams.pop().close()  # or it ends when it is collected, and the log says so to nobody


def test_what_programs_are_given(shapes: Shapes) -> None:
    """Broken if a command prints a line with other keys than the page says, or one that the page is silent about."""
    taking = {
        name for name, command in COMMANDS.items() if any(p.name == "json" for p in command.params)
    }
    assert taking == shapes.keys()
    shown: Shapes = {}
    for found in reference("json"):
        for row in found.rows:
            if "command" in row:
                for name in code(row["command"]):
                    shown.setdefault(name, []).append(code(row["keys"]))
    assert {name: sorted(kinds) for name, kinds in shapes.items()} == {
        name: sorted(kinds) for name, kinds in shown.items()
    }
