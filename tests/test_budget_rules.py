"""Budgets by themselves: money in whole nano-dollars, what is left, and what a budget says to a call."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal, localcontext
from fractions import Fraction
from math import ceil
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock import Call, Identity, Opinion, Tool, Verdict
from interlock._budget import (
    MAX_AMOUNT,
    Account,
    Amounts,
    Budget,
    Claim,
    Dimension,
    Limits,
    Need,
    WindowKey,
    dollar_text,
    dollars,
    facts_of,
    nano,
    need_of,
    objection,
)
from tests.samples import IDENTITY, call_of

KEY = WindowKey("b", "[null]", 0)
ENDS = datetime(2026, 1, 2, 23, tzinfo=UTC)
MODEL = Tool(name="chat", kind="model", model="model")

amounts_of_money = st.decimals(0, 4 * 10**9, allow_nan=False, allow_infinity=False) | st.builds(
    lambda digits, exponent: Decimal(digits).scaleb(exponent),
    st.integers(0, 10**9),
    st.integers(-40, 0),
)
nanos = st.integers(0, MAX_AMOUNT - 1)
several = st.builds(Amounts, nanos, nanos, nanos)
limits = st.builds(Limits, *(st.none() | nanos for _ in range(3)))
NAMES = ("cost", "tokens", "calls")


@given(amounts_of_money)
def test_money_is_rounded_up_to_the_next_nano_dollar(amount: Decimal) -> None:
    """Broken if the books hold less than the truth, or a nano-dollar more than they must."""
    assert ceil(Fraction(amount) * 10**9) == nano(amount)


@given(amounts_of_money, amounts_of_money)
def test_dearer_is_never_less(one: Decimal, other: Decimal) -> None:
    """Broken if a call becomes cheaper in the books by costing more."""
    low, high = sorted([one, other])
    assert nano(low) <= nano(high)


@given(nanos)
def test_nano_dollars_are_dollars_exactly(amount: int) -> None:
    """Broken if an amount changes by being shown."""
    assert amount == nano(dollars(amount)) == nano(Decimal(dollar_text(amount)))
    text = dollar_text(amount)
    assert not ("." in text and text.endswith(("0", ".")))
    assert "e" not in text.lower()


@given(nanos)
def test_the_hosts_own_context_changes_nothing(amount: int) -> None:
    """Broken if a host that computes with three digits has its money rounded."""
    with localcontext(prec=3):
        assert Fraction(dollars(amount)) * 10**9 == amount
        assert nano(dollars(amount)) == amount


@pytest.mark.parametrize(
    ("amount", "expected"),
    [
        ("0", 0),
        ("0.000000001", 1),
        ("0.0000000001", 1),
        ("1e-999999", 1),
        ("1.0000000010000000000000000000000000001", 1_000_000_002),
        ("72057594.037927935", MAX_AMOUNT - 1),
        ("72057594.0379279350000000000000000000000000000000000000000000000001", MAX_AMOUNT),
    ],
)
def test_known_amounts(amount: str, expected: int) -> None:
    """Broken if a boundary is off by one."""
    assert expected == nano(Decimal(amount))


@given(limits, several, several)
def test_left_is_what_is_neither_spent_nor_held(
    limit: Limits, reserved: Amounts, spent: Amounts
) -> None:
    """Broken if what is left is below zero, forgets what is held, or invents a limit."""
    account = Account(key=KEY, ends_at=None, limits=limit, reserved=reserved, spent=spent)
    for name in NAMES:
        allowed, left = getattr(limit, name), getattr(account.left, name)
        taken = getattr(reserved, name) + getattr(spent, name)
        assert (None if allowed is None else max(0, allowed - taken)) == left
    over = [
        name
        for name in NAMES
        if getattr(limit, name) is not None and getattr(spent, name) > getattr(limit, name)
    ]
    assert bool(over) == account.is_overspent


@given(several, several)
def test_amounts_add_and_take_away(one: Amounts, other: Amounts) -> None:
    """Broken if adding and taking away again leaves something."""
    assert one == one + other - other
    assert [getattr(one, name) + getattr(other, name) for name in NAMES] == [
        getattr(one + other, name) for name in NAMES
    ]


def said(
    call: Call,
    *,
    limit: Limits,
    spent: Amounts = Amounts(),  # noqa: B008 - immutable
    reserved: Amounts = Amounts(),  # noqa: B008
    need: Need | None = None,
    ends_at: datetime | None = None,
    **fields: Any,
) -> Opinion | None:
    """What a budget with *limit*, of which so much is taken, says to *call*."""
    budget = Budget(name="b", per=(Dimension.ORG,), limits=limit, **fields)
    account = Account(key=KEY, ends_at=ends_at, limits=limit, reserved=reserved, spent=spent)
    return objection(call, Claim(budget, "[null]"), account, need or need_of(call))


def costing(cost: object) -> Call:
    """A call of a tool that costs so much."""
    return call_of({"amount": cost}, tool=Tool(name="pay", cost="amount"))


def asking(model: object = "gpt-5-mini") -> Call:
    """A call of a model that does not say what it takes."""
    return call_of({"model": model}, tool=MODEL)


DIME = Limits(cost=100_000_000)


@pytest.mark.promise(3)
@given(nanos, nanos, nanos, st.integers(-2, 2), st.sampled_from(NAMES))
def test_a_call_passes_exactly_when_there_is_room(
    limit: int, spent: int, held: int, beyond: int, name: str
) -> None:
    """Broken if a limit is passed by as little as one, or a call is refused that fills it exactly."""
    room = max(0, limit - spent - held)
    wanted = min(MAX_AMOUNT - 1, max(0, room + beyond))
    opinion = said(
        call_of(),
        limit=Limits(**{name: limit}),
        spent=Amounts(**{name: spent}),
        reserved=Amounts(**{name: held}),
        need=Need(**{"cost": 0, "tokens": 0, "calls": 0, name: wanted}),
    )
    assert (opinion is None) == (wanted <= room)


@pytest.mark.parametrize(
    ("limit", "spent", "cost", "passes"),
    [
        (100_000_000, 0, "0.1", True),
        (100_000_000, 0, "0.100000001", False),
        (100_000_000, 0, "0.1000000000000000000000000000001", False),
        (100_000_000, 99_999_999, "0.000000001", True),
        (100_000_000, 100_000_000, "0.000000001", False),
        (100_000_000, 100_000_000, "0", True),
        (100_000_000, 200_000_000, "0", True),
        (0, 0, "0", True),
        (0, 0, "0.000000001", False),
    ],
)
def test_money_at_its_limit(limit: int, spent: int, cost: str, *, passes: bool) -> None:
    """Broken if a boundary is off by a nano-dollar."""
    opinion = said(costing(cost), limit=Limits(cost=limit), spent=Amounts(cost=spent))
    assert passes == (opinion is None)


def test_no_call_passes_a_limit_of_no_calls() -> None:
    """Broken if zero is taken for "no limit"."""
    opinion = said(call_of(), limit=Limits(calls=0))
    assert opinion is not None
    assert (opinion.verdict, opinion.author) == (Verdict.DENY, "budget:b")
    assert opinion.reason == "budget b has no room: 0 calls of 0 calls left"


@pytest.mark.parametrize(
    ("model", "models", "passes"),
    [
        ("gpt-5-mini", None, True),
        ("gpt-5-mini", ("gpt-5-mini",), True),
        ("gpt-5-mini", ("claude-haiku-4-5", "gpt-5-mini"), True),
        ("gpt-5-mini", ("gpt-5",), False),
        ("gpt-5-mini", ("gpt-*",), False),
        ("gpt-5-mini", (), False),
        ("GPT-5-mini", ("gpt-5-mini",), True),
        ("openai/gpt-5-mini-2026-01-31", ("gpt-5-mini",), True),
        (5, ("5",), False),
        (None, ("None",), False),
        ("", ("gpt-5-mini",), False),
    ],
)
def test_models_are_allowed_by_name(
    model: object, models: tuple[str, ...] | None, *, passes: bool
) -> None:
    """Broken if an empty list allows all, or a name is taken for another."""
    call = asking(model)
    opinion = said(
        call, limit=Limits(calls=9), models=models, on_exceed=Verdict.STEER, guidance="Ask."
    )
    assert passes == (opinion is None)
    if opinion is not None:
        assert opinion.verdict is Verdict.DENY
        assert opinion.guidance == "Use a model that the budget lists."
        assert opinion.reason == "budget b has no money for this model"


def test_a_list_of_models_says_nothing_to_tools() -> None:
    """Broken if a budget for models refuses tools."""
    assert said(call_of(), limit=Limits(calls=9), models=()) is None


@pytest.mark.parametrize(
    ("need", "limit", "admits", "spent", "passes"),
    [
        (Need(None, 5), Limits(cost=9), False, 0, False),
        (Need(None, 5), Limits(cost=9), True, 0, True),
        (Need(None, 5), Limits(cost=9), True, 8, True),
        (Need(None, 5), Limits(cost=9), True, 9, False),
        (Need(None, 5), Limits(cost=0), True, 0, False),
        (Need(None, 5), Limits(tokens=9), False, 0, True),
        (Need(5, None), Limits(tokens=9), False, 0, False),
        (Need(5, None), Limits(tokens=9), True, 8, True),
        (Need(5, None), Limits(tokens=9), True, 9, False),
        (Need(5, None), Limits(cost=9), False, 0, True),
        (Need(None, None), Limits(calls=9), False, 0, True),
        (Need(None, None), Limits(cost=9, tokens=9), True, 0, True),
    ],
)
def test_what_is_not_known(
    need: Need, limit: Limits, spent: int, *, admits: bool, passes: bool
) -> None:
    """Broken if an unknown price passes a limit on money, unless the budget says that it may."""
    opinion = said(
        asking(), limit=limit, need=need, spent=Amounts(spent, spent), admits_unknown=admits
    )
    assert passes == (opinion is None)
    if opinion is not None and not admits:
        assert opinion.verdict is Verdict.DENY
        assert "is not known" in opinion.reason


@pytest.mark.parametrize("verdict", [Verdict.DENY, Verdict.ASK, Verdict.STEER])
def test_what_is_said_is_what_the_budget_says(verdict: Verdict) -> None:
    """Broken if a call that has no room hears another verdict, or not what to do instead, or not until when."""
    opinion = said(
        costing("0.0250"),
        limit=DIME,
        spent=Amounts(cost=50_000_000),
        reserved=Amounts(cost=40_000_000),
        ends_at=ENDS,
        on_exceed=verdict,
        guidance="Wait.",
        suggestions=("draft",),
        approvers=("ann",),
        expires=timedelta(hours=2),
    )
    expected = Opinion(
        verdict=verdict,
        reason="budget b has no room: 0.01 US dollars of 0.1 US dollars left until 2026-01-02 23:00 UTC",
        author="budget:b",
        guidance="Wait.",
        suggestions=("draft",),
        approvers=("ann",),
        expires=timedelta(hours=2),
    )
    assert expected == opinion


@pytest.mark.parametrize("name", NAMES)
def test_what_cannot_be_booked_is_refused(name: str) -> None:
    """Broken if an amount beyond the database's integers is admitted by a budget that does not limit it."""
    need = Need(**{"cost": 0, "tokens": 0, "calls": 1, name: MAX_AMOUNT})
    opinion = said(call_of(), limit=Limits(), need=need, on_exceed=Verdict.ASK)
    assert opinion is not None
    assert opinion.verdict is Verdict.DENY
    need = Need(**{"cost": 0, "tokens": 0, "calls": 1, name: MAX_AMOUNT - 1})
    assert said(call_of(), limit=Limits(), need=need) is None


