"""Plugins: find them by name, check them, ask them, and name them in every opinion."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from functools import partial
from typing import Any

import msgspec
import pluggy

from interlock import hookspecs
from interlock._budget import MAX_AMOUNT, nano
from interlock._call import Call, Risk, money
from interlock._entry_points import find_entry_point, load, version_of
from interlock._kinds import MAX_BYTES
from interlock._redaction import Content, Redact, Withheld
from interlock._ticket import Ticket
from interlock._usage import ModelUsage
from interlock._verdict import Opinion, Verdict
from interlock.errors import PluginError
from interlock.events import Recorded

GROUP = "interlock"
"""The entry-point group in which distributions offer plugins."""

_HOOK_OF = {
    "session_opened": "interlock_session_opened",
    "session_closed": "interlock_session_closed",
}

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
                    msgspec.structs.replace(
                        opinion, author=plugin.author, version=version, rule=None
                    )
                )
        return heard

    def risk(self, call: Call) -> tuple[Risk | None, list[Opinion]]:
        """
        Return the highest risk that plugins take *call* to have, None when none says, and what stands against it.

        A plugin that fails to say so is a DENY.
        """
        named: list[Risk] = []
        faults: list[Opinion] = []
        for plugin in self._manager.implementing("interlock_risk"):
            try:
                answer = plugin.call(call)
            except Exception as error:  # noqa: BLE001 - whatever it raises: the risk is not known
                faults.append(self._fault(plugin, f"raised {type(error).__name__}"))
                continue
            if isinstance(answer, Risk):
                named.append(answer)
            elif answer is not None:
                said = type(answer).__name__
                faults.append(
                    self._fault(plugin, f"answered with a {said} instead of a Risk or None")
                )
        return max(named, default=None), faults

    def _fault(self, plugin: _Implementation, what: str) -> Opinion:
        version = self._versions.get(plugin.name)
        return msgspec.structs.replace(fault(plugin.author, what), version=version)

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

    def redaction(self) -> Redact | None:
        """Return what the plugins do to each text before it is recorded, in their order; None where none does."""
        asked = self._manager.implementing("interlock_redact")
        return partial(_redact, asked) if asked else None

    def evaluators(self) -> dict[str, tuple[type, str | None]]:
        """
        Return the evaluators that plugins offer, each with the distribution and version it came from.

        Raises:
            PluginError: a plugin fails to say, says something else, or two offer one name.
        """
        found: dict[str, tuple[type, str | None]] = {}
        for plugin in self._manager.implementing("interlock_evaluators"):
            version = self._versions.get(plugin.name)
            for name, kind in _offered(plugin, version).items():
                if name in found:
                    raise PluginError(
                        f"the evaluator {name!r} is offered by two plugins, {plugin.name!r} one of them; "
                        "use one of the plugins, so that it is certain which judges",
                        plugin=plugin.name,
                        distribution=version,
                    )
                found[name] = (kind, version)
        return found

    def requested(self, ticket: Ticket) -> None:
        """Show the plugins *ticket*, which was opened. What they raise is logged."""
        self._show("interlock_approval_requested", ticket, "a request for approval")

    def closing(self) -> None:
        """Tell the plugins that the governor is being closed. What they raise is logged."""
        self._show("interlock_closing", None, "the closing of the governor")

    def recorded(self, recorded: Recorded) -> None:
        """Show *recorded* to the plugins, to those first that have a hook for its kind. What they raise is logged."""
        hook = _HOOK_OF.get(recorded.kind)
        if hook is not None:
            self._show(hook, recorded, recorded.kind)
        self._show("interlock_recorded", recorded, recorded.kind)

    def _show(self, hook: str, seen: object, what: str) -> None:
        for plugin in self._manager.implementing(hook):
            try:
                plugin.call(seen)
            except Exception:
                log.exception("plugin %s failed to observe %s", plugin.name, what)

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


def _redact(asked: tuple[_Implementation, ...], content: Content) -> str | Withheld | None:
    """Show *content* to each in turn, and return what is left of it."""
    left: str | None = None
    for plugin in asked:
        shown = content if left is None else msgspec.structs.replace(content, text=left)
        try:
            answer = plugin.call(shown)
            if answer is None:
                continue
            if not isinstance(answer, str):
                log.error("plugin %s redacts with a %s", plugin.name, type(answer).__name__)
                return Withheld(plugin.name)
            left = str.__str__(answer)
            left.encode()  # raises where it has a lone surrogate, which cannot be recorded
        except Exception as error:  # noqa: BLE001 - whatever it raises; its text may quote what is to be kept out
            log.error("plugin %s failed to redact: %s", plugin.name, type(error).__name__)  # noqa: TRY400
            return Withheld(plugin.name)
        if len(left) > MAX_BYTES:
            log.error("plugin %s redacts with more text than is recorded", plugin.name)
            return Withheld(plugin.name)
    return left


def _offered(plugin: _Implementation, version: str | None) -> dict[str, type]:
    """Return the evaluators that *plugin* offers."""
    problem: Exception | None = None
    try:
        answer = plugin.call(None)
        if isinstance(answer, Mapping):
            offered = {**answer}
            if all(
                isinstance(name, str) and isinstance(kind, type) for name, kind in offered.items()
            ):
                return offered
        said = f"answered with a {type(answer).__name__} instead of a mapping from names to classes"
    except Exception as error:  # noqa: BLE001 - it is told to the host, with the cause
        problem, said = error, f"raised {type(error).__name__}: {error}"
    raise PluginError(
        f"plugin {plugin.name!r} cannot say which evaluators it offers: it {said}",
        plugin=plugin.name,
        distribution=version,
    ) from problem


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
