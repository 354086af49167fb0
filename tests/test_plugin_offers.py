"""What plugins offer beside opinions: evaluators, the risk of a call, and what the command line says of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from interlock import Call, Governor, Opinion, Risk, Verdict, hookimpl
from interlock._plugins import GROUP, Plugins
from interlock.errors import PluginError
from interlock.testing import Recorder
from tests.callers import WAYS, Caller
from tests.distributions import install
from tests.samples import call_of

Make = Callable[..., Governor]
CALL = call_of({"amount": 5})


class Config(BaseModel):
    """Nothing."""


class Judge:
    """An evaluator that denies."""

    Config = Config

    def __init__(self, config: Config) -> None:
        """Take it."""

    def evaluate(self, call: Call) -> Opinion:
        """Deny."""
        return Opinion(verdict=Verdict.DENY, reason="no", author="x")


class Offering:
    """A plugin that offers evaluators."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    @hookimpl
    def interlock_evaluators(self) -> Any:
        """Offer them."""
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


class OfferingToo(Offering):
    """Another one."""


def naming(name: str) -> dict[str, Any]:
    """A policy that names an evaluator."""
    return {
        "version": 1,
        "name": "p",
        "default": "allow",
        "evaluators": [{"use": name, "tools": ["*"]}],
    }


@pytest.mark.promise(1)
@pytest.mark.parametrize("way", WAYS)
def test_a_plugins_evaluator_judges(way: Any, governor: Make, recorder: Recorder) -> None:
    """Broken if a policy cannot name what a plugin offers, or the plugin's evaluator is not heard."""
    caller = Caller(way)
    plugins = [Offering({"judge": Judge}), recorder]
    caller(governor(naming("judge"), url="sqlite://", plugins=plugins))
    [decided] = [event for event in recorder.events if type(event).__name__ == "CallDecided"]
    assert (
        [o.author for o in decided.opinions if o.reason == "no"],
        caller.ran,
    ) == (["evaluator:judge"], [])  # type: ignore[union-attr]


SOURCE = """
from tests.test_plugin_offers import Offering, Judge
plugin = Offering({"judge": Judge})
"""


def test_its_version_is_recorded(
    governor: Make, recorder: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Broken if the record does not say from which distribution an evaluator of a plugin came."""
    install(
        tmp_path,
        monkeypatch,
        "offering-plugin",
        group=GROUP,
        points={"offering": "offering_plugin:plugin"},
        modules={"offering_plugin": SOURCE},
    )
    Caller("sync")(governor(naming("judge"), url="sqlite://", plugins=["offering", recorder]))
    [decided] = [event for event in recorder.events if type(event).__name__ == "CallDecided"]
    assert [o.version for o in decided.opinions if o.reason == "no"] == ["offering-plugin 1.5"]  # type: ignore[union-attr]


@pytest.mark.promise(1)
@pytest.mark.parametrize(
    "answer",
    [None, 7, [("judge", Judge)], {"judge": Judge(Config())}, {7: Judge}, ValueError("no")],
    ids=["none", "int", "pairs", "instance", "no-name", "raises"],
)
def test_what_is_no_offer_is_said_at_once(answer: Any, governor: Make) -> None:
    """Broken if a plugin that cannot say what it offers is found out at the first call."""
    with pytest.raises(PluginError, match="'Offering' cannot say"):
        governor(naming("list"), plugins=[Offering(answer)])


@pytest.mark.promise(1)
@pytest.mark.parametrize("name", ["judge", "list", "rate"])
def test_a_name_offered_twice_is_refused(name: str, governor: Make) -> None:
    """Broken if it is not certain which evaluator judges: the host's, a plugin's, another's or an installed one."""
    options: dict[str, Any] = {"plugins": [Offering({name: Judge})]}
    if name == "judge":
        with pytest.raises(PluginError, match="two plugins"):
            governor(naming(name), plugins=[*options["plugins"], OfferingToo({name: Judge})])
        options["evaluators"] = {name: Judge}
    with pytest.raises(PluginError, match=name):
        governor(naming("list" if name == "rate" else name), **options)


class Risky:
    """A plugin that finds calls as risky as it is told."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    @hookimpl
    def interlock_risk(self, call: Call) -> Any:
        """Say so."""
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


class RiskyToo(Risky):
    """Another one."""


def test_the_highest_risk_counts() -> None:
    """Broken if one plugin can hide the risk that another sees."""
    pairs = [(Risk.LOW, Risk.HIGH), (Risk.HIGH, Risk.LOW), (None, Risk.HIGH)]
    found = [Plugins([Risky(one), RiskyToo(two)]).risk(CALL) for one, two in pairs]
    assert found == [(Risk.HIGH, [])] * 3
    assert Plugins([Risky(None)]).risk(CALL) == (None, [])


@pytest.mark.promise(1)
@pytest.mark.parametrize("answer", ["high", 3, True, Verdict.ALLOW, ValueError("4111-planted")])
def test_a_risk_that_cannot_be_told_is_a_deny(answer: Any) -> None:
    """Broken if a call runs although a plugin failed to say how risky it is."""
    risk, [opinion] = Plugins([Risky(answer), RiskyToo(Risk.LOW)]).risk(CALL)
    assert (
        *(risk, opinion.verdict, opinion.author),
        opinion.fault,
    ) == (Risk.LOW, Verdict.DENY, "plugin:Risky", True)
    assert "4111-planted" not in opinion.reason


def listed(path: Path) -> tuple[int, list[dict[str, Any]]]:
    """Run `interlock plugins --json` with *path* on the path."""
    done = subprocess.run(
        [sys.executable, "-m", "interlock", "plugins", "--json"],
        env={**os.environ, "PYTHONPATH": str(path)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


def test_the_command_line_lists_what_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Broken if an operator cannot see what is installed, from where, and that it does not import."""
    code, found = listed(tmp_path)
    assert (0, {"interlock"}) == (code, {o["distribution"] for o in found if o["name"] == "regex"})
    points = {"broken": "no_such_module"}
    install(tmp_path, monkeypatch, "broken-plugin", group=GROUP, points=points, modules={})
    code, found = listed(tmp_path / "broken-plugin")
    [broken] = [offer for offer in found if offer["problem"]]
    assert (
        *(code, broken["group"], broken["name"]),
        *(broken["distribution"], broken["version"]),
    ) == (1, "interlock", "broken", "broken-plugin", "1.5")
