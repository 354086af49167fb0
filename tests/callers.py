"""One tool, called in every way in which a host can call it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from interlock import Governor, events, governed
from interlock.store.events import whole_history


class Caller:
    """
    Calls the tool `pay`, from plain code, from a coroutine, or from plain code inside a running loop.

    Attributes:
        kind: Which of `WAYS`.
        gives: What the tool returns.
        ran: What the tool was called with, each time that its body ran.
    """

    def __init__(self, kind: str, gives: Any = "receipt") -> None:
        self.kind = kind
        self.gives = gives
        self.ran: list[Any] = []

        @governed(name="pay")
        def pay(to: Any = "ann") -> Any:
            self.ran.append(to)
            return self.gives

        @governed(name="pay")
        async def apay(to: Any = "ann") -> Any:
            self.ran.append(to)
            return self.gives

        self._pay, self._apay = pay, apay

    def __call__(self, governor: Governor, to: Any = "ann", *, times: int = 1) -> list[Any]:
        """Call in a new session; return what each call returned or raised, and the session's events."""
        if self.kind == "sync":
            with governor.session("s", agent="bot") as session:
                return [self._one(self._pay, to) for _ in range(times)] + [
                    history(governor, session.id)
                ]
        return asyncio.run(self._in_loop(governor, to, times))

    async def _in_loop(self, governor: Governor, to: Any, times: int) -> list[Any]:
        async with governor.session("s", agent="bot") as session:
            found: list[Any] = []
            for _ in range(times):
                if self.kind == "nested":
                    found.append(self._one(self._pay, to))
                else:
                    try:
                        found.append(await self._apay(to))
                    except Exception as error:  # noqa: BLE001 - what it raised is what is asked for
                        found.append(error)
            return [*found, history(governor, session.id)]

    @staticmethod
    def _one(tool: Callable[[Any], Any], to: Any) -> Any:
        try:
            return tool(to)
        except Exception as error:  # noqa: BLE001 - what it raised is what is asked for
            return error


WAYS = ["sync", "async", "nested"]


def history(governor: Governor, session_id: str) -> list[events.Event]:
    """Return the events of a session."""
    return governor.read(
        lambda connection: [item.event for item in whole_history(connection, session_id)]
    )
