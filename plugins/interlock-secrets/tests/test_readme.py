"""The README: its code runs, from top to bottom, and prints what it shows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

README = Path(__file__).parents[1] / "README.md"


def test_readme_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Broken if a reader who follows the README meets an error, or sees something else than it shows."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    ran = []
    for language, block in re.findall(
        r"^```(\w+)\n(.*?)^```$", README.read_text("utf-8"), re.MULTILINE | re.DOTALL
    ):
        ran.append(language)
        match language:
            case "yaml":
                Path("policy.yaml").write_text(block, "utf-8")
            case "python":
                exec(compile(block, str(README), "exec"), names)  # noqa: S102 - the point
            case "text":
                assert capsys.readouterr().out == block
    assert ran == ["console", "yaml", "python", "text"]
