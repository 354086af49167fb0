"""The README: its code runs, from top to bottom, and prints what it shows; its tables are complete."""

from __future__ import annotations

from pathlib import Path

import pytest

from interlock_claude_agent_sdk import __all__ as public
from tests import readmes

README = Path(__file__).parents[1] / "README.md"


def test_readme_runs(tmp_path: Path) -> None:
    """Broken if a reader who follows the README meets an error, or sees something else than it shows."""
    assert readmes.run(README, tmp_path) == ["console", "yaml", "python", "text"]


@pytest.mark.parametrize("name", sorted(set(public) - {"ToolFailed", "say", "use"}))
def test_every_public_name_is_shown(name: str) -> None:
    """Broken if the package has a name that the README is silent about."""
    assert f"`{name}" in README.read_text("utf-8")
