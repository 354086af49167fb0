"""`interlock policy lint`: what in a policy can be used and is still not what its author meant."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from interlock import Tool, tool_of
from interlock.cli.output import Json, print_json, safe, show
from interlock.cli.policy.checking import File
from interlock.errors import Misuse
from interlock.policy.lint import Finding
from interlock.policy.lint import lint as findings_in
from interlock.policy.source import Source

Modules = Annotated[
    list[str] | None,
    typer.Option(
        "--import",
        metavar="MODULE",
        help="A module of the host that has governed functions; repeatable.",
    ),
]


def lint(
    path: File,
    *,
    modules: Modules = None,
    examples: Annotated[
        Path | None, typer.Option("--examples", help="The file that has the policy's examples.")
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 for warnings, too.")
    ] = False,
    json: Json = False,
) -> None:
    """Find what a policy cannot mean, or may not; exit with 1 if there is an error."""
    source = Source(path)
    tools = None if modules is None else sorted(tools_in(modules))
    findings = findings_in(
        source.document,
        today=datetime.now(UTC).date(),
        tools=tools,
        examples=0 if examples is None else 1,
        line=source.line,
    )
    errors = sum(finding.severity == "error" for finding in findings)
    if json:
        print_json(findings)
    else:
        for finding in findings:
            show(_told(path, finding))
        show(_summary(path, errors, len(findings) - errors))
    raise typer.Exit(code=1 if errors or (strict and findings) else 0)


def tools_in(modules: Iterable[str]) -> dict[str, Tool]:
    """
    Return the tools that governed functions in *modules* declare, by name, those in classes there, too.

    Raises:
        Misuse: a module cannot be imported.
    """
    if "" not in sys.path:
        sys.path.insert(
            0, ""
        )  # as `python -m` does: the host's modules are in the current directory
    found: dict[str, Tool] = {}
    for name in modules:
        try:
            module = importlib.import_module(name)
        except Exception as error:
            raise Misuse(f"cannot import {name}: {type(error).__name__}: {error}") from error
        for value in list(vars(module).values()):
            members = list(vars(value).values()) if isinstance(value, type) else []
            for one in (value, *members):
                tool = tool_of(one)
                if tool is not None:
                    found[tool.name] = tool
    return found


def _told(path: Path, finding: Finding) -> Text:
    is_error = finding.severity == "error"
    where = f"{path}:{finding.line}" if finding.line else str(path)
    return Text.assemble(
        safe(f"{where}: ", "bold"),
        safe(f"{finding.severity} {finding.code}: ", "red" if is_error else "yellow"),
        safe(f"{finding.says}. {finding.remedy}"),
    )


def _summary(path: Path, errors: int, warnings: int) -> Text:
    if not errors and not warnings:
        return safe(f"{path}: nothing found", "green")
    said = f"{errors} error{'s' * (errors != 1)}, {warnings} warning{'s' * (warnings != 1)}"
    return safe(f"{path}: {said}", "red" if errors else "yellow")
