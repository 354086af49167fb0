"""Evaluators: they can only tighten, and whatever goes wrong with one, the tool does not run."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from interlock import Call, Denied, Governor, Steered, Verdict, events
from interlock._plugins import valid
from interlock.errors import ApprovalNeeded, EvaluatorFailed
from tests.callers import WAYS, Caller
from tests.hostile import ALLOW, JUNK
from tests.judges import judge, naming
from tests.samples import opinion

Make = Callable[..., Governor]


@pytest.fixture(params=WAYS)
def caller(request: pytest.FixtureRequest) -> Caller:
    """One tool, called by each kind of host."""
    return Caller(request.param)


@pytest.fixture
def release() -> Iterator[threading.Event]:
    """An event that ends, with the test, what waits for it."""
    event = threading.Event()
    yield event
    event.set()


def raising(error: BaseException) -> dict[str, Any]:
    """Make a sync and an async function that raise *error*."""

    def plain(self: Any, call: Call) -> Any:
        raise error

    async def coroutine(self: Any, call: Call) -> Any:
        raise error

    return {"sync": plain, "async": coroutine}


class Odd(BaseException):
    """What no `except Exception` catches."""


ERRORS: list[BaseException] = [
    ValueError("4111-planted"),
    Odd("4111-planted"),
    SystemExit("4111-planted"),
    GeneratorExit("4111-planted"),
    asyncio.CancelledError("4111-planted"),
    TimeoutError("4111-planted"),
    StopIteration("4111-planted"),
    StopAsyncIteration("4111-planted"),
    ExceptionGroup("4111-planted", [ValueError()]),
    BaseExceptionGroup("4111-planted", [Odd()]),
    RecursionError("4111-planted"),
    MemoryError("4111-planted"),
]


def check_refused(outcome: list[Any], *, author: str = "evaluator:judge") -> None:
    """Check that the one call made was refused because *author* failed, and that this is on record."""
    error, history = outcome
    assert type(error) is EvaluatorFailed, error
    assert author in str(error)
    assert "planted" not in str(error)
    [decided] = [event for event in history if isinstance(event, events.CallDecided)]
    assert (decided.verdict, decided.admitted) == (Verdict.DENY, False)
    assert [o.author for o in decided.opinions if o.fault] == [author]
    assert "planted" not in events.body_of(decided)


@pytest.mark.promise(1)
@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_one_that_raises_refuses(
    error: BaseException, kind: str, caller: Caller, governor: Make
) -> None:
    """Broken if an evaluator that raises, whatever it raises, lets the call through or breaks the next one."""
    own = {"judge": judge(raising(error)[kind])}
    made = governor(naming("judge"), url="sqlite://", evaluators=own)
    check_refused(caller(made))
    check_refused(caller(made))
    assert caller.ran == []


@pytest.mark.promise(1)
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_one_that_raises_keyboard_interrupt_refuses(kind: str, governor: Make) -> None:
    """Broken if an evaluator that raises KeyboardInterrupt ends the loop that all others need."""
    own = {"judge": judge(raising(KeyboardInterrupt())[kind])}
    made = governor(naming("judge"), url="sqlite://", evaluators=own)
    caller = Caller("sync")
    check_refused(caller(made))
    check_refused(caller(made))
    assert caller.ran == []


async def sleeping(self: Any, call: Call) -> Any:
    """Never answer."""
    await anyio.sleep_forever()


async def cancelling_its_task(self: Any, call: Call) -> Any:
    """Cancel the task it runs in, then go on as if nothing were."""
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await anyio.lowlevel.checkpoint()
    return ALLOW


async def cancelling_a_scope(self: Any, call: Call) -> Any:
    """Cancel a scope of its own, and answer nothing."""
    with anyio.CancelScope() as scope:
        scope.cancel()
        await anyio.lowlevel.checkpoint()
    raise asyncio.CancelledError


def promising(self: Any, call: Call) -> Any:
    """Return something to be awaited that never comes."""
    return sleeping(self, call)


@pytest.mark.promise(1)
@pytest.mark.parametrize("evaluate", [sleeping, promising])
def test_one_that_hangs_refuses(evaluate: Any, caller: Caller, governor: Make) -> None:
    """Broken if an evaluator that never answers lets the call through, or keeps it waiting for ever."""
    own = {"judge": judge(evaluate)}
    outcome = caller(governor(naming("judge", timeout="30ms"), url="sqlite://", evaluators=own))
    check_refused(outcome)
    assert "gave no answer within 0.03 s" in str(outcome[0])
    assert caller.ran == []


@pytest.mark.promise(1)
def test_a_sync_one_that_hangs_refuses(
    caller: Caller, governor: Make, release: threading.Event
) -> None:
    """Broken if an evaluator that blocks its thread also blocks the call."""
    own = {"judge": judge(lambda self, call: release.wait())}
    check_refused(
        caller(governor(naming("judge", timeout="30ms"), url="sqlite://", evaluators=own))
    )
    assert caller.ran == []
    release.set()


@pytest.mark.promise(1)
@pytest.mark.parametrize("evaluate", [cancelling_its_task, cancelling_a_scope])
def test_one_that_cancels_itself_refuses(evaluate: Any, caller: Caller, governor: Make) -> None:
    """Broken if an evaluator that leaves without an answer is taken for one that has no objection."""
    own = {"judge": judge(evaluate)}
    check_refused(caller(governor(naming("judge"), url="sqlite://", evaluators=own)))
    assert caller.ran == []


def test_there_is_enough_junk() -> None:
    """Broken if the list shrinks to where it proves nothing."""
    assert len([item for item in JUNK if item is NotImplemented or item]) >= 40


@pytest.mark.promise(1)
@pytest.mark.parametrize("number", range(len(JUNK)))
def test_whatever_is_no_opinion_is_a_fault(number: int) -> None:
    """Broken if any value but a sound opinion, or None, is taken for consent."""
    found = valid(JUNK[number], "evaluator:judge")
    assert found is not None
    assert (found.verdict, found.fault) == (Verdict.DENY, True)


@pytest.mark.promise(1)
def test_junk_refuses(caller: Caller, governor: Make) -> None:
    """Broken if an evaluator that answers with something else than an opinion lets the call through."""
    answers: list[Any] = []

    def plain(self: Any, call: Call) -> Any:
        return answers.pop()

    async def coroutine(self: Any, call: Call) -> Any:
        return answers.pop()

    for evaluate in (plain, coroutine):
        answers += JUNK
        own = {"judge": judge(evaluate)}
        made = governor(naming("judge"), url="sqlite://", evaluators=own)
        *errors, _ = caller(made, times=len(JUNK))
        assert [type(error) for error in errors] == [EvaluatorFailed] * len(JUNK)
    assert caller.ran == []


@pytest.mark.parametrize("answer", [None, ALLOW])
@pytest.mark.parametrize("form", ["sync", "async", "awaitable"])
def test_one_without_objection_lets_through(
    answer: Any, form: str, caller: Caller, governor: Make
) -> None:
    """Broken if the refusals above are for another reason than what the evaluators did."""

    async def coroutine(self: Any, call: Call) -> Any:
        await anyio.lowlevel.checkpoint()
        return answer

    def awaitable(self: Any, call: Call) -> Any:
        return coroutine(self, call)

    forms = {
        "sync": lambda self, call: answer,
        "async": coroutine,
        "awaitable": awaitable,
    }
    made = governor(naming("judge"), url="sqlite://", evaluators={"judge": judge(forms[form])})
    assert caller(made)[0] == "receipt"
    assert caller.ran == ["ann"]


@pytest.mark.promise(2)
@pytest.mark.parametrize("default", ["deny", "ask"])
def test_none_can_loosen(default: str, caller: Caller, governor: Make) -> None:
    """Broken if an evaluator's ALLOW outweighs the policy's no, or a human's yes that is missing."""
    own = {"judge": judge(lambda self, call: ALLOW)}
    error, _ = caller(governor(naming("judge", default=default), url="sqlite://", evaluators=own))
    assert type(error) is {"deny": Denied, "ask": ApprovalNeeded}[default]
    assert caller.ran == []


