"""Running `interlock` as people and scripts do: as a process, with its exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

Cli = Callable[..., subprocess.CompletedProcess[str]]


def cli_of(database: str, *words: str, columns: int = 160, **environment: str) -> Cli:
    """
    Return what runs `interlock` on the store at *database* with some arguments, after *words*.

    The *environment* is what the process has besides the one of the tests; more of it can be given with each run.
    """

    def run(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        own = {"INTERLOCK_DB": database, "COLUMNS": str(columns), **environment, **more}
        return subprocess.run(
            [sys.executable, "-m", "interlock", *words, *arguments],
            env={**os.environ, **own},
            capture_output=True,
            encoding="utf-8",
            check=False,
            timeout=50,
        )

    return run


def lines(done: subprocess.CompletedProcess[str], *, code: int = 0) -> list[dict[str, Any]]:
    """The JSON objects that a command printed, which must have worked, and ended with *code*."""
    assert (done.returncode, done.stderr) == (code, "")
    return [json.loads(line) for line in done.stdout.splitlines()]
