"""
The four shapes of a governed call: function, coroutine, generator, async generator.

Each takes the flow to its `Run`, runs the tool in the tool's own way, and takes the flow on with how that ended. The
order of steps is the flow's; here is only how each kind of tool runs, and that its own exception passes unmodified.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Coroutine,
    Generator,
)
from functools import partial
from typing import Any

import anyio

from interlock._drive import adrive, drive, drop
from interlock._flights import Stream
from interlock._flow import Flow, Run
from interlock._halt import Halt
from interlock._perform import Arguments, Performer
from interlock._replies import Ending
from interlock._scope import Scope, enter, entered, leave, steps
from interlock.evaluators import Streamed
from interlock.events import Outcome

MAX_HELD = 10_000
"""A stream that is reviewed has no more items: until its end they are all kept."""

_TOO_LONG = Ending(
    outcome=Outcome.ABANDONED,
    unreviewable=f"it is a stream of more than {MAX_HELD} items, which is too long to be reviewed",
)


def call_function(
    performer: Performer, scope: Scope, function: Callable[..., Any], arguments: Arguments
) -> Any:
    """Run a plain function. If it returns a coroutine, that is what is run: the effect is in awaiting it."""
    flow = performer.flow()
    run: Run = drive(flow, performer)
    function = _acting(run, performer, function, _giver)
    arguments = performer.rewritten or arguments
    with performer.running(run):
        token = enter(scope)  # `entered` takes longer
        try:
            result = function(*arguments[0], **arguments[1])
        except BaseException as error:
            drive(flow, performer, ending_of(error))
            raise
        finally:
            leave(token)
    # Not `asyncio.iscoroutine`: before Python 3.12 it takes generators for coroutines.
    if isinstance(result, Coroutine):
        return _finish_later(performer, scope, flow, run, result)
    return drive(flow, performer, Ending(outcome=Outcome.RETURNED, result=result))


async def call_coroutine(
    performer: Performer,
    scope: Scope,
    function: Callable[..., Awaitable[Any]],
    arguments: Arguments,
) -> Any:
    """Run a coroutine function."""
    flow = performer.flow()
    run: Run = await adrive(flow, performer)
    function = _acting(run, performer, function, _agiver)
    arguments = performer.rewritten or arguments
    result: Any = None
    with performer.running(run):
        token = enter(scope)
        try:
            with performer.flight() as flight:
                result = await function(*arguments[0], **arguments[1])
        except GeneratorExit as error:  # dropped, so nothing can be awaited any more
            drop(flow, performer, ending_of(error))
            raise
        except BaseException as error:
            await adrive(flow, performer, ending_of(error))
            raise
        finally:
            leave(token)
    if flight.was_halted:
        return await adrive(flow, performer, halted(flight.halt))
    return await adrive(flow, performer, Ending(outcome=Outcome.RETURNED, result=result))


def call_generator(
    performer: Performer,
    scope: Scope,
    function: Callable[..., Generator[Any, Any, Any]],
    arguments: Arguments,
) -> Generator[Any, Any, Any]:
    """
    Run a generator: admitted at the first item, settled on exhaustion, close or garbage collection.

    It runs in its consumer's context, as generators do; `current_call()` is set while it runs, its span is not. One
    that is reviewed runs to its end before the first item is given: what is objectionable may be split over two. A halt
    closes it before its next step, and keeps back what the step has given during which it came.
    """
    flow = performer.flow()
    run: Run = drive(flow, performer)
    function = _acting(run, performer, function, _no_items)
    arguments = performer.rewritten or arguments
    if performer.is_reviewed and not run.simulated:
        held = _held_back(performer, scope, flow, run, function(*arguments[0], **arguments[1]))
        for item in held.items:  # noqa: UP028 - what is sent has nobody to go to any more
            yield item
        return held.returned
    with performer.running(run, attach=False), performer.stream() as stream:
        try:
            inner = function(*arguments[0], **arguments[1])
            ending: Ending = yield from _stepped(scope, inner, stream)
        except GeneratorExit as error:
            drop(flow, performer, ending_of(error))
            raise
        except BaseException as error:
            drive(flow, performer, ending_of(error))
            raise
    return drive(flow, performer, ending)


def _held_back(
    performer: Performer, scope: Scope, flow: Flow, run: Run, inner: Generator[Any, Any, Any]
) -> Streamed:
    """Run *inner* to its end, and return what its review leaves of it."""
    items: list[Any] = []
    with performer.running(run), performer.stream() as stream, entered(scope):
        try:
            ending = _TOO_LONG
            while len(items) <= MAX_HELD:
                if (halt := stream.halt()) is not None:
                    ending = halted(halt)
                    break
                try:
                    items.append(next(inner))
                except StopIteration as stop:
                    streamed = Streamed(items=tuple(items), returned=stop.value)
                    ending = Ending(outcome=Outcome.RETURNED, result=streamed)
                    break
            inner.close()
        except BaseException as error:
            drive(flow, performer, ending_of(error))
            raise
    left: Streamed = drive(flow, performer, ending)
    return left


def _stepped(
    scope: Scope, inner: Generator[Any, Any, Any], stream: Stream
) -> Generator[Any, Any, Ending]:
    """
    Delegate to *inner* as `yield from` does, with *scope* current for each of its steps and not between them.

    Returns how it ended: by itself, or stopped by a halt.

    Source: PEP 380, "Formal semantics".
    """
    thrown: BaseException | None = None
    sent: Any = None
    around = steps(scope)
    try:
        while True:
            if (halt := stream.halt()) is not None:
                with around:
                    inner.close()
                return halted(halt)
            try:
                with around:
                    item = inner.send(sent) if thrown is None else inner.throw(thrown)
            except StopIteration as stop:
                return Ending(outcome=Outcome.RETURNED, result=stop.value)
            thrown = None
            if stream.halt() is not None:  # it came during the step
                continue
            try:
                sent = yield item
            except GeneratorExit:
                with around:
                    inner.close()
                raise
            except BaseException as error:  # noqa: BLE001 - thrown in by the consumer, for the tool to handle
                thrown = error
    finally:
        thrown = None  # its traceback holds this frame


async def call_async_generator(
    performer: Performer,
    scope: Scope,
    function: Callable[..., AsyncGenerator[Any, Any]],
    arguments: Arguments,
) -> AsyncGenerator[Any, Any]:
    """Run an async generator: as `call_generator`, awaiting."""
    flow = performer.flow()
    run: Run = await adrive(flow, performer)
    function = _acting(run, performer, function, _ano_items)
    arguments = performer.rewritten or arguments
    if performer.is_reviewed and not run.simulated:
        inner = function(*arguments[0], **arguments[1])
        held = await _aheld_back(performer, scope, flow, run, inner)
        for given in held.items:
            yield given
        return
    ending = Ending(outcome=Outcome.RETURNED)
    with performer.running(run, attach=False), performer.stream() as stream:
        inner = function(*arguments[0], **arguments[1])
        thrown: BaseException | None = None
        sent: Any = None
        item: Any = None
        step: Callable[[Any], Awaitable[Any]] = _first
        around = steps(scope)
        try:
            while True:
                if stream.halt() is None:
                    with around, stream.step() as flight:
                        item = await (step(inner) if thrown is None else inner.athrow(thrown))
                    stream.stop(flight.halt)
                thrown = None
                if (halt := stream.halt()) is not None:
                    with around:
                        await inner.aclose()
                    ending = halted(halt)
                    break
                try:
                    sent = yield item
                except GeneratorExit:
                    with around:
                        await inner.aclose()
                    raise
                except BaseException as error:  # noqa: BLE001 - thrown in by the consumer, for the tool to handle
                    thrown = error
                # Not within the `except`: it would make *error* the context of whatever the tool raises later.
                step = partial(_send, sent)
        except StopAsyncIteration:
            pass
        except BaseException as error:
            await adrive(flow, performer, ending_of(error))
            raise
        finally:
            thrown = None  # its traceback holds this frame
    await adrive(flow, performer, ending)


def _send(sent: object, inner: AsyncGenerator[Any, Any]) -> Awaitable[Any]:
    return inner.asend(sent)


async def _aheld_back(
    performer: Performer, scope: Scope, flow: Flow, run: Run, inner: AsyncGenerator[Any, Any]
) -> Streamed:
    """Do as `_held_back` does, awaiting."""
    items: list[Any] = []
    with performer.running(run), performer.stream() as stream, entered(scope):
        try:
            ending = _TOO_LONG
            step: Callable[[Any], Awaitable[Any]] = _first
            while len(items) <= MAX_HELD:
                try:
                    with stream.step() as flight:
                        items.append(await step(inner))
                except StopAsyncIteration:
                    streamed = Streamed(items=tuple(items))
                    ending = Ending(outcome=Outcome.RETURNED, result=streamed)
                    break
                step = anext
                stream.stop(flight.halt)
                if (halt := stream.halt()) is not None:
                    ending = halted(halt)
                    break
            await inner.aclose()
        except GeneratorExit as error:  # dropped, so nothing can be awaited any more
            drop(flow, performer, ending_of(error))
            raise
        except BaseException as error:
            await adrive(flow, performer, ending_of(error))
            raise
    left: Streamed = await adrive(flow, performer, ending)
    return left


def _first(inner: AsyncGenerator[Any, Any]) -> Awaitable[Any]:
    """
    Begin *inner* unseen by the event loop.

    A loop closes the streams that are dropped, and those still open when it ends. It must not close this one itself,
    at the same time as the one around it, which it does see, does.
    """
    hooks = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(firstiter=None, finalizer=_leave)
    try:
        return anext(inner)
    finally:
        sys.set_asyncgen_hooks(*hooks)


def _leave(inner: object) -> None:
    """Do nothing: whoever was given the stream around *inner* closes both."""


async def _finish_later(
    performer: Performer, scope: Scope, flow: Flow, run: Run, result: Awaitable[Any]
) -> Any:
    value: Any = None
    performer.keeps = False  # who repeats the call is given something to await, which is not this
    with performer.running(run), entered(scope):
        try:
            with performer.flight() as flight:
                value = await result
        except GeneratorExit as error:
            drop(flow, performer, ending_of(error))
            raise
        except BaseException as error:
            await adrive(flow, performer, ending_of(error))
            raise
    if flight.was_halted:
        return await adrive(flow, performer, halted(flight.halt))
    return await adrive(flow, performer, Ending(outcome=Outcome.RETURNED, result=value))


def _acting(
    run: Run,
    performer: Performer,
    function: Callable[..., Any],
    giver: Callable[[Any], Callable[..., Any]],
) -> Callable[..., Any]:
    """
    Return what runs: *function*, or what stands in for it.

    That is what a *giver* returns: it gives what the call gave before, or in a dry run nothing, unless another was
    declared.
    """
    if not run.simulated:
        return function
    if run.given:
        return giver(run.given[0])
    return performer.stand_in or giver(None)


def _giver(value: Any) -> Callable[..., Any]:
    def give(*_: object, **__: object) -> Any:
        return value

    return give


def _agiver(value: Any) -> Callable[..., Any]:
    async def give(*_: object, **__: object) -> Any:
        return value

    return give


def _no_items(_: Any) -> Callable[..., Any]:
    def give(*_: object, **__: object) -> Generator[Any, Any, Any]:
        return
        yield

    return give


def _ano_items(_: Any) -> Callable[..., Any]:
    async def give(*_: object, **__: object) -> AsyncGenerator[Any, Any]:
        return
        yield

    return give


def halted(halt: Halt | None) -> Ending:
    """Return how a tool ended that *halt* has stopped."""
    return Ending(outcome=Outcome.CANCELLED, halt=halt)


def ending_of(error: BaseException) -> Ending:
    """Return how a tool ended that raised *error*."""
    if isinstance(error, GeneratorExit):
        outcome = Outcome.ABANDONED
    elif isinstance(error, (asyncio.CancelledError, KeyboardInterrupt)) or _is_cancellation(error):
        outcome = Outcome.CANCELLED
    else:
        outcome = Outcome.RAISED
    return Ending(outcome=outcome, error=error)


def _is_cancellation(error: BaseException) -> bool:
    try:
        return isinstance(error, anyio.get_cancelled_exc_class())
    except anyio.NoEventLoopError:
        return False
