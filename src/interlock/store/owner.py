"""Owner: under which id this process runs what it opens, so that others can tell whether that still runs."""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable
from datetime import datetime, timedelta

from interlock._clock import new_id
from interlock.store.tables import to_microseconds

BEAT = timedelta(seconds=10)
"""How often a process says that it lives where the host does not say."""

PARTS = 3
"""A process is taken to be gone when it has not said that it lives for so many times as long."""

NOBODY = ""
"""Who owns what is written over a connection that no store has opened."""

log = logging.getLogger("interlock")


def _nothing() -> None:
    pass


class Owner:
    """
    Under which id this process runs what it opens.

    Attributes:
        id: UUIDv7; another one once this one was declared lost.
        term: For how long it is taken to live without saying so.
        is_known: Whether it has written its row, perhaps in a transaction that came to nothing.
    """

    def __init__(self, beat: timedelta = BEAT, *, on_known: Callable[[], None] = _nothing) -> None:
        """Choose an id; *on_known* is called when its row is written, so that it is renewed."""
        self.id = new_id()
        self.beat = beat
        self.term = beat * PARTS
        self.is_known = False
        self._on_known = on_known
        self._lock = threading.Lock()

    def child(self) -> Owner:
        """Return who owns what a forked child opens: what the parent has opened is the parent's."""
        return Owner(self.beat, on_known=self._on_known)

    def renew(self, lost: str) -> None:
        """Go on under another id than *lost*, once: that was declared lost, and with it all that it had opened."""
        with self._lock:
            if self.id != lost:
                return
            self.id, self.is_known = new_id(), False
        log.error(
            "this process was declared lost, having not been heard of for %s; it goes on as another, and the calls "
            "that it had begun are those of recovery: interlock recover list",
            self.term,
        )

    def row(self, at: datetime) -> dict[str, object]:
        """Return its row, and have it renewed from now on."""
        self.is_known = True
        self._on_known()
        return {
            "id": self.id,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started_at": to_microseconds(at),
            "seen_at": to_microseconds(at),
            "expires_at": to_microseconds(at + self.term),
            "lost_at": None,
        }
