"""Races for one budget and for three at once: from threads, tasks and processes, on both databases."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from interlock import Governor
from interlock._budget import nano
from tests.ledger._reference import AMOUNTS
from tests.ledger._rows import Rows
from tests.races import _worker as worker
from tests.races._audit import audit
from tests.races._crew import Crew

Make = Callable[..., Governor]

ONE = [{"name": "day", "per": "user", "window": "day", "cost_usd": "1.00"}]
THREE = [
    {"name": "run", "per": "session", "calls": 150},
    {"name": "day", "per": "user", "window": "day", "cost_usd": "1.20"},
    {"name": "month", "per": "org", "window": "month", "cost_usd": "5.00", "calls": 140},
]
"""Of which the second is the first to be used up, by 120 calls."""
LEVELS = pytest.mark.parametrize(
    ("budgets", "room"), [(ONE, 100), (THREE, 120)], ids=["one-level", "three-levels"]
)
ORDERS = pytest.mark.parametrize(
    "order",
    [
        {"do": "spend_in_threads", "threads": 4, "tries": 16},
        {"do": "spend_in_tasks", "tasks": 64, "tries": 1},
    ],
    ids=["threads", "tasks"],
)


@pytest.fixture
def database(either: str) -> str:
    """Run every race here on both databases."""
    return either


def policy_of(budgets: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a policy that only these budgets limit."""
    return {"version": 1, "name": "race", "default": "allow", "budgets": budgets}


def assert_exact(
    one: Governor, url: str, budgets: list[dict[str, Any]], winners: list[str], room: int
) -> None:
    """As many calls ran as there was room for, each is in every sum once, and nothing is held at rest."""
    books = audit(one)
    assert set(winners) == books.admitted == books.finished
    assert room == len(winners) == len(set(winners))
    assert books.in_doubt == set()
    spent = {"cost": room * nano(Decimal(worker.AMOUNT)), "tokens": 0, "calls": room}
    with Rows(url) as rows:
        windows = rows.windows()
        rows.assert_consistent()
    # A window per budget, unless a test runs over midnight by the clock of the server.
    assert sorted({window[0] for window in windows}) == sorted(b["name"] for b in budgets)
    for budget in budgets:
        sums = Counter[str]()
        for window, (_, reserved, booked) in windows.items():
            if window[0] == budget["name"]:
                assert reserved == dict.fromkeys(AMOUNTS, 0)
                sums.update(booked)
        assert spent == {name: sums[name] for name in AMOUNTS}
    assert one.verify_budgets() == []


@LEVELS
@ORDERS
@pytest.mark.promise(3)
def test_processes(
    governor: Make,
    database: str,
    crew: Crew,
    order: dict[str, Any],
    budgets: list[dict[str, Any]],
    room: int,
) -> None:
    """Broken if 8 processes spend more or less than a budget allows at any level, or see anything but its refusal."""
    policy = policy_of(budgets)
    one = governor(policy)
    with one.session("shared", agent="racer", **worker.SPENDER) as common:
        answers = crew.all(**order, url=database, policy=policy, session=common.id)

    tries = len(crew) * order["tries"] * (order.get("threads") or order["tasks"])
    winners = [call for answer in answers for call in answer["returned"]]
    refused = sum((Counter(answer["errors"]) for answer in answers), Counter[str]())
    assert refused == {"BudgetExceeded": tries - room}
    assert_exact(one, database, budgets, winners, room)
    assert sum(bool(answer["returned"]) for answer in answers) >= 2, "one process won it all"
    assert max(max(answer["batches"]) for answer in answers) > 1, "nobody shared a transaction"


@LEVELS
@pytest.mark.promise(3)
def test_threads(governor: Make, database: str, budgets: list[dict[str, Any]], room: int) -> None:
    """Broken if 8 threads spend more or less than a budget allows, or see anything but its refusal."""
    one = governor(policy_of(budgets))
    batches = worker.batches_of(one)
    tally = worker.Tally()
    with one.session("shared", agent="racer", **worker.SPENDER) as common:

        def body(_: int) -> None:
            with common.attach():
                for _try in range(40):
                    tally.run(lambda: worker.spend(worker.AMOUNT))

        worker.in_threads(8, body)
    assert tally.errors == {"BudgetExceeded": 320 - room}
    assert_exact(one, database, budgets, tally.returned, room)
    assert max(batches) > 1, "no two threads ever shared a transaction"


@LEVELS
@pytest.mark.promise(3)
def test_tasks(governor: Make, database: str, budgets: list[dict[str, Any]], room: int) -> None:
    """Broken if 64 tasks spend more or less than a budget allows, or see anything but its refusal."""
    one = governor(policy_of(budgets))
    batches = worker.batches_of(one)
    tally = worker.Tally()

    async def body() -> None:
        for _try in range(5):
            try:
                tally.returned.append(await worker.spend_async(worker.AMOUNT))
            except Exception as error:  # noqa: BLE001 - any that is not ours is what is looked for
                tally.note(error)

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(64):
                group.create_task(body())

    with one.session("shared", agent="racer", **worker.SPENDER):
        asyncio.run(main())
    assert tally.errors == {"BudgetExceeded": 320 - room}
    assert_exact(one, database, budgets, tally.returned, room)
    assert max(batches) > 8, "the tasks hardly ever shared a transaction"


@pytest.mark.promise(3)
def test_own_sessions_one_budget(governor: Make, database: str, crew: Crew) -> None:
    """Broken if calls that share a budget but no session, so that no session's lock orders them, overspend it."""
    policy = policy_of(THREE[1:])
    one = governor(policy)
    sessions = [one.session(f"own-{n}", agent="racer", **worker.SPENDER) for n in range(len(crew))]
    for session in sessions:
        one._machinery.store.write(session._open)  # open, and not current here
    opened = [report.session_id for report in one.verify()]
    answers = crew.together(
        [
            {
                "do": "spend_in_tasks",
                "tasks": 32,
                "tries": 2,
                "url": database,
                "policy": policy,
                "session": session,
            }
            for session in opened
        ]
    )
    winners = [call for answer in answers for call in answer["returned"]]
    refused = sum((Counter(answer["errors"]) for answer in answers), Counter[str]())
    assert refused == {"BudgetExceeded": 8 * 64 - 120}
    assert_exact(one, database, THREE[1:], winners, 120)
    assert sum(bool(answer["returned"]) for answer in answers) >= 2, "one process won it all"


@pytest.mark.promise(3)
def test_the_first_use_of_a_window(governor: Make, database: str, crew: Crew) -> None:
    """Broken if workers that all use a window for the first time make it twice, or see an error."""
    for number in range(5):
        budgets = [{"name": f"new-{number}-{n}", "per": "user", "calls": 1_000} for n in range(3)]
        # The same budgets, named in another order by every other process.
        policies = [policy_of(budgets), policy_of(budgets[::-1])]
        one = governor(policies[0])
        with one.session("shared", agent="racer", **worker.SPENDER) as common:
            order = {"do": "spend_in_tasks", "tasks": 8, "tries": 1, "url": database}
            answers = crew.together(
                [
                    {**order, "session": common.id, "policy": policies[n % 2]}
                    for n in range(len(crew))
                ]
            )
        assert [answer["errors"] for answer in answers] == [{}] * len(crew)
        with Rows(database) as rows:
            windows = rows.windows()
        made = [window for window in windows if window[0].startswith(f"new-{number}-")]
        assert sorted(b["name"] for b in budgets) == sorted(window[0] for window in made)
        assert [windows[window][2]["calls"] for window in made] == [8 * len(crew)] * 3
