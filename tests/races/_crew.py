"""Several processes that race each other: `_worker.py`, started once and given orders together."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).parents[2]


class Crew:
    """Processes of an interpreter of their own, sharing nothing but files."""

    def __init__(self, size: int) -> None:
        """Start *size* processes."""
        self._processes = [
            subprocess.Popen(
                [sys.executable, "-W", "error", "-m", "tests.races._worker"],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(size)
        ]

    def __len__(self) -> int:
        return len(self._processes)

    def together(self, orders: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Give each process its order, let them all go at once, and return their answers in the same order."""
        chosen = self._processes[: len(orders)]
        for process, order in zip(chosen, orders, strict=True):
            _say(process, json.dumps(order))
        for process in chosen:
            assert _hear(process) == "ready"
        for process in chosen:
            _say(process, "go")
        return [json.loads(_hear(process)) for process in chosen]

    def all(self, do: str, **order: Any) -> list[dict[str, Any]]:
        """Give every process the same order."""
        return self.together([{"do": do, **order}] * len(self))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        for process in self._processes:
            if kind is not None:
                process.kill()
            try:
                process.communicate(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()


def _say(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()


def _hear(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, f"the worker ended with {process.wait()}; its traceback is on standard error"
    return line.strip()
