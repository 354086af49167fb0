"""The shape of the code: what may import what, and what an import may cost."""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Frameworks, drivers, servers, and what only the command line needs: whoever wants one imports it.
OPTIONAL = {
    "agents",
    "aiosqlite",
    "alembic",
    "anthropic",
    "asyncpg",
    "claude_agent_sdk",
    "cryptography",
    "genai_prices",
    "google.adk",
    "httpx",
    "httpx2",
    "interlock.clients",
    "jinja2",
    "jsonschema_rs",
    "langchain_core",
    "mcp",
    "openai",
    "opentelemetry.exporter",
    "opentelemetry.sdk",
    "psycopg",
    "psycopg2",
    "pydantic_ai",
    "pytest",
    "requests",
    "rich",
    "standardwebhooks",
    "starlette",
    "tenacity",
    "trio",
    "typer",
    "uvicorn",
}

# All that anybody's import loads besides Python's own library: what every program with a policy uses.
NEEDED = {
    "annotated_types",
    "anyio",
    "immutabledict",
    "interlock",
    "msgspec",
    "opentelemetry",
    "pluggy",
    "pydantic",
    "pydantic_core",
    "re2",
    "rfc8785",
    "ruamel",
    "sniffio",
    "sqlalchemy",
    "typing_extensions",
    "typing_inspection",
    "uuid_utils",
    "wrapt",
}

# Code that is written as a user's is: it has only what users have.
OUTSIDE = sorted([*ROOT.glob("plugins/*/src/**/*.py"), *ROOT.glob("examples/**/*.py")])

_PRIVATE = re.compile(r"\._(?!_)")


def test_imports_run_one_way() -> None:
    """Broken if a layer imports one above it, modules import in a circle, or the core does I/O."""
    lint = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert lint.returncode == 0, lint.stdout + lint.stderr


def _loaded(module: str, before: str = "") -> list[str]:
    """The modules that importing *module* loads, in a process that has run *before*."""
    script = (
        f"import json, sys\n{before}\nbefore = set(sys.modules); import {module}; "
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
    )
    modules: list[str] = json.loads(loaded.stdout)
    assert module in modules
    return modules


@pytest.mark.parametrize("module", ["interlock", "interlock.clients"])
def test_import_brings_no_framework(module: str) -> None:
    """Broken if an import makes everyone load what only some of them use."""
    modules = _loaded(module)
    assert sorted((OPTIONAL - {module}).intersection(_with_parents(modules))) == []


def test_import_brings_nothing_unknown() -> None:
    """Broken if anything else is loaded by everyone, such as a driver or an SDK that nobody thought of here."""
    packages = {module.partition(".")[0] for module in _loaded("interlock")}
    own = {name for name in packages if name.startswith("_") or name in sys.stdlib_module_names}
    assert sorted(packages - own - NEEDED - {"cython_runtime"}) == []


def _with_parents(modules: list[str]) -> Iterator[str]:
    for module in modules:
        parts = module.split(".")
        yield from (".".join(parts[: end + 1]) for end in range(len(parts)))


def test_clients_bring_no_sdk() -> None:
    """Broken if what governs the clients of every SDK makes one author have what another one needs."""
    modules = _loaded("interlock.clients", before="import interlock")
    assert sorted((OPTIONAL - {"interlock.clients"}).intersection(_with_parents(modules))) == []


@pytest.mark.parametrize("path", OUTSIDE, ids=lambda path: str(path.relative_to(ROOT)))
def test_outsiders_use_public_names_only(path: Path) -> None:
    """Broken if a plugin or an example needs what users are not promised."""
    private = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for line, name in _imports(ast.parse(path.read_text("utf-8")))
        if name.startswith("interlock.") and _PRIVATE.search(name)
    ]
    assert private == []


def _imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)
