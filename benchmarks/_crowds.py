"""
Crowds: the same thing done by several threads, tasks or processes at once, each one after the other.

A process is driven by lines of JSON: `{"seconds": S}` makes its threads work for about so long, and is answered by how
often they did and how long each had to wait.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from _harness import Cell, Sample

CALLERS = 8
"""Threads in each process of a crowd of processes."""


def in_threads(once: Callable[[], object], count: int) -> Cell:
    """Return the cell in which *count* threads do it."""

    def cell(seconds: float) -> Sample:
        times, elapsed = timed_in_threads(once, count, seconds)
        return Sample(times, elapsed)

    return cell


def timed_in_threads(
    once: Callable[[], object], count: int, seconds: float
) -> tuple[list[float], float]:
    """Do it in *count* threads; return how long each took, and all of it together."""
    taken: list[list[float]] = []
    gate = threading.Barrier(count + 1)

    def body() -> None:
        gate.wait()
        times: list[float] = []
        begun = last = time.perf_counter()
        while last - begun < seconds:
            once()
            now = time.perf_counter()
            times.append(now - last)
            last = now
        taken.append(times)

    threads = [threading.Thread(target=body) for _ in range(count)]
    for thread in threads:
        thread.start()
    gate.wait()
    begun = time.perf_counter()
    for thread in threads:
        thread.join()
    return [one for times in taken for one in times], time.perf_counter() - begun


def in_tasks(once: Callable[[], Awaitable[object]], count: int) -> Cell:
    """Return the cell in which *count* tasks of one event loop do it."""

    def cell(seconds: float) -> Sample:
        times: list[float] = []

        async def body(begun: float) -> None:
            last = begun
            while last - begun < seconds:
                await once()
                now = time.perf_counter()
                times.append(now - last)
                last = now

        async def main() -> float:
            begun = time.perf_counter()
            await asyncio.gather(*(body(begun) for _ in range(count)))
            return time.perf_counter() - begun

        elapsed = asyncio.run(main())
        return Sample(times, elapsed)

    return cell


class Processes:
    """
    Processes that do the same thing, with `CALLERS` threads each.

    Attributes:
        shares: For each turn, what the slowest process did over what the average one did; 1 is fair.
        waits_s: For each turn, how long the unluckiest call took.
    """

    def __init__(self, count: int, script: Path, *arguments: str) -> None:
        """Start *count* processes of *script*, and return when all of them are ready."""
        self.shares: list[float] = []
        self.waits_s: list[float] = []
        self._running = [
            subprocess.Popen(  # noqa: S603 - our own script
                [sys.executable, script, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(count)
        ]
        for one in self._running:
            self._answer(one)

    def cell(self, seconds: float) -> Sample:
        """Have all of them work at the same time."""
        for one in self._running:
            assert one.stdin is not None
            one.stdin.write(json.dumps({"seconds": seconds}) + "\n")
            one.stdin.flush()
        answers = [self._answer(one) for one in self._running]
        counts = [answer["count"] for answer in answers]
        self.shares.append(min(counts) * len(counts) / sum(counts))
        self.waits_s.append(max(answer["worst_s"] for answer in answers))
        typical = statistics.median(answer["typical_s"] for answer in answers)
        elapsed = max(answer["elapsed_s"] for answer in answers)
        return Sample([typical], elapsed / sum(counts))

    def close(self) -> None:
        """End the processes."""
        for one in self._running:
            one.communicate()

    @staticmethod
    def _answer(process: subprocess.Popen[str]) -> Any:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise RuntimeError("a process of the benchmark has ended; what it said is above")
        return json.loads(line)


def serve(once: Callable[[], object], callers: int = CALLERS) -> None:
    """Be a process of such a crowd, until there are no more requests."""
    sys.stdout.write("{}\n")
    sys.stdout.flush()
    for line in sys.stdin:
        times, elapsed = timed_in_threads(once, callers, json.loads(line)["seconds"])
        answer = {
            "count": len(times),
            "typical_s": statistics.median(times),
            "worst_s": max(times),
            "elapsed_s": elapsed,
        }
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
