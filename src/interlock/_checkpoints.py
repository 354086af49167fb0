"""Checkpoints: the file that they are appended to, and compared with; see `_checkpoint` for what is in it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from interlock._checkpoint import Checkpoint, Heads, next_line, read_chain
from interlock._signing import SigningKey
from interlock.errors import Conflict
from interlock.store import checkpoints
from interlock.store.engine import Store

_PATIENCE_S = 1.0
_PAUSE_S = 0.01


class Comparison(msgspec.Struct, frozen=True):
    """
    What came of comparing a store with checkpoints.

    Attributes:
        last: The last checkpoint; None: the file has none, so nothing was compared.
        problems: What disagrees, a sentence each; first what is wrong with the checkpoints themselves.
        notes: What is no fault and yet should be known, such as a line that was not written to its end.
    """

    last: Checkpoint | None
    problems: list[str]
    notes: list[str]


class Appended(msgspec.Struct, frozen=True):
    """
    A checkpoint that was written.

    Attributes:
        checkpoint: It.
        line: As it stands in the file, without the end of the line.
        notes: What is no fault of it and yet should be known.
    """

    checkpoint: Checkpoint
    line: bytes
    notes: list[str]


def append(store: Store, path: Path, key: SigningKey) -> Appended:
    """
    Append a checkpoint of *store* to the file at *path*, which is made if it is not there; return it once durable.

    Raises:
        Conflict: what the file holds is not sound under *key*.
        OSError: it could not be written; what was written of the line, the next one leaves behind.
    """
    with _locked(path) as file:
        written = path.read_bytes()
        chain = read_chain(_lines(written), key)
        if chain.problems:
            raise Conflict(f"{path} is not gone on with: {chain.problems[0]}")
        checkpoint, line = next_line(chain, _seen(store, chain.last), key)
        start = b"" if not written or written.endswith(b"\n") else b"\n"
        _write(file, start + line + b"\n")
    return Appended(checkpoint, line, chain.notes)


def compare(store: Store, path: Path, key: SigningKey) -> Comparison:
    """
    Compare *store* with the checkpoints in the file at *path*.

    Raises:
        OSError: the file cannot be read.
    """
    chain = read_chain(_lines(path.read_bytes()), key)
    problems = list(chain.problems)
    if chain.last is None and not problems:
        problems.append(f"{path} holds no checkpoint")
    return Comparison(
        chain.last, problems + store.read(checkpoints.disagreements, chain), chain.notes
    )


def _lines(written: bytes) -> list[bytes]:
    return [line for line in written.split(b"\n") if line]


def _seen(store: Store, last: Checkpoint | None) -> Heads:
    """Read the heads once no transaction is open that was given a place before the last visible one."""
    position, waited_for = store.read(checkpoints.mark)
    until = time.monotonic() + _PATIENCE_S
    while waited_for and time.monotonic() < until:
        waited_for &= store.read(checkpoints.mark)[1]
        if waited_for:
            time.sleep(_PAUSE_S)
    if (
        waited_for
    ):  # somebody has been writing for long: what is not known to be final is not claimed
        position = 0 if last is None else last.position
    return store.read(checkpoints.heads, position=position)


def _write(file: int, data: bytes) -> None:
    while data:
        data = data[os.write(file, data) :]
    os.fsync(file)


@contextmanager
def _locked(path: Path) -> Iterator[int]:
    """Open a file to append to it; two that do so at once would write lines that follow from the same one."""
    is_new = not path.exists()
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        with suppress(ImportError):  # where there is none, one process appends at a time
            import fcntl  # noqa: PLC0415 - not on every system

            fcntl.flock(file, fcntl.LOCK_EX)
        yield file
        if is_new:
            _sync_directory(path.parent)
    finally:
        os.close(file)


def _sync_directory(path: Path) -> None:
    with suppress(OSError):  # not every system lets a directory be opened
        directory = os.open(path, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
