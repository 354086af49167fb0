"""Memories: what the sessions of a batch of calls remember, found, moved with each decision, and written back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec
from sqlalchemy import Connection

from interlock import events
from interlock._memory import (
    Memory,
    Tracker,
    memory_of,
    recalled,
    remembering,
    text_of,
    tracker_of,
)
from interlock.errors import StoreUnavailable
from interlock.store.entries import Entry, Settle
from interlock.store.events import Chain, remembered
from interlock.store.statements import plain


class Memories:
    """What sessions remember, whose chains are locked."""

    def __init__(
        self, connection: Connection, chains: Mapping[str, Chain | None], entries: Iterable[Entry]
    ) -> None:
        """
        Find what the sessions in *chains* remember for the policies that decide *entries*.

        Raises:
            StoreUnavailable: a session's memory cannot be read.
        """
        self._found: dict[str, dict[str, int]] = {}
        wanted: dict[str, dict[str, Tracker]] = {}
        for entry in entries:
            if not isinstance(entry, Settle):
                tracked = wanted.setdefault(entry.call.session_id, {})
                tracked.update((tracker.key, tracker) for tracker in entry.counsel.trackers)
        for session_id, trackers in wanted.items():
            chain = chains[session_id]
            if chain is None or not (trackers or chain.memory):
                continue
            memory = _read(chain)
            missing = [tracker for key, tracker in trackers.items() if key not in memory]
            if missing:  # the session's first call, or its policy was changed
                memory |= recalled(missing, remembered(plain(connection), chain))
            self._found[session_id] = memory

    def of(self, chain: Chain) -> Memory:
        """Return what a session remembers now."""
        return self._found.get(chain.session_id, {})

    def remember(self, chain: Chain, decided: events.CallDecided) -> None:
        """Move what a session remembers on by one decision, to be written with its chain."""
        memory = self._found.get(chain.session_id)
        if memory is not None:
            self._found[chain.session_id] = memory = remembering(memory, decided)
            chain.memory = text_of(memory)


def _read(chain: Chain) -> dict[str, int]:
    try:
        memory = memory_of(chain.memory)
        for key in memory:
            tracker_of(key)
    except msgspec.DecodeError as error:
        raise StoreUnavailable(
            f"what session {chain.session_id} remembers cannot be read, so nothing runs in it; "
            "`interlock verify` says what was changed"
        ) from error
    return memory
