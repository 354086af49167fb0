"""Cancel an async call at every single point where it can wait, in every way that asyncio, anyio and trio have."""

import asyncio
import types
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from pydantic import BaseModel

from interlock import Call, Governor, Opinion, hookimpl
from interlock.events import Recorded
from tests.faults._shapes import Shape, Witness, every_async_shape
from tests.races._audit import audit

Make = Callable[..., Governor]
Interrupt = Callable[[], object]

JUDGED = {"version": 1, "name": "judged", "default": "allow", "evaluators": [{"use": "ponders"}]}


class Ponders:
    """An evaluator that has no view, and takes a moment to find that out."""

    class Config(BaseModel):
        """Nothing to configure."""

    def __init__(self, config: Config) -> None:
        """Ignore the configuration."""

    async def evaluate(self, call: Call) -> Opinion | None:
        """Wait."""
        await anyio.lowlevel.checkpoint()
        return None


class Waits:
    """Counts the points at which a coroutine waits, and interrupts at number `at`; with `again`, at all that follow."""

    def __init__(self, at: int, *, again: bool = False) -> None:
        self.count = 0
        self._at = at
        self._again = again

    @types.coroutine
    def through(
        self, coroutine: Coroutine[Any, Any, Any], interrupt: Interrupt
    ) -> Generator[Any, Any, Any]:
        """Do as `await coroutine`."""
        step, value = coroutine.send, None
        while True:
            try:
                waits_for = step(value)  # type: ignore[arg-type]
            except StopIteration as stop:
                return stop.value
            self.count += 1
            if self.count == self._at or (self._again and self.count > self._at):
                interrupt()
            try:
                value = yield waits_for
                step = coroutine.send
            except BaseException as error:  # noqa: BLE001 - it is the coroutine's to handle
                step, value = coroutine.throw, error  # type: ignore[assignment]


Way = Callable[[Callable[[], Awaitable[str]], Waits, int], Coroutine[Any, Any, bool]]


async def by_task(call: Callable[[], Awaitable[str]], waits: Waits, at: int) -> bool:
    """Cancel the task, as `asyncio.Task.cancel` does; return whether it ended cancelled."""

    async def main() -> None:
        await waits.through(call(), lambda: task.cancel("enough"))  # type: ignore[arg-type, misc]

    task = asyncio.create_task(main())
    if at == 0:
        task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()
    return task.cancelled()


async def by_timeout(call: Callable[[], Awaitable[str]], waits: Waits, at: int) -> bool:
    """Let an `asyncio.timeout` run out; return whether that was told."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(None) as timeout:
            if at == 0:
                timeout.reschedule(loop.time())
                await asyncio.sleep(0)
            await waits.through(call(), lambda: timeout.reschedule(loop.time()))  # type: ignore[arg-type, misc]
            await asyncio.sleep(0)
            await asyncio.sleep(0)
    except TimeoutError:
        return True
    return False


async def by_scope(call: Callable[[], Awaitable[str]], waits: Waits, at: int) -> bool:
    """Cancel anyio's scope around the call; return whether it was left by that."""
    with anyio.CancelScope() as scope:
        if at == 0:
            scope.cancel()
        await waits.through(call(), scope.cancel)  # type: ignore[arg-type, misc]
        await anyio.lowlevel.checkpoint()
    return scope.cancelled_caught


async def by_group(call: Callable[[], Awaitable[str]], waits: Waits, at: int) -> bool:
    """Cancel a task group in which the call runs as one task; return whether that task ended early."""
    ended: list[str] = []

    async def main() -> None:
        ended.append(await waits.through(call(), group.cancel_scope.cancel))  # type: ignore[arg-type, misc]
        await anyio.lowlevel.checkpoint()
        ended.append("went on")

    async with anyio.create_task_group() as group:
        group.start_soon(main)
        if at == 0:
            group.cancel_scope.cancel()
    return "went on" not in ended


WAYS = [
    ("asyncio", by_task, False),
    ("asyncio", by_task, True),
    ("asyncio", by_timeout, False),
    ("asyncio", by_scope, False),
    ("asyncio", by_group, False),
    ("trio", by_scope, False),
    ("trio", by_group, False),
]


