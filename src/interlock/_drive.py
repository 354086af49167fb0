"""drive() and adrive(): perform the effects of the flow, for sync and for async callers."""

from __future__ import annotations

import _thread
import logging
import os
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, TypeVar

import anyio
import anyio.from_thread
import anyio.lowlevel
import msgspec

from interlock import _flow
from interlock._budget import facts_about
from interlock._call import Call
from interlock._call_trace import CallTrace
from interlock._clock import Clock
from interlock._flow import Admission, Ending, Flow, Settlement
from interlock._plugins import Plugins
from interlock._prices import price
from interlock._telemetry import Telemetry
from interlock._usage import ModelUsage, Priced, Usage
from interlock._verdict import Opinion, Verdict
from interlock.errors import StoreUnavailable
from interlock.evaluators import Panel
from interlock.events import Outcome
from interlock.policy import Policy
from interlock.store import calls
from interlock.store.engine import Store
from interlock.store.writer import may_wait

_T = TypeVar("_T")

log = logging.getLogger("interlock")

_TRANSACTIONS = (_flow.Admit, _flow.Ask, _flow.Settle)

_at_run: set[Flow] = set()
"""
Flows whose tool runs. A stream that is forgotten may be found by the garbage collector together with its flow, which
then would be ended first or last, as it comes; what is in here is not found.
"""


class BackgroundLoop:
    """One event loop in a thread, started when first needed: where sync callers have evaluators asked."""

    def __init__(self) -> None:
        """Start nothing yet."""
        self._closed = False
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._portal: anyio.from_thread.BlockingPortal | None = None

    def call(self, function: Callable[[], Awaitable[_T]]) -> _T:
        """
        Run *function* there and return what it returns; it sees the caller's context variables.

        Raises:
            StoreUnavailable: the governor is closed.
        """
        if (
            self._pid != os.getpid()
        ):  # forked: the thread is the parent's, and so is whoever holds the lock
            self._begin()
        with self._lock:
            if self._closed:
                raise StoreUnavailable("the governor is closed; nothing was written")
            if self._portal is None:
                self._portal = self._started()
            future = self._portal.start_task_soon(_contained, function)
        answer, error = future.result()
        if error is not None:
            raise error
        result: _T = answer
        return result

    def close(self) -> None:
        """Let what runs there come to its end, then stop the loop. Calling it again does nothing."""
        if self._pid != os.getpid():
            self._begin()
        with self._lock:
            self._closed = True
            portal, self._portal = self._portal, None
            if portal is not None:
                portal.call(portal.stop)
        if self._thread is not None:
            self._thread.join()

    def _started(self) -> anyio.from_thread.BlockingPortal:
        # Not `anyio.from_thread.start_blocking_portal`: what it leaves on the stack stops the loop when it is
        # collected, and waits for it for ever when that is at the exit of the interpreter.
        ready: Future[anyio.from_thread.BlockingPortal] = Future()

        async def serve() -> None:
            async with anyio.from_thread.BlockingPortal() as portal:
                ready.set_result(portal)
                await portal.sleep_until_stopped()

        def run() -> None:
            try:
                anyio.run(serve)
            except BaseException as error:
                if ready.done():
                    raise
                ready.set_exception(error)

        self._thread = threading.Thread(target=run, name="interlock-evaluators", daemon=True)
        self._thread.start()
        return ready.result()


async def _contained(function: Callable[[], Awaitable[_T]]) -> tuple[Any, BaseException | None]:
    """Return what *function* returns and what it raises: raised here, what is no `Exception` would end the loop."""
    try:
        return await function(), None
    except BaseException as error:  # noqa: BLE001 - it belongs to the caller, who is in another thread
        return None, error


class Judges(msgspec.Struct, frozen=True, kw_only=True):
    """Who is consulted: a policy, and the evaluators that it names."""

    policy: Policy
    panel: Panel


class Machinery(msgspec.Struct, frozen=True, kw_only=True):
    """What a governor has for performing effects; without judges nothing governed runs."""

    store: Store
    judges: Judges | None
    plugins: Plugins
    telemetry: Telemetry
    clock: Clock
    loop: BackgroundLoop


