"""`interlock plugins`: what is installed for Interlock, from which distribution, and whether it imports."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

import msgspec
import typer
from rich.text import Text

from interlock._entry_points import load
from interlock._plugins import GROUP as PLUGINS
from interlock.cli.extensions import CANARIES, COMMANDS
from interlock.cli.output import Json, print_json, safe, show, table
from interlock.errors import PluginError
from interlock.evaluators.registry import GROUP as EVALUATORS
from interlock.policy.expressions import GROUP as CONDITIONS


class _Offer(msgspec.Struct, frozen=True):
    group: str
    name: str
    distribution: str | None
    version: str | None
    problem: str | None


def plugins(*, json: Json = False) -> None:
    """List what is installed for Interlock, importing each; exit with 1 if one cannot be used."""
    groups = (PLUGINS, EVALUATORS, CONDITIONS, COMMANDS, CANARIES)
    points = [point for group in groups for point in entry_points(group=group)]
    points.sort(key=lambda point: (groups.index(point.group), point.name))
    names = [(point.group, point.name) for point in points]
    offers = [
        _offer(point, is_twice=names.count((point.group, point.name)) > 1) for point in points
    ]
    if json:
        print_json(offers)
    else:
        listed = table("group", "name", "from", "")
        for offer in offers:
            version = f"{offer.distribution or 'unknown'} {offer.version or ''}"
            wrong = offer.problem
            said = Text("imports", style="green") if wrong is None else safe(wrong, "red")
            listed.add_row(offer.group, safe(offer.name), safe(version), said)
        show(listed)
    if any(offer.problem for offer in offers):
        raise typer.Exit(1)


def _offer(point: EntryPoint, *, is_twice: bool) -> _Offer:
    problem = None
    try:
        load(point)
    except PluginError as error:
        problem = str(error)
    if problem is None and is_twice:
        problem = "offered more than once; uninstall one"
    return _Offer(
        group=point.group,
        name=point.name,
        distribution=point.dist.name if point.dist else None,
        version=point.dist.version if point.dist else None,
        problem=problem,
    )
