"""Tier 1: usage is recorded without session and policy, charged exactly, and refused only once it is booked."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.orm import Session as OrmSession

import interlock
from interlock import BudgetExceeded, Governor, Identity
from interlock._budget import Account, Amounts, Budget, Claim, Dimension, Limits, dollars, nano
from interlock.errors import Conflict, NotConfigured
from interlock.store import budgets, usage
from interlock.store.accounts import Accounts
from interlock.store.statements import now
from interlock.store.windows import Want

ACME = Identity(agent="bot", user="u-17", team="desk", org="acme")
TENTH = {"name": "tenant", "per": "org", "cost_usd": "0.10"}

Make = Callable[..., Governor]


BOTH = pytest.mark.parametrize("database", ["sqlite", "postgres"], indirect=True)
"""Of tests that hold on either store."""


@pytest.fixture
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a store of this test's own: SQLite, unless the test says that it holds on Postgres, too."""
    if getattr(request, "param", "sqlite") == "sqlite":
        return f"sqlite:///{tmp_path / 'interlock.db'}"
    url: str = request.getfixturevalue("postgres")
    return url


@pytest.fixture
def books(database: str) -> Iterator[Make]:
    """Make governors that only track cost, over this test's store."""
    made: list[Governor] = []

    def make(**options: Any) -> Governor:
        made.append(Governor(database, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def host(database: str) -> Iterator[Engine]:
    """The host's own way into the same database, with a table of its own."""
    engine = create_engine(database.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE orders (id TEXT)"))
    yield engine
    engine.dispose()


def standing(governor: Governor) -> list[Account]:
    """How the budgets stand."""
    return governor.read(budgets.standing)


def whole(governor: Governor) -> usage.Sum:
    """All usage in one sum."""
    [found] = governor.read(usage.summary, by=())
    return found


@BOTH
def test_the_cost_that_the_caller_says_counts(books: Make) -> None:
    """Broken if what is booked is not what the caller said, or is booked elsewhere."""
    governor = books(budgets=[TENTH])
    receipt = governor.record_usage(
        model="gpt-5-mini", input_tokens=10, output_tokens=5, cost_usd="0.07", identity=ACME
    )
    assert (Decimal("0.07"), "caller") == (receipt.priced.cost_usd, receipt.priced.by)
    [account] = standing(governor)
    assert receipt.budgets == (account,)
    assert Amounts(cost=70_000_000, tokens=15, calls=1) == account.spent
    assert Amounts() == account.reserved
    assert (account.key.scope, account.left.cost) == ('["acme"]', 30_000_000)


def test_a_float_is_taken_through_its_text(books: Make) -> None:
    """Broken if a tenth given as a float is booked as the binary fraction next to it."""
    governor = books(budgets=[TENTH])
    for _ in range(10):
        receipt = governor.record_usage(model="m", cost_usd=0.01, identity=ACME)
    assert Decimal("0.01") == receipt.priced.cost_usd
    [account] = standing(governor)
    assert (account.spent.cost, account.left.cost) == (100_000_000, 0)
    assert Decimal("0.1") == whole(governor).cost_usd


@BOTH
@pytest.mark.promise(3)
def test_twenty_five_times_four_tenths_of_a_cent_fill_a_dime(books: Make) -> None:
    """Broken if a budget is used up a call too early or too late: added up in binary, they are more."""
    governor = books(budgets=[TENTH])
    for number in range(25):
        receipt = governor.record_usage(model="m", cost_usd=0.004, identity=ACME)
        assert receipt.budgets[0].left.cost == 100_000_000 - 4_000_000 * (number + 1)
    with pytest.raises(BudgetExceeded):
        governor.record_usage(model="m", cost_usd="0.000000001", identity=ACME)
    assert Decimal("0.100000001") == whole(governor).cost_usd


@pytest.mark.promise(3)
def test_a_million_tiny_spends_are_their_exact_sum(books: Make) -> None:
    """
    Broken if one of a million charges is rounded or lost.

    They go through the store's accounts, a thousand in each of a thousand transactions; the next test goes through the
    front door.
    """
    governor = books()
    one = Budget(name="b", per=(Dimension.ORG,), limits=Limits(cost=2**61))
    claim = Claim(one, one.scope({Dimension.ORG: "acme"}))
    source = random.Random(7)
    costs = [Decimal(source.randrange(1, 10**7)).scaleb(-9) for _ in range(1_000_000)]

    def spend(connection: Connection, part: list[Decimal]) -> None:
        key, ends_at = claim.window(at := now(connection))
        accounts = Accounts(connection)
        accounts.lock([Want(key, Amounts(), ends_at=ends_at, is_claim=True)], at=at)
        for cost in part:
            accounts.charge([key], Amounts(), Amounts(cost=nano(cost), calls=1))
        accounts.write()

    for start in range(0, len(costs), 1_000):
        governor.write(spend, costs[start : start + 1_000])
    [account] = standing(governor)
    assert (sum(costs), 1_000_000) == (dollars(account.spent.cost), account.spent.calls)


@BOTH
@pytest.mark.promise(3)
def test_the_ledger_and_the_budget_agree_to_the_last_digit(books: Make) -> None:
    """Broken if a sum of usage is not that of its rows, or another than what its budget was charged."""
    governor = books(budgets=[{"name": "b", "per": "org", "cost_usd": 10**9}])
    source = random.Random(11)
    costs = [Decimal(source.randrange(10**12)).scaleb(-9) for _ in range(500)]
    for cost in costs:
        governor.record_usage(model="m", cost_usd=cost, identity=ACME)
    [account] = standing(governor)
    assert (sum(costs), sum(costs)) == (whole(governor).cost_usd, dollars(account.spent.cost))


def test_what_is_finer_than_a_nano_dollar_is_rounded_up(books: Make) -> None:
    """Broken if the books hold less than the truth."""
    governor = books(budgets=[TENTH])
    for cost in ("0.0000000001", "1e-500", "0.0000000010000000000000000000000000000000000001"):
        governor.record_usage(model="m", cost_usd=cost, identity=ACME)
    assert standing(governor)[0].spent.cost == 1 + 1 + 2


@BOTH
async def test_overspending_is_recorded_and_then_said(books: Make) -> None:
    """Broken if usage that was paid for is not booked because it was too much, or nobody is told."""
    governor = books(budgets=[TENTH, {"name": "calls", "per": "user", "calls": 9}])
    with pytest.raises(BudgetExceeded, match=r"usage of m is recorded.*: tenant\. ") as said:
        governor.record_usage(model="m", cost_usd="0.11", identity=ACME)
    assert [(account.key.budget, account.spent.cost) for account in said.value.budgets] == [
        ("tenant", 110_000_000)
    ]
    assert (
        said.value.call.tool.name,
        said.value.call.tool.kind,
        said.value.call.identity,
    ) == ("m", "model", ACME)
    with pytest.raises(BudgetExceeded):
        await governor.arecord_usage(model="m", cost_usd="0.01", identity=ACME)
    assert (2, Decimal("0.12")) == (whole(governor).calls, whole(governor).cost_usd)
    receipt = await governor.arecord_usage(
        model="m", cost_usd="0.01", identity=Identity(agent="bot", user="u-17")
    )
    assert receipt.overspent == ()


@BOTH
def test_a_share_is_its_own(books: Make) -> None:
    """Broken if one organisation spends another's money, or leaving the name out means "no limit"."""
    governor = books(budgets=[TENTH])
    for org in ("acme", "globex", None):
        identity = None if org is None else Identity(agent="bot", org=org)
        governor.record_usage(model="m", cost_usd="0.10", identity=identity)
        with pytest.raises(BudgetExceeded):
            governor.record_usage(model="m", cost_usd="0.01", identity=identity)
    assert [one.key.scope for one in standing(governor)] == ['["acme"]', '["globex"]', "[null]"]


def test_only_the_budgets_that_count_a_model_are_charged(books: Make) -> None:
    """Broken if a budget of some models is charged for others."""
    governor = books(budgets=[{**TENTH, "tools": ["gpt-*"]}])
    assert governor.record_usage(model="claude-haiku-4-5", cost_usd=5).budgets == ()
    assert len(governor.record_usage(model="gpt-5-mini", cost_usd="0.1").budgets) == 1


@BOTH
def test_the_session_around_says_on_whose_behalf(books: Make, database: str) -> None:
    """Broken if usage in a session is nobody's, or a session of another governor lends its name."""
    governor = books(budgets=[{"name": "run", "per": "session", "cost_usd": 1}])
    with Governor("sqlite://") as other, governor.session("s", agent="bot", org="acme") as session:
        governor.record_usage(model="m", cost_usd="0.5")
        other.record_usage(model="m", cost_usd="0.5")
        [account] = standing(governor)
        assert account.key.scope == f'["{session.id}"]'
        governor.record_usage(model="m", cost_usd="0.25", identity=Identity(agent="other"))
        assert other.read(usage.summary, by=("agent",))[0].of == (None,)
    governor.record_usage(model="m", cost_usd="0.125")
    found = governor.read(usage.summary, by=("agent", "org", "session_id"))
    assert [("bot", "acme", session.id), ("other", None, session.id), (None, None, None)] == [
        one.of for one in found
    ]


def test_without_a_policy_nothing_governed_runs(books: Make) -> None:
    """Broken if tracking cost is taken for a policy that allows all."""

    @interlock.governed
    def tool() -> None:
        """Do nothing."""

    governor = books(budgets=[TENTH])
    with governor.session("s", agent="bot") as session:
        with pytest.raises(NotConfigured, match="no policy"):
            tool()
        assert session.budgets() == []


@BOTH
@pytest.mark.parametrize("kind", ["connection", "session"])
@pytest.mark.parametrize("commits", [True, False])
def test_the_hosts_transaction_decides(
    books: Make, host: Engine, kind: str, *, commits: bool
) -> None:
    """Broken if usage is committed without the host's order, or the order without the usage."""
    governor = books(budgets=[TENTH])
    with host.connect() if kind == "connection" else OrmSession(host) as transaction:
        transaction.execute(text("INSERT INTO orders VALUES ('o-1')"))
        receipt = governor.record_usage(
            model="m", cost_usd="0.04", identity=ACME, within=transaction
        )
        assert receipt.budgets[0].spent.cost == 40_000_000
        if commits:
            transaction.commit()
        else:
            transaction.rollback()
    with host.connect() as connection:
        orders = connection.execute(text("SELECT count(*) FROM orders")).scalar_one()
    assert [int(commits)] * 3 == [orders, whole(governor).calls, len(standing(governor))]


@BOTH
def test_overspending_in_the_hosts_transaction_is_the_hosts_to_commit(
    books: Make, host: Engine
) -> None:
    """Broken if BudgetExceeded leaves the host's transaction in another state than its own error would."""
    governor = books(budgets=[TENTH])
    with host.begin() as connection, pytest.raises(BudgetExceeded):
        governor.record_usage(model="m", cost_usd=1, identity=ACME, within=connection)
    assert whole(governor).calls == 1
    with pytest.raises(BudgetExceeded), host.begin() as connection:
        governor.record_usage(model="m", cost_usd=1, identity=ACME, within=connection)
    assert whole(governor).calls == 1


def test_budgets_are_given_in_one_place(database: str) -> None:
    """Broken if a governor with a policy takes further budgets, of which one would be believed to hold and not."""
    policy = {"version": 1, "name": "p", "budgets": [TENTH]}
    with pytest.raises(interlock.Misuse, match="write them into the policy"):
        Governor(database, policy=policy, budgets=[TENTH])
    with Governor(database, policy=policy) as governor:
        assert len(governor.record_usage(model="m", cost_usd="0.1").budgets) == 1


@pytest.mark.promise(3)
def test_what_is_counted_never_outgrows_the_books(either: str) -> None:
    """Broken if sums beyond the database's integers are rounded, lost, or fail in the store."""
    who = Identity(agent="bot", org="acme")
    limits = [{"name": "b", "per": "org", "calls": 1_000}]
    most = 2**56 - 1
    with Governor(either, budgets=limits) as governor:
        for _ in range(65):
            governor.record_usage(model="m", input_tokens=most, output_tokens=0, identity=who)
        with pytest.raises(Conflict, match="as much as its books can hold"):
            governor.record_usage(model="m", input_tokens=1, output_tokens=0, identity=who)
        (account,) = governor.read(budgets.standing)
        assert account.spent.tokens == 65 * most
        assert governor.verify_books() == {}
        (total,) = governor.read(usage.summary)
        assert (total.calls, total.input_tokens) == (65, 65 * most)
