"""
What patterns that hang other engines cost here: the evaluator `regex`, asked beside an event loop.

Each pattern is one that takes a backtracking engine for ever, with the text that makes it so. While one after the other
is judged, a task of the caller's event loop notes its turns. What counts is the longest time between two of them, which
is how long anything else in the loop had to wait, and how long the slowest pattern took, over reading the text once.
"""

from __future__ import annotations

import asyncio
import sys
import time
from functools import partial
from pathlib import Path

from _harness import Options, Sample, interleaved, show, timed

from interlock import Call, Identity, Policy, Tool
from interlock._call import describe
from interlock._re2 import MAX_WORK, Pattern
from interlock.evaluators import Panel, aheard
from interlock.evaluators.patterns import MAX_BYTES

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.patterns import CATASTROPHIC, hostile

TEXTS = [
    hostile(text)[: MAX_BYTES // 2 - 100] for _, text in CATASTROPHIC
]  # some bytes are two in JSON


def panel() -> Panel:
    """Return the judges, one for each pattern."""
    judges = [
        {
            "use": "regex",
            "tools": [f"tool_{number}"],
            "timeout": "60s",
            "with": {
                "argument": "text",
                "match": [pattern],
                "max_bytes": min(MAX_BYTES, MAX_WORK // Pattern(pattern).size),
            },
        }
        for number, (pattern, _) in enumerate(CATASTROPHIC)
    ]
    document = {"version": 1, "name": "patterns", "default": "allow", "evaluators": judges}
    return Panel(Policy.build(document))


def call(number: int) -> Call:
    """Return a call of the tool that pattern *number* judges."""
    described, _ = describe(
        Tool(name=f"tool_{number}"),
        {"text": TEXTS[number]},
        call_id="01900000-0000-7000-8000-000000000000",
        session_id="01900000-0000-7000-8000-000000000001",
        identity=Identity(agent="bench"),
    )
    return described


JUDGES = panel()
CALLS = [call(number) for number in range(len(CATASTROPHIC))]


async def _longest(number: int | None, pause: float) -> tuple[float, float]:
    """The longest time between two turns of the loop, and the time taken, while a pattern is matched or none."""
    longest = 0.0
    over = False

    async def tick() -> None:
        nonlocal longest
        last = time.perf_counter()
        while not over:
            await asyncio.sleep(0)
            now = time.perf_counter()
            longest = max(longest, now - last)
            last = now

    ticking = asyncio.create_task(tick())
    await asyncio.sleep(0)
    begun = time.perf_counter()
    await (
        asyncio.sleep(pause) if number is None else aheard(partial(JUDGES.opinions, CALLS[number]))
    )
    taken = time.perf_counter() - begun
    over = True
    await ticking
    return longest, taken


def gaps(_seconds: float) -> Sample:
    """Judge with each pattern once; a sample of the longest gap alone."""
    begun = time.perf_counter()
    longest = max(asyncio.run(_longest(number, 0))[0] for number in range(len(CALLS)))
    return Sample([longest], time.perf_counter() - begun)


def slowest(_seconds: float) -> Sample:
    """Judge with each pattern once; a sample of the slowest alone."""
    begun = time.perf_counter()
    taken = max(asyncio.run(_longest(number, 0))[1] for number in range(len(CALLS)))
    return Sample([taken], time.perf_counter() - begun)


def idle(seconds: float) -> Sample:
    """Judge nothing; a sample of the longest gap."""
    return Sample([asyncio.run(_longest(None, seconds))[0]], seconds)


def main() -> None:
    """Measure and show."""
    options = Options(__doc__)
    data = TEXTS[0].encode()
    results = interleaved(
        options,
        {
            "longest gap, idle": idle,
            "longest gap, judging": gaps,
            "slowest pattern": slowest,
            "read the text once": lambda seconds: timed(lambda: data.count(b"\x01"), seconds),
        },
    )
    typical = {name: result.typical_s for name, result in results.items()}
    show(
        options,
        title=f"{len(CATASTROPHIC)} catastrophic patterns, half a million bytes each",
        method="the longest gap between two turns of the event loop, and the slowest pattern, of each round",
        results=results,
        ratios={
            "loop.longest_gap_over_50ms": typical["longest gap, judging"] / 0.05,
            "loop.longest_gap_over_idle": typical["longest gap, judging"]
            / typical["longest gap, idle"],
            "regex.slowest_over_read": typical["slowest pattern"] / typical["read the text once"],
        },
        meanings={
            "loop.longest_gap_over_50ms": "below 1, nothing in the event loop waited for 50 ms",
            "loop.longest_gap_over_idle": "1 is a loop that does not notice",
            "regex.slowest_over_read": "linear in the text, so it does not grow with its length",
        },
    )


if __name__ == "__main__":
    main()