def test_a_tool_that_declares_nothing_takes_a_call() -> None:
    """Broken if a tool needs an estimate, or a model needs none."""
    assert Need(0, 0, 1) == need_of(call_of())
    assert Need(None, None, 1) == need_of(asking())
    assert Need(25_000_000, 0, 1) == need_of(costing("0.025"))
    assert Amounts(0, 0, 1) == need_of(asking()).amounts


def test_whose_share_it_is() -> None:
    """Broken if two shares have one name, or a name in one place is taken for that in another."""
    facts = facts_of(IDENTITY, session_id="s-1", tool="refund", model=None)
    whole = Budget(name="b", per=tuple(Dimension), limits=Limits())
    assert whole.scope(facts) == '["s-1","u-17","desk","acme","bot","refund",null]'
    pair = Budget(name="b", per=(Dimension.ORG, Dimension.USER), limits=Limits())
    swapped = facts_of(
        Identity(agent="bot", user="acme", org="u-17"), session_id=None, tool=None, model=None
    )
    assert (pair.scope(facts), pair.scope(swapped)) == ('["acme","u-17"]', '["u-17","acme"]')
    assert pair.scope(facts_of(None, session_id=None, tool=None, model=None)) == "[null,null]"
    quoting = facts_of(Identity(agent="bot", org='a","b'), session_id=None, tool=None, model=None)
    assert pair.scope(quoting) == '["a\\",\\"b",null]'
