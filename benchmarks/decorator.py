"""
What `@governed` costs apart from the store: a whole call but for its two transactions, over a bare call through wrapt.

The policy has 10,001 rules, of which one, with two conditions, is of the tool; one plugin has a hook and no view; no
OpenTelemetry SDK is there. Included are the parts themselves: wrapper, binder, `describe` with the copy, the view, the
canonical bytes and the digest, the call's id, the flow, its driver and its performer, `Policy.opinion`,
`Plugins.opinions`, `decide`, the scope that the tool runs in, telemetry that nobody hears, and the digest of the
result. Not included is what records: no event, no hash chain, no transaction. So the performer here answers `Admit`
with the decision itself, and `Settle` with nothing.

The measure is wrapt's decorator around the same function with nothing to do: half a microsecond on a machine like CI's.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import partial
from typing import Any

import wrapt
from _harness import Options, Sample, interleaved, show, timed

from interlock import Call, Governor, Identity, Policy, Tool, governed, hookimpl
from interlock._call import describe
from interlock._canonical import canonical, digest
from interlock._clock import SystemClock, new_id
from interlock._decide import decide
from interlock._flow import Admit, Settle
from interlock._perform import Judges, Machinery, Performer
from interlock._replies import Admission
from interlock._scope import Scope, entered
from interlock._state import SessionStatus
from interlock._usage import Estimate
from interlock.events import GENESIS, SessionOpened, link

RULES = 10_000
IDENTITY = Identity(agent="bench", user="u-17", org="acme")
SESSION = new_id()
NOW = SystemClock().now()
RECORDED = link(
    SessionOpened(name="bench", agent="bench"),
    id=new_id(),
    session_id=SESSION,
    seq=1,
    at=NOW,
    trace=None,
    previous_hash=GENESIS,
)


class Watcher:
    """A plugin that is asked about every call and has no view."""

    @hookimpl
    def interlock_opinion(self, call: Call) -> None:
        """Have no view."""


class Deciding(Performer):
    """Performs the effects of one call; of its transactions, what they decide."""

    def perform(self, effect: Any) -> Any:
        """Do as a performer does, but write nothing."""
        kind = type(effect)
        if kind is Admit:
            heard = effect.counsel.recalled(self.call, {}, NOW)
            decision = decide(
                self.call, heard.opinions, status=SessionStatus.OPEN, ticket=None, now=NOW
            )
            return Admission(decision=decision, recorded=RECORDED)
        if kind is Settle:
            digest(canonical(effect.ending.result))
            return None
        return super().perform(effect)

    async def aperform(self, effect: Any) -> tuple[Any, None]:
        """Do as `perform` does."""
        return self.perform(effect), None


class Sitting:
    """A session, as far as calls are decided in it."""

    def __init__(self, machinery: Machinery, judges: Judges) -> None:
        self._machinery = machinery
        self._judges = judges

    def performer(
        self, tool: Tool, arguments: Mapping[str, object], _estimate: Estimate | None = None
    ) -> tuple[Deciding, dict[str, Any]]:
        """Describe the call."""
        call, copied = describe(
            tool, arguments, call_id=new_id(), session_id=SESSION, identity=IDENTITY
        )
        return Deciding(self._machinery, self._judges, call, "bench"), copied


def sitting() -> Sitting:
    """Return a session under a policy of many rules, with one plugin."""
    machinery = Governor("sqlite://", policy=policy(), plugins=[Watcher()])._machinery  # noqa: SLF001 - without its transactions
    assert machinery.judges is not None
    return Sitting(machinery, machinery.judges)


def policy() -> Policy:
    """Return a policy of many rules, of which the last is of the tool."""
    small = {"all": [{"argument": "amount", "at_most": 50}, {"risk": {"at_most": "medium"}}]}
    others = [
        {"id": f"rule-{number}", "tools": [f"tool_{number}"], "verdict": "deny"}
        for number in range(RULES)
    ]
    own = {"id": "small-refunds", "tools": ["refund"], "when": small, "verdict": "allow"}
    return Policy.build({"version": 1, "name": "many", "default": "deny", "rules": [*others, own]})


def refund(order_id: str, amount: Decimal) -> str:  # noqa: ARG001 - only to be judged
    """Do nothing."""
    return order_id


async def arefund(order_id: str, amount: Decimal) -> str:  # noqa: ARG001 - likewise
    """Do nothing."""
    return order_id


@wrapt.decorator
def through(
    wrapped: Callable[..., Any], _instance: object, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Call what is wrapped."""
    return wrapped(*args, **kwargs)


def called(function: Callable[..., Any]) -> Callable[[float], Sample]:
    """Return the cell that calls *function*."""
    return partial(timed, partial(function, "o-1", Decimal(20)))


def awaited(function: Callable[..., Any]) -> Callable[[float], Sample]:
    """Return the cell that awaits *function*, in one running loop."""
    amount = Decimal(20)

    async def turn(seconds: float) -> Sample:
        clock = time.perf_counter
        times: list[float] = []
        begun = last = clock()
        while last - begun < seconds:
            await function("o-1", amount)
            now = clock()
            times.append(now - last)
            last = now
        return Sample(times, last - begun)

    return lambda seconds: asyncio.run(turn(seconds))


def main() -> None:
    """Measure and show."""
    options = Options(__doc__)
    declared = governed(name="refund", resource="order_id", cost="amount")
    cells = {
        "wrapped": called(through(refund)),
        "governed": called(declared(refund)),
        "wrapped, awaited": awaited(through(arefund)),
        "governed, awaited": awaited(declared(arefund)),
    }
    with entered(Scope(sitting())):
        results = interleaved(options, cells)
    show(
        options,
        title="A governed call without storage",
        method=str(__doc__).strip(),
        results=results,
        ratios={
            "decorator.sync_over_wrapped": results["governed"].typical_s
            / results["wrapped"].typical_s,
            "decorator.async_over_wrapped": results["governed, awaited"].typical_s
            / results["wrapped, awaited"].typical_s,
        },
        meanings={
            "decorator.sync_over_wrapped": "time of a governed call over that of a bare wrapped one",
            "decorator.async_over_wrapped": "the same, awaited",
        },
    )


if __name__ == "__main__":
    main()
