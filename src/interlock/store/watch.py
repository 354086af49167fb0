"""
Watch: wakes those who wait for an answer to a ticket, in threads and on event loops.

One thread for each store looks for all who wait, and ends when nobody does. It looks at once when this store has
written something, or when Postgres tells it that an answer was committed; and every now and then in any case, because
other processes write to SQLite's file unheard, and what Postgres tells can be lost on its way.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import anyio
import anyio.lowlevel
from sqlalchemy import Connection, select

from interlock._call import Call
from interlock._clock import Clock
from interlock._halt import Halt, targets_of
from interlock._state import SessionStatus
from interlock._threads import begin
from interlock._ticket import TicketState
from interlock.errors import StoreUnavailable
from interlock.store.ear import RETRY_S, TICKETS, Ear
from interlock.store.statements import now, tables_of

POLL_S = 0.2
"""How often is looked where nobody tells."""

RELIEF_S = 1.0
"""How often is looked where Postgres tells."""

_SHORTEST_S = 0.01
_AT_ONCE = 500

log = logging.getLogger("interlock")


def settled(connection: Connection, waited_for: Mapping[str, Collection[str]]) -> dict[str, bool]:
    """
    Return which of these tickets, each with what can be halted to stop its call, need not be waited for any more.

    True: there is an answer, or the session is closed, or the call is halted, which it is then told when it is judged
    again. False: the ticket's time has passed without an answer.
    """
    ticket_ids = sorted(waited_for)
    tables, at = tables_of(connection), now(connection)
    table, sessions = tables.tickets, tables.sessions
    found: dict[str, bool] = dict.fromkeys(ticket_ids, True)
    for start in range(0, len(ticket_ids), _AT_ONCE):
        rows = connection.execute(
            select(table.c.id, table.c.state, table.c.expires_at, sessions.c.status)
            .join(sessions, sessions.c.id == table.c.session_id)
            .where(table.c.id.in_(ticket_ids[start : start + _AT_ONCE]))
        )
        for row in rows:
            if row.state == TicketState.EXPIRED.value:
                found[row.id] = False
            elif row.state == TicketState.PENDING.value and row.status == SessionStatus.OPEN.value:
                if at < row.expires_at:
                    del found[row.id]
                else:
                    found[row.id] = False
    halted = _halted(connection, sorted({key for keys in waited_for.values() for key in keys}))
    return found | {one: True for one, keys in waited_for.items() if not halted.isdisjoint(keys)}


def _halted(connection: Connection, keys: list[str]) -> set[str]:
    table = tables_of(connection).halts
    return {
        target
        for start in range(0, len(keys), _AT_ONCE)
        for target in connection.execute(
            select(table.c.target).where(
                table.c.released_at.is_(None), table.c.target.in_(keys[start : start + _AT_ONCE])
            )
        ).scalars()
    }


class _Waiter:
    """Somebody who waits for a ticket, until a reading of the clock; `end` tells what came of it, once."""

    __slots__ = ("_wake", "deadline", "is_settled", "targets", "ticket_id")

    def __init__(
        self, ticket_id: str, call: Call, deadline: float, wake: Callable[[], object]
    ) -> None:
        self.ticket_id = ticket_id
        self.targets = targets_of(call)
        self.deadline = deadline
        self.is_settled = False
        self._wake = wake

    def end(self, *, settled: bool) -> None:
        self.is_settled = settled
        with suppress(RuntimeError):  # the loop is closed, so nobody waits there any more
            self._wake()


class Watch:
    """Those who wait for the tickets of one store."""

    def __init__(
        self,
        read: Callable[..., Any],
        *,
        clock: Clock,
        listen: Callable[[str], Any] | None,
    ) -> None:
        """
        Wait for nothing yet.

        Args:
            read: Runs an operation on a snapshot of the store.
            clock: Where deadlines are read.
            listen: Opens a connection of psycopg that hears a channel; None: there is nothing to be heard.
        """
        self._read = read
        self._clock = clock
        self._listen = listen
        self._lock = threading.Lock()
        self._waiting: set[_Waiter] = set()
        self._stopped: set[str] = set()
        self._thread: threading.Thread | None = None
        self._ear: Ear | None = None
        self._closed = False

    def deadline(self, timeout_s: float | None) -> float:
        """Return the reading of the clock at which *timeout_s* from now is over."""
        return math.inf if timeout_s is None else self._clock.monotonic() + timeout_s

    def wait(self, ticket_id: str, call: Call, deadline: float) -> bool:
        """Block until *call* need not wait for the ticket any more; False: nobody has answered it in its time."""
        rung = threading.Event()
        waiter = _Waiter(ticket_id, call, deadline, rung.set)
        with self._among(waiter):
            rung.wait()
        return waiter.is_settled

    async def await_(self, ticket_id: str, call: Call, deadline: float) -> bool:
        """Do as `wait` does, awaiting, on asyncio and on trio; a cancellation ends it at once."""
        rung = anyio.Event()
        loop = anyio.lowlevel.current_token().native_token
        soon: Any = getattr(loop, "call_soon_threadsafe", None) or loop.run_sync_soon  # type: ignore[attr-defined]
        waiter = _Waiter(ticket_id, call, deadline, lambda: soon(rung.set))
        with self._among(waiter):
            await rung.wait()
        return waiter.is_settled

    def stop(self, halt: Halt) -> None:
        """Let nobody wait whose call *halt* covers, of which the store knows nothing, until `resume`."""
        with self._lock:
            self._stopped.add(halt.target.key)
            stopped = {one for one in self._waiting if not self._stopped.isdisjoint(one.targets)}
            self._waiting -= stopped
            self._prod()
        for waiter in stopped:
            waiter.end(settled=True)

    def resume(self, halt: Halt) -> None:
        """Leave it to the store again what *halt* covers."""
        with self._lock:
            self._stopped.discard(halt.target.key)

    def nudge(self) -> None:
        """Have it looked at once, if anybody waits."""
        if self._thread is not None:
            with self._lock:
                self._prod()

    def close(self) -> None:
        """Let everybody go, to be told by the store that it is closed."""
        with self._lock:
            self._closed = True
            waiting, self._waiting = self._waiting, set()
            thread = self._thread
            self._prod()
        for waiter in waiting:
            waiter.end(settled=True)
        if thread is not None and thread is not threading.current_thread():
            thread.join(RETRY_S)

    @contextmanager
    def _among(self, waiter: _Waiter) -> Iterator[None]:
        with self._lock:
            if self._closed:
                raise StoreUnavailable("the store is closed, so no answer can be waited for")
            is_stopped = not self._stopped.isdisjoint(waiter.targets)
            if not is_stopped:
                self._waiting.add(waiter)
            if is_stopped:
                waiter.end(settled=True)
            elif self._thread is None:
                self._ear = ear = Ear(self._listen, TICKETS)
                self._thread = begin(self._serve, ear, name="interlock-watch")
            else:
                self._prod()
        try:
            yield
        finally:
            with self._lock:
                self._waiting.discard(waiter)
                if not self._waiting:
                    self._prod()

    def _prod(self) -> None:
        if self._ear is not None:
            self._ear.poke()

    def _serve(self, ear: Ear) -> None:
        while waiting := self._still_waiting():
            ear.open()
            self._look(waiting)
            self._pause(ear)
        ear.close()

    def _still_waiting(self) -> list[_Waiter]:
        """Return who waits; where nobody does, let go of everything, since the next one starts afresh."""
        with self._lock:
            waiting = list(self._waiting)
            if not waiting:
                self._thread = self._ear = None
        return waiting

    def _look(self, waiting: list[_Waiter]) -> None:
        try:
            found = self._read(settled, {waiter.ticket_id: waiter.targets for waiter in waiting})
        except StoreUnavailable as error:
            log.warning("an answer that is waited for cannot be looked up yet: %s", error)
            found = {}
        except Exception:  # a thread that ends would leave all who wait for ever
            log.exception("an answer that is waited for could not be looked up")
            found = {}
        passed = self._clock.monotonic()
        with self._lock:
            ended = [
                (waiter, found.get(waiter.ticket_id, False))
                for waiter in waiting
                if waiter in self._waiting
                and (waiter.ticket_id in found or waiter.deadline <= passed)
            ]
            self._waiting.difference_update(waiter for waiter, _ in ended)
        for waiter, is_settled in ended:
            waiter.end(settled=is_settled)

    def _pause(self, ear: Ear) -> None:
        """Return when there may be something to be seen."""
        with self._lock:
            if not self._waiting:
                return
            first = min(waiter.deadline for waiter in self._waiting)
        longest = RELIEF_S if ear.hears else POLL_S
        ear.wait(min(longest, max(_SHORTEST_S, first - self._clock.monotonic())))
