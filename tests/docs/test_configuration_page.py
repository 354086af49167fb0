"""The page on configuration: every argument, variable, setting and extra, with its default, and none besides."""

from __future__ import annotations

import importlib.util
import inspect
import re
import tomllib
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path

import pytest

import pytest_interlock
from interlock import Governor
from interlock._capture import Capture
from interlock.cli.output import DEFAULT
from tests.docs.pages import ROOT, first, rows
from tests.docs.test_reference import COMMANDS

_VARIABLE = re.compile(r"\bINTERLOCK_[A-Z_]*[A-Z]\b")


def _default(value: object) -> str:
    """A default in the words of the page."""
    if value is inspect.Parameter.empty:
        return "required"
    if value is None:
        return "none"
    if isinstance(value, Capture):
        return f"`{value.value}`"
    if isinstance(value, timedelta):
        return f"{value.total_seconds():g} seconds"
    if isinstance(value, tuple | Mapping):
        assert not value
        return "empty"
    return f'`"{value}"`' if isinstance(value, str) else f"`{value}`"


@pytest.mark.parametrize(
    ("title", "function"),
    [("Governor", Governor.__init__), ("Governor.session", Governor.session)],
)
def test_arguments(title: str, function: Callable[..., object]) -> None:
    """Broken if something can be set that the page does not tell, or has another default than it says."""
    parameters = [p for p in inspect.signature(function).parameters.values() if p.name != "self"]
    shown = {first(row): row["default"] for row in rows("configuration", title)}
    assert {p.name: _default(p.default) for p in parameters} == shown
    assert [p.name for p in parameters] == list(shown)


def test_variables() -> None:
    """Broken if an environment variable is read, or kept from somebody, that the page is silent about."""
    plugins = [path.parent.name.replace("-", "_") for path in ROOT.glob("plugins/*/pyproject.toml")]
    found = [importlib.util.find_spec(name) for name in ("interlock", *plugins)]
    homes = [home for spec in found if spec for home in spec.submodule_search_locations or []]
    assert len(homes) == 1 + len(plugins)
    sources = [path for home in homes for path in Path(home).rglob("*.py")]
    read = {name for path in sources for name in _VARIABLE.findall(path.read_text("utf-8"))}
    shown = {
        first(row): row["default"].strip("`")
        for row in rows("configuration", "Environment variables")
    }
    assert read == shown.keys()
    assert {name for name, default in shown.items() if default != "none"} == {"INTERLOCK_DB"}
    assert shown["INTERLOCK_DB"] == DEFAULT


def test_who_reads_which() -> None:
    """Broken if a command takes a variable that the page says another one takes."""
    shown = {first(row): row["read by"] for row in rows("configuration", "Environment variables")}
    taking: dict[str, set[str]] = {}
    for name, command in COMMANDS.items():
        for parameter in command.params:
            if variable := getattr(parameter, "envvar", None):
                taking.setdefault(variable, set()).add(name)
    with_db = {
        name for name, command in COMMANDS.items() if any(p.name == "db" for p in command.params)
    }
    assert with_db == taking["INTERLOCK_DB"]
    assert {"`interlock replay`"} == {f"`{name}`" for name in taking["INTERLOCK_TRACE_URL"]}
    assert shown["INTERLOCK_TRACE_URL"] == "`interlock replay`"
    keyed = [
        name for name, command in COMMANDS.items() if any(p.name == "key" for p in command.params)
    ]
    assert sorted(keyed) == sorted(re.findall("`(.*?)`", shown["INTERLOCK_CHECKPOINT_KEY"]))


def test_settings_of_pytest() -> None:
    """Broken if the plugin's settings have other names than the page says."""
    source = inspect.getsource(pytest_interlock)
    shown = [first(row) for row in rows("configuration", "pytest")]
    assert shown == [pytest_interlock.INI, "--interlock-policies"]
    assert f'"{shown[1]}"' in source


def test_extras() -> None:
    """Broken if there is an extra that the page does not tell, or none of the name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert list(project["optional-dependencies"]) == [
        first(row) for row in rows("configuration", "Extras")
    ]
