"""Calls of every shape that wait for an answer, and the humans who give it meanwhile."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel

from interlock import Governor, Session, Ticket, governed
from interlock.store import tickets

ASK: dict[str, Any] = {
    "version": 1,
    "name": "p",
    "default": "ask",
    "groups": {"ops": ["ann", "bob"]},
    "rules": [
        {"id": "two", "tools": ["pay_twice"], "verdict": "ask", "quorum": 2},
        {"id": "ops", "tools": ["pay_ops"], "verdict": "ask", "approvers": ["ops"]},
    ],
}
RAN: list[str] = []
"""What the bodies of the tools did."""


@governed
def pay(to: str) -> str:
    """Pay."""
    RAN.append(to)
    return f"paid {to}"


@governed
def pay_twice(to: str) -> str:
    """Pay what two people have to agree to."""
    return pay.__wrapped__(to)


@governed
def pay_ops(to: str) -> str:
    """Pay what somebody of a group has to agree to."""
    return pay.__wrapped__(to)


@governed(name="pay")
async def apay(to: str) -> str:
    """Pay, awaiting."""
    await anyio.lowlevel.checkpoint()
    return pay.__wrapped__(to)


@governed(name="pay")
def pays(to: str) -> Iterator[str]:
    """Pay in a stream."""
    yield pay.__wrapped__(to)


@governed(name="pay")
async def apays(to: str) -> AsyncIterator[str]:
    """Pay in an async stream."""
    yield pay.__wrapped__(to)


def call(shape: str, session: Session, to: str) -> str:
    """Make one call in that *shape*, in that session, from a thread that is in none."""
    if shape in {"sync", "stream", "model"}:
        with session.attach():
            return _call(shape, session, to)
    return anyio.run(partial(acall, shape, session, to))


def _call(shape: str, session: Session, to: str) -> str:
    if shape == "sync":
        return pay(to)
    if shape == "stream":
        return "".join(pays(to))
    with session.model_call(model="m", arguments={"to": to}):
        return pay.__wrapped__(to)


async def acall(shape: str, session: Session, to: str) -> str:
    """Do as `call` does, awaiting."""
    with session.attach():
        if shape == "async":
            return await apay(to)
        return "".join([item async for item in apays(to)])


SHAPES = ["sync", "async", "stream", "astream", "model"]


class Caller(threading.Thread):
    """Makes one call in a thread of its own, and keeps what came of it."""

    def __init__(self, function: Callable[[], str]) -> None:
        super().__init__(daemon=True)
        self._function = function
        self.came: str | BaseException | None = None
        self.start()

    def run(self) -> None:
        """Make the call."""
        try:
            self.came = self._function()
        except BaseException as error:  # noqa: BLE001 - what it raised is what is asked for
            self.came = error

    def end(self) -> Any:
        """Return what came of it; the test's own time limit ends one that never comes."""
        self.join()
        return self.came


def waiting(governor: Governor, count: int = 1) -> list[Ticket]:
    """Return the tickets that are waited for, once there are so many."""
    watch = governor._machinery.store.watch
    while True:
        with watch._lock:
            ids = {waiter.ticket_id for waiter in watch._waiting}
        if len(ids) >= count:
            return [governor.read(tickets.get, one) for one in sorted(ids)]
        threading.Event().wait(0.005)


@contextmanager
def quiet(governor: Governor) -> Iterator[None]:
    """Check that nobody is left waiting, and that what looks for them has ended."""
    yield
    watch = governor._machinery.store.watch
    assert watch._waiting == set()
    thread = watch._thread
    if thread is not None:
        thread.join()
    assert watch._thread is None
