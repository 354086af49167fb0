"""
Ear: how a thread that looks for something waits: until it is poked, or Postgres tells it, or some time has passed.

What Postgres tells can be lost on its way, and other processes write to SQLite's file unheard; so whoever has an ear
looks every now and then in any case, and only more seldom where it hears.
"""

from __future__ import annotations

import logging
import selectors
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from sqlalchemy import Connection, func, select

TICKETS = "interlock_tickets"
"""On what channel Postgres tells that a ticket was answered, or that what it waits for may be halted."""

HALTS = "interlock_halts"
"""On what channel Postgres tells that something was halted."""

RETRY_S = 5.0
"""How long is waited before Postgres is asked to tell again, after it could not."""

log = logging.getLogger("interlock")


def tell(connection: Connection, channel: str, what: str = "") -> None:
    """Have Postgres tell all who listen on *channel*, once the transaction is committed, that something has changed."""
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_notify(channel, what)))


class Ear:
    """
    Of one thread, which calls `open`, looks, and calls `wait`, again and again.

    Others may `poke` it, and `close` it once the thread has let go of it.
    """

    def __init__(self, listen: Callable[[str], Any] | None, channel: str) -> None:
        """
        Hear nothing yet.

        Args:
            listen: Opens a connection of psycopg that hears a channel; None: there is nothing to be heard.
            channel: Which one.
        """
        self._listen = listen
        self._channel = channel
        self._heard: Any = None
        self._deaf_until = 0.0
        self._poke, self._poked = socket.socketpair()
        self._poke.settimeout(0)

    @property
    def hears(self) -> bool:
        """Whether Postgres tells it."""
        return self._heard is not None

    def open(self) -> None:
        """Begin to listen, if that can be: before the look, so that what is told after it is heard."""
        if self._listen is None or self._heard is not None or time.monotonic() < self._deaf_until:
            return
        try:
            self._heard = self._listen(self._channel)
        except Exception as error:  # noqa: BLE001 - whatever prevents it: it is looked more often then
            self._lose(error)

    def poke(self) -> None:
        """Have `wait` return."""
        with suppress(OSError):  # it is full of earlier ones
            self._poke.send(b".")

    def wait(self, seconds: float) -> None:
        """Return when there may be something to be seen."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._poked, selectors.EVENT_READ)
            if self._heard is not None:
                selector.register(self._heard.fileno(), selectors.EVENT_READ)
            ready = [key.fileobj for key, _ in selector.select(seconds)]
        if self._poked in ready:
            self._poked.recv(4096)
        if self._heard is not None and any(one is not self._poked for one in ready):
            try:
                for _ in self._heard.notifies(timeout=0):
                    pass
            except Exception as error:  # noqa: BLE001 - likewise
                self._lose(error)

    def close(self) -> None:
        """Let go of everything."""
        self._poke.close()
        self._poked.close()
        self._shut()

    def _lose(self, error: Exception) -> None:
        what = "answers" if self._channel == TICKETS else "halts"
        log.warning("%s are looked for instead of heard of: %s", what, type(error).__name__)
        self._shut()
        self._deaf_until = time.monotonic() + RETRY_S

    def _shut(self) -> None:
        heard, self._heard = self._heard, None
        if heard is not None:
            with suppress(Exception):
                heard.close()
