"""That the benchmarks run: each, in little, as a program of its own, and says its ratios as JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

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
