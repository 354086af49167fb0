"""Commands of other packages: `interlock NAME` is what an entry point of the group `interlock.commands` offers."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from interlock._entry_points import load, version_of
from interlock.errors import InterlockError, Misuse, PluginError

COMMANDS = "interlock.commands"
"""Each entry point is a function as Typer takes it, or a `typer.Typer`; its name is the command's."""

CANARIES = "interlock.canaries"
"""Each entry point is a function without parameters that raises if a refused call would run in its framework."""

_ELSEWHERE = {"mcp": "interlock-mcp"}
"""Commands that pages name as ours, and the distributions that bring them."""


class Commands(TyperGroup):
    """The commands of Interlock, then those of other packages; those are imported when they are asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names: our own as they were declared, then the others, sorted."""
        own = super().list_commands(ctx)
        return [*own, *sorted({point.name for point in _offers()} - set(own))]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return the command of this name. Our own cannot be replaced."""
        own = super().get_command(ctx, cmd_name)
        points = [] if own is not None else [one for one in _offers() if one.name == cmd_name]
        if own is None and not points and cmd_name in _ELSEWHERE:
            missing = f"`interlock {cmd_name}` comes with {_ELSEWHERE[cmd_name]}, which is not installed here"
            return _Unusable(Misuse(missing), cmd_name)
        if not points:
            return own
        try:
            return _command(points)
        except PluginError as error:
            return _Unusable(error, cmd_name)


class _Unusable(TyperCommand):
    """What stands for a command that cannot be loaded: the help shows why, and running it raises that."""

    def __init__(self, error: InterlockError, name: str) -> None:
        settings = {"ignore_unknown_options": True, "allow_extra_args": True}
        super().__init__(name, help=f"Cannot be used: {error}", context_settings=settings)
        self._error = error

    def invoke(self, ctx: Any) -> Any:  # noqa: ARG002 - as Typer calls it
        raise self._error


def _offers() -> tuple[EntryPoint, ...]:
    return tuple(entry_points(group=COMMANDS))


def _command(points: list[EntryPoint]) -> Any:
    point = points[0]
    if len(points) > 1:
        raise PluginError(
            f"command {point.name!r} is offered more than once, by "
            f"{' and '.join(version_of(one.dist) for one in points)}; uninstall one",
            plugin=point.name,
        )
    offered: Any = load(point)
    if not isinstance(offered, typer.Typer):
        app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        app.command(point.name)(offered)
        offered = app
    made = typer.main.get_command(offered)
    made.name = point.name
    return made
