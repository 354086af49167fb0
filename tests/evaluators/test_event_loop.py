"""A caller's event loop goes on while its call is judged or reviewed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from interlock import Governor, governed
from tests.judges import judge, naming, reviewer

Make = Callable[..., Governor]


@pytest.mark.parametrize("stage", ["before", "after"])
def test_other_tasks_run_while_a_call_is_judged(stage: str, governor: Make) -> None:
    """Broken if a coroutine that waits for an evaluator holds every other task of its event loop."""
    asked, released = threading.Event(), threading.Event()

    def waiting(*_: Any) -> None:
        asked.set()
        assert released.wait(20)

    @governed
    async def pay(order: str) -> str:
        return f"paid {order}"

    async def release() -> None:
        while not asked.is_set():  # noqa: ASYNC110 - another thread sets it
            await anyio.sleep(0.001)
        released.set()

    async def main() -> None:
        made = judge(waiting) if stage == "before" else reviewer(waiting)
        books = governor(naming("judge", timeout="5s"), url="sqlite://", evaluators={"judge": made})
        async with books.session("s", agent="bot"), anyio.create_task_group() as tasks:
            tasks.start_soon(release)
            assert await pay("o-1") == "paid o-1"

    anyio.run(main)
    assert released.is_set()