class Performer:
    """Performs the effects of one call."""

    def __init__(self, machinery: Machinery, judges: Judges, call: Call, session_name: str) -> None:
        """Stand ready to perform the effects of *call*."""
        self.call = call
        self._machinery = machinery
        self._judges = judges
        self._trace = CallTrace(machinery.telemetry, call, judges.policy, session_name)
        self._started_at: float | None = None
        self._used: Usage | None = None

    def report(self, usage: Usage) -> None:
        """Remember what the call has really used, to be booked when it ends."""
        self._used = usage

    def perform(self, effect: _flow.Effect[Any]) -> Any:
        """Perform *effect*, blocking until it is done, and return the reply."""
        if isinstance(effect, _TRANSACTIONS):
            return self._machinery.store.post(self._entry(effect))
        if isinstance(effect, _flow.Consult):
            opinions = self._immediate()
            if self._needs_panel(opinions):
                with self._trace.deciding():
                    opinions += self._machinery.loop.call(self._panel)
            return tuple(opinions)
        return self._witness(effect)

    async def aperform(self, effect: _flow.Effect[Any]) -> tuple[Any, BaseException | None]:
        """
        Perform *effect* and return the reply.

        A transaction is seen through to its end; a cancellation that arrives meanwhile is returned beside the reply.
        """
        if isinstance(effect, _TRANSACTIONS):
            return await self._machinery.store.apost(self._entry(effect))
        if isinstance(effect, _flow.Consult):
            opinions = self._immediate()
            if self._needs_panel(opinions):
                with self._trace.deciding():
                    opinions += await self._panel()
            return tuple(opinions), None
        return self._witness(effect), None

    @contextmanager
    def running(self, *, attach: bool = True) -> Iterator[None]:
        """
        Hold the tool's span open while it runs, and take its time; see `CallTrace.running` for *attach*.

        Entered again where the same call goes on later.
        """
        if self._started_at is None:
            self._started_at = self._machinery.clock.monotonic()
        with self._trace.running(attach=attach):
            yield

    def _immediate(self) -> list[Opinion]:
        policy = self._judges.policy.opinion(self.call)
        return [policy, *self._machinery.plugins.opinions(self.call)]

    def _needs_panel(self, opinions: list[Opinion]) -> bool:
        # Nothing can loosen a DENY, so nobody else need be asked.
        denied = any(opinion.verdict is Verdict.DENY for opinion in opinions)
        return not denied and self._judges.panel.is_needed(self.call)

    async def _panel(self) -> list[Opinion]:
        return await self._judges.panel.opinions(self.call)

    def _entry(self, effect: _flow.Admit | _flow.Ask | _flow.Settle) -> calls.Entry:
        policy = self._judges.policy
        match effect:
            case _flow.Admit(call, opinions, trace):
                return calls.Admit(
                    call=call,
                    opinions=opinions,
                    claims=policy.budgets.claims(facts_about(call)),
                    policy=policy.digest,
                    trace=trace,
                )
            case _flow.Ask(call, opinions, trace):
                return calls.Ask(
                    call=call,
                    opinions=opinions,
                    claims=policy.budgets.claims(facts_about(call)),
                    policy=policy.digest,
                    trace=trace,
                )
            case _flow.Settle(call, ending, trace):
                return calls.Settle(
                    call=call,
                    ending=ending,
                    used=self._priced(),
                    claims=policy.budgets.claims(facts_about(call)),
                    duration_us=self._duration_us(),
                    trace=trace,
                )

    def _priced(self) -> Priced | None:
        call, usage = self.call, self._used
        if usage is None and (call.model is None or self._started_at is None):
            return None
        used = ModelUsage(
            model=call.model or call.tool.name,
            provider=call.tool.provider,
            usage=usage or Usage(),
        )
        return price(used, plugins=self._machinery.plugins)

    def _duration_us(self) -> int:
        if self._started_at is None:
            return 0
        return round((self._machinery.clock.monotonic() - self._started_at) * 1_000_000)

    def _witness(self, effect: _flow.Effect[Any]) -> Any:
        if isinstance(effect, _flow.Begin):
            self._trace.begin()
            return self._trace.ids
        if not isinstance(effect, _flow.Observe):
            raise TypeError(f"no such effect: {type(effect).__name__}")
        match effect.fact:
            case Admission() as admission:
                self._trace.decided(admission)
                self._machinery.plugins.recorded(admission.recorded)
                if admission.opened is not None:
                    self._machinery.plugins.recorded(admission.opened)
            case Settlement(recorded=recorded):
                self._trace.settled(recorded)
                self._machinery.plugins.recorded(recorded)
            case None:
                self._trace.settled(None)
            case error if self._started_at is not None:
                self._trace.lost(error)
            case error:
                self._trace.undecided(error)
        return None


def drive(flow: Flow, performer: Performer, reply: object = None) -> Any:
    """
    Take *flow* on, sending it *reply*, until its tool is to run or it is over.

    Returns:
        The effect `Run`, to be answered by the next call with the tool's `Ending`; or what the flow returned.
    """
    _at_run.discard(flow)
    try:
        effect = flow.send(reply)
        while not isinstance(effect, _flow.Run):
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
        while not isinstance(effect, _flow.Run):
            try:
                reply, late = await performer.aperform(effect)
                held = held or late
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


async def _pending_cancellation() -> BaseException | None:
    try:
        await anyio.lowlevel.checkpoint_if_cancelled()
    except anyio.get_cancelled_exc_class() as cancellation:
        return cancellation
    return None
