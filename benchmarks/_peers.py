"""
Other policy engines, each in a virtual environment of its own, measured by a process of that environment.

So what they depend on does not meet what the project depends on. An environment is made once, by pip, in a cache: the
directory that INTERLOCK_BENCH_CACHE names, or `interlock-bench` among the user's. What cannot be installed, or loaded
in time, is said on standard error and left out.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import venv
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

from _harness import Sample

WORKER = Path(__file__).with_name("_peer_worker.py")

REQUIREMENTS = {
    "cedarpy": ("cedarpy==4.12.2",),
    "pycasbin": ("casbin==1.43.0",),
    "pycasbin fast": ("casbin==1.43.0",),
    "rego-cpp": ("regopy==1.5.2",),
    "agent-os": ("agent-os-kernel==3.7.0", "pyyaml"),
    "agentmesh": ("agentmesh-platform==3.7.0",),
}
"""What each peer is installed from: the releases that were looked at when the comparison was written."""

INSTALL_S = 300

Cells: TypeAlias = dict[tuple[str, int], Callable[[float], Sample]]


class Unavailable(Exception):
    """A peer that cannot take part; the message says why."""


class Worker:
    """A process of another environment, driven by lines of JSON."""

    def __init__(self, script: Path, *arguments: str, requirements: Sequence[str]) -> None:
        """
        Install *requirements* if they were not, and start *script* with them.

        Raises:
            Unavailable: they cannot be installed.
        """
        self._process = subprocess.Popen(  # noqa: S603 - our own script
            [python_with(requirements), script, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()

    def ask(self, request: dict[str, float], *, within_s: float) -> Any:
        """
        Return the answer to *request*.

        Raises:
            Unavailable: it failed, or did not answer in time.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        late = threading.Timer(within_s, self._process.kill)
        late.start()
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            late.cancel()
        if not line:
            raise Unavailable(f"its process ended, or had to be after {within_s:g} s")
        answer = json.loads(line)
        if "error" in answer:
            raise Unavailable(answer["error"])
        return answer


class Peer(Worker):
    """One peer, waiting in its process to be asked."""

    def __init__(self, name: str) -> None:
        """
        Install *name* if it was not, and start its process.

        Raises:
            Unavailable: it cannot be installed.
        """
        self.name = name
        super().__init__(WORKER, name, requirements=REQUIREMENTS[name])

    def load(self, rules: int, *, within_s: float) -> Callable[[float], Sample]:
        """
        Make the peer ready for so many rules, and return the cell that lets it decide.

        Raises:
            Unavailable: it answers wrongly, fails, or takes longer than *within_s*.
        """
        self.ask({"load": rules}, within_s=within_s)

        def cell(seconds: float) -> Sample:
            answer = self.ask({"measure": rules, "seconds": seconds}, within_s=seconds + 60)
            return Sample([answer["typical_s"]], 1 / answer["rate"])

        return cell


@contextmanager
def loaded(sizes: Sequence[int], *, within_s: float) -> Iterator[tuple[Cells, list[str]]]:
    """Yield the cells of all peers, by name and number of rules, and a sentence for each that is missing."""
    peers: list[Peer] = []
    cells: Cells = {}
    missing: list[str] = []
    try:
        for name in REQUIREMENTS:
            try:
                peers.append(_with_rules(name, sizes, cells, missing, within_s=within_s))
            except Unavailable as reason:
                missing.append(f"{name}: {reason}")
        yield cells, missing
    finally:
        for peer in peers:
            peer.close()


def _with_rules(
    name: str, sizes: Sequence[int], cells: Cells, missing: list[str], *, within_s: float
) -> Peer:
    """Return *name* with all of *sizes* loaded that it can load; a size that it cannot may have cost its process."""
    peer = Peer(name)
    for place, rules in enumerate(sizes):
        try:
            cells[name, rules] = peer.load(rules, within_s=within_s)
        except Unavailable as reason:
            missing.append(f"{name} with {rules:,} rules and more: {reason}")
            peer.close()
            peer = Peer(name)
            for fewer in sizes[:place]:
                cells[name, fewer] = peer.load(fewer, within_s=within_s)
            break
    return peer


def python_with(requirements: Sequence[str]) -> Path:
    """Return the Python of an environment that has *requirements*."""
    cache = Path(
        os.environ.get("INTERLOCK_BENCH_CACHE")
        or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "interlock-bench"
    )
    version = "{}.{}".format(*sys.version_info)
    place = cache / re.sub(
        r"[^\w.-]+", "_", "-".join([f"python{version}", *requirements]).replace("=", "")
    )
    python = place / "bin" / "python"
    if not (place / "installed").exists():
        shutil.rmtree(place, ignore_errors=True)
        sys.stderr.write(f"installing {' '.join(requirements)}, once\n")
        try:
            venv.create(place, with_pip=True)
            subprocess.run(  # noqa: S603 - pinned above
                [python, "-m", "pip", "install", "--quiet", "--no-input", *requirements],
                check=True,
                timeout=INSTALL_S,
                capture_output=True,
                text=True,
            )
        except subprocess.CalledProcessError as error:
            said = (error.stderr or "").strip().splitlines() or ["pip failed"]
            raise Unavailable(f"it cannot be installed here: {said[-1]}") from None
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Unavailable(f"it cannot be installed here: {error}") from None
        (place / "installed").touch()
    return python
