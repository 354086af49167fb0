"""
Watch: wakes those who wait for an answer to a ticket, in threads and on event loops.

One thread for each store looks for all who wait, and ends when nobody does. It looks at once when this store has
written something, or when Postgres tells it that an answer was committed; and every now and then in any case, because
other processes write to SQLite's file unheard, and what Postgres tells can be lost on its way.
"""

from __future__ import annotations

import logging
import math
import selectors
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import anyio
import anyio.lowlevel
from sqlalchemy import Connection, func, select

from interlock._call import Call
from interlock._clock import Clock
from interlock._halt import targets_of
from interlock._state import SessionStatus
from interlock._ticket import TicketState
from interlock.errors import StoreUnavailable
from interlock.store.statements import now, tables_of

CHANNEL = "interlock_tickets"
"""On what channel Postgres tells that a ticket was answered."""

POLL_S = 0.2
"""How often is looked where nobody tells."""

RELIEF_S = 1.0
"""How often is looked where Postgres tells."""

RETRY_S = 5.0
"""How long is waited before Postgres is asked to tell again, after it could not."""

_SHORTEST_S = 0.01
_AT_ONCE = 500

log = logging.getLogger("interlock")


def tell(connection: Connection, ticket_id: str) -> None:
    """Have Postgres tell all who wait, once the transaction is committed, that a ticket has changed."""
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_notify(CHANNEL, ticket_id)))


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
        self._thread: threading.Thread | None = None
        self._poke: socket.socket | None = None
        self._ear: Any = None
        self._deaf_until = 0.0
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
            self._waiting.add(waiter)
            if self._thread is None:
                poke, poked = socket.socketpair()
                poke.settimeout(0)
                self._poke = poke
                self._thread = threading.Thread(
                    target=self._serve, args=(poked,), name="interlock-watch", daemon=True
                )
                self._thread.start()
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
        if self._poke is not None:
            with suppress(OSError):  # it is full of earlier ones
                self._poke.send(b".")

    def _serve(self, poked: socket.socket) -> None:
        with poked:
            while waiting := self._still_waiting():
                self._open_ear()  # first, so that what is told after the look is heard
                self._look(waiting)
                self._pause(poked)

    def _still_waiting(self) -> list[_Waiter]:
        """Return who waits; where nobody does, let go of everything, since the next one starts afresh."""
        with self._lock:
            waiting = list(self._waiting)
            if waiting:
                return waiting
            self._thread = None
            poke, self._poke = self._poke, None
            ear, self._ear = self._ear, None
        if poke is not None:
            poke.close()
        _shut(ear)
        return []

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

    def _pause(self, poked: socket.socket) -> None:
        """Return when there may be something to be seen."""
        with self._lock:
            if not self._waiting:
                return
            first = min(waiter.deadline for waiter in self._waiting)
        longest = POLL_S if self._ear is None else RELIEF_S
        seconds = min(longest, max(_SHORTEST_S, first - self._clock.monotonic()))
        with selectors.DefaultSelector() as selector:
            selector.register(poked, selectors.EVENT_READ)
            if self._ear is not None:
                selector.register(self._ear.fileno(), selectors.EVENT_READ)
            ready = [key.fileobj for key, _ in selector.select(seconds)]
        if poked in ready:
            poked.recv(4096)
        if self._ear is not None and any(one is not poked for one in ready):
            try:
                for _ in self._ear.notifies(timeout=0):
                    pass
            except Exception as error:  # noqa: BLE001 - whatever ends it: it is looked more often then
                self._lose_ear(error)

    def _open_ear(self) -> None:
        if self._listen is None or self._ear is not None or time.monotonic() < self._deaf_until:
            return
        try:
            self._ear = self._listen(CHANNEL)
        except Exception as error:  # noqa: BLE001 - likewise
            self._lose_ear(error)

    def _lose_ear(self, error: Exception) -> None:
        log.warning("answers are looked for instead of heard of: %s", type(error).__name__)
        ear, self._ear = self._ear, None
        _shut(ear)
        self._deaf_until = time.monotonic() + RETRY_S


def _shut(ear: Any) -> None:
    if ear is not None:
        with suppress(Exception):
            ear.close()
