"""
The canary of a distribution: calls that must be refused, driven through the SDK's real path to one that answers.

Some of the places of the SDK that Interlock stands in are not public.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from functools import partial
from typing import Any, TypeAlias

from interlock import canaries
from interlock.errors import Denied
from interlock.events import CallFinished, Recorded
from interlock.hookspecs import hookimpl

Ways: TypeAlias = Callable[[list[str]], AbstractContextManager[Sequence[Callable[[str], Any]]]]
"""Opens a governed client, and gives ways to ask a model by its name. A name that is sent is put into the list."""

AWays: TypeAlias = Callable[
    [list[str]], AbstractAsyncContextManager[Sequence[Callable[[str], Awaitable[Any]]]]
]
"""The same of an async client."""

_RULES = [{"id": "never", "models": ["never"], "verdict": "deny"}]


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
    canaries.sing(package, partial(_song, ways, aways, tokens))


def _song(ways: Ways, aways: AWays, tokens: int) -> None:
    books = _Books()
    with (
        canaries.cage(_RULES, plugins=[books]) as governor,
        governor.session("canary", agent="canary"),
    ):
        for kind in ("sync", "async"):
            sent: list[str] = []
            before = len(books.booked)
            refused = _driven(ways, sent) if kind == "sync" else asyncio.run(_adriven(aways, sent))
            booked = books.booked[before:]
            allowed = ["ever"] * len(refused), [tokens] * len(refused)
            if not refused or not all(refused) or (sent, booked) != allowed:
                raise canaries.DeadCanaryError(
                    f"a governed client ({kind}) does not refuse what the policy denies, and only that, or does not "
                    f"book what it uses (refused: {sum(refused)} of {len(refused)}, "
                    f"sent: {', '.join(sent) or 'nothing'}, booked: {booked})"
                )


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
