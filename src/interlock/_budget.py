"""
Budgets: how much may be spent, by whom, in which window of time; what a call claims of them, and what they say to it.

A call reserves what it may cost before it runs and is charged what it did cost afterwards, as card payments are
authorised and captured. Money is counted in whole nano-dollars: an amount finer than that is rounded up, so that the
books never hold less than the truth.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import ROUND_CEILING, Context, Decimal
from enum import StrEnum
from typing import Any

import msgspec

from interlock._calendar import Period, window_of
from interlock._call import Call, Identity
from interlock._halt_scope import HaltScope
from interlock._model_names import canonical_model
from interlock._verdict import Opinion, Verdict

NANO = 10**9
"""Nano-dollars in a dollar."""

MAX_AMOUNT = 2**56
"""No call takes this much: in money, 72 million dollars."""

MAX_SUM = 2**62
"""
No limit is this large, and a window in which so much is reserved and spent takes no further calls: what those in flight
may add still fits the databases' integers. In money, 4.6 billion dollars.
"""

_EXACTLY = Context(prec=60, rounding=ROUND_CEILING)


class Dimension(StrEnum):
    """By what a budget tells its shares apart."""

    SESSION = "session"
    USER = "user"
    TEAM = "team"
    ORG = "org"
    AGENT = "agent"
    TOOL = "tool"
    MODEL = "model"


class Amounts(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a call takes, or a budget holds: money in nano-dollars, tokens, calls."""

    cost: int = 0
    tokens: int = 0
    calls: int = 0

    def __add__(self, other: Amounts) -> Amounts:
        return Amounts(self.cost + other.cost, self.tokens + other.tokens, self.calls + other.calls)

    def __sub__(self, other: Amounts) -> Amounts:
        return Amounts(self.cost - other.cost, self.tokens - other.tokens, self.calls - other.calls)


MORE_THAN_NOTHING = Amounts(1, 1, 1)


class Limits(msgspec.Struct, frozen=True):
    """How much of each a budget allows in one window; None: it does not limit that."""

    cost: int | None = None
    tokens: int | None = None
    calls: int | None = None


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """
    A limit on what is spent.

    Attributes:
        name: Its name, one in each policy.
        per: What tells its shares apart: each combination of these has the whole limit for itself.
        period: How long a window is.
        zone: The IANA name of the time zone whose calendar counts.
        limits: What one share may spend in one window.
        tools: Names or globs of the tools, models included, that it counts.
        models: The only models whose calls it lets through; None means any, an empty one none.
        on_exceed: What is said to a call that has no room: ASK, STEER or DENY.
        admits_unknown: Whether a call passes that does not say what it will cost.
        raises: Whether a call that cost more than was left raises BudgetExceeded after it has run and was booked.
        halt: What is halted of whoever exceeds it; None: nothing.
        guidance, suggestions, approvers, expires: As in an `Opinion`.
    """

    name: str
    per: tuple[Dimension, ...]
    period: Period = Period.TOTAL
    zone: str = "UTC"
    limits: Limits
    tools: tuple[str, ...] = ("*",)
    models: tuple[str, ...] | None = None
    on_exceed: Verdict = Verdict.DENY
    admits_unknown: bool = False
    raises: bool = False
    halt: HaltScope | None = None
    guidance: str | None = None
    suggestions: tuple[str, ...] = ()
    approvers: tuple[str, ...] = ()
    expires: timedelta | None = None

    def scope(self, facts: Mapping[Dimension, str | None]) -> str:
        """
        Return whose share somebody spends, as a JSON list in the order of `per`.

        Who has no name there shares with all others who have none: leaving a name out must not mean "no limit".
        """
        return msgspec.json.encode([facts.get(dimension) for dimension in self.per]).decode()


