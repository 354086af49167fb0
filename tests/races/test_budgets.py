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
    assert one.verify_books() == {}


def race(
    one: Governor, url: str, crew: Crew, order: dict[str, Any], levels: tuple[Any, int]
) -> None:
    """Have 8 processes try to spend more than there is, and audit."""
    budgets, room = levels
    policy = policy_of(budgets)
    with one.session("shared", agent="racer", **worker.SPENDER) as common:
        answers = crew.all(**order, url=url, policy=policy, session=common.id)

    tries = len(crew) * order["tries"] * (order.get("threads") or order["tasks"])
    winners = [call for answer in answers for call in answer["returned"]]
    refused = sum((Counter(answer["errors"]) for answer in answers), Counter[str]())
    assert refused == {"BudgetExceeded": tries - room}
    assert_exact(one, url, budgets, winners, room)
    assert sum(bool(answer["returned"]) for answer in answers) >= 2, "one process won it all"
    assert max(max(answer["batches"]) for answer in answers) > 1, "nobody shared a transaction"


@LEVELS
@ORDERS
@pytest.mark.promise(3)
def test_processes(
    governor: Make, database: str, crew: Crew, order: dict[str, Any], budgets: Any, room: int
) -> None:
    """Broken if 8 processes spend more or less than a budget allows at any level, or see anything but its refusal."""
    race(governor(policy_of(budgets)), database, crew, order, (budgets, room))


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("number", range(10))
@LEVELS
@pytest.mark.promise(3)
def test_processes_for_long(
    governor: Make, database: str, crew: Crew, budgets: Any, room: int, number: int
) -> None:
    """Broken as above, if more rarely: 64 tasks of 8 processes, 64 tries each, ten times."""
    order = {"do": "spend_in_tasks", "tasks": 64, "tries": 64}
    if number % 2:
        order = {"do": "spend_in_threads", "threads": 8, "tries": 512}
    race(governor(policy_of(budgets)), database, crew, order, (budgets, room))


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
    answers = in_own_sessions(one, crew, database, [policy, policy], tasks=32, tries=2)
    winners = [call for answer in answers for call in answer["returned"]]
    refused = sum((Counter(answer["errors"]) for answer in answers), Counter[str]())
    assert refused == {"BudgetExceeded": 8 * 64 - 120}
    assert_exact(one, database, THREE[1:], winners, 120)
    assert sum(bool(answer["returned"]) for answer in answers) >= 2, "one process won it all"


def in_own_sessions(
    one: Governor, crew: Crew, url: str, policies: list[dict[str, Any]], *, tasks: int, tries: int
) -> list[dict[str, Any]]:
    """Have each process spend in a session of its own, every other one under the other policy."""
    who = worker.SPENDER
    opened = [
        # Open, and not current here.
        one.write(one.session(f"own-{n}", agent="racer", **who)._open).session_id
        for n in range(len(crew))
    ]
    order = {"do": "spend_in_tasks", "tasks": tasks, "tries": tries, "url": url}
    return crew.together(
        [{**order, "policy": policies[n % 2], "session": opened[n]} for n in range(len(crew))]
    )


def without_deadlock(one: Governor, crew: Crew, url: str, *, tries: int) -> None:
    """Call under policies that name the same budgets in another order; the server must not have cut any knot."""
    budgets = [{"name": f"{n}", "per": "org", "calls": 10**9} for n in range(5)]
    policies = [policy_of(budgets), policy_of(budgets[::-1])]
    answers = in_own_sessions(one, crew, url, policies, tasks=8, tries=tries)
    assert [answer["errors"] for answer in answers] == [{}] * len(crew)
    with Rows(url) as rows:
        made = {row[2]["calls"] for row in rows.windows().values()}
        (deadlocks,) = rows.one(
            "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        )
    assert made == {len(crew) * 8 * tries}
    assert deadlocks == 0


@pytest.mark.parametrize("either", ["postgres"], indirect=True)
@pytest.mark.promise(3)
def test_no_deadlock(governor: Make, database: str, crew: Crew) -> None:
    """Broken if budgets are locked in the order of the policy, so that two workers may wait for each other."""
    without_deadlock(governor(), crew, database, tries=8)


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("either", ["postgres"], indirect=True)
@pytest.mark.promise(3)
def test_no_deadlock_for_long(governor: Make, database: str, crew: Crew) -> None:
    """Broken as above, if more rarely."""
    without_deadlock(governor(), crew, database, tries=160)


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
