"""Installed distributions for the tests: made in a directory, found by the interpreter like any other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest


def install(
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    *,
    group: str,
    points: Mapping[str, str],
    modules: Mapping[str, str],
) -> None:
    """
    Install the distribution *name*, version 1.5, until the test ends.

    Args:
        path: Where to, a directory of the test's own.
        monkeypatch: The test's.
        name: Its name.
        group: The group of its entry points.
        points: Its entry points, such as `{"judge": "module:Class"}`.
        modules: The source of its modules, by name.
    """
    home = path / name
    info = home / f"{name.replace('-', '_')}-1.5.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.5\n")
    lines = "\n".join(f"{point} = {target}" for point, target in points.items())
    (info / "entry_points.txt").write_text(f"[{group}]\n{lines}\n")
    for module, source in modules.items():
        (home / f"{module}.py").write_text(source)
    monkeypatch.syspath_prepend(str(home))
