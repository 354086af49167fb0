"""`interlock doctor`: every adapter's canary is asked, and a dead one is not hidden among the living."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from interlock.cli import app
from interlock.cli import doctor as module
from interlock.cli.extensions import CANARIES
from tests.distributions import install

SINGS = "def canary():\n    pass\n"
DEAD = """
from interlock.errors import PluginError

def canary():
    raise PluginError("the canary is dead: it ran", plugin="x", distribution="y 1")
"""
FAILS = "def canary():\n    raise OSError('no air')\n"


@pytest.fixture
def offer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str, str], None]:
    """Give a way to install a canary; those of this environment are not asked."""
    every = module.entry_points

    def mine(*, group: str) -> list[object]:
        return [one for one in every(group=group) if one.value.startswith("mine_")]

    monkeypatch.setattr(module, "entry_points", mine)

    def offer(distribution: str, name: str, source: str) -> None:
        modules = {f"mine_{distribution}": source}
        monkeypatch.delitem(sys.modules, f"mine_{distribution}", raising=False)
        points = {name: f"mine_{distribution}:canary"}
        install(tmp_path, monkeypatch, distribution, group=CANARIES, points=points, modules=modules)

    return offer


def _run(*options: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["doctor", *options], catch_exceptions=False)
    return result.exit_code, result.output


def test_all_sing(offer: Callable[[str, str, str], None]) -> None:
    """Broken if all is well and it is not said."""
    offer("one", "tiny", SINGS)
    code, shown = _run()
    assert code == 0
    assert all(part in shown for part in ("tiny", "one 1.5", "refuses"))


@pytest.mark.promise(1)
@pytest.mark.parametrize(
    ("source", "says"),
    [
        (DEAD, "the canary is dead: it ran"),
        (FAILS, "it could not be asked: OSError: no air"),
        ("import no_such_module", "no_such_module"),
        ("canary = None", "TypeError"),
    ],
    ids=["dead", "fails", "no-module", "no-function"],
)
def test_one_does_not(offer: Callable[[str, str, str], None], source: str, says: str) -> None:
    """Broken if a framework that lets refused calls run is not found out, or keeps the others from being asked."""
    offer("one", "alpha", source)
    offer("two", "beta", SINGS)
    code, shown = _run("--json")
    alpha, beta = map(json.loads, shown.splitlines())
    assert (code, says in alpha["problem"]) == (1, True)
    assert beta == {"canary": "beta", "distribution": "two", "version": "1.5", "problem": None}
    assert _run()[0] == 1


def test_offered_twice(offer: Callable[[str, str, str], None]) -> None:
    """Broken if it is left to chance which of two canaries is asked."""
    offer("one", "tiny", SINGS)
    offer("two", "tiny", SINGS)
    code, shown = _run("--json")
    assert (code, shown.count("offered more than once")) == (1, 2)


@pytest.mark.usefixtures("offer")
def test_nobody_is_there() -> None:
    """Broken if a green table is shown though nothing was looked at."""
    code, shown = _run()
    assert (code, "nothing to look at" in shown) == (0, True)
