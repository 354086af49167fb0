"""Lives of the children of `_nursery.py`, as the test sees them: born, watched, killed, and their traces gathered."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

ROOT = Path(__file__).parents[2]


class Life(NamedTuple):
    """What a child said: whether its session was open, the keys of the calls that returned, how it ended."""

    opened: bool
    acknowledged: list[str]
    status: int


class Kill(NamedTuple):
    """When to kill: so long after the birth, or after so many calls have returned."""

    after_s: float
    calls: int | None = None


class Nursery:
    """Where the children are born."""

    def __init__(self) -> None:
        """Start the process that forks them."""
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "tests.crash._nursery"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def life(self, kill: Kill | None = None, **order: Any) -> Life:
        """Have a child carry out *order*, and kill it, unless it sees to that itself."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        pid, opened, acknowledged = 0, False, []
        while True:
            word, _, rest = self._hear().partition(" ")
            match word:
                case "pid":
                    pid = int(rest)
                case "open":
                    opened = True
                case "ack":
                    acknowledged.append(rest)
                case "dead":
                    return Life(opened, acknowledged, int(rest))
            due = kill and pid and (kill.calls is None or len(acknowledged) >= kill.calls)
            if kill and due:
                time.sleep(kill.after_s)
                os.kill(pid, signal.SIGKILL)
                kill = None

    def _hear(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the nursery ended with {self._process.wait()}"
        return line.strip()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        if kind is not None:
            self._process.kill()
        try:
            self._process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()


def effects(side_file: Path) -> list[list[str]]:
    """Return the key and the id of each effect, in the order in which they came about."""
    return (
        [line.split() for line in side_file.read_text().splitlines()] if side_file.exists() else []
    )
