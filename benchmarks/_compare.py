"""
The comparisons that README and docs show: measured by the benchmarks, stored as JSON, and written into the pages.

`python benchmarks/_compare.py` writes the pages from what is stored; with `--measure` it first runs the benchmarks,
which takes ten minutes, and stores what they say. So no number in these tables is typed by hand: a page has
`<!-- measured: NAME -->`, then what `TABLES` makes of NAME, then `<!-- end -->`, with empty lines between.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TypedDict

from _harness import PACKAGES
from _peers import REQUIREMENTS

HERE = Path(__file__).parent
STORED = HERE / "results" / "comparison.json"
PAGES = [HERE.parent / "README.md", HERE.parent / "docs/explanation/performance.md"]
MEASURED = ("decision", "governed", "import_cost")
"""The benchmarks that are run."""

GATEWAY = "agent-control-plane 0.15.0"

PLACE = re.compile(r"(<!-- measured: (?P<name>[\w-]+) -->\n\n).*?(\n<!-- end -->)", re.DOTALL)

SIZES = (1, 10, 100, 1_000, 10_000)


class Stored(TypedDict):
    """What one run of the benchmarks said, and on what."""

    machine: str
    load: float
    versions: dict[str, str]
    peers: dict[str, str]
    ratios: dict[str, dict[str, float | None]]


def measure() -> Stored:
    """Run the benchmarks, one after the other."""
    ratios: dict[str, dict[str, float | None]] = {}
    load = os.getloadavg()[0]
    for name in MEASURED:
        said = subprocess.run(  # noqa: S603 - our own script
            [sys.executable, HERE / f"{name}.py", "--json"], stdout=subprocess.PIPE, check=True
        )
        ratios[name] = json.loads(said.stdout)
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} processors",
        "load": round(load, 1),
        "versions": {
            "Python": platform.python_version(),
            "SQLite": sqlite3.sqlite_version,
            **{name: version(name) for name in PACKAGES},
        },
        "peers": {name: first.replace("==", " ") for name, (first, *_) in REQUIREMENTS.items()},
        "ratios": ratios,
    }


def stored() -> Stored:
    """Return what the last run said."""
    found: Stored = json.loads(STORED.read_text("utf-8"))
    return found


def figure(ratio: float | None) -> str:
    """Return *ratio* in two digits, which is more than such a measurement is good for."""
    if ratio is None:
        return "not measured"
    rounded = float(f"{ratio:.2g}")
    return f"{rounded:,.0f}" if rounded >= 10 else f"{ratio:#.2g}"  # noqa: PLR2004 - where decimals end


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [list(head), *map(list, rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def decision(run: Stored, sizes: Sequence[int] = SIZES) -> str:
    """Time of a decision by each peer over ours, by the number of rules."""
    said = run["ratios"]["decision"]
    rows = [
        [run["peers"][name] + (", FastEnforcer" if name == "pycasbin fast" else "")]
        + [figure(said.get(f"{name.replace(' ', '_')}_over_ours.{size}")) for size in sizes]
        for name in REQUIREMENTS
    ]
    whole = ["the fastest of these, with the description of our call included"]
    whole += [figure(said.get(f"fastest_peer_over_ours_described.{size}")) for size in sizes]
    counted = [f"{size:,} rule{'s' if size > 1 else ''}" for size in sizes]
    return _table(["time of a decision over ours", *counted], [*rows, whole])


KINDS = {
    "exact": "that name the tool",
    "glob": "that name it by a glob",
    "argument": "that name it, and compare an argument",
    "argument_miss": "that name other tools, so that the default speaks",
    "same_tool": "10,000 for one and the same tool, each with a prefix of its own",
}


def growth(run: Stored) -> str:
    """How our decision slows down with rules, of each kind."""
    said = run["ratios"]["decision"]
    rows = [[text, figure(said[f"ours.{kind}.{SIZES[-1]}_over_1"])] for kind, text in KINDS.items()]
    return _table(["rules", "time under 10,000 rules over time under one"], rows)


CROWDS = {"thread1": "one thread", "threads8": "8 threads", "tasks64": "64 tasks"}


def gateway(run: Stored) -> str:
    """Governed calls on SQLite beside those of the gateway, and beside raw commits."""
    said = run["ratios"]["governed"]
    rows = []
    for crowd, name in CROWDS.items():
        seed, commits = (
            said.get(f"sqlite.{crowd}.over_{other}") for other in ("seed", "raw_commit")
        )
        beside = f"{figure(commits)} times as many calls"
        if crowd == "thread1":  # the one ratio of times
            beside = f"takes {figure(commits)} times as long"
        rows.append([name, f"{figure(seed)} times as many calls", beside])
    head = ["callers", f"beside the gateway of {GATEWAY}", "beside raw commits by one caller"]
    return _table(head, rows)


def imported(run: Stored) -> str:
    """What an import costs, in one sentence."""
    times = figure(run["ratios"]["import_cost"]["import.over_dependencies"])
    return (
        "Its import loads no framework, no SDK and no database driver but Python's own for SQLite, and takes\n"
        f"{times} times as long as that of SQLAlchemy and pydantic, on which it builds.\n"
    )


def method(run: Stored) -> str:
    """On what it was measured."""
    versions = ", ".join(
        f"{name} {run['versions'][name]}"
        for name in ("Python", "SQLite", "sqlalchemy", "interlock")
    )
    return (
        "Medians of interleaved turns in one run each of `benchmarks/decision.py` and `benchmarks/governed.py`,\n"
        f"on a shared machine ({run['machine']}, load {run['load']:g}): {versions}.\n"
    )


TABLES: dict[str, Callable[[Stored], str]] = {
    "decision": decision,
    "decision-short": partial(decision, sizes=SIZES[::2]),
    "growth": growth,
    "gateway": gateway,
    "import": imported,
    "method": method,
}


def written(page: str, run: Stored) -> str:
    """Return the text of *page* with what *run* said in all places that are marked."""
    return PLACE.sub(lambda place: f"{place[1]}{TABLES[place['name']](run)}{place[3]}", page)


def main() -> None:
    """Measure if that is asked for, and write the pages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--measure", action="store_true", help="run the benchmarks first: ten minutes"
    )
    if parser.parse_args().measure:
        run = measure()
        STORED.parent.mkdir(exist_ok=True)
        STORED.write_text(json.dumps(run, indent=2) + "\n", "utf-8")
    for page in PAGES:
        page.write_text(written(page.read_text("utf-8"), stored()), "utf-8")


if __name__ == "__main__":
    main()
