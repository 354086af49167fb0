"""Evaluators at their worst: what they do instead of answering, and what they answer that is no answer."""

from __future__ import annotations

import _thread
import asyncio
import sys
import threading
import types
from collections.abc import Iterator
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio

from interlock import Call, Decision, Opinion, Risk, Verdict

ALLOW = Opinion(verdict=Verdict.ALLOW, reason="fine", author="somebody else")
PATIENCE_S = 20

released = threading.Event()
"""While it is not set, those that hang do; tests clear it and set it again."""

released.set()


def blocks(self: Any, call: Call) -> Any:
    """Hold its thread."""
    released.wait()
    return ALLOW


async def blocks_the_loop(self: Any, call: Call) -> Any:
    """Hold the loop of all."""
    released.wait()
    return ALLOW


async def swallows_cancellation(self: Any, call: Call) -> Any:
    """Go on whoever cancels it."""
    while not released.is_set():
        with suppress(BaseException):
            await asyncio.sleep(0.002)
    return ALLOW


async def shields_itself(self: Any, call: Call) -> Any:
    """Hide from the cancellation."""
    with anyio.CancelScope(shield=True):
        while not released.is_set():  # noqa: ASYNC110 - it is set in another thread
            await anyio.sleep(0.002)
    return ALLOW


def answers_with_an_endless_awaitable(self: Any, call: Call) -> Any:
    """Give something that yields for ever and swallows what is thrown into it."""

    class Endless:
        def __await__(self) -> Iterator[None]:
            while not released.is_set():
                with suppress(BaseException):
                    yield

    return Endless()


class Slow:
    """An answer that takes for ever to look at."""

    @property
    def __class__(self) -> Any:  # type: ignore[override]
        released.wait()
        return Opinion


def answers_slowly(self: Any, call: Call) -> Any:
    """Answer with what hangs whoever looks at it."""
    return Slow()


HANGING = [
    blocks,
    blocks_the_loop,
    swallows_cancellation,
    shields_itself,
    answers_with_an_endless_awaitable,
    answers_slowly,
]


class Odd(BaseException):
    """What no `except Exception` catches."""


class Nameless(type):
    """A class of classes that do not tell their names."""

    @property
    def __name__(cls) -> str:  # type: ignore[override]
        raise SystemExit("4111-planted")


class Unnamed(Exception, metaclass=Nameless):
    """An exception that cannot be named."""


async def child(error: BaseException) -> None:
    """Be a task of the evaluator's own, which raises."""
    raise error


def spawning(error: BaseException) -> Any:
    """Make an evaluator with a task that raises what breaks out of an event loop."""

    async def evaluate(self: Any, call: Call) -> Any:
        task = asyncio.create_task(child(error))
        await asyncio.wait([task])
        task.exception()
        raise error

    return evaluate


def raising(error: BaseException, *, is_async: bool) -> Any:
    """Make an evaluator that raises."""

    def plain(self: Any, call: Call) -> Any:
        raise error

    async def coroutine(self: Any, call: Call) -> Any:
        raise error

    return coroutine if is_async else plain


def exiting(self: Any, call: Call) -> Any:
    """End the thread."""
    _thread.exit()


def quitting(self: Any, call: Call) -> Any:
    """End the process, it thinks."""
    sys.exit("4111-planted")


async def stopping(self: Any, call: Call) -> Any:
    """Stop the loop it runs in."""
    asyncio.get_running_loop().stop()
    raise Odd("4111-planted")


async def cancelling_everybody(self: Any, call: Call) -> Any:
    """Cancel whatever runs in its loop."""
    for task in asyncio.all_tasks():
        task.cancel()
    await asyncio.sleep(PATIENCE_S)


class Unreadable:
    """An answer that raises when it is looked at."""

    @property
    def __class__(self) -> Any:  # type: ignore[override]
        if released.is_set():  # other tests look at all objects there are
            return object
        raise KeyboardInterrupt("4111-planted")


def answering_with(answer: Any, *, is_async: bool) -> Any:
    """Make an evaluator that answers with *answer*."""

    def plain(self: Any, call: Call) -> Any:
        return answer

    async def coroutine(self: Any, call: Call) -> Any:
        return answer

    return coroutine if is_async else plain


class BadAwaitable:
    """What is awaited, and gives an event loop nonsense."""

    def __await__(self) -> Iterator[Any]:
        """Give nonsense."""
        yield "4111-planted"


FAILING: dict[str, Any] = {
    **{
        f"raises {type(error).__name__}, {'async' if is_async else 'sync'}": raising(
            error, is_async=is_async
        )
        for error in (
            KeyboardInterrupt("4111-planted"),
            SystemExit("4111-planted"),
            asyncio.CancelledError("4111-planted"),
            GeneratorExit("4111-planted"),
            Odd("4111-planted"),
            BaseExceptionGroup("4111-planted", [KeyboardInterrupt()]),
        )
        for is_async in (False, True)
    },
    "raises what has no name": raising(Unnamed("4111-planted"), is_async=False),
    "raises what has no name, async": raising(Unnamed("4111-planted"), is_async=True),
    "exits its thread": exiting,
    "exits": quitting,
    "stops its loop": stopping,
    "cancels everybody": cancelling_everybody,
    "answers what cannot be read": answering_with(Unreadable(), is_async=False),
    "answers what cannot be read, async": answering_with(Unreadable(), is_async=True),
    "answers what yields nonsense": answering_with(BadAwaitable(), is_async=False),
}


class Posing:
    """An object that says it is an opinion."""

    __class__ = Opinion  # type: ignore[assignment]
    verdict = Verdict.ALLOW
    reason, author, fault = "fine", "me", False


class Agreeable:
    """An object that agrees with everything."""

    def __getattr__(self, name: str) -> Any:
        return self

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0

    def __call__(self, *_: Any, **__: Any) -> Any:
        """Agree."""
        return self


def odd_opinion(**fields: Any) -> Opinion:
    """Make an opinion that holds what it must not."""
    return Opinion(**{"verdict": Verdict.ALLOW, "reason": "fine", "author": "me", **fields})


JUNK: list[Any] = [
    *[True, 1, 1.0, Decimal(1), 1j, "allow", "ALLOW", b"allow", "True", ["allow"], ("allow",)],
    *[{"allow"}, {"verdict": "allow"}, {"allow": True}, object(), type, Opinion, Decision, Verdict],
    *[Verdict.ALLOW, Verdict.DENY, Risk.LOW, ..., NotImplemented, [ALLOW], (ALLOW,), {"o": ALLOW}],
    *[Decision(verdict=Verdict.ALLOW, because=(ALLOW,), opinions=(ALLOW,)), Exception("allow")],
    *[types.SimpleNamespace(verdict=Verdict.ALLOW), Posing(), Agreeable(), len, range(1)],
    *[(x for x in [ALLOW]), iter([ALLOW]), memoryview(b"allow"), threading.Lock(), Path("allow")],
    *[odd_opinion(verdict=word) for word in ("allow", 0, True, None, Risk.LOW)],
    *[odd_opinion(reason=text) for text in (None, 5, ["fine"], {"fine": 1}, "\ud800")],
    *[odd_opinion(guidance=5), odd_opinion(rule=7), odd_opinion(version=1), odd_opinion(fault=1)],
    *[odd_opinion(suggestions="pay"), odd_opinion(approvers=[1]), odd_opinion(approvers={"a": 1})],
    *[odd_opinion(expires=60), odd_opinion(expires="1h"), odd_opinion(author=None)],
    *[False, 0, 0.0, "", [], (), {}, set(), b""],
]
