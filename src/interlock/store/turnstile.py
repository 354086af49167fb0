"""The turnstile: a lock file through which the processes that write one SQLite file go in turn."""

from __future__ import annotations

import os
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import TracebackType

if sys.platform == "win32":

    def turnstile(database: Path) -> AbstractContextManager[object]:  # noqa: ARG001 - the same shape everywhere
        """Return nothing to wait for: SQLite's busy handler queues the writers, correctly but unfairly."""
        return nullcontext()

    def let_go(inherited: AbstractContextManager[object]) -> None:
        """Do nothing."""

else:
    import fcntl

    class _Turnstile:
        """
        Held around each transaction, and waited for in the order in which the kernel wakes the waiters.

        SQLite's busy handler sleeps and retries, so under load one process can starve; a blocking lock does not let
        it. This guards nothing: correctness is the business of SQLite's own lock.
        """

        def __init__(self, path: Path) -> None:
            self._path = path
            self._descriptor: int | None = None

        def __enter__(self) -> None:
            if self._descriptor is None:
                self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)

        def __exit__(
            self,
            kind: type[BaseException] | None,
            error: BaseException | None,
            traceback: TracebackType | None,
        ) -> None:
            if self._descriptor is not None:
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)

        def let_go(self) -> None:
            descriptor, self._descriptor = self._descriptor, None
            if descriptor is not None:
                os.close(descriptor)

        def __del__(self) -> None:
            self.let_go()

    def turnstile(database: Path) -> AbstractContextManager[object]:
        """Return the lock beside *database*; its file is made when first needed."""
        return _Turnstile(database.with_name(f"{database.name}.lock"))

    def let_go(inherited: AbstractContextManager[object]) -> None:
        """
        Close the lock file in a process that was forked, without unlocking it.

        The lock belongs to all who have the file open by inheritance: a child that kept it would hold up everybody
        when its parent is killed with the lock taken.
        """
        if isinstance(inherited, _Turnstile):
            inherited.let_go()
