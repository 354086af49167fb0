"""Usage: what a model call took, in one normal form for all providers, and what that costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Required, TypeAlias, TypedDict

import msgspec

from interlock._budget import MAX_AMOUNT, nano
from interlock._call import Identity, money
from interlock.errors import Misuse

_COUNTS = (
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
)


class Usage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """
    What a model call took. None means that it is not known, which is not zero.

    Providers count in different ways; here `input_tokens` are all of the prompt's, those read from and written to a
    cache among them, and `output_tokens` are all that the model wrote, its reasoning among them.
    Source: OpenTelemetry semantic conventions for generative AI, `gen_ai.usage.*`.

    Attributes:
        input_tokens: All tokens of the prompt.
        output_tokens: All tokens that the model wrote.
        cache_read_tokens: Those of the prompt that came from the provider's cache.
        cache_write_tokens: Those of the prompt that went into it.
        reasoning_tokens: Those of the output that the caller is not shown.
        cost_usd: What the call cost, in US dollars, when that is known from elsewhere than a list of prices.

    Raises:
        Misuse: a number is not a whole number, or an amount is no amount of money; negative; or beyond all reason.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    cost_usd: Decimal | None = None

    def __post_init__(self) -> None:
        for name in _COUNTS:
            count = getattr(self, name)
            if count is None:
                continue
            if type(count) is not int or not 0 <= count < MAX_AMOUNT:
                raise Misuse(f"{name} is not a number of tokens: give a whole number, zero or more")
        if self.cost_usd is not None:
            msgspec.structs.force_setattr(self, "cost_usd", _cost(self.cost_usd))
        cached = (self.cache_read_tokens or 0) + (self.cache_write_tokens or 0)
        if self.input_tokens is not None and cached > self.input_tokens:
            raise Misuse("tokens read from a cache and written to it are among the input_tokens")
        for part, whole in (
            ("cache_read_tokens", "input_tokens"),
            ("cache_write_tokens", "input_tokens"),
            ("reasoning_tokens", "output_tokens"),
        ):
            some, all_ = getattr(self, part), getattr(self, whole)
            if some is not None and all_ is not None and some > all_:
                raise Misuse(f"{part} are among the {whole}, so there cannot be more of them")

    @property
    def tokens(self) -> int | None:
        """All tokens, in and out; None unless both are known."""
        if self.input_tokens is None or self.output_tokens is None:
            return None
        return self.input_tokens + self.output_tokens


Estimate: TypeAlias = Usage | Callable[[Mapping[str, Any]], Usage]
"""What a call will use at most: known beforehand, or found from its arguments by name, as they are judged."""


class Fields(TypedDict, total=False):
    """
    What `Governor.record_usage` is told.

    `model` says which model; `provider` whose, which helps to find the price; `identity` on whose behalf, by default
    that of the session around. The rest is as in `Usage`; a cost that is a float is taken through its text.
    """

    model: Required[str]
    provider: str | None
    identity: Identity | None
    input_tokens: int | None
    output_tokens: int | None
    cache_read_tokens: int | None
    cache_write_tokens: int | None
    reasoning_tokens: int | None
    cost_usd: Decimal | float | str | None


class ModelUsage(msgspec.Struct, frozen=True, kw_only=True):
    """
    What was used of which model: what `interlock_price` is asked about.

    Attributes:
        model: As the caller named it.
        provider: Whose model, such as `openai` or `anthropic`; None when that was not said.
        usage: What was used.
    """

    model: str
    provider: str | None = None
    usage: Usage


class Priced(msgspec.Struct, frozen=True, kw_only=True):
    """
    Usage, and what it costs.

    Attributes:
        of: What was used.
        cost_usd: In US dollars; None when nobody knows the price.
        by: Who says so: `caller`, `plugin:NAME` or `genai-prices VERSION`; None when nobody does.
    """

    of: ModelUsage
    cost_usd: Decimal | None
    by: str | None


def _cost(value: object) -> Decimal:
    try:
        amount = money(value)
    except ValueError as error:
        raise Misuse(f"cost_usd is {error}") from None
    if nano(amount) >= MAX_AMOUNT:
        raise Misuse("cost_usd is not an amount that books can hold: 72 million dollars or more")
    return amount
