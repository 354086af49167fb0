"""What is no amount is refused at every door, by a typed error, before anything is written."""

from __future__ import annotations

import logging
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from interlock import Governor, Policy, Refused, Usage, current_call, governed, hookimpl
from interlock.errors import BudgetExceeded, Denied, Misuse, PolicyError
from interlock.store import budgets, usage
from tests.amounts import BAD, BAD_COUNTS, BAD_MONEY

pytestmark = pytest.mark.promise(3)

COUNTS = (
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
)
LIMITS = ("cost_usd", "tokens", "calls")
BUDGET = {"name": "b", "per": "org", "cost_usd": 1, "tokens": 1_000, "calls": 1_000}


def bad_for(field: str) -> list[Any]:
    """What is bad in the field of that name."""
    return BAD_MONEY if field == "cost_usd" else BAD_COUNTS


def written(governor: Governor) -> list[Any]:
    """All that the books hold of usage and budgets."""
    return [*governor.read(usage.summary), *governor.read(budgets.standing)]


def accepted(
    values: list[Any], use: Callable[[Any], object], refusal: type[Exception]
) -> list[Any]:
    """Those of *values* that *use* does not refuse; any other error than *refusal* is raised."""
    passed = []
    for value in values:
        try:
            use(value)
        except refusal:
            continue
        passed.append(value)
    return passed


def test_there_are_sixty_and_more() -> None:
    """Broken if the list of bad amounts was cut down until it proves little."""
    assert len(BAD) >= 60
    assert len({repr(value) for value in BAD}) >= 60


@pytest.mark.parametrize("field", [*COUNTS, "cost_usd"])
def test_usage_refuses(field: str) -> None:
    """Broken if what a call reports, or estimates, can hold what is no amount."""
    make: Callable[..., Usage] = Usage
    assert accepted(bad_for(field), lambda value: make(**{field: value}), Misuse) == []


@pytest.mark.parametrize("field", [*COUNTS, "cost_usd"])
def test_record_usage_refuses(field: str, database: str) -> None:
    """Broken if usage with an amount that is none is recorded, or ends in an error of no type."""
    with Governor(database, budgets=[BUDGET]) as governor:
        record: Callable[..., object] = governor.record_usage
        passed = accepted(
            bad_for(field), lambda value: record(model="gpt-5-mini", **{field: value}), Misuse
        )
        assert passed == []
        assert written(governor) == []


@pytest.mark.parametrize("field", [*COUNTS, "cost_usd"])
async def test_arecord_usage_refuses(field: str, database: str) -> None:
    """Broken if async callers get past a check that sync ones do not."""
    passed = []
    with Governor(database, budgets=[BUDGET]) as governor:
        record: Callable[..., Any] = governor.arecord_usage
        for value in bad_for(field):
            try:
                await record(model="gpt-5-mini", **{field: value})
            except Misuse:
                continue
            passed.append(value)
        assert passed == []
        assert written(governor) == []


@pytest.mark.parametrize("limit", LIMITS)
def test_limits_of_a_governor_refuse(limit: str, database: str) -> None:
    """Broken if `Governor(budgets=…)` takes a limit that is none: it might never be reached."""
    passed = accepted(
        bad_for(limit),
        lambda value: Governor(database, budgets=[{"name": "b", "per": "org", limit: value}]),
        PolicyError,
    )
    assert passed == []


@pytest.mark.parametrize("limit", LIMITS)
def test_limits_of_a_policy_refuse(limit: str) -> None:
    """Broken if a policy takes a limit that is none."""
    policy = {"version": 1, "name": "p"}
    passed = accepted(
        [*bad_for(limit), None],
        lambda value: Policy.build(
            {**policy, "budgets": [{"name": "b", "per": "org", limit: value}]}
        ),
        PolicyError,
    )
    assert passed == []


@pytest.mark.parametrize(
    "text", [".nan", ".inf", "-.inf", "-1", "yes!", "true", "1e18", "~", "[]", "4611686019", "'x'"]
)
def test_limits_of_a_file_refuse(text: str) -> None:
    """Broken if what YAML has for no number becomes a limit."""
    policy = "version: 1\nname: p\nbudgets:\n  - {name: b, per: org, cost_usd: %s}\n"
    with pytest.raises(PolicyError, match=r"policy:4: budgets\.0"):
        Policy.parse(policy % text)


