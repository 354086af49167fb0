"""price(): what usage of a model costs: as the caller says, else as plugins say, else by the list of genai-prices."""

from __future__ import annotations

import logging
from datetime import datetime
from decimal import Decimal
from functools import cache
from importlib.metadata import version

from msgspec.structs import replace

from interlock._budget import MAX_AMOUNT, nano
from interlock._call import Call
from interlock._plugins import Plugins
from interlock._usage import Estimate, ModelUsage, Priced, Usage

log = logging.getLogger("interlock")


def price(used: ModelUsage, *, plugins: Plugins, at: datetime | None = None) -> Priced:
    """
    Return *used* with its price, or without one when nobody knows it.

    Where several plugins name a price, the dearest counts: a plugin can make a budget stricter, never looser.

    Args:
        used: The usage.
        plugins: Who is asked before the list of prices.
        at: When it was used, since prices change; None means now.
    """
    if used.usage.cost_usd is not None:
        return Priced(of=used, cost_usd=used.usage.cost_usd, by="caller")
    named = plugins.prices(used)
    if named is None:
        return Priced(of=used, cost_usd=None, by=None)
    if named:
        cost, author = max(named)
        return Priced(of=used, cost_usd=cost, by=author)
    if used.usage.tokens is not None:
        listed = _listed(used, at)
        if listed is not None:
            return Priced(of=used, cost_usd=listed, by=_list_name())
    return Priced(of=used, cost_usd=None, by=None)


def estimated(call: Call, estimate: Estimate, plugins: Plugins) -> Call:
    """
    Return *call* with what it will use at most, and what that costs.

    An estimate that fails is a fault of the call: it is denied, and recorded.
    """
    try:
        usage: object = estimate if isinstance(estimate, Usage) else estimate(call.arguments)
    except Exception as error:  # noqa: BLE001 - whatever a function of the host's raises
        faults = (*call.faults, f"its estimate raised {type(error).__name__}")
        return replace(call, faults=faults)
    if not isinstance(usage, Usage):
        faults = (*call.faults, f"its estimate is a {type(usage).__name__} instead of a Usage")
        return replace(call, faults=faults)
    cost = usage.cost_usd
    if cost is None and call.model is not None:
        used = ModelUsage(model=call.model, provider=call.tool.provider, usage=usage)
        cost = price(used, plugins=plugins).cost_usd
    return replace(call, cost=call.cost if cost is None else cost, tokens=usage.tokens)


@cache  # to ask for a version takes longer than to judge a call
def _list_name() -> str:
    return f"genai-prices {version('genai-prices')}"


def _listed(used: ModelUsage, at: datetime | None) -> Decimal | None:
    # Here and not above: it takes a fifth of a second to import, and many programs never need a price.
    from genai_prices import Usage, calc_price  # noqa: PLC0415

    usage = used.usage
    counts = {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cache_read_tokens": usage.cache_read_tokens,
        "cache_write_tokens": usage.cache_write_tokens,
    }
    try:
        found = calc_price(
            Usage(**{name: count for name, count in counts.items() if count is not None}),
            used.model,
            provider_id=used.provider,
            genai_request_timestamp=at,
        )
    except LookupError:
        return None
    except Exception:
        log.exception("no price for usage of %s: the list of prices failed", used.model)
        return None
    return found.total_price if nano(found.total_price) < MAX_AMOUNT else None
