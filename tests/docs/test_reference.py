"""The reference says what the code says: every name, key, field, default, signature and option, and none besides."""

from __future__ import annotations

import ast
import importlib
import inspect
import typing
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
import typer

import interlock
from interlock import (
    _call,
    _kinds,
    _plugins,
    _wire,
    clients,
    errors,
    evaluators,
    hookspecs,
    testing,
)
from interlock._clock import Clock
from interlock.cli import app, extensions
from interlock.policy import PolicyDocument, expressions
from interlock.store.tables import DEFAULT as TABLES
from tests.docs.pages import DOCS, REFERENCE, Row, Section, code, first, reference, rows, section


def test_api_lists_every_public_name() -> None:
    """Broken if a name is public and unknown to readers, or documented and gone."""
    titles = ("Govern", "Values", "Errors", "Extend")
    documented = [first(row) for title in titles for row in rows("api", title)]
    assert sorted(interlock.__all__) == sorted(documented)


@pytest.mark.parametrize("kind", [interlock.Governor, interlock.Session])
def test_api_lists_every_method(kind: type) -> None:
    """Broken if a method is public and unknown to readers, or documented and gone."""
    public = {
        name
        for name, member in inspect.getmembers(kind, inspect.isroutine)
        if not name.startswith("_")
    }
    assert public == {first(row) for row in rows("api", kind.__name__)}


def test_api_lists_every_option_of_governed() -> None:
    """Broken if an option of the decorator is missing from the page, or has another default."""
    _bare, with_options = typing.get_overloads(interlock.governed)
    options = inspect.signature(with_options).parameters
    shown = {
        first(row): row["default"].replace("`", "") for row in rows("api", "Options of governed")
    }
    assert list(options) == list(shown)
    words = {
        None: "none",
        (): "none",
        False: "False",
        interlock.Risk.MEDIUM: "medium",
        "tool": "tool",
    }
    expected = {name: words[option.default] for name, option in options.items()}
    assert {**expected, "name": "the function's name"} == shown


def test_api_lists_the_governors_options() -> None:
    """Broken if an argument of `Governor` or `Governor.session` is missing from the page."""
    text = (REFERENCE / "api.md").read_text("utf-8")
    for name, function in (
        ("Governor", interlock.Governor),
        ("Governor.session", interlock.Governor.session),
    ):
        parameters = inspect.signature(function).parameters.values()
        names = [p.name for p in parameters if p.name != "self"]
        assert f"`{name}({names[0]}, *, {', '.join(names[1:])})`" in text


@pytest.mark.parametrize("row", rows("api", "Operations on the store"), ids=first)
def test_operations_exist(row: Row) -> None:
    """Broken if the page names an operation that is gone, or that takes no connection."""
    module, _, name = first(row).rpartition(".")
    operation = getattr(importlib.import_module(f"interlock.{module}"), name)
    assert next(iter(inspect.signature(operation).parameters)) == "connection"


def test_testing_is_listed() -> None:
    """Broken if what `interlock.testing` offers is unknown to readers."""
    assert [f"testing.{name}" for name in testing.__all__] == [
        first(row) for row in rows("api", "For tests")
    ]


def test_clients_are_listed() -> None:
    """Broken if what `interlock.clients` offers to authors is unknown to them."""
    listed = [first(row) for row in rows("api", "Clients of model providers")]
    assert sorted(clients.__all__) == sorted(listed)


def test_bounds_of_a_call() -> None:
    """Broken if the page tells another bound than the one that is enforced."""
    bounds = [_kinds.MAX_DEPTH, _kinds.MAX_BYTES, int(_call.MAX_MONEY)]
    assert bounds == [int(row["at most"]) for row in rows("api", "Bounds of a call")]


def _is_defined_in(it: object, module: object) -> bool:
    public = inspect.isclass(it) and not it.__name__.startswith("_")
    return public and it.__module__ == getattr(module, "__name__", None)


def _tree(kind: type[BaseException], prefix: str = "") -> Iterator[str]:
    own = [child for child in kind.__subclasses__() if child.__module__ == errors.__name__]
    children = [child for child in own if child.__bases__[0] is kind]
    for child in children:
        is_last = child is children[-1]
        yield f"{prefix}{'└' if is_last else '├'}── {child.__name__}"
        yield from _tree(child, prefix + ("    " if is_last else "│   "))


def test_error_tree() -> None:
    """Broken if an exception is missing from the tree, or hangs in another place."""
    tree = "\n".join([errors.InterlockError.__name__, *_tree(errors.InterlockError)])
    (_, shown), *_ = section(REFERENCE / "errors.md", "Errors").fences
    assert tree == shown.strip()


def _attributes(kind: type) -> list[str]:
    lines = (inspect.getdoc(kind) or "").partition("Attributes:")[2].splitlines()
    told = [line.split(":")[0].strip() for line in lines if line[4:5].strip()]
    return told + [name for name, member in vars(kind).items() if isinstance(member, property)]


@pytest.mark.parametrize("found", reference("errors")[1:], ids=lambda found: found.title)
def test_error_attributes(found: Section) -> None:
    """Broken if an error has an attribute that its section does not tell, or tells one that it has not."""
    kind = getattr(errors, found.title)
    assert [f".{name}" for name in _attributes(kind)] == [code(item)[0] for item in found.items]


