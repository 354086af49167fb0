"""Worker: who a store's writer is among others on the same database, and what it remembers of budget windows."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TypeVar
from uuid import uuid4

import msgspec

from interlock._budget import Amounts, WindowKey

_T = TypeVar("_T")

MAX_REMEMBERED = 4_096
"""Windows that a worker remembers; the oldest are forgotten first."""

RECENT = timedelta(seconds=1)
"""Who finds a window moved by another worker since its own last move, no longer ago than this, has to share it."""


PAUSE = 16
"""For so many transactions leases are left alone once the row of another window had to be waited for with one."""


class Recalled(Exception):
    """A lease is not what its worker believed: the transaction has to be run again, beginning with other locks."""


class Purse(msgspec.Struct, frozen=True):
    """
    What a worker believes its lease of a window to be.

    Attributes:
        left: What may be handed out of it.
        reserved: What its running calls hold of it.
    """

    left: Amounts
    reserved: Amounts


class Worker:
    """
    One writer among those of a database.

    What it remembers are hints: they say which rows are worth locking first, and what is decided with is what the
    locked rows say. So a transaction that is rolled back need not take anything back here.
    """

    def __init__(self) -> None:
        """Choose a name that no other worker has."""
        self.id = str(uuid4())
        self._purses: dict[WindowKey, Purse] = {}
        self._left_at: dict[WindowKey, tuple[tuple[Amounts, Amounts], datetime]] = {}
        self._pause = 0

    def purse(self, key: WindowKey) -> Purse | None:
        """Return what is believed to be leased of a window; None: nothing."""
        return self._purses.get(key)

    def keep(self, key: WindowKey, purse: Purse | None) -> None:
        """Remember what is leased of a window."""
        self._purses.pop(key, None)
        if purse is not None:
            _remember(self._purses, key, purse)

    def pause(self, transactions: int) -> None:
        """Leave leases alone in the next *transactions*."""
        self._pause = transactions

    def pauses(self) -> bool:
        """Whether leases are left alone in this transaction."""
        self._pause, was = max(0, self._pause - 1), self._pause
        return was > 0

    def knows(self, key: WindowKey) -> bool:
        """Whether the row of this window was seen, so that it need not be made."""
        return key in self._left_at

    def leave(self, key: WindowKey, sums: tuple[Amounts, Amounts], at: datetime) -> None:
        """Remember the sums, reserved and spent, with which the row of a window was left."""
        self._left_at.pop(key, None)
        _remember(self._left_at, key, (sums, at))

    def forget(self, key: WindowKey) -> None:
        """Know nothing of a window."""
        self._left_at.pop(key, None)
        self._purses.pop(key, None)

    def shares(self, key: WindowKey, sums: tuple[Amounts, Amounts], at: datetime) -> bool:
        """Whether somebody else has moved a window that this worker has moved just before."""
        before = self._left_at.get(key)
        return before is not None and before[0] != sums and at - before[1] <= RECENT


def _remember(known: dict[WindowKey, _T], key: WindowKey, what: _T) -> None:
    known[key] = what
    while len(known) > MAX_REMEMBERED:
        del known[next(iter(known))]
