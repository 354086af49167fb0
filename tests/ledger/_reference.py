"""
The ledger as it is promised, in plain dictionaries and whole numbers: what the real one is compared with.

Written from the documentation of budgets alone; nothing here is taken from the package. A budget is the mapping that a
policy writes. Money is `Decimal` dollars outside and whole nano-dollars inside.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

AMOUNTS = ("cost", "tokens", "calls")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
OFFSETS = {"UTC": timedelta(0), "Asia/Kolkata": timedelta(hours=5, minutes=30)}
"""Zones whose clocks are never changed, so that a window needs no calendar of zones."""

Window = tuple[str, tuple[str | None, ...], int]
Triple = dict[str, int]


class Call(NamedTuple):
    """What is attempted: by whom, what, and what it may take at most; None: it does not say."""

    who: tuple[tuple[str, str | None], ...]
    tool: str
    model: str | None
    cost: Decimal | None
    tokens: int | None


class Answer(NamedTuple):
    """What is said to a call: `allow`, `ask`, `steer` or `deny`; which budgets object to it; whether it runs."""

    verdict: str
    objecting: frozenset[str]
    admitted: bool


class Ledger:
    """Windows of budgets, calls that run, and requests for approval."""

    def __init__(self) -> None:
        self.reserved: dict[Window, Triple] = {}
        self.spent: dict[Window, Triple] = {}
        self.running: dict[str, tuple[Triple, list[Window]]] = {}
        self.asked: dict[Call, bool] = {}  # whether a human has said yes

    def admit(self, key: str, call: Call, budgets: list[dict[str, Any]], now: datetime) -> Answer:
        """Decide *call*, and hold what it may take if it runs."""
        counting = [one for one in budgets if _counts(one, call)]
        windows = [_window(one, call, now) for one in counting]
        wanted = {"cost": _nano(call.cost), "tokens": call.tokens, "calls": 1}
        if call.model is None:  # a tool that declares no cost has none, and takes no tokens
            wanted = {name: amount or 0 for name, amount in wanted.items()}
        said = {
            one["name"]: self._objection(one, window, call, wanted)
            for one, window in zip(counting, windows, strict=True)
        }
        strength = ["allow", "ask", "steer", "deny"]
        verdict = max(said.values(), key=strength.index, default="allow")
        objecting = frozenset(name for name, word in said.items() if word == verdict != "allow")
        admitted = verdict == "allow" or (verdict == "ask" and self.asked.get(call) is True)
        if verdict == "ask":
            self.asked.setdefault(call, False)
            if admitted:
                del self.asked[call]  # a yes is used once
        if admitted:
            held = {name: wanted[name] or 0 for name in AMOUNTS} if windows else _nothing()
            self.running[key] = held, windows
            for window in windows:
                _add(self.reserved, window, held)
        return Answer(verdict, objecting, admitted)

    def settle(
        self, key: str, *, failed: bool, cost: Decimal | None, tokens: int | None
    ) -> list[Window] | None:
        """Let go of what a call holds and book what it took; return the windows, or None if it does not run."""
        if key not in self.running:
            return None
        held, windows = self.running.pop(key)
        used = {"cost": _nano(cost), "tokens": tokens, "calls": None}
        silent = {**held, "cost": 0, "tokens": 0} if failed else held
        for window in windows:
            _add(self.reserved, window, {name: -held[name] for name in AMOUNTS})
            _add(
                self.spent, window, {n: silent[n] if used[n] is None else used[n] for n in AMOUNTS}
            )
        return windows

    def record(self, call: Call, budgets: list[dict[str, Any]], now: datetime) -> list[Window]:
        """Book what was paid for already, whatever is allowed; return the windows that were charged."""
        windows = [_window(one, call, now) for one in budgets if _counts(one, call)]
        used = {"cost": _nano(call.cost) or 0, "tokens": call.tokens or 0, "calls": 1}
        for window in windows:
            _add(self.spent, window, used)
        return windows

    def over(self, window: Window, budget: dict[str, Any]) -> bool:
        """Whether more was spent in *window* than *budget* allows."""
        spent = self.spent.get(window, _nothing())
        return any(spent[name] > limit for name, limit in _limits(budget).items())

    def _objection(
        self, budget: dict[str, Any], window: Window, call: Call, wanted: dict[str, int | None]
    ) -> str:
        models = budget.get("models")
        if models is not None and call.model is not None and call.model not in models:
            return "deny"
        limits, admits = _limits(budget), budget.get("on_unknown") == "admit"
        if not admits and any(wanted[name] is None for name in limits):
            return "deny"
        for name, limit in limits.items():
            sums = [books.get(window, _nothing())[name] for books in (self.reserved, self.spent)]
            amount = wanted[name]
            if sum(sums) >= limit if amount is None else amount > max(0, limit - sum(sums)):
                return str(budget.get("on_exceed", "deny"))
        return "allow"


def limits_of(budget: dict[str, Any]) -> dict[str, int | None]:
    """Return how much of each amount *budget* allows."""
    return {name: _limits(budget).get(name) for name in AMOUNTS}


def _limits(budget: dict[str, Any]) -> Triple:
    cost = budget.get("cost_usd")
    written = {"cost": None if cost is None else _nano(Decimal(str(cost)))}
    written |= {name: budget.get(name) for name in ("tokens", "calls")}
    return {name: limit for name, limit in written.items() if limit is not None}


def _nano(amount: Decimal | None) -> int | None:
    if amount is None:
        return None
    numerator, denominator = amount.as_integer_ratio()
    return -(-numerator * 10**9 // denominator)  # never less than the truth


def _counts(budget: dict[str, Any], call: Call) -> bool:
    return budget.get("tools", ["*"]) == ["*"] or call.tool in budget["tools"]


def _window(budget: dict[str, Any], call: Call, now: datetime) -> Window:
    per = [budget["per"]] if isinstance(budget["per"], str) else budget["per"]
    facts = {**dict(call.who), "tool": call.tool, "model": call.model}
    offset = OFFSETS[budget.get("timezone", "UTC")]
    local = (now + offset).replace(minute=0, second=0, microsecond=0)
    match budget.get("window", "total"):
        case "total":
            return budget["name"], tuple(facts[one] for one in per), 0
        case "hour":
            pass
        case "day":
            local = local.replace(hour=0)
        case "week":
            local = local.replace(hour=0) - timedelta(days=local.weekday())
        case "month":
            local = local.replace(hour=0, day=1)
    start = (local - offset - EPOCH) // timedelta(microseconds=1)
    return budget["name"], tuple(facts[one] for one in per), start


def _nothing() -> Triple:
    return dict.fromkeys(AMOUNTS, 0)


def _add(books: dict[Window, Triple], window: Window, amounts: dict[str, Any]) -> None:
    books[window] = {n: books.get(window, _nothing())[n] + amounts[n] for n in AMOUNTS}
