"""Grants: a yes for further calls, as many, as long, on what and for as much as was said, and for nothing else."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from interlock import (
    ApprovalNeeded,
    Denied,
    Governor,
    Grant,
    Refused,
    Ticket,
    events,
    governed,
    tool_of,
)
from interlock.errors import Conflict
from interlock.store import grants, tickets
from interlock.testing import ManualClock
from tests.callers import history

pytestmark = [pytest.mark.anyio, pytest.mark.promise(3, 5)]

Make = Callable[..., Governor]
RULES: list[dict[str, Any]] = [
    {"id": "huge", "tools": ["refund"], "when": {"cost": {"at_least": 1000}}, "verdict": "deny"},
    {"id": "refunds", "tools": ["refund", "arefund", "other"], "verdict": "ask"},
]
ASK: dict[str, Any] = {"version": 1, "name": "p", "rules": RULES}


@governed(resource="order", cost="amount")
def refund(order: str, amount: Any = 10) -> str:
    """Pay money back."""
    return order


@governed(resource="order")
async def arefund(order: str) -> str:
    """Pay nothing back."""
    await asyncio.sleep(0)
    return order


@governed
def other() -> str:
    """Do something else."""
    return "other"


@pytest.fixture
def database(either: str) -> str:
    """Run every test here on both databases."""
    return either


def asked(tool: Callable[..., Any] = refund, *args: Any) -> Ticket:
    """Make a call that is asked about, and return its ticket."""
    with pytest.raises(ApprovalNeeded) as refused:
        tool(*args)
    return refused.value.ticket


def outcome(tool: Callable[..., Any], *args: Any) -> str:
    """What becomes of a call."""
    try:
        return str(tool(*args))
    except Refused as refused:
        return type(refused).__name__


def grant(made: Governor, ticket: Ticket, calls: int = 2, **scope: Any) -> None:
    """Say yes to a ticket, and to more."""
    given = Grant(calls=calls, **{"cost_usd": Decimal(1000), **scope})
    made.write(tickets.approve, ticket.id, by="ann", grant=given)


def test_a_grant_is_for_so_many_calls(governor: Make) -> None:
    """Broken if a grant lets one call more through than was said, or the ticket's own call uses it up."""
    made = governor(ASK)
    with made.session("s", agent="bot") as session:
        grant(made, asked(refund, "o-1"))
        heard = [outcome(refund, "o-1", amount) for amount in (10, 11, 12, 13)]
        assert heard == ["o-1", "o-1", "o-1", "ApprovalNeeded"]
        [standing] = made.read(grants.of_session, session.id)
        assert (standing.calls_used, standing.cost_used, standing.by) == (2, 23 * 10**9, "ann")
    decided = [e for e in history(made, session.id) if isinstance(e, events.CallDecided)]
    assert [(e.admitted, e.approved_by, e.grant_id is not None) for e in decided] == [
        (False, None, False),
        (True, "ann", False),
        (True, "ann", True),
        (True, "ann", True),
        (False, None, False),
    ]
    assert [report.problem for report in made.verify()] == [None]


def test_a_grant_is_for_this_tool_resource_and_session(governor: Make) -> None:
    """Broken if a grant is good for what nobody was asked about."""
    made = governor(ASK)
    with made.session("s", agent="bot"):
        grant(made, asked(refund, "o-1"))
        assert outcome(refund, "o-2") == "ApprovalNeeded"
        assert outcome(other) == "ApprovalNeeded"
        assert outcome(refund, "o-1") == "o-1"
    with made.session("s", agent="bot"):
        assert outcome(refund, "o-1", 12) == "ApprovalNeeded"


def test_a_grant_names_resources(governor: Make) -> None:
    """Broken if a pattern reaches further than it says, or an empty list grants anything."""
    made = governor(ASK)
    with made.session("s", agent="bot"):
        grant(made, asked(refund, "o-1"), calls=5, resources=("o-*",))
        assert [outcome(refund, order, 1) for order in ("o-2", "p-1", "o-")] == [
            "o-2",
            "ApprovalNeeded",
            "o-",
        ]
        grant(made, asked(other), resources=())
        assert [outcome(other), outcome(other)] == ["other", "ApprovalNeeded"]


@pytest.mark.parametrize(("limit", "heard"), [(25, 2), (20, 2), (19, 1), (0, 0), (None, 0)])
def test_a_grant_costs_no_more_than_was_said(governor: Make, limit: int | None, heard: int) -> None:
    """Broken if calls together cost more than was granted, or no limit is taken for any amount."""
    made = governor(ASK)
    with made.session("s", agent="bot"):
        ticket = asked(refund, "o-1", 5)
        grant(made, ticket, calls=9, cost_usd=None if limit is None else Decimal(limit))
        assert [outcome(refund, "o-1", 10) for _ in range(3)] == ["o-1"] * heard + [
            "ApprovalNeeded"
        ] * (3 - heard)
    assert [report.problem for report in made.verify()] == [None]


def test_a_grant_ends(governor: Make) -> None:
    """Broken if a grant is good for longer than was said."""
    clock = ManualClock()
    made = governor(ASK, clock=clock)
    with made.session("s", agent="bot"):
        grant(made, asked(refund, "o-1"), lasts=timedelta(minutes=5))
        assert outcome(refund, "o-1") == "o-1"
        clock.advance(timedelta(minutes=5) - timedelta(microseconds=1))
        assert outcome(refund, "o-1", 11) == "o-1"
        clock.advance(timedelta(microseconds=1))
        assert outcome(refund, "o-1", 12) == "ApprovalNeeded"


