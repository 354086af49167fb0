"""A README: its code runs, from top to bottom, and prints what it shows."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

_END = "\x1e"
"""What the script prints where the README has shown all that was printed so far."""


def blocks(readme: Path) -> list[tuple[str, str]]:
    """Return the blocks of *readme* in order: of which language each is, and its text."""
    found = re.findall(
        r"^```(\w+)\n(.*?)^```$", readme.read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    return [(language, block) for language, block in found]


def run(
    readme: Path,
    folder: Path,
    *,
    python: Path = Path(sys.executable),
    variables: Mapping[str, str] | None = None,
) -> list[str]:
    """
    Run the Python of *readme* in *folder*, its YAML the policy there, and return the languages of its blocks.

    Each block of text has to be what was printed since the one before. A warning is an error.

    Args:
        readme: The page.
        folder: Where to run it.
        python: The interpreter, this one if left out.
        variables: All environment variables that it has; this process's if left out.
    """
    source, shown = "", ""
    for language, block in blocks(readme):
        match language:
            case "yaml":
                (folder / "policy.yaml").write_text(block, "utf-8")
            case "python":
                source += block + "\n"
            case "text":
                source += f"print({_END!r}, end='')\n"
                shown += block + _END
    script = folder / "readme.py"
    script.write_text(source, "utf-8")
    ran = subprocess.run(
        [python, "-W", "error", str(script)],
        cwd=folder,
        env=variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (ran.returncode, ran.stdout) == (0, shown), ran.stderr
    return [language for language, _ in blocks(readme)]