class WindowKey(msgspec.Struct, frozen=True, array_like=True, order=True):
    """
    One share of a budget in one window.

    Attributes:
        budget: The budget's name.
        scope: Whose share: `Budget.scope`.
        starts_at: When the window begins, in microseconds since 1970; 0 where it never ends.
    """

    budget: str
    scope: str
    starts_at: int


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """
    One share of a budget in one window, as it stands.

    Attributes:
        key: Which.
        ends_at: When its window ends, aware UTC; None: never.
        limits: What it may spend.
        reserved: What running calls hold.
        spent: What finished calls were charged.
    """

    key: WindowKey
    ends_at: datetime | None
    limits: Limits
    reserved: Amounts = Amounts()
    spent: Amounts = Amounts()

    @property
    def left(self) -> Limits:
        """What can still be reserved, never below zero; None where there is no limit."""
        taken = self.reserved + self.spent
        return Limits(
            *(
                None if limit is None else max(0, limit - used)
                for limit, used in zip(_three(self.limits), _three(taken), strict=True)
            )
        )

    @property
    def left_usd(self) -> Decimal | None:
        """What can still be reserved in US dollars; None where there is no limit."""
        return None if self.left.cost is None else dollars(self.left.cost)

    @property
    def spent_usd(self) -> Decimal:
        """What finished calls were charged, in US dollars."""
        return dollars(self.spent.cost)

    @property
    def is_full(self) -> bool:
        """Whether so much was counted that no more may be: see `MAX_SUM`."""
        return any(amount >= MAX_SUM for amount in _three(self.reserved + self.spent))

    @property
    def is_overspent(self) -> bool:
        """Whether more was charged than is allowed."""
        return self.is_overspent_by(MORE_THAN_NOTHING)

    def is_overspent_by(self, more: Amounts) -> bool:
        """Whether more was charged than is allowed of something of which there is *more*."""
        return any(
            limit is not None and used > limit and added > 0
            for limit, used, added in zip(
                _three(self.limits), _three(self.spent), _three(more), strict=True
            )
        )


class Claim(msgspec.Struct, frozen=True):
    """A budget that counts a call, and whose share that is."""

    budget: Budget
    scope: str

    def window(self, at: datetime) -> tuple[WindowKey, datetime | None]:
        """Return the window in which *at* falls, and when it ends."""
        begins, ends = window_of(self.budget.period, self.budget.zone, at)
        starts_at = 0 if begins is None else (begins - _EPOCH) // _MICROSECOND
        return WindowKey(self.budget.name, self.scope, starts_at), ends


class Need(msgspec.Struct, frozen=True):
    """What a call may take at most, as it says before it runs; None: it does not say."""

    cost: int | None
    tokens: int | None
    calls: int = 1

    @property
    def amounts(self) -> Amounts:
        """What is reserved: nothing for what is not said, where that is let through."""
        return Amounts(self.cost or 0, self.tokens or 0, self.calls)

    @property
    def is_bookable(self) -> bool:
        """Whether books can hold it: see `MAX_AMOUNT`."""
        return all(wanted is None or wanted < MAX_AMOUNT for wanted in _three(self))


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def nano(amount: Decimal) -> int:
    """Return *amount* in US dollars as nano-dollars, rounded up."""
    return int(_EXACTLY.scaleb(amount, 9).to_integral_value(context=_EXACTLY))


def dollars(amount: int) -> Decimal:
    """Return nano-dollars as US dollars, exactly."""
    return Decimal(amount).scaleb(-9, context=_EXACTLY)


def dollar_text(amount: int) -> str:
    """Return nano-dollars as US dollars in plain digits: exact, and without zeros that say nothing."""
    whole, part = divmod(amount, NANO)
    return f"{whole}.{part:09d}".rstrip("0") if part else str(whole)


def claims(budgets: Iterable[Budget], facts: Mapping[Dimension, str | None]) -> tuple[Claim, ...]:
    """Return what *budgets* claim of whoever *facts* tell of."""
    return tuple(Claim(budget, budget.scope(facts)) for budget in budgets)


def facts_of(
    identity: Identity | None, *, session_id: str | None, tool: str | None, model: str | None
) -> dict[Dimension, str | None]:
    """Return by what the shares of budgets are told apart."""
    return {
        Dimension.SESSION: session_id,
        Dimension.USER: None if identity is None else identity.user,
        Dimension.TEAM: None if identity is None else identity.team,
        Dimension.ORG: None if identity is None else identity.org,
        Dimension.AGENT: None if identity is None else identity.agent,
        Dimension.TOOL: tool,
        Dimension.MODEL: None if model is None else canonical_model(model),
    }


