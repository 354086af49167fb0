"""
Heartbeat: one thread for each store says that the process lives, from the first that it opens until it is closed.

It says so three times in its term. Whoever is stopped, or cut off from the store, for longer than that may be declared
lost by `recover`, which is found out here or by the next call, whichever comes first.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from interlock._threads import begin
from interlock.errors import StoreUnavailable
from interlock.store.owner import PARTS, Owner

log = logging.getLogger("interlock")


class Heartbeat:
    """Has an owner's row renewed in time."""

    def __init__(self, owner: Callable[[], Owner], beat: Callable[[Owner], bool]) -> None:
        """
        Renew nothing yet.

        Args:
            owner: Returns whose row it is.
            beat: Renews it; returns False where it was declared lost. Raises StoreUnavailable.
        """
        self._owner = owner
        self._beat = beat
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """Renew the row from now on."""
        with self._lock:
            if self._thread is None and not self._end.is_set():
                self._thread = begin(self._serve, name="interlock-heartbeat")

    def close(self) -> None:
        """Renew it no longer. Calling it again does nothing."""
        with self._lock:
            self._end.set()
            thread, self._thread = self._thread, None
        if thread is not None and thread is not threading.current_thread():
            thread.join(5)

    def _serve(self) -> None:
        due = self._owner().beat
        while not self._end.wait(due.total_seconds()):
            owner = self._owner()
            due = owner.beat / PARTS
            mine = owner.id
            if (
                not owner.is_known
            ):  # declared lost before; the next call or session makes it known again
                due = owner.beat
                continue
            try:
                lives = self._beat(owner)
            except StoreUnavailable as error:
                if not self._end.is_set():
                    log.warning("it could not be said that this process lives: %s", error)
            except Exception:  # a thread that ends would have the process be taken for gone
                log.exception("it could not be said that this process lives")
            else:
                due = owner.beat
                if not lives:
                    owner.renew(mine)
