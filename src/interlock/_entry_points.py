"""Entry points: find by name what an installed distribution offers, import it, and say where it came from."""

from __future__ import annotations

from importlib.metadata import Distribution, EntryPoint, entry_points

from interlock.errors import PluginError


def find_entry_point(group: str, name: str) -> EntryPoint:
    """
    Return the one entry point called *name* in *group*.

    Raises:
        PluginError: there is none, or more than one distribution offers it.
    """
    found = list(entry_points(group=group, name=name))
    if len(found) == 1:
        return found[0]
    if found:
        rivals = " and ".join(sorted(version_of(point.dist) for point in found))
        raise PluginError(
            f"{name!r} is offered by {rivals}; uninstall one, so that it is certain which judges",
            plugin=name,
        )
    known = ", ".join(sorted(point.name for point in entry_points(group=group))) or "none"
    raise PluginError(
        f"nothing installed offers {name!r} in the entry-point group {group!r}; installed: {known}",
        plugin=name,
    )


def load(point: EntryPoint) -> object:
    """
    Import what *point* names.

    Raises:
        PluginError: the import failed, whatever it raised.
    """
    try:
        loaded: object = point.load()
    except Exception as error:
        raise PluginError(
            f"{point.name!r}, from {version_of(point.dist)}, failed to import: {type(error).__name__}: {error}",
            plugin=point.name,
            distribution=version_of(point.dist),
        ) from error
    return loaded


def version_of(distribution: Distribution | None) -> str:
    """Return `name version`, as it is recorded with opinions."""
    return "unknown" if distribution is None else f"{distribution.name} {distribution.version}"
