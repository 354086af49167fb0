"""That the benchmarks run: each, in little, as a program of its own, and says its ratios as JSON."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
LITTLE = {
    "adapters.py": (),
    "decorator.py": (),
    "governed.py": ("--only", "sqlite.threads8,sqlite.tasks512,postgres.thread1"),
    "halts.py": ("--only", "sqlite"),
    "growth.py": ("--events", "1000"),
    "import_cost.py": (),
    "patterns.py": (),
}
LONG = {"decision.py", "one_budget.py"}
"""Those that install other engines, or take half a minute."""


def test_every_benchmark_is_known_here() -> None:
    """Broken if a benchmark is added that nothing runs."""
    assert LITTLE.keys() | LONG == {path.name for path in BENCHMARKS.glob("[a-z]*.py")}


@pytest.mark.parametrize(
    "name", [*LITTLE, *(pytest.param(one, marks=pytest.mark.soak) for one in sorted(LONG))]
)
def test_a_benchmark_runs(name: str, tmp_path: Path) -> None:
    """Broken if a benchmark has fallen behind the code that it measures."""
    said = subprocess.run(
        [sys.executable, BENCHMARKS / name, "--once", "--json", *LITTLE.get(name, ())],
        env={
            **os.environ,
            "INTERLOCK_BENCH_SEED": str(tmp_path / "nothing"),
            "XDG_CACHE_HOME": str(tmp_path / "cache"),
        },
        stdout=subprocess.PIPE,
        check=True,
    )
    ratios = json.loads(said.stdout)
    assert ratios
    assert all(value is None or value > 0 for value in ratios.values())


def _compare() -> ModuleType:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        return importlib.import_module("_compare")
    finally:
        sys.path.remove(str(BENCHMARKS))


def test_pages_show_what_was_measured() -> None:
    """Broken if a number in a comparison was typed by hand, or is of another run than the one that is kept."""
    compare = _compare()
    run = compare.stored()
    places = [
        place for page in compare.PAGES for place in compare.PLACE.finditer(page.read_text("utf-8"))
    ]
    assert compare.TABLES.keys() == {place["name"] for place in places}
    for page in compare.PAGES:
        text = page.read_text("utf-8")
        assert compare.written(text, run) == text


def test_what_was_measured_is_whole() -> None:
    """Broken if a peer, or a size, was left out of the comparison."""
    compare = _compare()
    run = compare.stored()
    assert set(compare.MEASURED) == run["ratios"].keys()
    tables = [make(run) for make in compare.TABLES.values()]
    assert [table for table in tables if "not measured" in table or "None" in table] == []


@pytest.mark.parametrize(
    ("ratio", "text"),
    [
        (None, "not measured"),
        (0.0421, "0.042"),
        (0.4, "0.40"),
        (4.551, "4.6"),
        (9.96, "10"),
        (97.4, "97"),
        (35258.5, "35,000"),
    ],
)
def test_figures_have_two_digits(ratio: float | None, text: str) -> None:
    """Broken if a figure is rounded to something else, or shows more than was measured."""
    assert text == _compare().figure(ratio)
