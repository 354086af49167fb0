"""Patterns that hang other engines: here they take time in proportion, and nobody else's."""

from __future__ import annotations

import asyncio
import random
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from interlock import Denied, Governor, governed
from interlock._re2 import MAX_WORK, Pattern
from interlock.evaluators.patterns import MAX_BYTES, RegexConfig
from tests.judges import naming
from tests.patterns import CATASTROPHIC, MILLION, hostile

Make = Callable[..., Governor]


def test_there_are_enough() -> None:
    """Broken if the list shrinks to where it proves nothing."""
    assert len({pattern for pattern, _ in CATASTROPHIC}) >= 30
    assert {len(hostile(text).encode()) for _, text in CATASTROPHIC} == {MILLION}


@pytest.mark.promise(1)
def test_each_is_judged(governor: Make) -> None:
    """Broken if a pattern that makes another engine hang is not answered on a million bytes, or blocks the loop."""
    policy = naming(*["regex"] * len(CATASTROPHIC), timeout="50s")
    for number, (pattern, _) in enumerate(CATASTROPHIC):
        item = policy["evaluators"][number]
        most = min(MAX_BYTES, MAX_WORK // Pattern(pattern).size)
        item["with"] = {"argument": "text", "match": [pattern], "max_bytes": most}
        item["tools"] = [f"tool{number}"]
    made = governor(policy, url="sqlite://")
    ticks: list[int] = []

    async def tick() -> None:
        while True:
            ticks.append(1)
            await asyncio.sleep(0)

    async def main() -> list[str]:
        found = []
        ticking = asyncio.create_task(tick())
        async with made.session("s", agent="bot"):
            for number, (_, text) in enumerate(CATASTROPHIC):

                @governed(name=f"tool{number}")
                async def search(text: str) -> str:
                    return "ran"

                before = len(ticks)
                try:
                    found.append(await search(hostile(text)))
                except Denied as denied:
                    found.append(denied.decision.reason)
                assert len(ticks) > before
        ticking.cancel()
        return found

    found = asyncio.run(main())
    judged = ["ran", "argument 'text' matches none of the patterns"]
    # What JSON writes with two characters each is too large for a call, whoever judges it.
    refused = ("is not matched", "cannot be judged: larger than")
    assert [said for said in found if not (said in judged or any(w in said for w in refused))] == []
    assert len([said for said in found if said in judged]) >= 28


@pytest.mark.promise(1)
@pytest.mark.parametrize("pattern", [pattern for pattern, _ in CATASTROPHIC])
def test_each_is_within_the_bound(pattern: str) -> None:
    """Broken if the bound on work lets through what it is for, or refuses what people write."""
    config = RegexConfig(argument="a", match=(pattern,), block=(pattern,))
    assert 3 * Pattern(pattern).size * config.max_bytes <= MAX_WORK


@pytest.fixture
def greedy() -> Iterator[None]:
    """Make threads keep the interpreter until they let go of it themselves."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1_000)
    yield
    sys.setswitchinterval(before)


@pytest.mark.promise(1)
def test_a_match_lets_others_run(greedy: None) -> None:
    """Broken if the interpreter stands still while RE2 works: then no thread would keep a loop responsive."""
    # RE2 is at its slowest here: too many states to remember, so every instruction is simulated for every byte.
    pattern = Pattern("(a|b)*a(a|b){100}c")
    text = "".join(random.Random(1).choices("ab", k=400_000)).encode()
    began, ended = threading.Event(), threading.Event()

    def match() -> None:
        began.set()
        pattern.matches(text)
        pattern.is_in(text)
        ended.set()

    thread = threading.Thread(target=match)
    thread.start()
    assert began.wait(20)
    turns = 0
    while turns < 20 and not ended.is_set():
        turns += 1
        threading.Event().wait(0.001)
    was_still_at_work = not ended.is_set()
    thread.join()
    assert (turns, was_still_at_work) == (20, True)
