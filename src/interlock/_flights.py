"""
Flights: the async calls and the streams that run in this process, and how a halt reaches them.

A halt that this governor engages reaches them at once. For those that others engage one thread looks, in a row of the
log of halts, as long as anything flies: when Postgres tells it that something was halted, and now and then in any case.
The latch is what is halted here although the store did not answer.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any, Self

import anyio
import anyio.lowlevel
import msgspec

from interlock._call import Call
from interlock._clock import Clock, new_id
from interlock._halt import Halt, Halted, HaltTarget, Order, targets_of
from interlock._loops import asyncio_task
from interlock._threads import begin
from interlock.errors import StoreUnavailable
from interlock.events import Recorded
from interlock.store import halt_log, halts
from interlock.store.ear import HALTS, Ear
from interlock.store.engine import Store
from interlock.store.postgres import Postgres

POLL_S = 0.2
"""How often is looked for halts that other processes have engaged, where nobody tells."""

RELIEF_S = 1.0
"""How often is looked where Postgres tells."""

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


class Stream:
    """
    A stream while it is open; a `with` block around all of its steps and what its consumer does between them.

    Attributes:
        call: The call.
    """

    __slots__ = ("__weakref__", "_flights", "_halt", "call")

    def __init__(self, flights: Flights, call: Call) -> None:
        """Begin when the block is entered."""
        self.call = call
        self._halt: Halt | None = None
        self._flights = flights

    def stop(self, halt: Halt | None) -> None:
        """Have it stop at its next step, from any thread; None: go on."""
        self._halt = self._halt or halt

    def halt(self) -> Halt | None:
        """Return what stops it by now; None: nothing."""
        return self._halt

    def step(self) -> Flight:
        """Return the block around one step of an async stream, within which it can be cancelled."""
        return Flight(self._flights, self.call)

    def __enter__(self) -> Self:
        self._flights.add(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._flights.remove(self)


class _Latched(msgspec.Struct, frozen=True):
    """What is halted here alone; where a policy wants it, because of which call's session and by which order."""

    halt: Halt
    session_id: str | None = None
    order: Order | None = None