@pytest.mark.promise(2)
@pytest.mark.parametrize(
    ("verdict", "kind"),
    [(Verdict.ASK, ApprovalNeeded), (Verdict.STEER, Steered), (Verdict.DENY, Denied)],
)
def test_each_can_tighten(
    verdict: Verdict, kind: type[Exception], caller: Caller, governor: Make
) -> None:
    """Broken if an evaluator's objection is not heard, or its words do not reach the caller."""
    own = {"judge": judge(lambda self, call: opinion(verdict, "too odd", guidance="Wait."))}
    error, _ = caller(governor(naming("judge"), url="sqlite://", evaluators=own))
    assert type(error) is kind
    assert "too odd" in str(error)
    assert caller.ran == []


def test_the_first_denial_cancels_the_others(caller: Caller, governor: Make) -> None:
    """Broken if a call that is denied already waits for whoever is slow."""
    began: list[str] = []
    cancelled: SimpleQueue[str] = SimpleQueue()

    async def slow(self: Any, call: Call) -> Any:
        began.append("slow")
        try:
            await anyio.sleep_forever()
        except BaseException as error:
            cancelled.put(type(error).__name__)
            raise

    async def denying(self: Any, call: Call) -> Any:
        while not began:
            await anyio.lowlevel.checkpoint()
        return opinion(Verdict.DENY, "no")

    own = {"slow": judge(slow), "denying": judge(denying)}
    made = governor(naming("slow", "denying", timeout="59s"), url="sqlite://", evaluators=own)
    error, history = caller(made)
    assert (type(error), cancelled.get(timeout=20)) == (Denied, "CancelledError")
    [decided] = [event for event in history if isinstance(event, events.CallDecided)]
    assert [o.author for o in decided.opinions] == ["evaluator:denying", "policy:p"]


