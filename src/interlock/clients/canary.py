"""
The canary of a distribution: calls that must be refused, driven through the SDK's real path to one that answers.

The places that Interlock stands in are the SDK's, and some of them are not public. What would then run ungoverned is
found here, before anything is served.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from importlib.metadata import version
from typing import Any, TypeAlias

from opentelemetry import trace

from interlock._governor import Governor
from interlock.errors import Denied, PluginError
from interlock.events import CallFinished, Recorded
from interlock.hookspecs import hookimpl

Ways: TypeAlias = Callable[[list[str]], AbstractContextManager[Sequence[Callable[[str], Any]]]]
"""Opens a governed client, and gives ways to ask a model by its name. A name that is sent is put into the list."""

AWays: TypeAlias = Callable[
    [list[str]], AbstractAsyncContextManager[Sequence[Callable[[str], Awaitable[Any]]]]
]
"""The same of an async client."""

_POLICY: dict[str, Any] = {
    "version": 1,
    "name": "canary",
    "default": "allow",
    "rules": [{"id": "never", "models": ["never"], "verdict": "deny"}],
}

_UNSEEN = trace.NonRecordingSpan(
    trace.SpanContext(1, 1, is_remote=False, trace_flags=trace.TraceFlags(0))
)
"""A parent that is not sampled, so that the host's traces show nothing of this."""


class _Books:
    """What was booked, in tokens."""

    def __init__(self) -> None:
        self.booked: list[int | None] = []

    @hookimpl
    def interlock_recorded(self, recorded: Recorded) -> None:
        """Keep what a call has used."""
        found = recorded.event
        if isinstance(found, CallFinished) and found.usage is not None:
            self.booked.append(found.usage.tokens)


def sing(package: str, ways: Ways, aways: AWays, *, tokens: int) -> None:
    """
    Make calls that must be refused, and calls that must be booked, by a sync and by an async client.

    It takes a moment and touches nothing of the host's: books in memory, no process, no network. It may be called
    where an event loop runs.

    Args:
        package: The SDK's package; the distribution is called `interlock-` and this.
        ways: Ways to ask, by a sync client.
        aways: The same by an async client.
        tokens: How many each answer says that were used.

    Raises:
        PluginError: a call was sent that must not be, or one that is allowed was not sent, or not booked.
    """
    try:
        with ThreadPoolExecutor(1) as pool:
            wrong = pool.submit(_wrong, ways, aways, tokens).result()
    except PluginError:
        raise
    except Exception as error:
        raise _dead(package, f"no call can be made: {type(error).__name__}") from error
    if wrong is not None:
        raise _dead(package, wrong)


def _dead(package: str, why: str) -> PluginError:
    return PluginError(
        f"the canary is dead: with {package} {version(package)}, {why}. Nothing is served.",
        plugin=package,
        distribution=f"interlock-{package} {version(f'interlock-{package}')}",
    )


def _wrong(ways: Ways, aways: AWays, tokens: int) -> str | None:
    """Return what is wrong; None where nothing is."""
    books = _Books()
    with (
        trace.use_span(_UNSEEN),
        Governor(
            "sqlite://",
            policy=_POLICY,
            plugins=[books],
            tracer_provider=trace.NoOpTracerProvider(),
        ) as governor,
        governor.session("canary", agent="canary"),
    ):
        for kind in ("sync", "async"):
            sent: list[str] = []
            before = len(books.booked)
            refused = _driven(ways, sent) if kind == "sync" else asyncio.run(_adriven(aways, sent))
            booked = books.booked[before:]
            allowed = ["ever"] * len(refused), [tokens] * len(refused)
            if not refused or not all(refused) or (sent, booked) != allowed:
                return (
                    f"a governed client ({kind}) does not refuse what the policy denies, and only that, or does not "
                    f"book what it uses (refused: {sum(refused)} of {len(refused)}, "
                    f"sent: {', '.join(sent) or 'nothing'}, booked: {booked})"
                )
    return None


def _driven(ways: Ways, sent: list[str]) -> list[bool]:
    """Return of each way whether it was refused what it must be."""
    refused = []
    with ways(sent) as all_ways:
        for way in all_ways:
            try:
                way("never")
            except Denied:
                refused.append(True)
            else:
                refused.append(False)
            way("ever")
    return refused


async def _adriven(aways: AWays, sent: list[str]) -> list[bool]:
    refused = []
    async with aways(sent) as all_ways:
        for way in all_ways:
            try:
                await way("never")
            except Denied:
                refused.append(True)
            else:
                refused.append(False)
            await way("ever")
    return refused
