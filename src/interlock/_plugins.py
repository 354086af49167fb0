"""Plugins: find them by name, check them, ask them, and name them in every opinion."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterable
from functools import partial
from importlib.metadata import Distribution, EntryPoint, entry_points
from typing import Any

import msgspec
import pluggy

from interlock import hookspecs
from interlock._call import Call
from interlock._verdict import Opinion, Verdict
from interlock.errors import PluginError
from interlock.events import Recorded

GROUP = "interlock"
"""The entry-point group in which distributions offer plugins."""

HOOKS = frozenset(name for name in vars(hookspecs) if name.startswith("interlock_"))
"""The names of the hooks."""

log = logging.getLogger("interlock")

_decoder = msgspec.json.Decoder(Opinion)


class Plugins:
    """The plugins of one governor."""

    def __init__(self, wanted: Iterable[object]) -> None:
        """
        Register *wanted*, in order: names of entry points in the group `interlock`, or modules and objects.

        Raises:
            PluginError: one is missing, offered twice, does not import, or implements what is no hook.
        """
        self._manager = _Manager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)
        self._versions: dict[str, str] = {}
        for item in wanted:
            name, plugin = self._found(item) if isinstance(item, str) else (_name_of(item), item)
            try:
                self._manager.register(plugin, name)
            except (ValueError, pluggy.PluginValidationError) as error:
                raise PluginError(
                    f"plugin {name!r} cannot be used: {error}",
                    plugin=name,
                    distribution=self._versions.get(name),
                ) from error

    def opinions(self, call: Call) -> list[Opinion]:
        """Return what the plugins think of *call*. A plugin that fails thinks DENY."""
        heard = []
        for hook in self._manager.hook.interlock_opinion.get_hookimpls():
            author = f"plugin:{hook.plugin_name}"
            version = self._versions.get(hook.plugin_name)
            opinion = checked(partial(_call, hook, call), author)
            if opinion is not None:
                heard.append(msgspec.structs.replace(opinion, author=author, version=version))
        return heard

    def recorded(self, recorded: Recorded) -> None:
        """Show *recorded* to the plugins. What they raise is logged."""
        for hook in self._manager.hook.interlock_recorded.get_hookimpls():
            try:
                _call(hook, recorded)
            except Exception:
                log.exception("plugin %s failed to observe %s", hook.plugin_name, recorded.kind)

    def _found(self, name: str) -> tuple[str, object]:
        point = find_entry_point(GROUP, name)
        self._versions[name] = version_of(point.dist)
        return name, load(point)


class _Manager(pluggy.PluginManager):
    def register(self, plugin: object, name: str | None = None) -> str | None:
        """Register *plugin*; what it implements has to be hooks, and one at least."""
        registered = super().register(plugin, name)
        self.check_pending()
        if not self.get_hookcallers(plugin):
            raise ValueError(f"it implements none of the hooks {', '.join(sorted(HOOKS))}")
        return registered

    def parse_hookimpl_opts(self, plugin: object, name: str) -> Any:
        """Refuse, before anything is registered, what could silence another plugin or would never be heard."""
        options = super().parse_hookimpl_opts(plugin, name)
        if options is None:
            if name in HOOKS and inspect.isroutine(getattr(plugin, name)):
                raise ValueError(
                    f"{name} is not marked, so it would never be called; put @hookimpl on it"
                )
            return None
        if options["wrapper"] or options["hookwrapper"]:
            raise ValueError(f"{name} is a hook wrapper, which could silence other plugins")
        if inspect.iscoroutinefunction(getattr(plugin, name)):
            raise ValueError(
                f"{name} is async and would never be awaited; an evaluator may be async"
            )
        return options


def checked(ask: Callable[[], object], author: str) -> Opinion | None:
    """Return the opinion that *ask* gives, or the DENY that its failure amounts to."""
    try:
        answer = ask()
    except Exception as error:  # noqa: BLE001 - whatever it raises: it could not judge, so the call must not run
        return fault(author, f"raised {type(error).__name__}")
    return valid(answer, author)


def valid(answer: object, author: str) -> Opinion | None:
    """Return *answer* if it is an opinion that can be recorded, or None; else a DENY that says it is not."""
    if answer is None:
        return None
    if isinstance(answer, Opinion) and isinstance(answer.verdict, Verdict):
        try:
            # A struct holds whatever it was given. What comes back from JSON is plain data of the declared types.
            return _decoder.decode(msgspec.json.encode(answer))
        except Exception as error:  # noqa: BLE001 - whatever foreign data raises when it is read
            return fault(author, f"answered with an Opinion of wrong data ({type(error).__name__})")
    return fault(author, f"answered with a {type(answer).__name__} instead of an Opinion or None")


def fault(author: str, what: str) -> Opinion:
    """Return the DENY that stands for the failure of *author*."""
    return Opinion(verdict=Verdict.DENY, reason=f"{author} {what}", author=author, fault=True)


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


def _name_of(plugin: object) -> str:
    named = getattr(plugin, "__name__", None) or type(plugin).__qualname__
    return str(named)


def _call(hook: pluggy.HookImpl, argument: object) -> object:
    # Called one by one rather than through the hook, so that a failure is its author's and nobody else's.
    return hook.function(*([argument] if hook.argnames else []))
