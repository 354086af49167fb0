"""The page on the Python API: every public module, and every name that a page, an example or a plugin uses of them."""

from __future__ import annotations

import ast
import importlib.util
import pkgutil
from collections.abc import Iterator

import interlock
from interlock import egress, evaluators
from tests.docs.pages import REFERENCE, ROOT, code, first, pages, reference, rows, tokens


def test_public_modules_are_listed() -> None:
    """Broken if a module is public and the page is silent about it, or it promises one that is gone."""
    modules = {
        f"interlock.{module.name}"
        for module in pkgutil.iter_modules(interlock.__path__)
        if not module.name.startswith("_") and module.name != "cli"
    }
    intro = (REFERENCE / "api.md").read_text("utf-8").partition("\n## ")[0]
    assert modules == {name for name in code(intro) if name.startswith("interlock.")} - {
        "interlock.Governor"
    }


def test_egress_is_listed() -> None:
    """Broken if what `interlock.egress` offers is unknown to readers, or documented and gone."""
    shown = [first(row) for row in rows("api", "Egress and files")]
    assert sorted(egress.__all__) == sorted(
        name.removeprefix("egress.") for name in shown if name.startswith("egress.")
    )


# The pages of these tell all that is in them, and are compared with them.
_TOLD_ELSEWHERE = ("errors.", "events.", "hookspecs.")

_PREFIXES = {"Tools that a model asks for": "tool_use.", "Clients of model providers": "clients."}


def _imported(source: str) -> Iterator[str]:
    """The names that some source uses of the modules of Interlock, such as `store.tickets.approve`."""
    modules: dict[str, str] = {}
    nodes = list(ast.walk(ast.parse(source)))
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("interlock."):
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                if importlib.util.find_spec(f"{node.module}") and _is_module(name):
                    modules[alias.asname or alias.name] = name
                else:
                    yield name.removeprefix("interlock.")
        elif isinstance(node, ast.ImportFrom) and node.module == "interlock":
            found = [alias for alias in node.names if _is_module(f"interlock.{alias.name}")]
            modules |= {alias.asname or alias.name: f"interlock.{alias.name}" for alias in found}
    for node in nodes:
        if (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id in modules
        ):
            yield f"{modules[node.value.id]}.{node.attr}".removeprefix("interlock.")


def _is_module(name: str) -> bool:
    if any(part.startswith("_") for part in name.split(".")):
        return False
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # what stands before the last dot is no package
        return False


def _programs() -> Iterator[str]:
    for page in [*pages(), *ROOT.glob("plugins/*/README.md")]:
        for token in tokens(page):
            if token.type == "fence" and token.info == "python":
                yield token.content
    for path in [*ROOT.glob("examples/**/*.py"), *ROOT.glob("plugins/*/src/**/*.py")]:
        yield path.read_text("utf-8")


def test_what_programs_use_is_listed() -> None:
    """Broken if a page, an example or a plugin uses a name of a module that readers are not told they may use."""
    used = {name for source in _programs() for name in _imported(source)}
    assert "store.tickets.approve" in used
    listed = {
        _PREFIXES.get(found.title, "") + first(row)
        for found in reference("api")
        for row in found.rows
        if code(next(iter(row.values())))
    }
    wanted = {name for name in used if not name.startswith(_TOLD_ELSEWHERE)}
    also = {f"evaluators.{name}" for name in evaluators.__all__} | {"policy.Policy"}
    assert sorted(wanted - listed - also) == []
