"""The canary: it sings where refusals are refusals, and start fails where they are not."""

from __future__ import annotations

import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
from claude_agent_sdk import PermissionResultAllow

from interlock.errors import PluginError
from interlock_claude_agent_sdk import canary
from interlock_claude_agent_sdk.run import Run


async def test_it_sings() -> None:
    """Broken if a governed run does not refuse what it must, or a host that is async cannot have the canary sing."""
    canary()


def test_it_is_offered() -> None:
    """Broken if the command that runs every canary does not find this one."""
    (point,) = [
        one for one in entry_points(group="interlock.canaries") if one.name == "claude-agent-sdk"
    ]
    assert canary is point.load()


def test_where_a_refusal_does_not_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Broken if it is not noticed that what must be refused has run."""
    module = sys.modules["interlock_claude_agent_sdk.canary"]
    monkeypatch.setattr(module, "_RULES", [])
    with pytest.raises(PluginError, match="does not refuse what the policy denies, and only that"):
        canary()


def test_where_nobody_judges(monkeypatch: pytest.MonkeyPatch) -> None:
    """Broken if a release in which tools run that were never judged is not noticed."""

    async def allow(*_: Any) -> PermissionResultAllow:
        return PermissionResultAllow()

    monkeypatch.setattr(Run, "can_use_tool", allow)
    with pytest.raises(PluginError, match="ran without having been judged"):
        canary()


def test_where_nothing_works(tmp_path: Path) -> None:
    """Broken if what keeps every tool from being used counts as a refusal."""
    broken = tmp_path / "claude"
    broken.write_text("#!/bin/sh\nexit 1\n", "utf-8")
    broken.chmod(0o755)
    with pytest.raises(PluginError, match="no call can be made"):
        canary(broken)
