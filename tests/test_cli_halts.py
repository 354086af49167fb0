"""`interlock halt`, `release` and `halts`, run as people and scripts run them."""

from __future__ import annotations

import json

import pytest

from interlock import Governor, governed
from interlock.errors import Denied, HaltedError
from tests.commands import Cli, cli_of

pytestmark = pytest.mark.promise(4)

ALLOW = {"version": 1, "name": "p", "default": "allow"}


@governed
def act() -> str:
    """Act."""
    return "done"


@pytest.fixture
def database(either: str) -> str:
    """Run every test here on both databases."""
    return either


@pytest.fixture
def cli(database: str) -> Cli:
    """Run `interlock` on this test's store."""
    return cli_of(database, columns=100)


def test_from_a_terminal_to_every_process(database: str, cli: Cli) -> None:
    """Broken if what an operator halts goes on in a running process, or what they release does not."""
    with Governor(database, policy=ALLOW) as governor, governor.session("s", agent="a", org="acme"):
        assert act() == "done"
        done = cli("halt", "--org", "acme", "--reason", "drill", "--as", "ann", "--yes", "--json")
        assert (done.returncode, done.stderr) == (0, "")
        halt = json.loads(done.stdout)
        with pytest.raises(HaltedError, match="org acme is halted: drill"):
            act()
        listed = [json.loads(line) for line in cli("halts", "--json").stdout.splitlines()]
        assert [(one["id"], one["by"], one["reason"]) for one in listed] == [
            (halt["id"], "ann", "drill")
        ]
        shown = cli("halts").stdout
        assert halt["id"] in shown
        assert "org acme" in shown
        released = cli("release", halt["id"], "--reason", "over", "--as", "bob", "--yes")
        assert (released.returncode, released.stdout) == (0, "org acme is released, by bob\n")
        assert act() == "done"
        assert cli("halts").stdout == "Nothing is halted.\n"
        assert [report.problem for report in governor.verify()] == [None]


def test_twice_is_once(database: str, cli: Cli) -> None:
    """Broken if halting again is an error, or makes a second halt that has to be released, too."""
    Governor(database, policy=ALLOW).close()
    first = cli("halt", "--system", "--reason", "one", "--as", "ann", "--yes")
    again = cli("halt", "--system", "--reason", "two", "--as", "bob", "--yes")
    assert "system is halted, by ann" in first.stdout
    assert "system was halted already, by ann" in again.stdout
    assert len(cli("halts", "--json").stdout.splitlines()) == 1


def test_all_that_there_ever_was(database: str, cli: Cli) -> None:
    """Broken if it cannot be looked up who halted what once, who released it and why; or if it passes for standing."""
    with Governor(database) as governor:
        assert cli("halts", "--all").stdout == "Nothing was ever halted.\n"
        first = governor.halt(org="acme", reason="drill", by="ann").halt
        governor.release(first.id, reason="all is well", by="bob")
        second = governor.halt(tool="wire", reason="drill", by="ann").halt
    found = [json.loads(line) for line in cli("halts", "--all", "--json").stdout.splitlines()]
    assert [(one["id"], one["released_by"], one["release_reason"]) for one in found] == [
        (first.id, "bob", "all is well"),
        (second.id, None, None),
    ]
    shown = cli("halts", "--all").stdout
    assert [word in shown for word in ("bob", "well", "stands")] == [True] * 3
    assert first.id not in cli("halts").stdout
    page = cli("halts", "--all", "--json", "--after", first.id).stdout.splitlines()
    assert [json.loads(line)["id"] for line in page] == [second.id]


def test_a_history_tells_of_a_policys_halt(database: str, cli: Cli) -> None:
    """Broken if who reads a session's history cannot see that, and why, its policy halted the agent."""
    policy = {
        **ALLOW,
        "rules": [{"id": "no", "tools": ["act"], "verdict": "deny"}],
        "halts": [{"after_refusals": 1, "halt": "agent"}],
    }
    with Governor(database, policy=policy) as governor:
        with governor.session("s", agent="a", org="acme") as session, pytest.raises(Denied):
            act()
        [halt] = governor.halts()
    told = " ".join(cli("events", session.id).stdout.split())
    assert "policy:p halts agent a: a call was refused" in told
    assert halt.by == "policy:p"
    assert "agent a" in cli("halts").stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["halt", "--reason", "x", "--yes"], "exactly one of"),
        (["halt", "--org", "a", "--team", "b", "--reason", "x", "--yes"], "exactly one of"),
        (["halt", "--system", "--reason", "x"], "say --yes"),
        (["halt", "--session", "nowhere", "--reason", "x", "--yes"], "there is no session nowhere"),
        (["halt", "--system", "--reason", "", "--yes"], "reason"),
        (["release", "nothing", "--reason", "x", "--yes"], "`interlock halts` lists those"),
    ],
)
def test_wrong_use_halts_nothing(database: str, cli: Cli, arguments: list[str], said: str) -> None:
    """Broken if a mistake is a traceback, or stops something else."""
    Governor(database, policy=ALLOW).close()
    done = cli(*arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert cli("halts").stdout == "Nothing is halted.\n"
