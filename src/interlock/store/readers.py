"""Readers: who reads from a store at this moment, so that a fork can wait until nobody does."""

from __future__ import annotations

import threading

from interlock._threads import is_inside


class Readers:
    """Counts those inside its `with` block, any number at once, and keeps newcomers out while it is held."""

    def __init__(self) -> None:
        """Let everybody in."""
        self._changed = threading.Condition()
        self._count = 0
        self._held = False
        self._here = threading.local()

    def __enter__(self) -> None:
        depth = getattr(self._here, "depth", 0)
        with self._changed:
            # Who reads or writes already is waited for, so it must not wait in its turn.
            while self._held and not depth and not is_inside():
                self._changed.wait()
            self._count += 1
        self._here.depth = depth + 1

    def __exit__(self, *_: object) -> None:
        self._here.depth -= 1
        with self._changed:
            self._count -= 1
            if not self._count:
                self._changed.notify_all()

    def hold(self, timeout_s: float) -> bool:
        """Keep newcomers out until `release`; return whether all who were inside have left within the time."""
        if getattr(self._here, "depth", 0):  # it is the caller who is inside
            return False
        with self._changed:
            self._held = True
            return self._changed.wait_for(lambda: not self._count, timeout_s)

    def release(self) -> None:
        """Let everybody in again."""
        with self._changed:
            self._held = False
            self._changed.notify_all()
