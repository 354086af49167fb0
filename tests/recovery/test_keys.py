"""A call that has an idempotency key, and whose process is gone: what becomes of the key."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event, Lock
from typing import Any

import pytest

from interlock import AlreadyDone, Governor, InProgress, Interrupted, governed
from interlock.store import recovery
from interlock.testing import ManualClock
from tests.conftest import ALLOW_ALL
from tests.recovery._left import TERM, sound

pytestmark = pytest.mark.promise(6)

Make = Callable[..., Governor]


@pytest.fixture
def database(either: str) -> str:
    """Run every test here on both databases."""
    return either


class Bank:
    """A tool that stops in the first call of it until it is let go."""

    def __init__(self, **declared: Any) -> None:
        self.sent: list[str] = []
        self.began = Event()
        self.goes_on = Event()
        self._lock = Lock()
        self.pay = governed(idempotency_key="order", **declared)(self._pay)

    def _pay(self, order: str) -> str:
        with self._lock:
            self.sent.append(order)
            number = len(self.sent)
        if number == 1:
            self.began.set()
            assert self.goes_on.wait(60)
        return f"receipt {number}"


def happened(_: Interrupted) -> bool:
    """It did."""
    return True


def did_not(_: Interrupted) -> bool:
    """It did not."""
    return False


@contextmanager
def stopped_in(bank: Bank, governor: Governor) -> Iterator[Future[str]]:
    """A process that makes a call of the bank, and is not heard of before this block is left."""

    def run() -> str:
        with governor.session("stopped", agent="bot"):
            receipt: str = bank.pay("o-1")
            return receipt

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(run)
        try:
            assert bank.began.wait(60)
            yield future
        finally:
            bank.goes_on.set()


def paid(bank: Bank, governor: Governor) -> str:
    """Make the same call in a session of another process."""
    with governor.session("again", agent="bot"):
        try:
            receipt: str = bank.pay("o-1")
        except (AlreadyDone, InProgress) as refused:
            return type(refused).__name__
        return receipt


@pytest.mark.parametrize(
    ("declared", "again"),
    [
        ({"idempotent": True}, "receipt 2"),
        ({"probe": did_not}, "receipt 2"),
        ({"probe": happened}, "AlreadyDone"),
        ({}, "InProgress"),
    ],
    ids=["may be made again", "not happened", "happened", "in doubt"],
)
def test_the_key_follows_what_is_known(
    governor: Make, clock: ManualClock, declared: dict[str, Any], again: str
) -> None:
    """Broken if a key stays taken for ever, is free while nobody knows, or a process that comes back changes that."""
    bank = Bank(**declared)
    with governor(ALLOW_ALL, clock=clock) as gone, governor(ALLOW_ALL, clock=clock) as other:
        with stopped_in(bank, gone) as future:
            clock.advance(TERM)
            assert paid(bank, other) == "InProgress"
            other.recover(tools=[bank.pay])
            assert [paid(bank, other), paid(bank, other)] == [again, again]
            assert sound(other)
        assert future.result() == "receipt 1"  # which it cannot record
        assert paid(bank, other) == again
        assert len(bank.sent) == (2 if again == "receipt 2" else 1)
        assert sound(other)


@pytest.mark.parametrize(("is_done", "again"), [(True, "AlreadyDone"), (False, "receipt 2")])
def test_the_key_follows_what_a_human_says(
    governor: Make, clock: ManualClock, is_done: bool, again: str
) -> None:
    """Broken if what a human has found out does not decide about the key."""
    bank = Bank()
    with (
        governor(ALLOW_ALL, clock=clock) as gone,
        governor(ALLOW_ALL, clock=clock) as other,
        stopped_in(bank, gone),
    ):
        clock.advance(TERM)
        [held] = other.recover().doubted
        other.write(recovery.resolve, held.call_id, happened=is_done, by="ann")
        assert paid(bank, other) == again
        assert sound(other)
