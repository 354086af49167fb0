"""Our distributions: what is in them, and that each works where there is nothing of ours but its wheel."""

from __future__ import annotations

import json
import re
import zipfile
from email.parser import HeaderParser
from pathlib import Path

import pytest

from tests import readmes
from tests.packaging import houses
from tests.packaging.houses import CORE, PLUGINS, ROOT, Built

# Where only wheels are left of us, they were built from what cannot be built from any more.
pytestmark = pytest.mark.skipif(not (ROOT / "src").exists(), reason="there is no source to build")

EVERY = [CORE, *PLUGINS]
_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4,12}){4}")

# Where each entry point leads to, and whether that is in the environment and not in the checkout.
ENTRY_POINTS = """
import importlib, json, sys
from importlib.metadata import distributions

found = {}
for one in distributions():
    if one.name.startswith("interlock"):
        for point in one.entry_points:
            if point.group != "pytest11":  # pytest, which loads it, is not here
                point.load()
                where = sys.modules[point.module].__file__
                found[f"{one.name} {point.group} {point.name}"] = where
import interlock
print(json.dumps({"points": found, "interlock": interlock.__file__, "path": sys.path}))
"""


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The distribution `interlock`, built once."""
    return houses.build(CORE, tmp_path_factory.mktemp("core"))


def _files(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _without_info(files: dict[str, bytes]) -> dict[str, bytes]:
    return {name: body for name, body in files.items() if ".dist-info/" not in name}


@pytest.mark.parametrize("name", EVERY)
def test_wheel_is_the_source(name: str, tmp_path: Path) -> None:
    """Broken if a file is left out or a stray one comes along, or if the sdist lacks what a wheel is built from."""
    built = houses.build(name, tmp_path)
    files = _files(built.wheel)
    assert houses.sources(name) == _without_info(files)
    package = name.replace("-", "_")
    assert f"{package}/py.typed" in files
    assert _files(built.again) == files
    (licence,) = [body for path, body in files.items() if path.endswith("licenses/LICENSE")]
    assert (ROOT / "LICENSE").read_bytes() == licence
    (said,) = [body for path, body in files.items() if path.endswith("/METADATA")]
    headers = HeaderParser().parsestr(said.decode())
    project = houses.metadata(name)
    assert {"Name": name, "Version": project["version"], "License-Expression": "MIT"} == {
        key: headers[key] for key in ("Name", "Version", "License-Expression")
    }
    assert (houses.home(name) / "README.md").read_text("utf-8").strip() in said.decode()


def test_what_is_no_module_is_in_the_wheel(core: Built) -> None:
    """Broken if a template, a style sheet or a migration is not found by whoever installed the wheel."""
    names = set(_files(core.wheel))
    data = {
        path.relative_to(ROOT / "src").as_posix()
        for pattern in ("*.jinja", "*.css", "migrations/**/*.py")
        for path in (ROOT / "src/interlock").rglob(pattern)
    }
    assert len(data) >= 4
    assert data - names == set()


def _entry_points(python: Path, folder: Path, *names: str) -> None:
    """Fail unless every entry point of the distributions *names*, and no other of ours, loads from the wheels."""
    said = json.loads(houses.run(python, "-W", "error", "-c", ENTRY_POINTS, cwd=folder))
    environment = python.parents[1]
    assert Path(said["interlock"]).is_relative_to(environment)
    assert [path for path in said["path"] if str(ROOT) in path] == []
    declared: set[str] = set()
    for name in names:
        groups = houses.metadata(name).get("entry-points", {})
        scripts = {"console_scripts": houses.metadata(name).get("scripts", {})}
        declared |= {
            f"{name} {group} {point}"
            for group, points in (groups | scripts).items()  # type: ignore[operator]
            for point in points
            if group != "pytest11"
        }
    assert declared == said["points"].keys()
    assert [
        where for where in said["points"].values() if not where.startswith(str(environment))
    ] == []


def _first(language: str) -> str:
    found = [text for of, text in readmes.blocks(ROOT / "README.md") if of == language]
    return found[0]


def test_core_works_alone(core: Built, tmp_path: Path) -> None:
    """Broken if the README's example, the command or the migration needs the checkout, or an undeclared package."""
    python = houses.environment(tmp_path / "venv", [core.wheel])
    work = tmp_path / "work"
    work.mkdir()
    _entry_points(python, work, CORE)
    (work / "policy.yaml").write_text(_first("yaml"), "utf-8")
    (work / "quickstart.py").write_text(_first("python"), "utf-8")
    printed = houses.run(python, "-W", "error", "quickstart.py", cwd=work)
    assert _ID.sub("ID", _first("text")) == _ID.sub("ID", printed)
    command = python.with_name("interlock")
    assert "policy" in houses.run(command, "--help", cwd=work)
    assert houses.run(command, "verify", cwd=work) == "1 of 1 sessions verified\n"
    session = _ID.findall(houses.run(command, "sessions", cwd=work))[0]
    houses.run(command, "replay", session, "--html", "story.html", cwd=work)
    assert "<style>" in (work / "story.html").read_text("utf-8")
    database = ["--db", "sqlite:///migrated.db"]
    houses.run(command, "db", "upgrade", *database, cwd=work)
    houses.run(command, "db", "check", *database, cwd=work)


