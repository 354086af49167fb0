"""Whether an event loop goes on while an evaluator is asked: its turns are counted, not timed."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections.abc import Callable

BEATS = 500
"""So often a thread wakes, which sleeps for a millisecond at a time, between two turns of a loop that is blocked."""

BUSY_S = 0.1
"""So much processor time of the process between two turns is one, too: then not even the thread could beat."""


def blocked(ask: Callable[[], object]) -> str | None:
    """
    Ask an evaluator as a governor does; return how it blocked the event loop, or None.

    A sync one is asked in a thread, and the loop is that of the caller; an async one shares its loop with others. What
    it raises does not matter here.
    """
    return asyncio.run(_blocked(ask))


async def _blocked(ask: Callable[[], object]) -> str | None:
    turns = _Turns()
    ticking = asyncio.create_task(turns.tick())
    ended = threading.Event()
    beating = threading.Thread(target=turns.beat, args=[ended], daemon=True)
    await turns.pass_by(2)
    beating.start()
    try:
        await _asked(ask)
    except Exception:  # noqa: BLE001, S110 - whether it raises is another test's
        pass
    finally:
        await turns.pass_by(2)
        ended.set()
        ticking.cancel()
        await asyncio.to_thread(beating.join)
    if turns.missed >= BEATS:
        return f"made no turn while a thread woke {turns.missed} times"
    if turns.busy_s >= BUSY_S:
        return f"made no turn for {turns.busy_s:.2f} s of processor time"
    return None


async def _asked(ask: Callable[[], object]) -> None:
    if inspect.iscoroutinefunction(ask):
        await ask()
        return
    answer = await asyncio.to_thread(ask)
    if inspect.isawaitable(answer):
        await answer


class _Turns:
    """
    Counts the turns of a loop.

    Attributes:
        count: How many it has made.
        missed: The most beats of the other thread between two turns.
        busy_s: The most processor time of the process between two turns.
    """

    def __init__(self) -> None:
        self.count = 0
        self.missed = 0
        self.busy_s = 0.0

    async def tick(self) -> None:
        """Count turns until cancelled."""
        last = time.process_time()
        while True:
            await asyncio.sleep(0.001)
            now = time.process_time()
            if self.count:  # the first turns are those of the test's own beginning
                self.busy_s = max(self.busy_s, now - last)
            last = now
            self.count += 1

    async def pass_by(self, turns: int) -> None:
        """Wait for some turns."""
        until = self.count + turns
        while self.count < until:  # noqa: ASYNC110 - it is the turns that are waited for
            await asyncio.sleep(0.001)

    def beat(self, ended: threading.Event) -> None:
        """Count, in another thread, how often it wakes between two turns."""
        seen, beats = self.count, 0
        while not ended.wait(0.001):
            beats = beats + 1 if seen == self.count else 0
            seen = self.count
            self.missed = max(self.missed, beats)
