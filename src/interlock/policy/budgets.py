"""Budgets as a policy writes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Annotated, Literal

from pydantic import (
    BeforeValidator,
    Field,
    PlainSerializer,
    StrictInt,
    WithJsonSchema,
    model_validator,
)

from interlock._budget import MAX_SUM, Budget, Claim, Dimension, Limits, claims, facts_about, nano
from interlock._calendar import Period
from interlock._call import Call, money
from interlock._halt_scope import HaltScope
from interlock._verdict import Verdict
from interlock.policy.values import Duration, Name, OneOrMore, Strict, Zone


def _money(value: object) -> Decimal:
    amount = money(value)
    if nano(amount) >= MAX_SUM:
        raise ValueError("not a limit: more than 4 billion dollars")
    return amount


Money = Annotated[
    Decimal,
    BeforeValidator(_money),
    PlainSerializer(lambda amount: f"{amount:f}", return_type=str),
    WithJsonSchema({"anyOf": [{"type": "number", "minimum": 0}, {"type": "string"}]}),
]
Amount = Annotated[StrictInt, Field(ge=0, lt=MAX_SUM)]
HaltWord = Literal["session", "user", "team", "org", "agent", "tool", "system"]
"""What a policy can halt."""

_Per = Literal["session", "user", "team", "org", "agent", "tool", "model"]


class BudgetDocument(Strict):
    """
    A limit on what is spent, for each session, user and so on by itself, in each window of time.

    `per` may be a list: then each combination has the limit for itself. `guidance` and `suggest` go with
    `on_exceed: steer`; `approvers` and `expires` go with `on_exceed: ask`, `halt` with the others: whoever exceeds the
    budget has that halted.
    """

    _needs_one_of = ("cost_usd", "tokens", "calls", "models")

    name: Name
    per: OneOrMore[_Per]
    window: Literal["minute", "hour", "day", "week", "month", "total"] = "total"
    timezone: Zone = "UTC"
    cost_usd: Money | None = None
    tokens: Amount | None = None
    calls: Amount | None = None
    tools: tuple[Name, ...] = Field(default=("*",), min_length=1)
    models: tuple[Name, ...] | None = None
    on_exceed: Literal["deny", "ask", "steer"] = "deny"
    on_unknown: Literal["deny", "admit"] = "deny"
    on_overrun: Literal["record", "raise"] = "record"
    halt: HaltWord | None = None
    guidance: str | None = None
    suggest: tuple[Name, ...] = ()
    approvers: tuple[Name, ...] = ()
    expires: Duration | None = None

    @model_validator(mode="after")
    def _limits_something(self) -> BudgetDocument:
        if (
            self.cost_usd is None
            and self.tokens is None
            and self.calls is None
            and self.models is None
        ):
            raise ValueError("it limits nothing; add cost_usd, tokens, calls or models")
        if len(set(self.per)) < len(self.per):
            raise ValueError("'per' names something twice")
        for verdict, keys in {
            "steer": ("guidance", "suggest"),
            "ask": ("approvers", "expires"),
        }.items():
            for key in keys:
                if key in self.model_fields_set and self.on_exceed != verdict:
                    raise ValueError(
                        f"{key!r} goes with 'on_exceed: {verdict}', not {self.on_exceed!r}"
                    )
        if self.halt is not None and self.on_exceed == "ask":
            raise ValueError(
                "'halt' does not go with 'on_exceed: ask': what is halted cannot be approved"
            )
        if self.on_exceed == "steer" and not (self.guidance or self.suggest):
            raise ValueError(
                "'on_exceed: steer' needs 'guidance' or 'suggest': where should the model go?"
            )
        return self

    def budget(self) -> Budget:
        """Return the budget that this describes."""
        return Budget(
            name=self.name,
            per=tuple(Dimension(one) for one in self.per),
            period=Period(self.window),
            zone=self.timezone,
            limits=Limits(
                cost=None if self.cost_usd is None else nano(self.cost_usd),
                tokens=self.tokens,
                calls=self.calls,
            ),
            tools=self.tools,
            models=self.models,
            on_exceed=Verdict(self.on_exceed),
            admits_unknown=self.on_unknown == "admit",
            raises=self.on_overrun == "raise",
            halt=None if self.halt is None else HaltScope(self.halt),
            guidance=self.guidance,
            suggestions=self.suggest,
            approvers=self.approvers,
            expires=self.expires,
        )


class Budgets:
    """The budgets of a policy, or of a governor without one."""

    def __init__(self, budgets: Iterable[Budget] = ()) -> None:
        """Make ready to find the budgets that count a tool."""
        self._all = tuple(budgets)
        # Bounded, because names of tools may come from outside.
        self._counting = lru_cache(maxsize=4096)(self._find)

    def claims(self, facts: Mapping[Dimension, str | None]) -> tuple[Claim, ...]:
        """Return the budgets that count what is done by whoever *facts* tell of, and whose share it is."""
        if not self._all:
            return ()
        return claims(self._counting(facts[Dimension.TOOL] or ""), facts)

    def claims_on(self, call: Call) -> tuple[Claim, ...]:
        """Return the budgets that count *call*."""
        return self.claims(facts_about(call)) if self._all else ()

    def _find(self, tool: str) -> tuple[Budget, ...]:
        return tuple(
            budget
            for budget in self._all
            if any(fnmatchcase(tool, pattern) for pattern in budget.tools)
        )
