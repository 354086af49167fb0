"""
Run each adapter's tests at the oldest and the newest release of its framework, each in an environment of its own.

What the releases are is in the adapter's pyproject.toml: `[tool.interlock.frameworks]`, lists of requirements by label.
Called by `make test-frameworks`; arguments are names of plugins, and none is all. The environments are made by uv from
whatever index it is configured with.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
UV = Path(sys.executable).with_name("uv")


def main(names: list[str]) -> int:
    """Return how many of the environments have failing tests."""
    failed = 0
    for project in sorted(ROOT.glob("plugins/*/pyproject.toml")):
        tool: dict[str, Any] = tomllib.loads(project.read_text("utf-8")).get("tool", {})
        frameworks = tool.get("interlock", {}).get("frameworks", {})
        if names and project.parent.name not in names:
            continue
        for label, requirements in frameworks.items():
            wanted = ", ".join(requirements)
            sys.stdout.write(f"== {project.parent.name} with the {label}: {wanted}\n")
            sys.stdout.flush()
            failed += not _passes(project.parent, requirements)
    return failed


def _passes(plugin: Path, requirements: list[str]) -> bool:
    with tempfile.TemporaryDirectory(prefix="interlock-frameworks-") as folder:
        home = Path(folder) / "venv"
        python = home / "bin" / "python"
        _run(str(UV), "venv", "--quiet", "--python", sys.executable, str(home))
        install = [str(UV), "pip", "install", "--quiet", "--python", str(python)]
        groups = ["--group", f"{ROOT / 'pyproject.toml'}:test"]
        _run(*install, "-e", str(ROOT), "-e", str(plugin), *groups, *requirements)
        tests = [str(python), "-m", "pytest", "-q", str(plugin / "tests")]
        return subprocess.run(tests, cwd=ROOT, check=False).returncode == 0


def _run(*command: str) -> None:
    subprocess.run(command, cwd=ROOT, check=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
