"""AdapterHarness: how the suite for adapters drives a framework. What it asks for, and what it is given back."""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeAlias, get_args

import msgspec

from interlock._session import Session
from interlock.errors import InterlockError, Misuse

Capability: TypeAlias = Literal[
    "cancel",
    "edit",
    "error",
    "halt",
    "nested",
    "parallel",
    "pause",
    "retry",
    "steer",
    "streaming",
    "traces",
    "unknown",
]
"""What a framework may lack. Nobody may lack that what is allowed runs once, and that what is denied never does."""

CAPABILITIES: frozenset[str] = frozenset(get_args(Capability))

Turn: TypeAlias = tuple[tuple[str, Mapping[str, Any]], ...]
"""The calls that the model makes at once, each by the name of its tool and its arguments."""

_POLL_S = 0.001


class Script(msgspec.Struct, frozen=True):
    """
    One run that the harness makes.

    Attributes:
        tools: Plain functions, to be made tools of the framework under their `__name__`. Each takes `amount: int` and
            returns text. They are coroutine functions if the harness says `is_async`. One may be `@governed`.
        turns: What the model wants, turn by turn; after the last one it ends the run with some text.
        session: In which the run is made. It is the current one, too.
        is_governed: False for the same run without Interlock, to compare with.
        is_streamed: Whether it is run in the framework's way to stream.
        resumed: What `Ran.paused` was of the run that goes on; `turns` are then those that come after the pause.
        cancel_when: Once it is set, the run is cancelled in the framework's own way.
    """

    tools: tuple[Callable[..., Any], ...]
    turns: tuple[Turn, ...]
    session: Session
    is_governed: bool = True
    is_streamed: bool = False
    resumed: str | None = None
    cancel_when: threading.Event | None = None


class Ran(msgspec.Struct, frozen=True):
    """
    What came of a run.

    Attributes:
        told: What the model was told of each call, as text, in the order of the calls; of a run that goes on, at least
            what it was told since.
        error: What ended the run, if it did not end by itself.
        paused: The state of a run that waits for a human, as text that another process can go on with. None where
            the run is over: then the model makes its call again once a human has said yes.
    """

    told: tuple[str, ...] = ()
    error: BaseException | None = None
    paused: str | None = None


class AdapterHarness(ABC):
    """
    What an adapter's tests implement for `AdapterSuite`.

    The class is at the top level of its file and is made without arguments: one test makes it in another process, from
    that file.

    Attributes:
        is_async: Whether tools are coroutine functions.
        lacks: What the framework cannot do, each with the reason; the tests of it are skipped, and say why.
        readme: The adapter's README, which has to hold each of these reasons, word for word.
        refuses_with: What `offer_unknown` raises.
        fails_as: What the books say of a tool that raises a LookupError: how it ended, and the error's class where it
            raised; `("returned",)` where the framework makes a result of a failure before the adapter sees it.
        patience_s: What takes longer is taken to hang, in seconds.
    """

    is_async: ClassVar[bool] = True
    lacks: ClassVar[Mapping[Capability, str]] = {}
    readme: ClassVar[Path | None] = None
    refuses_with: ClassVar[type[Exception] | tuple[type[Exception], ...]] = Misuse
    fails_as: ClassVar[tuple[str, ...]] = ("raised", "LookupError")
    patience_s: ClassVar[float] = 30.0

    @abstractmethod
    def run(self, script: Script) -> Ran:
        """
        Run *script* in the real framework, with a model that says what is written there, governed by the adapter.

        Whatever the framework raises goes into `Ran.error`. Both are called in a thread without an event loop.
        """

    @abstractmethod
    def offer_unknown(self, session: Session) -> None:
        """Offer the adapter something that it cannot govern; it has to raise one of `refuses_with`."""

    def name(self, tool: str) -> str:
        """Return what policies call *tool*; frameworks and adapters may put something before it."""
        return tool

    def awaited(self, work: Callable[[], Coroutine[Any, Any, Ran]], script: Script) -> Ran:
        """
        Run *work* in an event loop, and cancel it when *script* says so; for `run` of an async framework.

        What it raises, or its cancellation, is in `Ran.error`.
        """
        try:
            return asyncio.run(_cancelled(work, script.cancel_when))
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - the suite judges it
            return Ran(error=error)


async def _cancelled(
    work: Callable[[], Coroutine[Any, Any, Ran]], cancel_when: threading.Event | None
) -> Ran:
    task = asyncio.create_task(work())
    if cancel_when is not None:
        # A thread's event cannot be awaited, and one that waits for it would outlive a run that ends before.
        while not (cancel_when.is_set() or task.done()):  # noqa: ASYNC110
            await asyncio.sleep(_POLL_S)
        task.cancel()
    return await task


def told_of(error: BaseException | None) -> str:
    """Return the text of *error* and of what caused it."""
    texts = []
    while error is not None:
        texts.append(str(error))
        error = error.__cause__
    return " | ".join(texts)


def is_refusal(error: BaseException | None) -> bool:
    """Whether *error* is one of Interlock's, or was caused by one."""
    while error is not None:
        if isinstance(error, InterlockError):
            return True
        error = error.__cause__
    return False