class Flights:
    """What runs of one governor's async calls and streams, its latch, and the thread that looks for halts."""

    def __init__(self, store: Store, clock: Clock) -> None:
        """Let nothing fly yet."""
        self._store = store
        self._clock = clock
        # Weakly: a call whose event loop was dropped is found by the garbage collector together with its task.
        self._flying: dict[int, weakref.ref[Flight | Stream]] = {}
        self._latched: dict[str, _Latched] = {}
        self._standing: dict[str, Halt] = {}
        self._seen = -1
        self._lock = threading.Lock()
        self._ear: Ear | None = None
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
        local = _Latched(self._local(target, reason, by))
        before = known = self._latched.get(target.key)
        if (
            known is None or known.order is not None
        ):  # what somebody says outlasts what a policy wants
            self._latched[target.key] = known = local
        try:
            done = self._store.write(halts.engage, target, reason=reason, by=by)
        except StoreUnavailable as error:
            self._latch(known, error)
            return Halted(halt=known.halt, durable=False, engaged=known is local, running=None)
        except BaseException:
            if known is local:
                self._latched.pop(target.key, None)
            if before is not None:
                self._latched[target.key] = before
            raise
        self._stop(done.halt)
        self._unlatch(target.key)
        return done

    def obey(
        self, session_id: str | None, orders: Sequence[Order], *, by: str
    ) -> tuple[Recorded, ...]:
        """
        Engage what a policy orders because of a call in that session, in its name; return the events that say so.

        Nothing is raised but an interruption: what cannot be written down is halted here, and said.
        """
        try:
            return self._obeyed(self._store.write(halts.obey, session_id, orders, by=by))
        except BaseException as error:  # noqa: BLE001 - whatever keeps it from being written down
            self._latch_orders(session_id, orders, by, error)
            return ()

    async def aobey(
        self, session_id: str | None, orders: Sequence[Order], *, by: str
    ) -> tuple[tuple[Recorded, ...], BaseException | None]:
        """Do as `obey` does, awaiting; a cancellation that arrives meanwhile is returned beside the events."""
        try:
            done, held = await self._store.awrite(halts.obey, session_id, orders, by=by)
            return self._obeyed(done), held
        except BaseException as error:  # noqa: BLE001 - likewise
            self._latch_orders(session_id, orders, by, error)
            return (), None

    def latched(self, call: Call) -> Halt | None:
        """Return what stops *call* in this process although the store knows nothing of it."""
        if not self._latched:  # nearly always
            return None
        found = (self._latched.get(key) for key in targets_of(call))
        return next((latched.halt for latched in found if latched is not None), None)

    def add(self, flight: Flight | Stream) -> None:
        """Let *flight* be reached by halts."""
        self._flying[id(flight)] = weakref.ref(flight, partial(self._gone, id(flight)))
        if self._thread is None or self._process != os.getpid():
            self._look_on()

    def remove(self, flight: Flight | Stream) -> None:
        """Forget *flight*."""
        self._flying.pop(id(flight), None)

    def close(self) -> None:
        """Look no longer; what is latched and could not be written down is said."""
        with self._lock:
            self._closed = True
            thread = self._thread
            if self._ear is not None:
                self._ear.poke()
        if thread is not None and thread is not threading.current_thread() and thread.is_alive():
            thread.join(5)
        for latched in self._latched.values():
            log.error(
                "the halt of %s was never written down: it ends with this process",
                latched.halt.target,
            )

    def _latch_orders(
        self, session_id: str | None, orders: Sequence[Order], by: str, error: BaseException
    ) -> None:
        for order in orders:
            halt = self._local(order.target, order.reason, by)
            mine = _Latched(halt, session_id, order)
            self._latch(self._latched.setdefault(order.target.key, mine), error)
        if not isinstance(error, Exception):
            raise error

    def _obeyed(self, done: halts.Obeyed) -> tuple[Recorded, ...]:
        for halt in done.halts:
            self._stop(halt)
        return done.recorded

    def _local(self, target: HaltTarget, reason: str, by: str) -> Halt:
        return Halt(id=new_id(), target=target, reason=reason, by=by, engaged_at=self._clock.now())

    def _latch(self, latched: _Latched, error: BaseException) -> None:
        """Have it bind this process at least, and be written down once that can be."""
        halt = latched.halt
        log.error(
            "%s is halted in this process alone, since the store did not answer: %s",
            halt.target,
            error,
        )
        self._stop(halt)
        self._store.watch.stop(halt)
        self._look_on()

    def _unlatch(self, key: str) -> None:
        latched = self._latched.pop(key, None)
        if latched is not None:
            self._store.watch.resume(latched.halt)

    def _in_flight(self) -> list[Flight | Stream]:
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
            _inherited.append(self._ear)  # its connection is the parent's
        with self._lock:
            if self._thread is None and not self._closed:
                database = self._store.database
                listen = database.listen if isinstance(database, Postgres) else None
                self._ear = ear = Ear(listen, HALTS)
                self._thread = begin(self._serve, ear, name="interlock-halts")

    def _serve(self, ear: Ear) -> None:
        self._seen, idle = -1, 0
        while True:
            idle = 0 if self._flying or self._latched else idle + 1
            with self._lock:
                is_idle = idle > _LINGER and not self._flying and not self._latched
                if is_idle or self._closed:
                    self._thread = self._ear = None
                    break
            ear.open()
            for task in (self._look, self._write_down):
                try:
                    task()
                except StoreUnavailable:
                    pass  # nothing is admitted meanwhile either
                except Exception:  # a thread that ends would let calls run on
                    log.exception("halts could not be looked for")
            ear.wait(RELIEF_S if ear.hears and not self._latched else POLL_S)
        ear.close()

    def _look(self) -> None:
        if not self._flying:
            return
        last = self._store.read(halt_log.last)
        if last != self._seen:
            self._standing = {}
            after: str | None = None
            while page := self._store.read(halts.standing, after=after, limit=1_000):
                self._standing |= {halt.target.key: halt for halt in page}
                after = page[-1].id
            self._seen = last
        if self._standing:
            for flight in self._in_flight():
                found = (self._standing.get(key) for key in targets_of(flight.call))
                halt = next((one for one in found if one is not None), None)
                if halt is not None:
                    flight.stop(halt)

    def _write_down(self) -> None:
        for key, latched in list(self._latched.items()):
            halt, order = latched.halt, latched.order
            if order is None:
                self._store.write(halts.engage, halt.target, reason=halt.reason, by=halt.by)
            else:
                self._store.write(halts.obey, latched.session_id, [order], by=halt.by)
            if self._latched.get(key) is latched:
                self._unlatch(key)
            log.warning("the halt of %s is written down", halt.target)


_inherited: list[object] = []