PEM = """-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f
-----END PRIVATE KEY-----
"""

EXTRAS = {
    "checkpoints": f"""
from interlock import Governor
with Governor("sqlite://") as governor:
    governor.checkpoints("checkpoints.jsonl", key={PEM.encode()!r}).append()
""",
    "egress": """
from interlock import egress
egress.client([{"host": "api.example.com", "capabilities": ["read"]}]).close()
""",
    "notify": """
import base64
from interlock.notify import Webhook
Webhook("https://example.com/asked", secret="whsec_" + base64.b64encode(b"1" * 32).decode()).close()
""",
    "postgres": """
from interlock import Governor
from interlock.errors import StoreUnavailable
try:
    Governor("postgresql+psycopg://127.0.0.1:9/nobody").close()
except StoreUnavailable:
    pass
""",
}
"""What each extra is for, as a program."""

EXPECTING = """
version: 1
name: expecting
rules:
  - {id: reads, tools: [read], when: {risk: {at_most: medium}}, verdict: allow}
expect:
  - {call: {tool: read}, verdict: allow}
  - {call: {tool: write}, verdict: VERDICT}
"""


def test_pytest_finds_the_plugin(core: Built, tmp_path: Path) -> None:
    """Broken if whoever installs the wheel has no tests of the examples beside a policy."""
    python = houses.environment(tmp_path / "venv", [core.wheel], "pytest")
    (tmp_path / "policy.yaml").write_text(EXPECTING.replace("VERDICT", "deny"), "utf-8")
    assert "2 passed" in houses.run(python, "-m", "pytest", "--interlock-policies", cwd=tmp_path)
    (tmp_path / "policy.yaml").write_text(EXPECTING.replace("VERDICT", "allow"), "utf-8")
    with pytest.raises(AssertionError, match="1 failed, 1 passed"):
        houses.run(python, "-m", "pytest", "--interlock-policies", cwd=tmp_path)


def test_every_extra_is_known_here() -> None:
    """Broken if an extra is added that nothing tries."""
    declared: dict[str, object] = houses.metadata(CORE)["optional-dependencies"]  # type: ignore[assignment]
    assert EXTRAS.keys() == declared.keys()


@pytest.mark.parametrize("extra", EXTRAS)
def test_extra_brings_what_it_is_for(extra: str, core: Built, tmp_path: Path) -> None:
    """Broken if an extra lacks a package that its feature imports."""
    python = houses.environment(tmp_path / "venv", [core.wheel], f"{CORE}[{extra}]")
    houses.run(python, "-W", "error", "-c", EXTRAS[extra], cwd=tmp_path)


def test_without_extras_it_says_which(core: Built, tmp_path: Path) -> None:
    """Broken if a feature whose extra is missing fails with an error that does not name the extra."""
    python = houses.environment(tmp_path / "venv", [core.wheel])
    for extra, program in EXTRAS.items():
        with pytest.raises(AssertionError, match=rf"interlock\[{extra}\]"):
            houses.run(python, "-c", program, cwd=tmp_path)


@pytest.mark.soak
@pytest.mark.parametrize("name", PLUGINS)
def test_plugin_works_with_the_core_alone(name: str, core: Built, tmp_path: Path) -> None:
    """Broken if a plugin's README fails for whoever installs the two wheels and what they require."""
    built = houses.build(name, tmp_path)
    python = houses.environment(tmp_path / "venv", [core.wheel, built.wheel])
    work = tmp_path / "work"
    work.mkdir()
    _entry_points(python, work, CORE, name)
    readmes.run(houses.home(name) / "README.md", work, python=python, variables=houses.outside())
