"""Checkpoints: where they are appended to and compared with; see `_checkpoint` for what is in them."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Protocol

import msgspec

from interlock._checkpoint import Chain, Checkpoint, Heads, Overtaken, next_line
from interlock._checkpoint_file import CheckpointFile
from interlock._signing import SigningKey
from interlock.errors import Conflict, Misuse, PluginError
from interlock.store import checkpoints
from interlock.store.engine import Store

_PATIENCE_S = 1.0
_PAUSE_S = 0.01
_TRIES = 5


class Comparison(msgspec.Struct, frozen=True):
    """
    What came of comparing a store with checkpoints.

    Attributes:
        last: The last checkpoint; None: there is none, so nothing was compared.
        problems: What disagrees, a sentence each; first what is wrong with the checkpoints themselves.
        notes: What is no fault and yet should be known, such as a line that was not written to its end.
    """

    last: Checkpoint | None
    problems: list[str]
    notes: list[str]


class Held(Protocol):
    """Lines to which nobody else appends, or where it is noticed."""

    known: int

    def rest(self) -> bytes:
        """Return what comes after the bytes that are known."""
        ...

    def append(self, data: bytes) -> None:
        """Write *data* at the end, durably."""
        ...


class Place(Protocol):
    """Where lines are kept."""

    @property
    def name(self) -> str:
        """What people call it."""
        ...

    def read(self) -> bytes:
        """Return all of them."""
        ...

    def held(self, known: int) -> AbstractContextManager[Held]:
        """Keep them from others, so many bytes being known."""
        ...


class Checkpoints:
    """
    Signed checkpoints of a store, kept where whoever can write to the database cannot.

    What was read of them is remembered, so that what the next one takes does not grow with their number.
    """

    def __init__(self, store: Store, place: Place, key: SigningKey) -> None:
        """Keep those of *store* in *place*, signed with *key*; nothing is read yet."""
        self._store = store
        self._place = place
        self._key = key
        self._forget()

    @property
    def name(self) -> str:
        """Where they are, as people may read it: no password that is in a URL."""
        return self._place.name

    def append(self) -> Checkpoint:
        """
        Append a checkpoint of how far every session has come; return it once it is durable.

        Raises:
            Misuse: the key is public, or another one than theirs.
            Conflict: what is there is not sound, the store was put back to before it, or others append all the time.
            StoreUnavailable: the store did not answer; nothing was written.
            OSError: they cannot be read or written; what was written of a line, the next one leaves behind.
        """
        for _ in range(_TRIES - 1):
            with suppress(Overtaken):
                return self._append()
        return self._append()

    def compare(self) -> Comparison:
        """
        Compare the store with them: what is gone or rewritten since is named.

        It compares heads; `verify` recomputes what leads to them. Only both together find everything.

        Raises:
            StoreUnavailable: the store did not answer.
            OSError: they cannot be read.
        """
        chain = Chain(witnessed=[])
        chain.read(self._place.read(), self._key)
        problems = list(chain.problems)
        if chain.last is None and not problems:
            problems.append(f"{self._place.name} holds no checkpoint")
        return Comparison(
            chain.last, problems + self._store.read(checkpoints.disagreements, chain), chain.notes
        )

    def _forget(self) -> None:
        self._chain, self._known = Chain(witnessed=None), 0

    def _take(self, written: bytes) -> None:
        self._chain.read(written, self._key)
        self._known += len(written)

    def _append(self) -> Checkpoint:
        with self._place.held(self._known) as held:
            if held.known != self._known:
                self._forget()
            self._take(held.rest())
            if self._chain.problems:
                problem = self._chain.problems[0]
                self._forget()
                raise Conflict(f"{self._place.name} is not gone on with: {problem}")
            seen, last = self._seen(), self._chain.last
            if last is not None and seen.position < last.position:
                raise Conflict(
                    f"{self._place.name} is not gone on with: {checkpoints.ended_early(last)}; compare with "
                    "`interlock verify --checkpoint`, and begin another file where that was meant"
                )
            checkpoint, line = next_line(self._chain, seen, self._key)
            written = (b"" if self._chain.is_whole else b"\n") + line + b"\n"
            held.append(written)
            self._take(written)
        return checkpoint

    def _seen(self) -> Heads:
        """Read the heads once no transaction is open that was given a place before the last visible one."""
        mark = self._store.read(checkpoints.mark)
        waited_for, until = mark.writers, time.monotonic() + _PATIENCE_S
        while waited_for and time.monotonic() < until:
            waited_for &= self._store.read(checkpoints.mark).writers
            if waited_for:
                time.sleep(_PAUSE_S)
        # Where somebody has been writing for long, what is not known to be final is not claimed.
        return self._store.read(checkpoints.heads, self._chain, None if waited_for else mark)


def place_of(to: Path | str, token: str | None = None) -> Place:
    """
    Return where checkpoints are kept: behind a URL, with *token* as its bearer token, or else in a file.

    Raises:
        Misuse: it is a URL of another kind; a token is given for a file, or would be sent in clear.
        PluginError: it is a URL, and what speaks to it is not installed.
    """
    if not str(to).startswith(("http://", "https://")):
        if "://" in str(to):
            raise Misuse(f"checkpoints are kept in a file, or behind http or https: not in {to}")
        if token is not None:
            raise Misuse("a token is for checkpoints behind a URL, and this is a file")
        return CheckpointFile(Path(to))
    try:
        from interlock._checkpoint_url import CheckpointUrl  # noqa: PLC0415 - an extra has it
    except ImportError as error:
        raise PluginError(
            "checkpoints behind a URL need httpx, which is not installed: pip install 'interlock[checkpoints]'",
            plugin="interlock.checkpoints",
        ) from error
    return CheckpointUrl(str(to), token)
