"""Processes that want the same leases: `_worker.py`, stopped now and then for longer than a lease lasts, or killed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from sqlalchemy import text

from interlock import Governor
from tests.leases._desk import policy

ROOT = Path(__file__).parents[2]


class Crew:
    """So many processes, each with a share of what is to be acquired."""

    def __init__(
        self,
        url: str,
        directory: Path,
        *,
        processes: int,
        wanted: int,
        how: str = "threads",
        count: int = 2,
        term_ms: int = 250,
        most: int = 1,
        works_s: float = 0.002,
        goes_on: bool = False,
    ) -> None:
        """Start them; they wait for `begin`. Those that go on have made their share when `enough` was said, too."""
        self.policy = policy({"per": "resource", "expires": f"{term_ms}ms", "max_concurrent": most})
        self._term_s = term_ms / 1000
        key = "INTEGER PRIMARY KEY" if url.startswith("sqlite") else "BIGSERIAL PRIMARY KEY"
        with Governor(url, policy=self.policy) as governor:
            governor.write(
                lambda connection: connection.execute(
                    text(
                        f"CREATE TABLE protected (id {key}, resource TEXT, token BIGINT, call_id TEXT)"
                    )
                )
            )
        self._enough = directory / "enough"
        if not goes_on:
            self.enough()
        self._flags: list[Path] = []
        self.processes: list[subprocess.Popen[str]] = []
        for number in range(processes):
            flag = directory / f"flag-{number}"
            flag.write_bytes(b"\0")
            self._flags.append(flag)
            order = {
                "url": url,
                "policy": self.policy,
                "wanted": wanted // processes,
                "how": how,
                "count": count,
                "works_s": works_s,
                "flag": str(flag),
                "enough": str(self._enough),
            }
            self.processes.append(
                subprocess.Popen(
                    [
                        sys.executable,
                        "-W",
                        "error",
                        "-m",
                        "tests.leases._worker",
                        json.dumps(order),
                    ],
                    cwd=ROOT,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )

    def begin(self) -> None:
        """Let them all go at once."""
        for process in self.processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()

    def enough(self) -> None:
        """Let those end that have made their share."""
        self._enough.touch()

    def stop_inside(self, stops: int) -> int:
        """Stop processes that are inside their tool, for longer than the lease lasts; return how often it was done."""
        done = 0
        while done < stops and (running := self._running()):
            number = random.choice(running)
            if self._flags[number].read_bytes() != b"\1":
                time.sleep(0.001)
                continue
            process = self.processes[number]
            process.send_signal(signal.SIGSTOP)
            if self._flags[number].read_bytes() == b"\1":
                time.sleep(self._term_s * random.uniform(1.2, 2))
                done += 1
            process.send_signal(signal.SIGCONT)
            time.sleep(self._term_s / 10)
        return done

    def kill_inside(self) -> int:
        """Kill a process that is inside its tool; return its number."""
        while True:
            for number in self._running():
                if self._flags[number].read_bytes() == b"\1":
                    os.kill(self.processes[number].pid, signal.SIGKILL)
                    self.processes[number].communicate()
                    return number

    def end(self) -> Counter[str]:
        """Wait for them; return what they have counted."""
        seen: Counter[str] = Counter()
        for process in self.processes:
            if process.returncode == -signal.SIGKILL:
                continue
            out, _ = process.communicate(timeout=600)
            assert process.returncode == 0
            seen.update(json.loads(out))
        return seen

    def close(self) -> None:
        """End whoever still runs."""
        for process in self.processes:
            if process.poll() is None:
                process.kill()
                process.communicate()

    def _running(self) -> list[int]:
        return [n for n, process in enumerate(self.processes) if process.poll() is None]


def log_of(governor: Governor) -> dict[str, list[Any]]:
    """What was written under the lease: of each resource the tokens, in the order of the writes."""
    found: dict[str, list[Any]] = {}
    query = text("SELECT resource, token FROM protected ORDER BY id")
    for resource, token in governor.read(lambda connection: connection.execute(query).all()):
        found.setdefault(resource, []).append(token)
    return found
