"""The page on compatibility: the versions that it names are those that the distributions ask for."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from interlock.store.schema import HEAD
from tests.docs.pages import REFERENCE, ROOT, code, first, rows

TEXT = (REFERENCE / "compatibility.md").read_text("utf-8")


def _project(folder: Path) -> Any:
    return tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))["project"]


def test_pythons() -> None:
    """Broken if the page names other versions of Python than the classifiers."""
    found = re.findall(r"Python :: (3\.\d+)'", str(_project(ROOT)["classifiers"]))
    (line,) = re.findall(r"^Python (3\..*?);", TEXT, re.MULTILINE)
    assert found == re.findall(r"3\.\d+", line)


def test_frameworks() -> None:
    """Broken if a plugin is missing, or works with other releases than the page says."""
    shown = {
        first(row): set(code(row["works with"])) for row in rows("compatibility", "Frameworks")
    }
    plugins = {path.parent.name: path.parent for path in ROOT.glob("plugins/*/pyproject.toml")}
    assert plugins.keys() == shown.keys()
    for name, folder in plugins.items():
        required = {Requirement(line) for line in _project(folder)["dependencies"]}
        bounded = {one for one in required if "<" in str(one.specifier) and one.name != "interlock"}
        assert bounded == set(map(Requirement, shown[name]))


def test_the_last_migration() -> None:
    """Broken if the page names another migration than the last."""
    assert f"`{HEAD}` is the last of this release" in TEXT


def test_ours_have_one_range() -> None:
    """Broken if a plugin allows another range of Interlock than the page says."""
    (shown,) = re.findall(r"`(interlock>=.*?)`", TEXT)
    for project in ROOT.glob("plugins/*/pyproject.toml"):
        assert shown in _project(project.parent)["dependencies"]
