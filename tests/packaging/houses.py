"""
What the tests of our distributions need: each one built as a release is, and environments that have it installed.

An environment holds wheels of ours and, of all that is installed here, only what their metadata ask for. So what is
tested there cannot be the source, and a dependency that nobody declared is missing.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import tomllib
import venv
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.metadata import Distribution, distribution
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
CORE = "interlock"
PLUGINS = sorted(path.parent.name for path in ROOT.glob("plugins/*/pyproject.toml"))
OFFLINE = {
    "PIP_NO_INDEX": "1",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "https_proxy": "http://127.0.0.1:9",  # nobody listens there
}


class Built(NamedTuple):
    """One distribution, built three times."""

    sdist: Path
    wheel: Path
    """From the tree."""
    again: Path
    """From the sdist, unpacked."""


def home(name: str) -> Path:
    """Return the directory of the distribution *name*."""
    return ROOT if name == CORE else ROOT / "plugins" / name


def metadata(name: str) -> dict[str, object]:
    """Return the table `project` of the distribution *name*."""
    project: dict[str, object] = tomllib.loads((home(name) / "pyproject.toml").read_text("utf-8"))[
        "project"
    ]
    return project


def build(name: str, folder: Path) -> Built:
    """Build the distribution *name* into *folder*, without a network."""
    tree = home(name)
    sdist = _hatch(tree, "sdist", folder / "sdist")
    wheel = _hatch(tree, "wheel", folder / "wheel")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (unpacked,) = (folder / "unpacked").iterdir()
    return Built(sdist, wheel, _hatch(unpacked, "wheel", folder / "again"))


def _hatch(tree: Path, target: str, folder: Path) -> Path:
    run(sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(folder), cwd=tree)
    (made,) = folder.iterdir()
    return made


def environment(folder: Path, wheels: Iterable[Path], *also: str) -> Path:
    """
    Make an environment in *folder* with *wheels* installed, and return its Python.

    What they require is linked from here, and so is what *also* requires: distributions by name, or extras of ours,
    such as `interlock[egress]`. Nothing else is there: not our source, no other distribution of ours, no tool.
    """
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python)]
    run(*pip, "install", "--no-deps", *map(str, wheels), cwd=folder)
    (site,) = folder.glob("lib/python*/site-packages")
    ours = {one.name: one for one in map(Distribution.at, site.glob("*.dist-info"))}
    for name in _closure(ours, [*map(Requirement, [*ours, *also])]) - ours.keys():
        _link(name, site)
    return python


def _closure(ours: Mapping[str, Distribution], waiting: list[Requirement]) -> set[str]:
    """The names of all that those *waiting* need; fails where a version is not one that was asked for."""
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        requirement = waiting.pop()
        key = canonicalize_name(requirement.name), frozenset(requirement.extras)
        one = ours.get(key[0]) or distribution(key[0])
        assert requirement.specifier.contains(one.version, prereleases=True), str(requirement)
        if key not in seen:
            seen.add(key)
            waiting += _wanted(one, key[1])
    return {name for name, _ in seen}


def _wanted(one: Distribution, extras: frozenset[str]) -> Iterator[Requirement]:
    for line in one.requires or []:
        requirement = Requirement(line)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in {"", *extras}):
            yield requirement


def _link(name: str, site: Path) -> None:
    """Link every file of the installed distribution *name* into *site*, one by one: packages share directories."""
    for file in distribution(name).files or []:
        source, target = Path(str(file.locate())), site / file
        if ".." in file.parts or file.suffix == ".pth" or not source.exists():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(source.resolve())


def run(*command: str | Path, cwd: Path) -> str:
    """Run *command* in *cwd* without a network, with no path of ours, and return what it printed."""
    __tracebackhide__ = True
    ran = subprocess.run(
        command,
        cwd=cwd,
        env=outside(),
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def outside() -> dict[str, str]:
    """Return the variables of this process, without what would lead another one to our source or our books."""
    unwanted = re.compile(r"PYTHON|INTERLOCK_|COV|VIRTUAL_ENV")
    return {name: value for name, value in os.environ.items() if not unwanted.match(name)} | OFFLINE


@cache
def sources(name: str) -> dict[str, bytes]:
    """Return what the distribution *name* has to contain, by its path in the wheel: every file that we wrote."""
    tree = home(name) / "src"
    return {
        path.relative_to(tree).as_posix(): path.read_bytes()
        for path in sorted(tree.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }
