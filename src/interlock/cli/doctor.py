"""`interlock doctor`: whether the installed frameworks let a refused call run; every adapter's canary is asked."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import Any

import msgspec
import typer
from rich.text import Text

from interlock._entry_points import load
from interlock.cli.extensions import CANARIES
from interlock.cli.output import Json, print_json, safe, show, table
from interlock.errors import PluginError


class _Finding(msgspec.Struct, frozen=True):
    canary: str
    distribution: str | None
    version: str | None
    problem: str | None


def doctor(*, json: Json = False) -> None:
    """Have each adapter make calls that must be refused, by its framework's real path; exit with 1 if one is not."""
    points = sorted(entry_points(group=CANARIES), key=lambda point: point.name)
    names = [point.name for point in points]
    findings = [_asked(point, is_twice=names.count(point.name) > 1) for point in points]
    if json:
        print_json(findings)
    elif not findings:
        show(Text("No adapter that is installed has a canary: there is nothing to look at."))
    else:
        listed = table("canary", "from", "")
        for one in findings:
            source = f"{one.distribution or 'unknown'} {one.version or ''}"
            wrong = one.problem
            said = Text("refuses", style="green") if wrong is None else safe(wrong, "red")
            listed.add_row(safe(one.canary), safe(source), said)
        show(listed)
    if any(one.problem for one in findings):
        raise typer.Exit(1)


def _asked(point: EntryPoint, *, is_twice: bool) -> _Finding:
    problem = "offered more than once; uninstall one" if is_twice else _problem(point)
    return _Finding(
        canary=point.name,
        distribution=point.dist.name if point.dist else None,
        version=point.dist.version if point.dist else None,
        problem=problem,
    )


def _problem(point: EntryPoint) -> str | None:
    try:
        canary: Any = load(point)
        canary()
    except PluginError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - whatever it is, nobody knows whether calls are refused
        return f"it could not be asked: {type(error).__name__}: {error}"
    return None
