"""CheckpointFile: checkpoints in a file, which is appended to and never truncated."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from interlock.errors import Conflict


class CheckpointFile:
    """A file of checkpoints; made with the first line."""

    def __init__(self, path: Path) -> None:
        """Use the file at *path*."""
        self.name = str(path)
        self._path = path
        self._inode = 0

    def read(self) -> bytes:
        """
        Return all that it holds.

        Raises:
            OSError: it cannot be read.
        """
        return self._path.read_bytes()

    @contextmanager
    def held(self, known: int) -> Iterator[HeldFile]:
        """
        Keep others from appending to it, of which the first *known* bytes were read before.

        Raises:
            Conflict: it has fewer.
            OSError: it cannot be opened.
        """
        is_new = not self._path.exists()
        file = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            with suppress(ImportError):  # where there is none, one process appends at a time
                import fcntl  # noqa: PLC0415 - not on every system

                fcntl.flock(file, fcntl.LOCK_EX)
            found = os.fstat(file)
            if self._inode not in {0, found.st_ino}:
                known = 0  # another was put in its place
            elif found.st_size < known:
                raise Conflict(f"{self.name} is shorter than it was: lines were taken out of it")
            self._inode = found.st_ino
            yield HeldFile(file, known)
            if is_new:
                _sync_directory(self._path.parent)
        finally:
            os.close(file)


class HeldFile:
    """
    A file of checkpoints that nobody else appends to.

    Attributes:
        known: How many bytes of it were read before.
    """

    def __init__(self, file: int, known: int) -> None:
        """Use the descriptor *file*."""
        self.known = known
        self._file = file

    def rest(self) -> bytes:
        """Return what comes after the bytes that are known."""
        size = os.fstat(self._file).st_size
        os.lseek(self._file, self.known, os.SEEK_SET)
        found = b""
        while len(found) < size - self.known:
            found += os.read(self._file, size - self.known - len(found))
        return found

    def append(self, data: bytes) -> None:
        """
        Write *data* at the end, durably.

        Raises:
            OSError: it could not be written; what was written of it stays.
        """
        while data:
            data = data[os.write(self._file, data) :]
        os.fsync(self._file)


def _sync_directory(path: Path) -> None:
    with suppress(OSError):  # not every system lets a directory be opened
        directory = os.open(path, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
