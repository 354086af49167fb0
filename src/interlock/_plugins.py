"""Plugins: find them by name, check them, ask them, and name them in every opinion."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterable
from decimal import Decimal
from importlib.metadata import Distribution, EntryPoint, entry_points
from typing import Any

import msgspec
import pluggy

from interlock import hookspecs
from interlock._budget import MAX_AMOUNT, nano
from interlock._call import Call, money
from interlock._usage import ModelUsage
from interlock._verdict import Opinion, Verdict
from interlock.errors import PluginError
from interlock.events import Recorded

GROUP = "interlock"
"""The entry-point group in which distributions offer plugins."""

HOOKS = frozenset(name for name in vars(hookspecs) if name.startswith("interlock_"))
"""The names of the hooks."""

log = logging.getLogger("interlock")

_encoder = msgspec.json.Encoder()
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
        for plugin in self._manager.implementing("interlock_opinion"):
            opinion = checked(plugin, call)
            if opinion is not None:
                version = self._versions.get(plugin.name)
                heard.append(
                    msgspec.structs.replace(opinion, author=plugin.author, version=version)
                )
        return heard

    def prices(self, used: ModelUsage) -> list[tuple[Decimal, str]] | None:
        """Return each price that a plugin names, with who names it; None when one failed to say."""
        named = []
        for plugin in self._manager.implementing("interlock_price"):
            try:
                answer = plugin.call(used)
                if answer is not None:
                    named.append((_amount(answer), plugin.author))
            except Exception:
                log.exception("plugin %s failed to price usage of %s", plugin.name, used.model)
                return None
        return named

    def recorded(self, recorded: Recorded) -> None:
        """Show *recorded* to the plugins. What they raise is logged."""
        for plugin in self._manager.implementing("interlock_recorded"):
            try:
                plugin.call(recorded)
            except Exception:
                log.exception("plugin %s failed to observe %s", plugin.name, recorded.kind)

    def _found(self, name: str) -> tuple[str, object]:
        point = find_entry_point(GROUP, name)
        self._versions[name] = version_of(point.dist)
        return name, load(point)


class _Implementation(msgspec.Struct, frozen=True):
    """What a plugin does for one hook; `call` takes the hook's argument, whether the plugin wants it or not."""

    name: str
    author: str
    call: Callable[[Any], object]


class _Manager(pluggy.PluginManager):
    """
    Knows who implements what.

    Implementations are called one by one rather than through pluggy, so that a failure is its author's and nobody
    else's; and pluggy is asked for them only when a plugin has come or gone.
    """

    def __init__(self, project_name: str) -> None:
        super().__init__(project_name)
        self._known: dict[str, tuple[_Implementation, ...]] = {}

    def implementing(self, hook: str) -> tuple[_Implementation, ...]:
        """Return the implementations of *hook*, in pluggy's order."""
        known = self._known
        if hook not in known:
            known[hook] = tuple(
                _Implementation(
                    name=found.plugin_name,
                    author=f"plugin:{found.plugin_name}",
                    call=found.function if found.argnames else _deaf(found.function),
                )
                for found in getattr(self.hook, hook).get_hookimpls()
            )
        return known[hook]

    def register(self, plugin: object, name: str | None = None) -> str | None:
        """Register *plugin*; what it implements has to be hooks, and one at least."""
        try:
            registered = super().register(plugin, name)
        finally:
            self._known = {}  # a new one: what another thread is still finding out goes into the old one
        self.check_pending()
        if not self.get_hookcallers(plugin):
            raise ValueError(f"it implements none of the hooks {', '.join(sorted(HOOKS))}")
        return registered

    def unregister(self, plugin: object | None = None, name: str | None = None) -> Any:
        """Unregister a plugin, which is not asked any more."""
        try:
            return super().unregister(plugin, name)
        finally:
            self._known = {}

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


def checked(plugin: _Implementation, call: Call) -> Opinion | None:
    """Return what *plugin* thinks of *call*, or the DENY that its failure amounts to."""
    try:
        answer = plugin.call(call)
    except Exception as error:  # noqa: BLE001 - whatever it raises: it could not judge, so the call must not run
        return fault(plugin.author, f"raised {type(error).__name__}")
    return valid(answer, plugin.author)


def valid(answer: object, author: str) -> Opinion | None:
    """Return *answer* if it is an opinion that can be recorded, or None; else a DENY that says it is not."""
    if answer is None:
        return None
    if isinstance(answer, Opinion) and isinstance(answer.verdict, Verdict):
        try:
            # A struct holds whatever it was given. What comes back from JSON is plain data of the declared types.
            return _decoder.decode(_encoder.encode(answer))
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


def _amount(answer: object) -> Decimal:
    if not isinstance(answer, Decimal):
        raise TypeError(f"a price is a Decimal or None, not a {type(answer).__name__}")
    amount = money(answer)
    if nano(amount) >= MAX_AMOUNT:
        raise ValueError("a price that books cannot hold: 72 million dollars or more")
    return amount


def _name_of(plugin: object) -> str:
    named = getattr(plugin, "__name__", None) or type(plugin).__qualname__
    return str(named)


def _deaf(function: Callable[[], object]) -> Callable[[object], object]:
    """Make a function that ignores its argument, for a plugin that does not want it."""
    return lambda _: function()
