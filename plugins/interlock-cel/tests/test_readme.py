"""The README: its code runs, from top to bottom, and prints what it shows."""

from __future__ import annotations

from pathlib import Path

from tests import readmes

README = Path(__file__).parents[1] / "README.md"


def test_readme_runs(tmp_path: Path) -> None:
    """Broken if a reader who follows the README meets an error, or sees something else than it shows."""
    assert readmes.run(README, tmp_path) == ["console", "yaml", "python", "text"]
