"""
What the benchmarks share: interleaved cells, medians, ratios within one run, and how they are shown.

A cell is a function that does something a number of times and returns how long each took. Cells are measured in turn,
round after round, so that whatever else the machine does falls on all of them; what counts are ratios of medians within
a run, not absolute times. Nothing here judges: what is good enough is said elsewhere.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sqlite3
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.table import Table

Cell = Callable[[float], "Sample"]
"""Works for about so many seconds and returns what it took."""

PACKAGES = ("interlock", "sqlalchemy", "msgspec", "pydantic", "wrapt", "opentelemetry-api", "anyio")


class Sample:
    """
    What one turn of a cell took.

    Attributes:
        typical_s: The median time of one operation, in seconds.
        rate: Operations in a second, over the whole turn.
    """

    def __init__(self, times_s: Iterable[float], elapsed_s: float) -> None:
        times = sorted(times_s)
        self.typical_s = statistics.median(times)
        self.rate = len(times) / elapsed_s


class Result:
    """The medians of all turns of a cell: `typical_s` and `rate`, as in `Sample`."""

    def __init__(self, samples: list[Sample]) -> None:
        self.typical_s = statistics.median(sample.typical_s for sample in samples)
        self.rate = statistics.median(sample.rate for sample in samples)


class Options:
    """
    How a benchmark was called.

    Attributes:
        once: Measure each cell once, in little.
        quick: End within 50 seconds.
        json: Print one JSON object of named ratios, and nothing else, on standard output.
        rounds: How often each cell is measured.
        seconds: For about how long each time.
        only: The parts that were asked for; all of them unless some were named.
    """

    def __init__(self, description: str | None, *, parts: Sequence[str] = ()) -> None:
        """Read the command line; *parts* are what `--only` can name, each also by what it begins with."""
        parser = argparse.ArgumentParser(description=description)
        parser.add_argument("--quick", action="store_true", help="end within 50 seconds")
        parser.add_argument(
            "--once", action="store_true", help="each cell once, in little: to see that it runs"
        )
        parser.add_argument("--json", action="store_true", help="print only the ratios, as JSON")
        if parts:
            parser.add_argument(
                "--only", metavar="CELL,...", default="", help=f"of: {', '.join(parts)}"
            )
        given = parser.parse_args()
        self.once: bool = given.once
        self.quick: bool = given.quick or given.once
        self.json: bool = given.json
        wanted = tuple(filter(None, getattr(given, "only", "").split(",")))
        self.only = [part for part in parts if not wanted or part.startswith(wanted)]
        if parts and not self.only:
            parser.error(f"--only: none of {', '.join(parts)}")
        self.rounds = 1 if self.once else 5 if self.quick else 9
        self.seconds = 0.02 if self.once else 0.3 if self.quick else 1.0


def interleaved(options: Options, cells: Mapping[str, Cell]) -> dict[str, Result]:
    """Measure every cell in every round, after a short turn for each to warm up."""
    for cell in cells.values():
        cell(min(0.1, options.seconds))
    samples: dict[str, list[Sample]] = {name: [] for name in cells}
    for _ in range(options.rounds):
        for name, cell in cells.items():
            samples[name].append(cell(options.seconds))
    return {name: Result(taken) for name, taken in samples.items()}


def timed(operation: Callable[[], object], seconds: float) -> Sample:
    """Do *operation* again and again, timing each."""
    clock = time.perf_counter
    times: list[float] = []
    begun = last = clock()
    while last - begun < seconds:
        operation()
        now = clock()
        times.append(now - last)
        last = now
    return Sample(times, last - begun)


@contextmanager
def directory() -> Iterator[Path]:
    """A new directory on a real disk: where INTERLOCK_BENCH_DIRECTORY says, or where temporary files are."""
    with TemporaryDirectory(dir=os.environ.get("INTERLOCK_BENCH_DIRECTORY")) as path:
        yield Path(path)


def show(
    options: Options,
    *,
    title: str,
    method: str,
    results: Mapping[str, Result],
    ratios: Mapping[str, float | None],
    meanings: Mapping[str, str],
) -> None:
    """Print the ratios, as JSON or as tables with how they were come by; None is what could not be measured."""
    if options.json:
        rounded = {
            name: None if ratio is None else round(ratio, 3) for name, ratio in ratios.items()
        }
        sys.stdout.write(json.dumps(rounded))
        sys.stdout.write("\n")
        return
    console = Console()
    console.rule(f"[bold]{title}")
    console.print(method, "\n")
    measured = Table("cell", "median", "per second", title="measured")
    for name, result in results.items():
        measured.add_row(name, f"{result.typical_s * 1e6:,.1f} µs", f"{result.rate:,.0f}")
    console.print(measured)
    table = Table("ratio", "value", "what it says", title="ratios within this run")
    for name, ratio in ratios.items():
        table.add_row(name, "missing" if ratio is None else f"{ratio:.2f}", meanings[name])
    console.print(table)
    console.print(
        f"{options.rounds} rounds of {options.seconds:g} s. "
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, "
        + ", ".join(f"{name} {version(name)}" for name in PACKAGES)
        + f"; {platform.machine()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}"
    )