def test_a_grant_waives_nothing_but_the_click(governor: Make) -> None:
    """Broken if policy, budgets or evaluators are passed over where a human has granted."""
    words = {"use": "list", "tools": ["refund"], "with": {"argument": "order", "block": ["o-9"]}}
    budget = {"name": "run", "per": "session", "calls": 3}
    made = governor({**ASK, "evaluators": [words], "budgets": [budget]})
    with made.session("s", agent="bot"):
        grant(made, asked(refund, "o-1"), calls=9, resources=("*",), cost_usd=Decimal(10**6))
        assert outcome(refund, "o-1", 5000) == "Denied"
        assert outcome(refund, "o-9") == "Denied"
        assert [outcome(refund, "o-1", n) for n in (10, 11, 12, 13)] == ["o-1"] * 3 + [
            "BudgetExceeded"
        ]


def test_a_grant_is_for_who_asked(governor: Make) -> None:
    """Broken if a budget that asks is silenced by a yes to what a rule asked."""
    asks = {"name": "run", "per": "session", "calls": 2, "on_exceed": "ask"}
    made = governor({**ASK, "budgets": [asks]})
    with made.session("s", agent="bot"):
        grant(made, asked(refund, "o-1"), calls=9)
        heard = [outcome(refund, "o-1", n) for n in (10, 11, 12)]
        assert heard == ["o-1", "o-1", "ApprovalNeeded"]


def test_a_no_outlasts_a_grant(governor: Make) -> None:
    """Broken if a call that was denied by name runs because others were granted."""
    made = governor(ASK)
    with made.session("s", agent="bot"):
        denied = asked(refund, "o-1", 11)
        grant(made, asked(refund, "o-1"))
        made.write(tickets.deny, denied.id, by="bob")
        with pytest.raises(Denied):
            refund("o-1", 11)


def test_looking_ahead_uses_nothing_up(governor: Make) -> None:
    """Broken if a framework that asks whether to pause is told to, or uses a grant up by asking."""
    made = governor(ASK)
    tool = tool_of(refund)
    assert tool is not None
    with made.session("s", agent="bot") as session:
        grant(made, asked(refund, "o-1"), calls=1)
        assert refund("o-1") == "o-1"
        assert session.ticket(tool, {"order": "o-1", "amount": 11}) is None
        assert [outcome(refund, "o-1", n) for n in (11, 12)] == ["o-1", "ApprovalNeeded"]


@pytest.mark.parametrize(
    "scope",
    [
        {"calls": 0},
        {"calls": -1},
        {"calls": True},
        {"calls": 10**7},
        {"lasts": timedelta(0)},
        {"lasts": timedelta(days=-1)},
        {"lasts": timedelta(days=10_000)},
        {"cost_usd": Decimal(-1)},
        {"cost_usd": Decimal("NaN")},
        {"cost_usd": Decimal("Infinity")},
    ],
)
def test_a_senseless_grant_is_refused(governor: Make, scope: dict[str, Any]) -> None:
    """Broken if a grant without bounds is given, or the yes is written without it."""
    made = governor(ASK)
    with made.session("s", agent="bot"):
        ticket = asked(refund, "o-1")
        with pytest.raises(Conflict, match="grant"):
            grant(made, ticket, **scope)
        assert made.read(tickets.get, ticket.id) == ticket


def test_only_the_last_yes_can_grant(governor: Make) -> None:
    """Broken if one of two grants by itself what both must approve."""
    rules = [{**RULES[1], "quorum": 2}]
    made = governor({**ASK, "rules": rules})
    with made.session("s", agent="bot"):
        ticket = asked(refund, "o-1")
        with pytest.raises(Conflict, match="the last can give a grant"):
            grant(made, ticket)
        made.write(tickets.approve, ticket.id, by="bob")
        grant(made, ticket)
        assert [outcome(refund, "o-1", n) for n in (10, 11)] == ["o-1", "o-1"]


async def test_tasks_share_a_grant(governor: Make) -> None:
    """Broken if calls made at once get more out of a grant than it holds."""
    made = governor(ASK)
    async with made.session("s", agent="bot"):
        with pytest.raises(ApprovalNeeded) as refused:
            await arefund("o-1")
        grant(made, refused.value.ticket, calls=10)
        await arefund("o-1")
        heard = await asyncio.gather(*(arefund("o-1") for _ in range(64)), return_exceptions=True)
    kinds = Counter(type(one).__name__ for one in heard)
    assert kinds == {"str": 10, "ApprovalNeeded": 54}
    assert [report.problem for report in made.verify()] == [None]


def test_threads_share_a_grant(governor: Make) -> None:
    """Broken as above, with threads."""
    made = governor(ASK)
    heard: Counter[str] = Counter()
    with made.session("s", agent="bot") as session:
        grant(made, asked(refund, "o-1"), calls=10)
        refund("o-1")

        def work(number: int) -> None:
            with session.attach():
                heard.update(outcome(refund, "o-1", 20 + number) for _ in range(8))

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert heard == {"o-1": 10, "ApprovalNeeded": 54}
    assert [report.problem for report in made.verify()] == [None]
