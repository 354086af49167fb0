"""`interlock leases`, and what `interlock verify` says of leases, run as people and scripts run them."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from interlock import ApprovalNeeded, Governor, current_call
from tests.commands import Cli, cli_of
from tests.leases._desk import deploy, policy, restart

pytestmark = pytest.mark.promise(3)

POLICY = policy(
    {"per": "resource", "expires": "1h"},
    {"name": "two", "tools": ["restart"], "while_asking": True},
    rules=[{"id": "ask", "tools": ["restart"], "verdict": "ask"}],
)


@pytest.fixture
def database(either: str) -> str:
    """Run every test here on both databases."""
    return either


@pytest.fixture
def cli(database: str) -> Cli:
    """Run `interlock` on this test's store."""
    return cli_of(database, columns=250)


def test_who_holds_what(database: str, cli: Cli) -> None:
    """Broken if an operator cannot see who holds a lease, or sees who holds none."""
    heard: dict[str, Any] = {}

    def inside() -> None:
        call = current_call()
        assert call is not None
        heard["call"] = call.id
        heard["json"] = cli("leases", "--json")
        heard["text"] = cli("leases")
        heard["one"] = cli("leases", "--lease", "two", "--json")
        heard["cut"] = cli("leases", "--limit", "1")

    with Governor(database, policy=POLICY) as governor:
        assert cli("leases").stdout == "Nobody holds a lease.\n"
        with governor.session("s", agent="bot") as session:
            with pytest.raises(ApprovalNeeded) as refused:
                restart("web")
            deploy("\x1b[2Japi", inside)
        ticket = refused.value.ticket
    assert [heard[name].returncode for name in ("json", "text", "one", "cut")] == [0] * 4
    call, waiting = [json.loads(line) for line in heard["json"].stdout.splitlines()]
    assert {**call, "scope": None, "expires_at": None} == {
        "lease": "one",
        "scope": None,
        "token": 1,
        "session_id": session.id,
        "call_id": heard["call"],
        "ticket_id": None,
        "tool": "deploy",
        "resource": "\x1b[2Japi",
        "expires_at": None,
        "lost": False,
    }
    assert (waiting["lease"], waiting["ticket_id"], waiting["call_id"]) == (
        "two",
        ticket.id,
        ticket.call_id,
    )
    assert json.loads(heard["one"].stdout) == waiting
    shown = heard["text"].stdout
    assert f"call {heard['call']}" in shown
    assert f"ticket {ticket.id}" in shown
    assert "\x1b" not in shown
    assert "LOST" not in shown
    assert ticket.id not in heard["cut"].stdout
    assert "only the first 1 holders are shown" in heard["cut"].stderr + heard["cut"].stdout


def test_who_has_lost_it_is_marked(database: str, cli: Cli) -> None:
    """Broken if a holder whose time is over looks like one that holds its lease."""
    heard: list[Any] = []

    def inside() -> None:
        with governor.session("t", agent="bot"):
            holders = governor.leases()[0].holders
        past = f"{holders[0].expires_at - timedelta(days=2):%Y-%m-%dT%H:%M:%SZ}"
        governor.write(
            lambda c: c.execute(
                text("UPDATE leases SET holders = :holders"),
                {
                    "holders": json.dumps(
                        [
                            {
                                "token": 1,
                                "session_id": session.id,
                                "call_id": "c",
                                "tool": "deploy",
                                "expires_at": past,
                            }
                        ]
                    )
                },
            )
        )
        heard.extend([cli("leases", "--json"), cli("leases"), cli("verify")])

    with (
        Governor(database, policy=POLICY) as governor,
        governor.session("s", agent="bot") as session,
    ):
        deploy("api", inside)
    as_json, shown, verified = heard
    assert json.loads(as_json.stdout)["lost"] is True
    assert "LOST" in shown.stdout
    assert verified.returncode == 1
    assert "lease one, part " in verified.stdout
    assert "the holder of token 1 is not what the events say" in verified.stdout
