"""Leases of a budget: eight workers on one, what a dead one had leased, and who is leased anything at all."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest

from interlock import BudgetExceeded, Governor, governed
from interlock.store import budgets
from interlock.testing import ManualClock
from tests.ledger._rows import Rows
from tests.races import _worker as worker
from tests.races._crew import Crew
from tests.races.test_budgets import assert_exact, policy_of

Make = Callable[..., Governor]

ROOM = 600
THREE = [
    {"name": "user", "per": "user", "window": "day", "calls": 5_000},
    {"name": "org", "per": "org", "window": "month", "cost_usd": "6.00", "calls": 4_000},
    {"name": "all", "per": "agent", "cost_usd": "900.00"},
]
"""Of which the second is the first to be used up, by 600 calls of a cent."""


@pytest.fixture
def database(postgres: str) -> str:
    """Only a server's rows are leased."""
    return postgres


@governed(cost="amount")
def pay(amount: str) -> str:
    """Return the amount."""
    return amount


@pytest.mark.parametrize(
    "order",
    [
        {"do": "spend_in_threads", "threads": 4, "tries": 25},
        {"do": "spend_in_tasks", "tasks": 4, "tries": 25},
    ],
    ids=["threads", "tasks"],
)
@pytest.mark.promise(3)
def test_eight_workers(governor: Make, database: str, crew: Crew, order: dict[str, Any]) -> None:
    """Broken if workers with leases spend more than there is, or leave some of it, or have a deadlock cut."""
    policy = policy_of(THREE)
    one = governor(policy)
    own = [
        one.write(one.session(f"own-{n}", agent="racer", **worker.SPENDER)._open).session_id
        for n in range(len(crew))
    ]
    answers = crew.together(
        [{**order, "url": database, "policy": policy, "session": session} for session in own]
    )
    winners = [call for answer in answers for call in answer["returned"]]
    refused = sum((Counter(answer["errors"]) for answer in answers), Counter[str]())
    assert refused == {"BudgetExceeded": 8 * 100 - ROOM}
    assert_exact(one, database, THREE, winners, ROOM)
    with Rows(database) as rows:
        taken, moved, recalled = rows.changed("budget_leases")
        (deadlocks,) = rows.one(
            "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        )
    assert deadlocks == 0
    # Leases were used, by more workers than one, and taken back from who had them.
    assert min(taken, moved, recalled) > 1, (taken, moved, recalled)


class Two:
    """Two workers on the same budgets, each in a session of its own, by a clock that stands still."""

    def __init__(self, make: Make, *policies: Any) -> None:
        clock = ManualClock()
        self.governors = [make(policy, clock=clock) for policy in policies]
        self.sessions = [
            worker.joined(
                one,
                one.write(one.session("s", agent="racer", **worker.SPENDER)._open).session_id,
                **worker.SPENDER,
            )
            for one in self.governors
        ]
        self.paid = 0

    def pay(self, which: int, amount: str = "0.01") -> bool:
        """Have one of them pay; return whether it was let."""
        with self.sessions[which].attach(), suppress(BudgetExceeded):
            pay(amount)
            self.paid += 1
            return True
        return False

    def use(self, which: int, model: str, cost: str) -> None:
        """Have one of them write down what was paid for already."""
        with self.sessions[which].attach(), suppress(BudgetExceeded):
            self.governors[which].record_usage(model=model, cost_usd=cost)

    def lease(self) -> None:
        """Have both take a lease, as those do who find that the other has moved the window."""
        for number in range(6):
            assert self.pay(number % 2)

    def spend_all(self) -> None:
        """Have one of them, then the other, pay until nothing is left."""
        for which in (0, 1, 0):
            while self.pay(which):
                pass


ONE = [{"name": "org", "per": "org", "cost_usd": "2.00", "calls": 10**6}]
"""Enough for 200 payments of a cent."""


def leases(url: str, budget: str = "org") -> list[tuple[int, int]]:
    """Return how many calls each lease holds, and how many of them are taken."""
    with Rows(url) as rows:
        return sorted(
            (limit["calls"], taken["calls"]) for limit, taken in rows.leases(budget).values()
        )


@pytest.mark.promise(3)
def test_all_of_it_can_be_spent(governor: Make, database: str) -> None:
    """Broken if what one worker has leased cannot be spent by another, or is spent by both."""
    two = Two(governor, *[policy_of(ONE)] * 2)
    two.lease()
    assert len(leases(database)) == 2
    two.spend_all()
    assert two.paid == 200
    assert leases(database) == []
    assert two.governors[0].verify_books() == {}


@pytest.mark.promise(3)
def test_what_a_killed_worker_had_leased(governor: Make, database: str) -> None:
    """Broken if a worker that was killed takes what it had leased with it, or others wait for that."""
    two = Two(governor, *[policy_of(ONE)] * 2)
    two.lease()
    code = (
        "import sys, os, signal\n"
        "from tests.races.test_leases import *\n"
        "with Governor(sys.argv[1], policy=policy_of(ONE)) as one:\n"
        "    with one.session('s', agent='racer', **worker.SPENDER):\n"
        "        for _ in range(3): pay('0.01')\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, database], check=False)
    assert killed.returncode == -9
    found = leases(database)
    assert len(found) == 3
    assert any(limit > taken for limit, taken in found)
    two.spend_all()
    assert two.paid + 3 == 200
    assert two.governors[0].verify_books() == {}


@pytest.mark.promise(3)
def test_a_charge_beyond_what_was_leased(governor: Make, database: str) -> None:
    """Broken if what one worker was charged too much is handed out by another, that had leased it, once more."""
    two = Two(governor, *[policy_of(ONE)] * 2)
    two.lease()
    two.use(0, "m-1", "1.95")
    assert [two.pay(which) for which in (1, 0, 1)] == [False] * 3
    assert leases(database) == []
    assert two.governors[1].verify_books() == {}


@pytest.mark.promise(3)
def test_a_limit_that_is_lowered(governor: Make, database: str) -> None:
    """Broken if a lease that was given under one policy is used under another, or outlives a lower limit."""
    lower = [{**ONE[0], "cost_usd": "0.10"}]
    two = Two(governor, policy_of(ONE), policy_of(ONE))
    two.lease()
    assert len(leases(database)) == 2
    other = Two(governor, policy_of(lower), policy_of(ONE))
    while other.pay(0):
        pass
    assert (two.paid, other.paid) == (6, 4)
    assert leases(database) == []
    assert two.pay(0)


def test_what_is_shown_is_the_sum(governor: Make, database: str) -> None:
    """Broken if a caller is shown what stands in some of a window's rows."""
    two = Two(governor, *[policy_of([*ONE, {"name": "few", "per": "session", "calls": 3}])] * 2)
    two.lease()
    spent = Decimal("0.06")
    assert len(leases(database)) == 2
    of_all = {a.key.budget: a for a in two.governors[0].read(budgets.standing)}["org"]
    assert (of_all.spent_usd, of_all.spent.calls, of_all.reserved.calls) == (spent, 6, 0)
    assert [a.spent_usd for a in two.sessions[1].budgets() if a.key.budget == "org"] == [spent]
    with two.sessions[0].attach(), pytest.raises(BudgetExceeded) as refused:
        pay("1.97")
    shown = {a.key.budget: a.spent_usd for a in refused.value.budgets}
    assert shown["org"] == spent


@pytest.mark.parametrize(
    ("budget", "workers"),
    [
        (ONE[0], [0] * 8),  # a worker alone
        ({**ONE[0], "calls": 30}, [0, 1] * 4),  # what is left is soon used up
    ],
    ids=["alone", "near the limit"],
)
def test_who_is_leased_nothing(
    governor: Make, database: str, budget: dict[str, Any], workers: list[int]
) -> None:
    """Broken if leases are taken where they would not help, and cost."""
    two = Two(governor, *[policy_of([budget])] * 2)
    assert [two.pay(which) for which in workers] == [True] * 8
    assert leases(database) == []


@pytest.mark.promise(3)
def test_a_transaction_of_the_hosts_takes_no_lease(governor: Make, database: str) -> None:
    """Broken if a host that is slow to commit keeps a lease, and with it the worker, waiting."""
    from sqlalchemy import create_engine, make_url  # noqa: PLC0415 - a host's

    two = Two(governor, *[policy_of(ONE)] * 2)
    two.lease()
    host = create_engine(make_url(database).set(drivername="postgresql+psycopg"))
    with host.connect() as connection, connection.begin():
        two.governors[0].record_usage(
            model="m-1", cost_usd="0.01", identity=two.sessions[0].identity, within=connection
        )
        assert two.pay(0)  # while the host holds the window's row
        assert two.pay(1)
    host.dispose()
    two.spend_all()
    assert two.paid == 199
    assert two.governors[1].verify_books() == {}
