"""
Flights: the async calls that run in this process, and how a halt reaches them.

A halt that this governor engages cancels them at once. For those that others engage one thread looks, in a row of the
log of halts, as long as any async call runs. The latch is what is halted here although the store did not answer.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any, Self

import anyio
import anyio.lowlevel

from interlock._call import Call
from interlock._clock import Clock, new_id
from interlock._halt import Halt, Halted, HaltTarget, targets_of
from interlock._loops import asyncio_task
from interlock.errors import StoreUnavailable
from interlock.store import halts
from interlock.store.engine import Store

POLL_S = 0.2
"""How often is looked for halts that other processes have engaged."""

_LINGER = 10
"""After so many looks with no call in flight the thread ends: starting one for each call would take longer."""

log = logging.getLogger("interlock")


class Flight:
    """
    An async call while its body runs; a `with` block around each of its steps.

    Attributes:
        call: The call.
        halt: What cancelled it; None: nothing of ours.
        was_halted: Whether its body was ended by that, and by nobody else.
    """

    __slots__ = (
        "__weakref__", "_asked", "_before", "_flights", "_inside", "_scope", "_soon", "_task", "call", "halt",
        "was_halted",
    )  # fmt: skip

    def __init__(self, flights: Flights, call: Call) -> None:
        """Take off when the block is entered."""
        self.call = call
        self.halt: Halt | None = None
        self.was_halted = False
        self._flights = flights
        self._asked = self._inside = False
        self._scope: anyio.CancelScope | None = None
        self._task: asyncio.Task[Any] | None = None

    def stop(self, halt: Halt) -> None:
        """Cancel it, from any thread."""
        if self.halt is None:
            self.halt = halt
            with suppress(RuntimeError):  # its loop is closed
                self._soon(self._cancel)

    def _cancel(self) -> None:
        """In its loop, so that it stands still somewhere in its block, where the cancellation arrives."""
        if not self._inside:
            return
        self._asked = True
        if self._scope is not None:
            self._scope.cancel()
        elif self._task is not None:
            self._task.cancel()

    def __enter__(self) -> Self:
        task = asyncio_task()
        if task is not None:
            # Not a scope of anyio, which keeps a task alive whose loop was dropped: see `Flights`.
            self._soon: Callable[..., object] = task.get_loop().call_soon_threadsafe
            self._task = task
            self._before = task.cancelling()
        else:
            native: Any = anyio.lowlevel.current_token().native_token
            self._soon = native.run_sync_soon
            self._scope = anyio.CancelScope()
            self._scope.__enter__()
        self._inside = True
        self._flights.add(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> bool:
        self._inside = False
        self._flights.remove(self)
        scope, task, self._task = self._scope, self._task, None
        if scope is not None:
            scope.__exit__(kind, error, tb)
            self.was_halted = scope.cancelled_caught
        elif task is not None and self._asked:
            others = task.uncancel() > self._before
            self.was_halted = isinstance(error, asyncio.CancelledError) and not others
        return self.was_halted


class Flights:
    """The async calls of one governor that run, its latch, and the thread that looks for halts."""

    def __init__(self, store: Store, clock: Clock) -> None:
        """Let nothing fly yet."""
        self._store = store
        self._clock = clock
        # Weakly: a call whose event loop was dropped is found by the garbage collector together with its task.
        self._flying: dict[int, weakref.ref[Flight]] = {}
        self._latched: dict[str, Halt] = {}
        self._standing: dict[str, Halt] = {}
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._process = os.getpid()

    def halt(self, target: HaltTarget, *, reason: str, by: str) -> Halted:
        """
        Halt *target* here at once and everywhere once that is committed; see `Governor.halt`.

        Raises:
            Misuse, Conflict: nothing was halted.
        """
        halts.expect_said(reason=reason, by=by)
        local = Halt(id=new_id(), target=target, reason=reason, by=by, engaged_at=self._clock.now())
        known = self._latched.setdefault(target.key, local)
        try:
            done = self._store.write(halts.engage, target, reason=reason, by=by)
        except StoreUnavailable as error:
            log.error(  # noqa: TRY400 - the sentence says it all
                "%s is halted in this process alone, since the store did not answer: %s",
                target,
                error,
            )
            self._stop(known)
            self._look_on()
            return Halted(halt=known, durable=False, engaged=known is local, running=None)
        except BaseException:
            if known is local:
                self._latched.pop(target.key, None)
            raise
        self._stop(done.halt)
        self._latched.pop(target.key, None)
        return done

    def latched(self, call: Call) -> Halt | None:
        """Return what stops *call* in this process although the store knows nothing of it."""
        if not self._latched:  # nearly always
            return None
        found = (self._latched.get(key) for key in targets_of(call))
        return next((halt for halt in found if halt is not None), None)

    def add(self, flight: Flight) -> None:
        """Let *flight* be reached by halts."""
        self._flying[id(flight)] = weakref.ref(flight, partial(self._gone, id(flight)))
        if self._thread is None or self._process != os.getpid():
            self._look_on()

    def remove(self, flight: Flight) -> None:
        """Forget *flight*."""
        self._flying.pop(id(flight), None)

    def close(self) -> None:
        """Look no longer; what is latched and could not be written down is said."""
        self._closed = True
        self._wake.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread() and thread.is_alive():
            thread.join(5)
        for halt in self._latched.values():
            log.error(
                "the halt of %s was never written down: it ends with this process", halt.target
            )

    def _in_flight(self) -> list[Flight]:
        flying = (found() for found in self._flying.copy().values())
        return [flight for flight in flying if flight is not None]

    def _gone(self, key: int, _: object) -> None:
        self._flying.pop(key, None)

    def _stop(self, halt: Halt) -> None:
        for flight in self._in_flight():
            if halt.covers(flight.call):
                flight.stop(halt)

    def _look_on(self) -> None:
        if (
            self._process != os.getpid()
        ):  # a fork: the parent's thread is not here, and its calls are not ours
            self._process, self._lock, self._thread = os.getpid(), threading.Lock(), None
        with self._lock:
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(
                    target=self._serve, name="interlock-halts", daemon=True
                )
                self._thread.start()

    def _serve(self) -> None:
        seen, idle = -1, 0
        while not self._closed:
            idle = 0 if self._flying or self._latched else idle + 1
            if idle > _LINGER:
                with self._lock:
                    if not self._flying and not self._latched:
                        self._thread = None
                        return
            try:
                self._write_down()
                if self._flying:
                    seen = self._look(seen)
            except StoreUnavailable:
                pass  # nothing is admitted meanwhile either
            except Exception:  # a thread that ends would let calls run on
                log.exception("halts could not be looked for")
            self._wake.wait(POLL_S)

    def _look(self, seen: int) -> int:
        last = self._store.read(halts.last)
        if last != seen:
            self._standing = {}
            after: str | None = None
            while page := self._store.read(halts.standing, after=after, limit=1_000):
                self._standing |= {halt.target.key: halt for halt in page}
                after = page[-1].id
        if self._standing:
            for flight in self._in_flight():
                found = (self._standing.get(key) for key in targets_of(flight.call))
                halt = next((one for one in found if one is not None), None)
                if halt is not None:
                    flight.stop(halt)
        return last

    def _write_down(self) -> None:
        for key, halt in list(self._latched.items()):
            self._store.write(halts.engage, halt.target, reason=halt.reason, by=halt.by)
            self._latched.pop(key, None)
            log.warning("the halt of %s is written down", halt.target)