def test_every_error_has_a_section() -> None:
    """Broken if an exception can be raised that the page is silent about."""
    kinds = [name for name, it in vars(errors).items() if _is_defined_in(it, errors)]
    assert kinds == [found.title for found in reference("errors")[1:]]


def _signatures(source: str) -> dict[str, str]:
    """The signatures of all functions in some source, by name."""
    return {
        node.name: f"({ast.unparse(node.args)}) -> {ast.unparse(node.returns or ast.Constant(...))}"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
    }


def _shown_signatures(*titles: str) -> dict[str, str]:
    blocks = [text for title in titles for _, text in section(REFERENCE / "hooks.md", title).fences]
    return _signatures("\n".join(blocks))


def test_hook_signatures() -> None:
    """Broken if a hook is missing from the page, or is shown with another signature."""
    hooks = _signatures(inspect.getsource(hookspecs))
    assert hooks == _shown_signatures(*hooks)


@pytest.mark.parametrize(
    ("protocol", "title"),
    [
        (interlock.Evaluator, "The evaluator's protocol"),
        (evaluators.Reviewer, "The reviewer's protocol"),
        (Clock, "The clock's protocol"),
    ],
)
def test_protocol_signatures(protocol: type, title: str) -> None:
    """Broken if a protocol is shown with other methods than those that are called."""
    assert _signatures(inspect.getsource(protocol)) == _shown_signatures(title)


def test_entry_point_groups() -> None:
    """Broken if a package that follows the page is not found."""
    groups = [
        _plugins.GROUP,
        evaluators.GROUP,
        expressions.GROUP,
        extensions.COMMANDS,
        extensions.CANARIES,
    ]
    assert groups == [first(row) for row in rows("hooks", "Entry points")]
    how_to = [
        (DOCS / "how-to" / f"write-{what}.md").read_text("utf-8")
        for what in ("a-plugin", "an-evaluator")
    ]
    assert "[project.entry-points.interlock]" in how_to[0]
    assert '[project.entry-points."interlock.evaluators"]' in how_to[1]


def _commands(group: Any, path: str = "interlock") -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            if command.invoke_without_command:
                yield f"{path} {name}", command
            yield from _commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


COMMANDS = dict(_commands(typer.main.get_command(app)))


def test_every_command_has_a_section() -> None:
    """Broken if a command is missing from the page, or documented and gone."""
    assert list(COMMANDS) == [found.title for found in reference("cli") if found.level == 2]


@pytest.mark.parametrize("name", COMMANDS)
def test_command_parameters(name: str) -> None:
    """Broken if a parameter of a command is missing from the page, or has another default than it says."""
    shown = {first(row): row["default"].strip("`") for row in rows("cli", name)}
    assert dict(_parameters(COMMANDS[name].params)) == shown


def _parameters(parameters: Iterable[Any]) -> Iterator[tuple[str, str]]:
    for parameter in parameters:
        if parameter.param_type_name == "argument":
            yield parameter.name.upper(), "required" if parameter.required else "none"
        elif parameter.required:
            yield parameter.opts[0], "required"
        else:
            default = parameter.default
            dynamic = "the login name" if callable(default) else str(default)
            yield parameter.opts[0], {None: "none", False: "off"}.get(default, dynamic)


def test_environment_variable() -> None:
    """Broken if the page names another variable than the one that is read, or another default."""
    stores = [p for command in COMMANDS.values() for p in command.params if p.name == "db"]
    assert {("INTERLOCK_DB", "sqlite:///interlock.db")} == {(p.envvar, p.default) for p in stores}
    assert "environment variable `INTERLOCK_DB`" in (REFERENCE / "cli.md").read_text("utf-8")


def test_glossary_has_every_noun() -> None:
    """Broken if a public class has a name that the glossary does not explain."""
    nouns = {
        name.lower()
        for name in interlock.__all__
        if inspect.isclass(it := getattr(interlock, name)) and not issubclass(it, Exception)
    }
    assert sorted(nouns - {row["word"] for row in rows("glossary", "Glossary")}) == []


@pytest.mark.parametrize("row", rows("glossary", "Glossary"), ids=lambda row: row["word"])
def test_glossary_points_at_what_exists(row: Row) -> None:
    """Broken if a word was renamed in one place and not in the others."""
    for name in code(row["in code"]):
        module, _, last = f"interlock.{name}".rpartition(".")
        assert hasattr(importlib.import_module(module), last) or importlib.import_module(
            f"{module}.{last}"
        )
    for column in code(row["in the database"]):
        table, name = column.split(".")
        assert name in TABLES.metadata.tables[table].columns
    wire = {value for value in vars(_wire).values() if isinstance(value, str)}
    assert set(code(row["on the wire"])) <= wire
    schema = PolicyDocument.model_json_schema()
    models = (schema, *schema["$defs"].values())
    keys = {key for model in models for key in model.get("properties", ())}
    assert sorted(set(code(row["in a policy"])) - keys) == []


def test_glossary_is_sorted() -> None:
    """Broken if a reader who looks a word up by its letter misses it."""
    words = [row["word"] for row in rows("glossary", "Glossary")]
    assert sorted(words) == words
