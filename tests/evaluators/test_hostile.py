"""Evaluators that do their worst: whatever it is, the call is refused in time, and the next one is judged."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from typing import Any

import anyio
import anyio.to_thread
import pytest

from interlock import Call, Denied, Governor, Verdict, events, governed
from interlock.errors import EvaluatorFailed
from interlock.evaluators.bench import AT_ONCE
from tests.callers import WAYS, Caller, history
from tests.hostile import (
    FAILING,
    HANGING,
    blocks,
    blocks_the_loop,
    released,
    spawning,
    swallows_cancellation,
)
from tests.judges import judge, naming
from tests.samples import opinion

Make = Callable[..., Governor]
PATIENCE_S = 20


@pytest.fixture(params=WAYS)
def caller(request: pytest.FixtureRequest) -> Caller:
    """One tool, called by each kind of host."""
    return Caller(request.param)


def check_refused(found: Any, decided: events.Event) -> None:
    """Check that this call was refused by a fault of the evaluator, and recorded so."""
    assert type(found) is EvaluatorFailed, found
    assert isinstance(decided, events.CallDecided)
    assert (decided.verdict, decided.admitted) == (Verdict.DENY, False)
    assert [o.author for o in decided.opinions if o.fault] == ["evaluator:judge"]
    assert "planted" not in events.body_of(decided) + str(found)


def decisions(found: list[Any]) -> list[events.CallDecided]:
    """The decisions in the history at the end of what a `Caller` returns."""
    return [event for event in found[-1] if isinstance(event, events.CallDecided)]


@pytest.mark.promise(1)
@pytest.mark.parametrize("evaluate", HANGING, ids=lambda function: function.__name__)
def test_one_that_hangs_refuses(evaluate: Any, caller: Caller, governor: Make) -> None:
    """Broken if an evaluator that never ends, whatever is done to it, keeps its call waiting or lets it through."""
    own = {"judge": judge(evaluate)}
    made = governor(naming("judge", timeout="30ms"), url="sqlite://", evaluators=own)
    found = caller(made, times=2)
    for error, decided in zip(found[:2], decisions(found), strict=True):
        check_refused(error, decided)
    assert "within 0.03 s" in str(found[0])
    assert caller.ran == []


@pytest.mark.promise(1)
@pytest.mark.parametrize("evaluate", HANGING, ids=lambda function: function.__name__)
def test_one_that_hangs_does_not_delay_a_denial(
    evaluate: Any, caller: Caller, governor: Make
) -> None:
    """Broken if a call that is denied already waits for an evaluator that cannot be cancelled."""
    began = threading.Event()

    def noting(self: Any, call: Call) -> Any:
        began.set()
        return evaluate(self, call)

    async def anoting(self: Any, call: Call) -> Any:
        began.set()
        return await evaluate(self, call)

    def denying(self: Any, call: Call) -> Any:
        assert began.wait(PATIENCE_S)
        return opinion(Verdict.DENY, "no")

    is_async = asyncio.iscoroutinefunction(evaluate)
    own = {"slow": judge(anoting if is_async else noting), "denying": judge(denying)}
    made = governor(naming("slow", "denying", timeout="1h"), url="sqlite://", evaluators=own)
    error, history = caller(made)
    assert type(error) is Denied
    [decided] = [event for event in history if isinstance(event, events.CallDecided)]
    assert [o.author for o in decided.opinions] == ["evaluator:denying", "policy:p"]
    assert not released.is_set()


@pytest.mark.promise(1)
def test_who_held_the_loop_lets_the_next_be_judged(caller: Caller, governor: Make) -> None:
    """Broken if an evaluator that blocked the loop for a while has broken it for good."""
    made = governor(
        naming("judge", timeout="30ms"),
        url="sqlite://",
        evaluators={"judge": judge(blocks_the_loop)},
    )
    check_refused(caller(made)[0], decisions(caller(made))[0])
    released.set()
    patient = Caller(caller.kind)
    while not patient.ran:  # the deadline is short, so a busy machine may need another try
        patient(made)
    assert patient.ran == ["ann"]


@pytest.mark.promise(1)
@pytest.mark.parametrize("name", FAILING)
def test_one_that_fails_refuses(name: str, caller: Caller, governor: Make) -> None:
    """Broken if an evaluator that raises, exits or cancels lets the call through, escapes, or breaks the next one."""
    own = {"judge": judge(FAILING[name])}
    made = governor(naming("judge", timeout="15s"), url="sqlite://", evaluators=own)
    found = caller(made, times=3)
    for error, decided in zip(found[:3], decisions(found), strict=True):
        check_refused(error, decided)
        assert "within" not in str(error)
    assert caller.ran == []


@pytest.mark.promise(1)
@pytest.mark.parametrize(
    "error", [SystemExit(3), KeyboardInterrupt()], ids=lambda e: type(e).__name__
)
def test_a_task_that_breaks_out_of_the_loop_breaks_nothing(
    error: BaseException, caller: Caller, governor: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """Broken if a task that an evaluator leaves behind can end the loop that all others need."""
    own = {"judge": judge(spawning(error))}
    made = governor(naming("judge", timeout="15s"), url="sqlite://", evaluators=own)
    found = caller(made, times=3)
    for refused, decided in zip(found[:3], decisions(found), strict=True):
        check_refused(refused, decided)
    assert {record.getMessage() for record in caplog.records} == {
        "an evaluator broke out of its event loop; the loop goes on"
    }


@pytest.mark.promise(1)
def test_those_that_hang_are_bounded(caller: Caller, governor: Make) -> None:
    """Broken if evaluators that hang take one thread after the other, or refuse for ever when they are done."""
    before = set(threading.enumerate())
    own = {"judge": judge(blocks)}
    made = governor(naming("judge", timeout="1ms"), url="sqlite://", evaluators=own)
    found = caller(made, times=AT_ONCE + 20)
    assert {type(error) for error in found[:-1]} == {EvaluatorFailed}
    new = [thread.name for thread in set(threading.enumerate()) - before]
    assert new.count("interlock-evaluator") == AT_ONCE
    assert "could not be asked within 0.001 s: others hold every place" in str(found[-2])
    released.set()
    patient = Caller(caller.kind)
    while not patient.ran:
        patient(made)
    assert patient.ran == ["ann"]


@pytest.mark.promise(1)
def test_those_that_hang_in_the_loop_are_bounded(governor: Make) -> None:
    """Broken if async evaluators that cannot be cancelled pile up without end."""
    begun: list[int] = []

    async def stubborn(self: Any, call: Call) -> Any:
        begun.append(1)
        return await swallows_cancellation(self, call)

    made = governor(
        naming("judge", timeout="20ms"), url="sqlite://", evaluators={"judge": judge(stubborn)}
    )
    found = Caller("async")(made, times=AT_ONCE + 5)
    assert {type(error) for error in found[:-1]} == {EvaluatorFailed}
    assert len(begun) <= AT_ONCE
    assert "others hold every place" in str(found[-2])


@pytest.mark.promise(1)
def test_the_hosts_own_threads_are_left_alone(governor: Make) -> None:
    """Broken if evaluators that hang use up the threads that the host's own `to_thread` needs."""
    own = {"judge": judge(blocks)}
    made = governor(naming("judge", timeout="1ms"), url="sqlite://", evaluators=own)

    @governed
    async def pay() -> None: ...

    async def main() -> tuple[float, int]:
        async with made.session("s", agent="bot"):
            for _ in range(AT_ONCE):
                with pytest.raises(EvaluatorFailed):
                    await pay()
        limiter = anyio.to_thread.current_default_thread_limiter()
        return limiter.borrowed_tokens, await anyio.to_thread.run_sync(lambda: 7)

    assert anyio.run(main) == (0, 7)


