"""The next version of Interlock: this one, copied, with one migration more."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import interlock
from interlock.store import schema

NEXT = "9999"
"""The version of its tables."""

_MIGRATION = f"""
import sqlalchemy as sa
from alembic import op

revision = "{NEXT}"
down_revision = "{schema.HEAD}"


def upgrade(prefix, schema):
    op.add_column(f"{{prefix}}sessions", sa.Column("mood", sa.Text), schema=schema)
    op.execute(sa.text("CREATE TABLE done (at TEXT)"))  # fails where it is done twice
"""


class NextVersion:
    """A copy of the package, for processes of their own."""

    def __init__(self, directory: Path) -> None:
        """Make the copy in *directory*."""
        self._directory = directory
        package = directory / "interlock"
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(Path(interlock.__file__).parent, package, ignore=ignored)
        (package / "store" / "migrations" / "versions" / f"{NEXT}_next.py").write_text(
            _MIGRATION, "utf-8"
        )
        module = package / "store" / "schema.py"
        said = f'HEAD = "{schema.HEAD}"'
        text = module.read_text("utf-8")
        assert said in text
        module.write_text(text.replace(said, f'HEAD = "{NEXT}"'), "utf-8")

    def start(self, script: str, *arguments: str) -> subprocess.Popen[str]:
        """Start a process that runs *script* in that version; its input and output are pipes."""
        return subprocess.Popen(
            [sys.executable, "-W", "error", "-c", script, *arguments],
            env=os.environ | {"PYTHONPATH": str(self._directory)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, script: str, *arguments: str) -> str:
        """Run *script* to its end in that version; return what it prints, and fail if it fails."""
        process = self.start(script, *arguments)
        printed, complaint = process.communicate(timeout=40)
        assert process.returncode == 0, complaint
        return printed.strip()