def test_fixed_costs_refuse() -> None:
    """Broken if a tool can be declared to cost what is no amount."""

    def pay() -> None:
        """Pay."""

    options: Callable[..., Any] = governed
    bad = [value for value in BAD if not isinstance(value, str)]
    assert accepted(bad, lambda value: options(cost=value)(pay), Misuse) == []


def test_costs_in_arguments_refuse(governor: Callable[..., Governor]) -> None:
    """Broken if a tool runs whose argument says that it costs what is no amount, or something is held of a budget."""
    ran: list[object] = []

    @governed(cost="amount")
    def pay(amount: object) -> None:
        ran.append(current_call())

    policy = {"version": 1, "name": "p", "default": "allow", "budgets": [BUDGET]}
    one = governor(policy)
    with one.session("s", agent="bot"):
        assert accepted([*BAD_MONEY, None], pay, Refused) == []
    assert ran == []
    [account] = one.read(budgets.standing)
    nothing = {"cost": 0, "tokens": 0, "calls": 0}
    for part in (account.reserved, account.spent):
        assert nothing == {name: getattr(part, name) for name in nothing}


def test_a_cost_that_books_cannot_hold_is_refused_by_any_budget(
    governor: Callable[..., Governor],
) -> None:
    """Broken if a cost beyond the database's integers fails in the store because the budget only counts calls."""

    @governed(cost="amount")
    def pay(amount: object) -> str:
        return "paid"

    policy = {"version": 1, "name": "p", "default": "allow"}
    only_calls = {"name": "b", "per": "org", "calls": 9}
    with governor({**policy, "budgets": [only_calls]}).session("s", agent="bot"):
        for amount in (72_057_595, 10**17, Decimal("72057594.037927936")):
            with pytest.raises(BudgetExceeded, match="counts no amounts as large"):
                pay(amount)
        assert pay(72_057_594) == "paid"
    with governor(policy).session("s", agent="bot"):
        assert pay(10**17) == "paid"
        with pytest.raises(Denied, match="or more"):
            pay(10**18)


@pytest.mark.parametrize("many", [{"input_tokens": 2**55, "output_tokens": 0}])
def test_a_list_price_that_books_cannot_hold_is_unknown(many: Any, database: str) -> None:
    """Broken if usage whose price is beyond all reason cannot be recorded at all."""
    with Governor(database) as governor:
        receipt = governor.record_usage(model="gpt-5-mini", **many)
        assert receipt.priced.cost_usd is None
        assert governor.read(usage.summary)[0].unpriced == 1


def test_prices_of_plugins_refuse(database: str, caplog: pytest.LogCaptureFixture) -> None:
    """Broken if a plugin's rubbish becomes a price, or keeps usage that was paid for from being recorded."""

    class Pricing:
        answer: Any = None

        @hookimpl
        def interlock_price(self) -> Any:
            return self.answer

    pricing = Pricing()
    caplog.set_level(logging.CRITICAL)
    # Only a Decimal is a price: what a plugin computes in floats is not exact.
    bad = [*BAD_MONEY, 1, 1.5, "1"]
    with Governor(database, plugins=[pricing]) as governor:
        for pricing.answer in bad:
            receipt = governor.record_usage(model="m", input_tokens=1, output_tokens=1)
            assert (receipt.priced.cost_usd, receipt.priced.by) == (None, None), pricing.answer
        [recorded] = governor.read(usage.summary)
    assert (recorded.calls, recorded.unpriced) == (len(bad), len(bad))


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"model": None},
        {"model": ""},
        {"model": " \n"},
        {"model": 5},
        {"model": b"gpt"},
        {"model": "m\0"},
        {"model": "\ud800"},
        {"model": "m", "provider": 5},
        {"model": "m", "provider": "\ud800"},
        {"model": "m", "identity": "ann"},
        {"model": "m", "identity": {"agent": "bot"}},
        {"model": "m", "tokens": 5},
        {"model": "m", "input_tokens": 5, "cache_read_tokens": 6},
        {"model": "m", "input_tokens": 5, "cache_write_tokens": 6},
        {"model": "m", "output_tokens": 5, "reasoning_tokens": 6},
    ],
    ids=repr,
)
def test_what_makes_no_sense_is_refused(fields: Any, database: str) -> None:
    """Broken if usage of nothing, of nobody's, or of more than all is recorded."""
    with Governor(database, budgets=[BUDGET]) as governor:
        with pytest.raises(Misuse):
            governor.record_usage(**fields)
        assert written(governor) == []
