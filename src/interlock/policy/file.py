"""PolicyFile: the file that a policy came from, and whether it has been changed since."""

from __future__ import annotations

from pathlib import Path

from interlock.policy.compile import Policy


class PolicyFile:
    """The file that a policy came from."""

    def __init__(self, path: str | Path) -> None:
        """Read nothing yet."""
        self.path = Path(path)
        self._seen: object = None

    @classmethod
    def of(cls, given: object) -> PolicyFile | None:
        """Return the file that *given* names, what a governor takes for a policy; None when it names none."""
        if isinstance(given, (str, Path)) and given != "observe":
            return cls(given)
        return None

    def read(self) -> Policy:
        """
        Return the policy in it, as `Policy.load` does.

        Raises:
            PolicyError: as there.
        """
        self._seen = self._state()  # before it is read: what is written meanwhile is a change
        return Policy.load(self.path)

    def is_changed(self) -> bool:
        """Whether it is another file, or another text as far as its size and time tell, than was last read."""
        return self._state() != self._seen

    def _state(self) -> object:
        try:
            found = self.path.stat()
        except OSError as error:
            return error.errno
        return found.st_ino, found.st_size, found.st_mtime_ns
