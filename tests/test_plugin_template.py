"""The template of a distribution: a copy is built, installed, found by both doors, and passes its own tests."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TEMPLATE = Path(__file__).parents[1] / "examples/plugin_template"
OFFLINE = {
    "PIP_NO_INDEX": "1",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "https_proxy": "http://127.0.0.1:9",  # nobody listens there
}

# Calls a tool of each kind under a policy that names the evaluator and a host that names the plugin.
SCRIPT = """
import json
from datetime import UTC, datetime

import interlock_template
from interlock import Denied, Governor, governed
from interlock.testing import Recorder
from interlock_template.plugin import plugin

plugin._now = lambda: datetime(2026, 1, 1, 23, tzinfo=UTC)

@governed
def send(text):
    return "sent"

@governed(labels=["disturbs"])
def ring(number):
    return "rang"

policy = {
    "version": 1,
    "name": "p",
    "default": "allow",
    "evaluators": [
        {"use": "max-length", "tools": ["send"], "with": {"argument": "text", "characters": 5}},
    ],
}
recorder = Recorder()
said = []
with (
    Governor("sqlite://", policy=policy, plugins=["quiet-hours", recorder]) as governor,
    governor.session("s", agent="bot"),
):
    for tool, argument in ((send, "hello"), (send, "hello, hello"), (ring, "1")):
        try:
            said.append(tool(argument))
        except Denied as error:
            [opinion] = error.decision.because
            said.append([opinion.author, opinion.version])
print(json.dumps({"where": interlock_template.__file__, "said": said}))
"""


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the template, as an author begins with it, so that building leaves nothing beside ours."""
    ignored = shutil.ignore_patterns("__pycache__", ".*", "dist", "build")
    return Path(
        shutil.copytree(TEMPLATE, tmp_path_factory.mktemp("author") / "template", ignore=ignored)
    )


@pytest.fixture(scope="module")
def site(copied: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory into which the copy was built and installed, without a network."""
    target = tmp_path_factory.mktemp("site")
    options = ["--no-deps", "--no-build-isolation", "--target", str(target)]
    _run("-m", "pip", "install", *options, str(copied), cwd=copied)
    return target


def _run(*arguments: str, cwd: Path, path: Path | None = None) -> str:
    """Run Python in *cwd*, with *path* among where it imports from; return what it printed."""
    environment = {**os.environ, **OFFLINE, **({} if path is None else {"PYTHONPATH": str(path)})}
    ran = subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def test_both_doors_open(site: Path, tmp_path: Path) -> None:
    """Broken if a copy, once installed, is not found by its entry points, or does not judge calls by both."""
    found = json.loads(_run("-W", "error", "-c", SCRIPT, cwd=tmp_path, path=site))
    assert Path(found["where"]).is_relative_to(site)
    version = "interlock-template 0.1.0"
    assert found["said"] == [
        "sent",
        ["evaluator:max-length", version],
        ["plugin:quiet-hours", version],
    ]


def test_its_own_tests_pass(site: Path, copied: Path) -> None:
    """Broken if an author begins with tests that fail, or that are not found."""
    printed = _run(
        "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", cwd=copied, path=site
    )
    assert "failed" not in printed
    # Those of the suite, and four of the plugin.
    assert " passed" in printed
    passed = int(printed.rsplit(" passed", 1)[0].split()[-1])
    assert passed >= 4 + 14


def test_its_tests_find_a_fault(site: Path, copied: Path, tmp_path: Path) -> None:
    """Broken if the template's tests pass whatever the evaluator does."""
    broken = Path(shutil.copytree(site / "interlock_template", tmp_path / "interlock_template"))
    module = broken / "evaluators.py"
    source = module.read_text("utf-8")
    assert source.count(" <= self._config.characters") == 1
    module.write_text(source.replace(" <= self._config.characters", " >= 0"), "utf-8")
    with pytest.raises(AssertionError, match="test_examples_get_what_they_should"):
        _run("-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=copied, path=tmp_path)
