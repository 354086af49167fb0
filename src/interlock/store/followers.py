"""Followers: those in this process who wait for more to be committed to a store, and how they are woken."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress


class Followers:
    """Whoever is in `listening` is rung when something was committed through this store."""

    def __init__(self) -> None:
        """Begin with nobody."""
        self._lock = threading.Lock()
        self._rings: dict[object, Callable[[], object]] = {}

    @contextmanager
    def listening(self, ring: Callable[[], object]) -> Iterator[None]:
        """Have *ring* called, in any thread, after each commit from now on; to be entered before it is looked."""
        key = object()
        with self._lock:
            self._rings[key] = ring
        try:
            yield
        finally:
            with self._lock:
                del self._rings[key]

    def nudge(self) -> None:
        """Ring them all: something was committed. Nearly free where nobody listens."""
        if self._rings:
            with self._lock:
                rings = list(self._rings.values())
            for ring in rings:
                with suppress(RuntimeError):  # the loop is closed, so nobody waits there any more
                    ring()