async def noting_where(self: Any, call: Call) -> Any:
    """Note the thread."""
    seen.append(threading.current_thread())


def noting_where_sync(self: Any, call: Call) -> Any:
    """Note the thread."""
    seen.append(threading.current_thread())


seen: list[Any] = []


@pytest.mark.promise(1)
def test_no_evaluator_runs_where_the_caller_is(caller: Caller, governor: Make) -> None:
    """Broken if an evaluator can hold the caller's event loop, or be taken for somebody's Ctrl-C there."""
    seen.clear()
    own = {"sync": judge(noting_where_sync), "async": judge(noting_where)}
    assert (
        caller(governor(naming("sync", "async"), url="sqlite://", evaluators=own))[0] == "receipt"
    )
    assert len(seen) == 2
    assert threading.current_thread() not in seen
    assert all(thread.daemon for thread in seen)


@pytest.mark.parametrize("is_async", [False, True])
def test_an_evaluator_sees_the_callers_context(
    is_async: bool, caller: Caller, governor: Make
) -> None:
    """Broken if an evaluator loses the caller's context variables, or can change them."""
    word = contextvars.ContextVar("word", default="nothing")
    heard: list[str] = []

    def plain(self: Any, call: Call) -> Any:
        heard.append(word.get())
        word.set("changed")

    async def coroutine(self: Any, call: Call) -> Any:
        plain(self, call)

    own = {"judge": judge(coroutine if is_async else plain)}
    made = governor(naming("judge"), url="sqlite://", evaluators=own)
    token = word.set("the caller's")
    try:
        assert caller(made, times=2)[:2] == ["receipt", "receipt"]
        assert word.get() == "the caller's"
    finally:
        word.reset(token)
    assert heard == ["the caller's", "the caller's"]


@pytest.mark.promise(1)
@pytest.mark.parametrize(
    "evaluate", [*HANGING, FAILING["raises KeyboardInterrupt, async"]], ids=lambda f: f.__name__
)
def test_on_trio_too(evaluate: Any, governor: Make) -> None:
    """Broken if a trio host waits for an evaluator for ever, or lets its call through."""
    own = {"judge": judge(evaluate)}
    made = governor(naming("judge", timeout="30ms"), url="sqlite://", evaluators=own)
    ran: list[int] = []

    @governed
    async def pay() -> None:
        ran.append(1)

    async def main() -> list[events.Event]:
        async with made.session("s", agent="bot") as session:
            with pytest.raises(EvaluatorFailed) as refused:
                await pay()
            found = history(made, session.id)
            check_refused(
                refused.value, next(e for e in found if isinstance(e, events.CallDecided))
            )
            return found

    anyio.run(main, backend="trio")
    assert ran == []


@pytest.mark.promise(1)
def test_a_caller_that_is_cancelled_leaves_at_once(governor: Make) -> None:
    """Broken if cancelling a call waits for an evaluator that cannot be cancelled, or the tool runs after all."""
    own = {"judge": judge(swallows_cancellation)}
    made = governor(naming("judge", timeout="1h"), url="sqlite://", evaluators=own)
    ran: list[int] = []

    @governed
    async def pay() -> None:
        ran.append(1)

    async def main() -> bool:
        async with made.session("s", agent="bot"):
            with anyio.move_on_after(0.03) as scope:
                await pay()
            return scope.cancelled_caught

    assert asyncio.run(main())
    assert ran == []
    assert not released.is_set()