def facts_about(call: Call) -> dict[Dimension, str | None]:
    """Return by what the shares of budgets that count *call* are told apart."""
    return facts_of(
        call.identity, session_id=call.session_id, tool=call.tool.name, model=call.model
    )


def need_of(call: Call) -> Need:
    """
    Return what *call* may take.

    A tool that declares no cost has none, and takes no tokens; a model that does not say takes what nobody knows.
    """
    silent = None if call.tool.kind == "model" else 0
    return Need(
        cost=silent if call.cost is None else nano(call.cost),
        tokens=silent if call.tokens is None else call.tokens,
    )


def objection(call: Call, claim: Claim, account: Account, need: Need) -> Opinion | None:
    """Return what the budget of *claim*, which stands at *account*, says to *call*; None: there is room."""
    budget = claim.budget
    if budget.models is not None and call.tool.kind == "model" and not _lists(budget, call.model):
        return _denial(
            budget,
            f"budget {budget.name} has no money for this model",
            "Use a model that the budget lists.",
        )
    if account.is_full:
        return _denial(budget, f"budget {budget.name} has counted as much as its books can hold")
    if not need.is_bookable:
        return _denial(budget, f"budget {budget.name} counts no amounts as large as this call's")
    amounts = _amounts(budget, account, need)
    # First, since it is the stricter: a yes to what has no room is none to what nobody knows.
    for amount, _, _, wanted in amounts:
        if wanted is None and not budget.admits_unknown:
            what = "cost" if amount == "cost" else "number of tokens"
            return _denial(
                budget,
                f"budget {budget.name} limits {amount}, and the {what} is not known",
                "Say beforehand what the call will use at most, with a price if its model has none.",
            )
    for amount, limit, room, wanted in amounts:
        if _fits(room, wanted):
            continue
        return Opinion(
            verdict=budget.on_exceed,
            reason=f"budget {budget.name} has no room: {_shown(amount, room)} of "
            f"{_shown(amount, limit)} left{_until(account)}",
            author=f"budget:{budget.name}",
            guidance=budget.guidance,
            suggestions=budget.suggestions,
            approvers=budget.approvers,
            expires=budget.expires,
        )
    return None


def has_room(budget: Budget, account: Account, need: Need) -> bool:
    """Whether *need* fits into what is left of *budget*, which stands at *account*, as far as it is said."""
    if account.is_full:
        return False
    return all(_fits(room, wanted) for _, _, room, wanted in _amounts(budget, account, need))


def _amounts(
    budget: Budget, account: Account, need: Need
) -> list[tuple[str, int, int, int | None]]:
    """Return of each amount that is limited its name, the limit, what is left of that, and what is wanted."""
    all_three = zip(_NAMES, _three(budget.limits), _three(account.left), _three(need), strict=True)
    return [
        (name, limit, room, wanted)
        for name, limit, room, wanted in all_three
        if limit is not None and room is not None
    ]


def _fits(room: int, wanted: int | None) -> bool:
    return room > 0 if wanted is None else wanted <= room


_NAMES = ("cost", "tokens", "calls")


def _three(of: Any) -> tuple[Any, Any, Any]:
    return of.cost, of.tokens, of.calls


def _denial(budget: Budget, reason: str, guidance: str | None = None) -> Opinion:
    author = f"budget:{budget.name}"
    return Opinion(verdict=Verdict.DENY, reason=reason, author=author, guidance=guidance)


def _shown(name: str, amount: int) -> str:
    return f"{dollar_text(amount)} US dollars" if name == "cost" else f"{amount:,} {name}"


def _lists(budget: Budget, model: str | None) -> bool:
    """Whether *model* is one of those that *budget* lists, by whichever of its names."""
    listed = map(canonical_model, budget.models or ())
    return bool(model) and canonical_model(model or "") in listed


def _until(account: Account) -> str:
    return "" if account.ends_at is None else f" until {account.ends_at:%Y-%m-%d %H:%M} UTC"
