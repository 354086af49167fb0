"""What usage costs: as the caller says, else as plugins say, else by the list; and what has no price has none."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from decimal import Decimal
from importlib.metadata import version
from typing import Any

import pytest
from genai_prices import Usage as ListedUsage
from genai_prices import calc_price

from interlock import Governor, Identity, Usage, hookimpl
from interlock._budget import Account, dollars, nano
from interlock._usage import ModelUsage
from interlock.store import budgets, usage

ACME = Identity(agent="bot", user="u-17", team="desk", org="acme")
TENTH = {"name": "tenant", "per": "org", "cost_usd": "0.10"}

Make = Callable[..., Governor]


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


class Prices:
    """A plugin that says what it was told to, or raises it, and keeps what it was asked."""

    def __init__(self, answer: object) -> None:
        self.answer = answer
        self.asked: list[ModelUsage] = []

    @hookimpl
    def interlock_price(self, used: ModelUsage) -> Any:
        """Answer."""
        self.asked.append(used)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def standing(governor: Governor) -> list[Account]:
    """How the budgets stand."""
    return governor.read(budgets.standing)


def whole(governor: Governor) -> usage.Sum:
    """All usage in one sum."""
    [found] = governor.read(usage.summary, by=())
    return found


def test_the_callers_cost_is_not_asked_for_elsewhere(books: Make) -> None:
    """Broken if a list or a plugin is believed more than whoever has the invoice."""
    prices = Prices(Decimal(9))
    receipt = books(plugins=[prices]).record_usage(model="gpt-5-mini", cost_usd="0.07")
    assert (receipt.priced.cost_usd, receipt.priced.by) == (Decimal("0.07"), "caller")
    assert prices.asked == []


@pytest.mark.parametrize(
    ("provider", "counts"),
    [
        (None, {"input_tokens": 1_000, "output_tokens": 200}),
        ("openai", {"input_tokens": 1_000, "output_tokens": 200}),
        (None, {"input_tokens": 1_000, "output_tokens": 200, "cache_read_tokens": 600}),
        (
            "openai",
            {"input_tokens": 1_000, "output_tokens": 200, "reasoning_tokens": 150},
        ),
    ],
)
def test_the_list_price_counts_where_nobody_says(
    books: Make, provider: str | None, counts: dict[str, int]
) -> None:
    """Broken if cached tokens are paid in full, reasoning is paid twice, or it is not said whose price it is."""
    governor = books()
    fields: Any = {"model": "gpt-5-mini", "provider": provider, **counts}
    receipt = governor.record_usage(**fields)
    listed = {name: count for name, count in counts.items() if name != "reasoning_tokens"}
    expected = calc_price(ListedUsage(**listed), "gpt-5-mini", provider_id=provider).total_price
    assert expected == receipt.priced.cost_usd
    assert expected > 0
    assert f"genai-prices {version('genai-prices')}" == receipt.priced.by
    found = whole(governor)
    assert dollars(nano(expected)) == found.cost_usd
    assert counts.items() <= {name: getattr(found, name) for name in counts}.items()


def test_cached_tokens_cost_less(books: Make) -> None:
    """Broken if what came from the cache is counted as if it had not."""
    governor = books()
    costs = [
        governor.record_usage(
            model="claude-haiku-4-5", input_tokens=1_000, output_tokens=10, cache_read_tokens=cached
        ).priced.cost_usd
        for cached in (None, 0, 500, 1_000)
    ]
    assert costs[0] == costs[1]
    falling = sorted(costs[1:], key=lambda cost: cost or 0, reverse=True)
    assert falling == costs[1:]
    assert len(set(costs)) == 3


@pytest.mark.parametrize(
    "fields",
    [
        {"model": "no-such-model-of-anybody", "input_tokens": 10, "output_tokens": 5},
        {"model": "gpt-5-mini", "provider": "nobody", "input_tokens": 10, "output_tokens": 5},
        {"model": "gpt-5-mini", "input_tokens": 10},
        {"model": "gpt-5-mini", "output_tokens": 10},
        {"model": "gpt-5-mini"},
    ],
    ids=repr,
)
def test_what_has_no_price_is_recorded_as_unknown(books: Make, fields: Any) -> None:
    """Broken if an unknown price is taken for zero, or usage with one is lost."""
    governor = books(budgets=[TENTH])
    receipt = governor.record_usage(**fields)
    assert (receipt.priced.cost_usd, receipt.priced.by) == (None, None)
    assert (1, 1, Decimal(0)) == (
        whole(governor).calls,
        whole(governor).unpriced,
        whole(governor).cost_usd,
    )
    [account] = standing(governor)
    assert (account.spent.cost, account.spent.calls) == (0, 1)


def test_free_is_not_unknown(books: Make) -> None:
    """Broken if a cost of zero is taken for no cost given."""
    governor = books(plugins=[Prices(Decimal(9))])
    receipt = governor.record_usage(model="gpt-5-mini", cost_usd=0)
    assert (Decimal(0), "caller") == (receipt.priced.cost_usd, receipt.priced.by)
    assert whole(governor).unpriced == 0


class Other(Prices):
    """A second plugin, which needs another name."""


@pytest.mark.parametrize(
    ("answers", "cost", "by"),
    [
        ((Decimal("0.5"), None), "0.5", "plugin:Prices"),
        ((None, Decimal("0.5")), "0.5", "plugin:Other"),
        ((Decimal("0.5"), Decimal("0.7")), "0.7", "plugin:Other"),
        ((Decimal("0.7"), Decimal("0.5")), "0.7", "plugin:Prices"),
        ((Decimal(0), None), "0", "plugin:Prices"),
        ((Decimal("0.7"), RuntimeError("no")), None, None),
        ((RuntimeError("no"), Decimal("0.7")), None, None),
        ((RuntimeError("no"), None), None, None),
        ((0.5, Decimal("0.7")), None, None),
    ],
)
def test_the_dearest_price_of_plugins_counts(
    books: Make,
    answers: tuple[object, object],
    cost: str | None,
    by: str | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Broken if a plugin can make usage cheaper than another says, or one that fails makes it free or listed."""
    caplog.set_level(logging.CRITICAL)
    first, second = Prices(answers[0]), Other(answers[1])
    governor = books(plugins=[first, second])
    receipt = governor.record_usage(model="gpt-5-mini", input_tokens=1_000, output_tokens=1_000)
    expected = None if cost is None else Decimal(cost)
    assert (expected, by) == (receipt.priced.cost_usd, receipt.priced.by)
    asked = ModelUsage(model="gpt-5-mini", usage=Usage(input_tokens=1_000, output_tokens=1_000))
    assert [asked] in (first.asked, second.asked)


def test_a_plugin_without_a_price_leaves_it_to_the_list(books: Make) -> None:
    """Broken if installing a plugin for one model takes the price of all others away."""
    receipt = books(plugins=[Prices(None)]).record_usage(
        model="gpt-5-mini", input_tokens=10, output_tokens=5
    )
    assert str(receipt.priced.by).startswith("genai-prices ")