@pytest.mark.parametrize(
    ("backend", "way", "again"),
    WAYS,
    ids=[f"{b}-{w.__name__}{'-again' if again else ''}" for b, w, again in WAYS],
)
@every_async_shape
@pytest.mark.promise(6, 8)
def test_cancelled_at_each_wait(
    governor: Make, shape: Shape, backend: str, way: Way, again: bool
) -> None:
    """Broken if there is one wait at which a cancellation leaves an intent open, or is swallowed."""
    one = governor(JUDGED, evaluators={"ponders": Ponders})
    ends: Counter[str] = Counter()
    with one.session("cancelled", agent="c") as session:
        at = 0
        while True:
            witness = Witness(one)
            tool = shape.make(witness)
            waits = Waits(at, again=again)
            seen_before = session.state()
            arun = shape.arun
            assert arun is not None
            cancelled = anyio.run(way, lambda: arun(tool), waits, at, backend=backend)  # noqa: B023
            state = session.state()
            assert witness.intents() == set(), f"wait {at}: alive, and its call is in doubt"
            assert witness.seen in ([], [1]), "an effect without its intent"
            if waits.count < at:
                break
            assert cancelled, f"wait {at}: the cancellation was swallowed"
            admitted = sum(state.verdicts.values()) - sum(seen_before.verdicts.values())
            outcomes = Counter(state.outcomes) - Counter(seen_before.outcomes)
            assert sum(outcomes.values()) == admitted
            ended = next(iter(outcomes)).value if admitted else "never admitted"
            ends[f"{ended}, effect {len(witness.seen)}"] += 1
            at += 1
    assert not cancelled
    audit(one)
    # It was cancelled before anything was recorded, between intent and effect, and after the effect.
    assert "cancelled, effect 0" in ends
    assert {end for end in ends if end.endswith("effect 1")} != set()
    if (
        shape.name != "awaitable"
    ):  # that one is admitted by sync code, where nothing can be cancelled
        assert "never admitted, effect 0" in ends


class CancelsAt:
    """A plugin that interrupts when its turn comes at `moment`: while code runs that waits for nothing."""

    def __init__(self, moment: str) -> None:
        self.interrupt: Interrupt = lambda: None
        self.moment = moment
        self.came = 0

    def _at(self, moment: str) -> None:
        if moment == self.moment:
            self.came += 1
            self.interrupt()

    @hookimpl
    def interlock_opinion(self, call: Call) -> None:
        """Interrupt, perhaps."""
        self._at("opinion")

    @hookimpl
    def interlock_recorded(self, recorded: Recorded) -> None:
        """Interrupt, perhaps."""
        self._at(recorded.kind)


@pytest.mark.parametrize("moment", ["opinion", "call_decided", "call_finished"])
@pytest.mark.parametrize(
    ("backend", "native"), [("asyncio", True), ("asyncio", False), ("trio", False)]
)
@every_async_shape
@pytest.mark.promise(6, 8)
def test_cancelled_between_waits(
    governor: Make, shape: Shape, backend: str, native: bool, moment: str
) -> None:
    """Broken if a cancellation that arrives while nothing waits leaves an intent open, is lost, or runs the tool."""
    plugin = CancelsAt(moment)
    one = governor(plugins=[plugin])
    witness = Witness(one)
    tool = shape.make(witness)
    arun = shape.arun
    assert arun is not None

    async def in_scope() -> bool:
        with anyio.CancelScope() as scope:
            plugin.interrupt = scope.cancel
            await arun(tool)
            await anyio.lowlevel.checkpoint()
        return scope.cancelled_caught

    async def in_task() -> bool:
        async def main() -> None:
            await arun(tool)
            await asyncio.sleep(0)

        task = asyncio.create_task(main())
        plugin.interrupt = task.cancel
        await asyncio.wait([task])
        return task.cancelled()

    with one.session("cancelled", agent="c"):
        assert anyio.run(in_task if native else in_scope, backend=backend)
    assert plugin.came == 1
    # A task that cancels itself is told at its next wait, and not before: so asyncio has it.
    ran = moment == "call_finished" or (
        native and shape.name == "eager" and moment == "call_decided"
    )
    assert witness.seen == ([1] if ran else [])
    assert audit(one).in_doubt == set()
