"""`interlock health` and `interlock scorecard`, run as people and scripts run them."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

import pytest
from sqlalchemy import text

from interlock import Denied, Governor, governed
from interlock.errors import ApprovalNeeded
from interlock.testing import ManualClock
from tests.commands import Cli, cli_of

Make = Callable[..., Governor]
POLICY = {
    "version": 1,
    "name": "desk\x1b[2J\u202e",
    "default": "deny",
    "rules": [
        {"id": "look", "tools": ["look"], "verdict": "allow"},
        {"id": "pay", "tools": ["pay"], "verdict": "ask"},
    ],
}


@governed
def look() -> None:
    """Look."""


@governed
def pay() -> None:
    """Pay."""


@governed
def wire() -> None:
    """Wire."""


@pytest.fixture
def database(either: str) -> str:
    """Run every test here on both databases."""
    return either


@pytest.fixture
def cli(database: str) -> Cli:
    """Run `interlock` on this test's store."""
    return cli_of(database, columns=100)


def shown(cli: Cli, *arguments: str) -> str:
    """What the command prints, the runs of spaces in it made one."""
    done = cli(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    return "\n".join(" ".join(line.split()) for line in done.stdout.splitlines())


def told(cli: Cli, *arguments: str) -> dict[str, object]:
    """The one object that the command prints for programs."""
    done = cli(*arguments, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    [line] = done.stdout.splitlines()
    found: dict[str, object] = json.loads(line)
    return found


def test_an_empty_store_is_well(governor: Make, cli: Cli) -> None:
    """Broken if there is nothing to show where nothing has happened yet."""
    governor(POLICY)
    assert shown(cli, "health").splitlines()[1:] == [
        "sessions none",
        "tickets none",
        "calls none",
        "in doubt none",
        "halts none",
    ]
    assert "0 calls decided, 0 let through" in shown(cli, "scorecard")


def test_a_day_on_the_desk(governor: Make, cli: Cli) -> None:
    """Broken if people are shown other numbers than programs, are not told where to look, or can be deceived."""
    its = governor(POLICY)
    with suppress(ApprovalNeeded), its.session("s", agent="bot"):
        look()
        with pytest.raises(Denied):
            wire()
        pay()
    its.halt(agent="other", reason="drill", by="ann")

    health = shown(cli, "health")
    assert "sessions 1 paused" in health
    assert "tickets 1 wait for an answer, the oldest since 20" in health
    assert "halts 1 stand" in health
    assert "interlock approvals list shows what waits." in health
    found = told(cli, "health")
    assert (found["pending"], found["halts"], found["sessions"]) == (1, 1, {"paused": 1})

    card = shown(cli, "scorecard")
    assert "3 calls decided, 1 let through" in card
    assert r"1 allow policy:desk\x1b[2J\u202e/look" in card
    assert "ended 1 returned" in card
    assert "sessions 1 paused, 1 opened" in card
    assert "\x1b" not in card
    assert "\u202e" not in card
    assert told(cli, "scorecard")["decisions"] == {"allow": 1, "ask": 1, "deny": 1}


def test_days_of_a_scorecard(governor: Make, cli: Cli) -> None:
    """Broken if the days that are asked for are not those that are counted."""
    clock = ManualClock()
    its = governor(POLICY, clock=clock)
    for _ in range(3):
        with its.session("s", agent="bot"):
            look()
        clock.advance(timedelta(days=1))

    def decided(*span: str) -> object:
        return told(cli, "scorecard", *span)["decisions"]

    assert decided() == {}
    assert decided("--since", "2026-01-01", "--until", "2026-01-02") == {"allow": 2}
    assert decided("--until", "2026-01-03", "--days", "3") == {"allow": 3}
    assert "2026-01-01 to 2026-01-03: 3 calls" in shown(
        cli, "scorecard", "--until", "2026-01-03", "--days", "3"
    )


def test_a_span_that_is_none(governor: Make, cli: Cli) -> None:
    """Broken if a span that nobody can mean is answered with numbers."""
    governor(POLICY)
    done = cli("scorecard", "--since", "2026-02-01", "--until", "2026-01-01")
    assert (done.returncode, done.stdout) == (2, "")
    assert "cannot end on 2026-01-01 and begin on 2026-02-01" in done.stderr
    done = cli("scorecard", "--since", "2026-02-01", "--days", "2")
    assert done.returncode == 2
    assert "say --since or --days, not both" in done.stderr


def test_a_store_that_is_gone(cli: Cli, tmp_path: object) -> None:
    """Broken if a probe takes a store that cannot be read for one that is well."""
    done = cli("health", "--db", f"sqlite:///{tmp_path}/none.db", "--json")
    assert (done.returncode, done.stdout) == (2, "")
    assert "there is no store at" in done.stderr


def test_a_forged_counter_is_found(governor: Make, cli: Cli) -> None:
    """Broken if `verify` leaves the counters out."""
    its = governor(POLICY)
    with its.session("s", agent="bot"):
        look()
    assert cli("verify").returncode == 0
    its.write(lambda connection: connection.execute(text("UPDATE counters SET n = n + 1")) and None)
    done = cli("verify", "--json")
    assert done.returncode == 1
    problems = [json.loads(line) for line in done.stdout.splitlines()]
    assert len([one for one in problems if "counters" in one]) == 4
