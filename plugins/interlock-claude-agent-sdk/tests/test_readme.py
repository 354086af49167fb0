"""The README: its code runs, from top to bottom, and prints what it shows; its tables are complete."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from interlock_claude_agent_sdk import __all__ as public

README = Path(__file__).parents[1] / "README.md"


def test_readme_runs(tmp_path: Path) -> None:
    """Broken if a reader who follows the README meets an error, or sees something else than it shows."""
    source, shown, languages = "", "", []
    for language, block in re.findall(
        r"^```(\w+)\n(.*?)^```$", README.read_text("utf-8"), re.MULTILINE | re.DOTALL
    ):
        languages.append(language)
        match language:
            case "yaml":
                (tmp_path / "policy.yaml").write_text(block, "utf-8")
            case "python":
                source += block + "\n"
            case "text":
                shown += block
    script = tmp_path / "readme.py"
    script.write_text(source, "utf-8")
    ran = subprocess.run(
        [sys.executable, "-W", "error", str(script)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (ran.returncode, ran.stdout) == (0, shown), ran.stderr
    assert languages == ["console", "yaml", "python", "text"]


@pytest.mark.parametrize("name", sorted(set(public) - {"ToolFailed", "say", "use"}))
def test_every_public_name_is_shown(name: str) -> None:
    """Broken if the package has a name that the README is silent about."""
    assert f"`{name}" in README.read_text("utf-8")
