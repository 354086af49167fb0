"""Cost tracking without policy and session: record what models took, see it summed up, and hear when it is too much."""

from decimal import Decimal

from interlock import BudgetExceeded, Governor, Identity, hookimpl
from interlock.hookspecs import ModelUsage
from interlock.store import budgets, usage

# What a day's calls took: organisation, model, tokens in, of those from the cache, and tokens out.
CALLS = [
    ("acme", "claude-haiku-4-5", 52_000, 48_000, 1_900),
    ("acme", "gpt-5-mini", 8_120, None, 960),
    ("globex", "gpt-5-mini", 31_000, 12_000, 4_400),
    ("globex", "globex-small", 90_000, None, 11_000),
    ("acme", "claude-haiku-4-5", 61_000, 0, 2_300),
    ("acme", "gpt-5-mini", 7_800, None, 2_020),
]


class OwnPrices:
    """Globex runs a model of its own, at forty cents for a million tokens."""

    @hookimpl
    def interlock_price(self, used: ModelUsage) -> Decimal | None:
        """Return what the model of our own costs; the list knows the others."""
        if used.model != "globex-small" or used.usage.tokens is None:
            return None
        return used.usage.tokens * Decimal("0.0000004")


BUDGET = {"name": "tenant-day", "per": "org", "window": "day", "cost_usd": "0.10"}

with Governor("sqlite://", budgets=[BUDGET], plugins=[OwnPrices()]) as governor:
    for org, model, tokens_in, cached, tokens_out in CALLS:
        try:
            receipt = governor.record_usage(
                model=model,
                input_tokens=tokens_in,
                cache_read_tokens=cached,
                output_tokens=tokens_out,
                identity=Identity(agent="assistant", org=org),
            )
        except BudgetExceeded as error:
            print(f"! {error}")
        else:
            print(f"{org:8} {model:18} {receipt.priced.cost_usd:f} by {receipt.priced.by}")

    print(f"\n{'org':8} {'model':18} {'calls':>5} {'tokens in':>10} {'out':>7} {'dollars':>10}")
    for one in governor.read(usage.summary, by=("org", "model")):
        org, model = one.of
        print(
            f"{org:8} {model:18} {one.calls:5} {one.input_tokens:10,} {one.output_tokens:7,} "
            f"{one.cost_usd:10.6f}"
        )

    print()
    for account in governor.read(budgets.standing):
        spent = Decimal(account.spent.cost).scaleb(-9)
        state = "overspent" if account.is_overspent else "within its limit"
        print(f"{account.key.budget} {account.key.scope}: {spent:.6f} of 0.10 dollars, {state}")