def test_an_ask_does_not_cancel_the_others(caller: Caller, governor: Make) -> None:
    """Broken if a mild objection hides a strict one that comes later."""
    asked: list[str] = []

    async def asking(self: Any, call: Call) -> Any:
        asked.append("once")
        return opinion(Verdict.ASK)

    async def denying(self: Any, call: Call) -> Any:
        while not asked:
            await anyio.lowlevel.checkpoint()
        for _ in range(5):
            await anyio.lowlevel.checkpoint()
        return opinion(Verdict.DENY)

    own = {"asking": judge(asking), "denying": judge(denying)}
    made = governor(naming("asking", "denying"), url="sqlite://", evaluators=own)
    assert type(caller(made)[0]) is Denied


@pytest.mark.promise(2)
def test_a_denial_that_does_not_count_silences_nobody(caller: Caller, governor: Make) -> None:
    """Broken if an evaluator that is only tried out keeps one that counts from being heard."""
    asked: list[str] = []

    async def observing(self: Any, call: Call) -> Any:
        asked.append("once")
        return opinion(Verdict.DENY, "tried out", observed=True)

    async def denying(self: Any, call: Call) -> Any:
        while not asked:
            await anyio.lowlevel.checkpoint()
        await anyio.sleep(0.01)
        return opinion(Verdict.DENY, "it counts")

    own = {"observing": judge(observing), "denying": judge(denying)}
    made = governor(naming("observing", "denying"), url="sqlite://", evaluators=own)
    error, _ = caller(made)
    assert (type(error), caller.ran) == (Denied, [])
    assert "it counts" in str(error)


def test_one_is_asked_about_its_tools_only(caller: Caller, governor: Make) -> None:
    """Broken if an evaluator judges a tool that the policy does not give to it, or is asked about what is denied."""
    seen: list[str] = []
    own = {"judge": judge(lambda self, call: seen.append(call.tool.name))}
    other = naming("judge")
    other["evaluators"][0]["tools"] = ["refund"]
    for policy, expected in (
        (other, []),
        (naming("judge", default="deny"), []),
        (naming("judge"), ["pay"]),
    ):
        caller(governor(policy, url="sqlite://", evaluators=own))
        assert expected == seen


def test_each_is_named_in_the_record(caller: Caller, governor: Make) -> None:
    """Broken if an evaluator can speak under another name, or in the name of a version it is not."""
    spoofed = opinion(Verdict.ALLOW, author="policy:p", version="interlock 9")
    own = {"judge": judge(lambda self, call: spoofed)}
    policy = naming("judge", "list")
    policy["evaluators"][1]["with"] = {"argument": "to", "block": ["eve"]}
    *_, history = caller(governor(policy, url="sqlite://", evaluators=own))
    [decided] = [event for event in history if isinstance(event, events.CallDecided)]
    assert [(o.author, o.version) for o in decided.opinions] == [
        ("evaluator:judge", None),
        ("policy:p", None),
    ]
    *_, history = caller(governor(policy, url="sqlite://", evaluators=own), to="eve")
    [decided] = [event for event in history if isinstance(event, events.CallDecided)]
    [blocked] = [o for o in decided.opinions if o.verdict is Verdict.DENY]
    assert (blocked.author, (blocked.version or "").split()[0]) == ("evaluator:list", "interlock")
