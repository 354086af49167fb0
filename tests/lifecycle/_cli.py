"""Running `interlock` as people and scripts do: as a process, with its exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

Cli = Callable[..., subprocess.CompletedProcess[str]]


def cli_of(database: str) -> Cli:
    """Return what runs `interlock` with some arguments on the store at *database*."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "interlock", *arguments],
            env={**os.environ, "INTERLOCK_DB": database, "COLUMNS": "160"},
            capture_output=True,
            text=True,
            check=False,
            timeout=50,
        )

    return run


def lines(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    """The JSON objects that a command printed, which must have had nothing to complain of."""
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]
