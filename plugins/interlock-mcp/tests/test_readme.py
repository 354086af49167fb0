"""The README: its code runs, from top to bottom, and prints what it shows; its tables are complete."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer

from interlock_mcp.command import mcp
from interlock_mcp.surfaces import JUDGED
from tests import readmes

README = Path(__file__).parents[1] / "README.md"


def test_readme_runs(tmp_path: Path) -> None:
    """Broken if a reader who follows the README meets an error, or sees something else than it shows."""
    assert readmes.run(README, tmp_path) == [
        "console",
        "yaml",
        "json",
        "python",
        "python",
        "text",
        "python",
        "text",
    ]


def test_the_servers_are_started_by_the_command() -> None:
    """Broken if a client that is configured as the README shows does not start the proxy."""
    (shown,) = [json.loads(block) for kind, block in readmes.blocks(README) if kind == "json"]
    (server,) = shown["mcpServers"].values()
    assert server["args"][:2] == ["mcp", "--policy"]


def _options() -> list[str]:
    app = typer.Typer(add_completion=False)
    app.command()(mcp)
    return [p.opts[0] for p in typer.main.get_command(app).params if p.opts[0].startswith("--")]


@pytest.mark.parametrize("option", _options())
def test_every_option_is_shown(option: str) -> None:
    """Broken if the command has an option that the README is silent about."""
    assert f"`{option}" in README.read_text("utf-8")


@pytest.mark.parametrize("method", sorted(JUDGED))
def test_every_judged_request_is_named(method: str) -> None:
    """Broken if a reader does not learn by which name a request is judged."""
    assert f"`{method}`" in README.read_text("utf-8")
