"""A call that runs until a halt reaches it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from interlock import HaltedError, Session, governed


class Endless:
    """A tool that runs until it is cancelled, made in a thread of its own."""

    def __init__(self, session: Session) -> None:
        self.runs = threading.Event()
        self._session = session

        @governed
        async def endless() -> None:
            self.runs.set()
            await asyncio.Event().wait()

        self._tool = endless

    def __call__(self) -> str:
        """Return who has halted it."""

        async def run() -> None:
            with self._session.attach():
                await self._tool()

        with pytest.raises(HaltedError) as caught:
            asyncio.run(run())
        assert caught.value.ran
        return caught.value.halt.by


def reached(session: Session, halt: Callable[[], Any]) -> str:
    """Halt what runs; return who did. It does not end before the halt has reached it."""
    tool = Endless(session)
    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(tool)
        assert tool.runs.wait(30)
        halt()
        return ended.result()
