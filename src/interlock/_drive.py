"""drive() and adrive(): take a call's flow on, for sync and for async callers."""

from __future__ import annotations

import _thread
from typing import Any

import anyio
import anyio.lowlevel

from interlock import _flow
from interlock._flow import Flow
from interlock._perform import TRANSACTIONS, Performer
from interlock._replies import Ending
from interlock._threads import may_wait
from interlock.events import Outcome

_AWAITED = TRANSACTIONS | {_flow.Await, _flow.Consult, _flow.Obey, _flow.Review}

_at_run: set[Flow] = set()
"""
Flows whose tool runs. A stream that is forgotten may be found by the garbage collector together with its flow, which
then would be ended first or last, as it comes; what is in here is not found.
"""


def drive(flow: Flow, performer: Performer, reply: object = None) -> Any:
    """
    Take *flow* on, sending it *reply*, until its tool is to run or it is over.

    Returns:
        The effect `Run`, to be answered by the next call with the tool's `Ending`; or what the flow returned.
    """
    _at_run.discard(flow)
    try:
        effect = flow.send(reply)
        while type(effect) is not _flow.Run:
            try:
                reply = performer.perform(effect)
            except BaseException as error:  # noqa: BLE001 - the flow decides what it means
                effect = flow.throw(error)
            else:
                effect = flow.send(reply)
    except StopIteration as stop:
        return stop.value
    _at_run.add(flow)
    return effect


def drop(flow: Flow, performer: Performer, ending: Ending) -> None:
    """
    Take *flow* to its end for a tool that is dropped, by `close` or by the garbage collector.

    Waits as `drive` does, unless the collector runs this inside the store: then another thread does it.
    """
    if may_wait():
        drive(flow, performer, ending)
    else:
        # Not a `threading.Thread`: starting one takes a lock, which the interrupted code may be holding.
        _thread.start_new_thread(drive, (flow, performer, ending))


async def adrive(flow: Flow, performer: Performer, reply: object = None) -> Any:
    """
    Do as `drive` does, awaiting.

    A cancellation that arrived during a transaction is raised here once the flow has provided for it: instead of
    running the tool, or instead of the result.
    """
    held: BaseException | None = None
    _at_run.discard(flow)
    try:
        effect = flow.send(reply)
        while type(effect) is not _flow.Run:
            try:
                if type(effect) in _AWAITED:
                    _expect_caller(effect, held)
                    reply, late = await performer.aperform(effect)
                    held = held or late
                else:
                    reply = performer.perform(effect)
            except BaseException as error:  # noqa: BLE001 - the flow decides what it means
                effect = flow.throw(error)
            else:
                effect = flow.send(reply)
    except StopIteration as stop:
        if held is not None:
            raise held from None
        return stop.value
    except BaseException:
        if held is not None:
            raise held from None
        raise
    cancelled = held or await _pending_cancellation()
    if cancelled is not None:
        await adrive(flow, performer, Ending(outcome=Outcome.CANCELLED, error=cancelled))
        raise cancelled
    _at_run.add(flow)
    return effect


def _expect_caller(effect: _flow.Effect[Any], held: BaseException | None) -> None:
    """Raise *held* instead of waiting for an answer: the caller has gone."""
    if held is not None and type(effect) is _flow.Await:
        raise held


async def _pending_cancellation() -> BaseException | None:
    try:
        await anyio.lowlevel.checkpoint_if_cancelled()
    except anyio.get_cancelled_exc_class() as cancellation:
        return cancellation
    return None
