"""Commands of other packages: found by their entry points, imported when asked for, and never in the place of ours."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from interlock.cli import app, extensions, main
from interlock.cli.extensions import CANARIES, COMMANDS
from tests.distributions import install

GREET = """
from typing import Annotated
import typer

def greet(name: str, *, loud: Annotated[bool, typer.Option()] = False) -> None:
    '''Greet somebody.'''
    print(f"hello {name}" + "!" * loud)

app = typer.Typer(help="Several.")

@app.command()
def one() -> None:
    print("first")

@app.command()
def two() -> None:
    print("second")

def canary() -> None:
    pass
"""

BROKEN = "raise RuntimeError('no such library')"


@pytest.fixture
def offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install a distribution with commands: a function, a group, one by a name of ours, and one that is broken."""
    points = {
        "greet": "greeting:greet",
        "several": "greeting:app",
        "events": "greeting:greet",
        "broken": "broken_greeting:greet",
    }
    modules = {"greeting": GREET, "broken_greeting": BROKEN}
    install(tmp_path, monkeypatch, "greetings", group=COMMANDS, points=points, modules=modules)


def run(*words: str) -> tuple[int, str]:
    """Run the command line, and return its exit code and what it prints."""
    result = CliRunner().invoke(app, list(words))
    return result.exit_code, result.output


@pytest.mark.usefixtures("offered")
def test_function_is_a_command() -> None:
    """Broken if a function that a package offers is not run by its name, with its own parameters."""
    assert run("greet", "ann", "--loud") == (0, "hello ann!\n")


@pytest.mark.usefixtures("offered")
def test_application_is_a_group() -> None:
    """Broken if a package cannot offer several commands under one name."""
    assert run("several", "two") == (0, "second\n")


@pytest.mark.usefixtures("offered")
def test_ours_are_not_replaced() -> None:
    """Broken if a package can put itself in the place of a command of ours."""
    assert "hello" not in run("events", "ann")[1]


@pytest.mark.usefixtures("offered")
def test_broken_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Broken if a package that does not import is not named, or its command passes for one that worked."""
    monkeypatch.setattr("sys.argv", ["interlock", "broken", "--whatever", "x"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert (
        "greetings 1.5, failed to import: RuntimeError: no such library" in capsys.readouterr().err
    )


@pytest.mark.usefixtures("offered")
def test_help_survives_what_is_broken() -> None:
    """Broken if the list of commands leaves one out, or cannot be shown because one package is broken."""
    code, shown = run("--help")
    assert code == 0
    for name in ("greet", "several", "broken", "Cannot be used", "approvals"):
        assert name in shown


@pytest.mark.usefixtures("offered")
def test_nothing_is_imported_for_other_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Broken if every command pays for what other packages import."""
    monkeypatch.delitem(sys.modules, "greeting", raising=False)
    assert run("policy", "schema")[0] == 0
    assert "greeting" not in sys.modules


def test_offered_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Broken if it is left to chance which of two packages runs."""
    for name in ("one", "two"):
        points, modules = {"greet": f"greeting_{name}:greet"}, {f"greeting_{name}": GREET}
        install(tmp_path, monkeypatch, name, group=COMMANDS, points=points, modules=modules)
    result = CliRunner().invoke(app, ["greet", "ann"])
    assert "offered more than once" in str(result.exception)


def test_plugins_lists_commands_and_canaries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Broken if what is installed for the command line is not shown with the other plugins."""
    for group, name in ((COMMANDS, "commands"), (CANARIES, "canaries")):
        points, modules = {f"my-{name}": f"my_{name}:canary"}, {f"my_{name}": GREET}
        install(tmp_path, monkeypatch, name, group=group, points=points, modules=modules)
    shown = run("plugins")[1]
    assert "my-commands" in shown
    assert "my-canaries" in shown


def test_who_brings_a_command_that_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Broken if a command that our pages name, and another distribution brings, is just unknown without that one."""
    monkeypatch.setattr(extensions, "entry_points", lambda **_: ())
    monkeypatch.setattr("sys.argv", ["interlock", "mcp", "--policy", "p.yaml", "--", "server"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "`interlock mcp` comes with interlock-mcp" in capsys.readouterr().err
    assert run("mpc")[0] == 2
