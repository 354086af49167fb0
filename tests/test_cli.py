"""The command line, run as people and scripts run it: as a process, with its exit codes."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from interlock import ApprovalNeeded, Governor, governed
from interlock.store import tickets
from tests.commands import Cli, cli_of, lines

POLICY = {
    "version": 1,
    "name": "support",
    "rules": [
        {"id": "lookups", "tools": ["lookup"], "verdict": "allow"},
        {"id": "refunds", "tools": ["refund"], "verdict": "ask", "approvers": ["payments-oncall"]},
    ],
}
HOSTILE = "o-1\x1b[31m\u202e"


@governed
def lookup(order_id: str) -> str:
    """Look an order up."""
    return order_id


@governed(secrets=["card"])
def refund(order_id: str, amount: int, card: str) -> str:
    """Pay money back."""
    return f"{order_id}: {amount}"


@pytest.fixture
def cli(database: str) -> Cli:
    """Run `interlock` on this test's store."""
    return cli_of(database, columns=100)


@pytest.fixture
def ticket(governor: Callable[..., Governor]) -> Iterator[str]:
    """A pending ticket in an open session that has also run one call."""
    with governor(POLICY).session("case-7", agent="bot", user="u-17"):
        lookup("o-1")
        with pytest.raises(ApprovalNeeded) as refused:
            refund(HOSTILE, 900, card="4111-planted")
        yield refused.value.ticket.id


def test_a_call_is_approved_from_another_process(cli: Cli, ticket: str) -> None:
    """Broken if a human at a terminal cannot find, read and answer what waits."""
    [waiting] = lines(cli("approvals", "list", "--json"))
    assert waiting["id"] == ticket
    shown = cli("approvals", "show", ticket)
    assert "amount=900" in shown.stdout
    answered = cli("approvals", "approve", ticket, "--as", "ann", "--yes", "--comment", "fine")
    assert (answered.returncode, "approved" in answered.stdout) == (0, True)
    assert refund(HOSTILE, 900, card="4111-planted") == f"{HOSTILE}: 900"
    assert cli("approvals", "list").stdout.strip() == "Nothing waits for an answer."


@pytest.mark.promise(5)
def test_the_requester_is_turned_away(cli: Cli, ticket: str) -> None:
    """Broken if whoever asked can approve, or if a refusal does not say why and exit with 2."""
    for requester in ("bot", "u-17"):
        answered = cli("approvals", "approve", ticket, "--as", requester, "--yes")
        assert answered.returncode == 2
        assert "cannot approve it" in answered.stderr
    assert [item["id"] for item in lines(cli("approvals", "list", "--json"))] == [ticket]


def test_a_no_reaches_the_caller(cli: Cli, ticket: str, database: str) -> None:
    """Broken if a denial loses its comment on the way to the model."""
    answered = cli("approvals", "deny", ticket, "--as", "ann", "--yes", "--comment", "too much")
    assert answered.returncode == 0
    with pytest.raises(Exception, match="ann said no: too much"):
        refund(HOSTILE, 900, card="4111-planted")


@pytest.mark.promise(9)
def test_the_display_cannot_be_forged_and_shows_no_secret(cli: Cli, ticket: str) -> None:
    """Broken if an argument's control characters act on the terminal, or a declared secret is shown."""
    session = lines(cli("sessions", "--json"))[0]["id"]
    for command in (["approvals", "show", ticket], ["approvals", "list"], ["events", str(session)]):
        shown = cli(*command).stdout
        assert not {"\x1b", "\u202e"} & set(shown)
        assert "planted" not in shown
    assert "\\x1b[31m" in cli("approvals", "show", ticket).stdout


def test_history_is_shown_and_verified(cli: Cli, ticket: str) -> None:
    """Broken if `events` leaves one out, or `verify` finds fault with an untouched store."""
    [session] = lines(cli("sessions", "--json"))
    events = lines(cli("events", str(session["id"]), "--json"))
    kinds = ["session_opened", "call_decided", "call_finished", "call_decided", "ticket_opened"]
    assert [event["kind"] for event in events] == kinds
    assert cli("events", str(session["id"])).stdout.count("refund(") == 1
    verified = cli("verify")
    assert (verified.returncode, verified.stdout.strip()) == (0, "1 of 1 sessions verified")


@pytest.mark.promise(7)
def test_verify_exits_with_1_on_a_changed_row(cli: Cli, ticket: str, tmp_path: Path) -> None:
    """Broken if a script cannot tell a tampered store from a sound one."""
    with sqlite3.connect(tmp_path / "interlock.db") as raw:
        raw.execute("DROP TRIGGER tr_events_update")
        raw.execute("UPDATE events SET body = replace(body, 'allow', 'alloW') WHERE seq = 2")
    raw.close()
    verified = cli("verify")
    assert verified.returncode == 1
    assert "event 2" in verified.stdout
    report, counter = lines(cli("verify", "--json"), code=1)
    assert "event 2" in str(report["problem"])
    assert "decisions" in str(counter["counters"])


def test_looking_creates_nothing(cli: Cli, tmp_path: Path) -> None:
    """Broken if a mistyped --db leaves an empty store behind and reports that all is well."""
    result = cli("verify", INTERLOCK_DB=f"sqlite:///{tmp_path / 'mistyped.db'}")
    assert result.returncode == 2
    assert "--db" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("url", ["nonsense", "postgresql://127.0.0.1:1/x", ""])
def test_a_wrong_url_is_explained(cli: Cli, url: str) -> None:
    """Broken if a wrong URL is a traceback."""
    result = cli("sessions", "--db", url)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    told = "Check that the server runs" if url.startswith("postgresql") else "sqlite:///"
    assert told in result.stderr


def test_an_unknown_id_is_explained(cli: Cli, ticket: str) -> None:
    """Broken if a mistyped id is a traceback, or passes for an answer."""
    for command in (["events", "x"], ["approvals", "show", "x"], ["approvals", "deny", "x", "-y"]):
        result = cli(*command)
        assert (result.returncode, "there is no" in result.stderr) == (2, True)


def test_a_policy_is_checked(cli: Cli, tmp_path: Path) -> None:
    """Broken if a broken policy passes, or its error does not say where."""
    sound, broken = tmp_path / "sound.yaml", tmp_path / "broken.yaml"
    sound.write_text("version: 1\nname: support\nrules: []\n")
    broken.write_text("version: 1\nname: support\nruls: []\n")
    assert "policy support, 0 rules" in cli("policy", "check", str(sound)).stdout
    checked = cli("policy", "check", str(broken))
    assert checked.returncode == 2
    assert "broken.yaml:3: ruls: unknown key" in checked.stderr
    [schema] = lines(cli("policy", "schema"))
    assert "rules" in schema["properties"]  # type: ignore[operator]


def test_a_reader_that_stops_early_is_no_error(cli: Cli, ticket: str, database: str) -> None:
    """Broken if `interlock sessions | head -0` ends in a traceback."""
    reader, writer = os.pipe()
    os.close(reader)
    result = subprocess.run(
        [sys.executable, "-m", "interlock", "sessions", "--json", "--db", database],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writer)
    assert "Traceback" not in result.stderr
    assert "Exception ignored" not in result.stderr


def test_pending_tickets_page(governor: Callable[..., Governor], ticket: str) -> None:
    """Broken if a page repeats its first row, or a limit is not kept."""
    one = governor(POLICY)
    assert [found.id for found in one.read(tickets.pending, limit=1)] == [ticket]
    assert one.read(tickets.pending, after=ticket) == []
