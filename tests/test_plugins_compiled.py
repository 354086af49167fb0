"""The list of hooks that is kept between calls: what it holds is always who is registered, in pluggy's order."""

from __future__ import annotations

import threading
import types
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock import Call, Opinion, Verdict, hookimpl
from interlock._plugins import Plugins
from interlock.errors import PluginError
from tests.samples import call_of, opinion

CALL = call_of({"amount": 5})


class Saying:
    """A plugin with one opinion, under a name of its own."""

    def __init__(self, name: str) -> None:
        self.__name__ = name

    @hookimpl
    def interlock_opinion(self, call: Call) -> Opinion:
        """Say who it is."""
        return opinion(Verdict.ALLOW, self.__name__)


class First(Saying):
    """A plugin that wants to be asked first."""

    @hookimpl(tryfirst=True)
    def interlock_opinion(self, call: Call) -> Opinion:
        """Say who it is."""
        return opinion(Verdict.ALLOW, self.__name__)


class Last(Saying):
    """A plugin that wants to be asked last."""

    @hookimpl(trylast=True)
    def interlock_opinion(self, call: Call) -> Opinion:
        """Say who it is."""
        return opinion(Verdict.ALLOW, self.__name__)


class Incurious(Saying):
    """A plugin that has no use for the call."""

    @hookimpl
    def interlock_opinion(self) -> Opinion:  # type: ignore[override]
        """Say who it is."""
        return opinion(Verdict.ALLOW, self.__name__)


def asked(plugins: Plugins) -> list[str]:
    """Who is asked, in order."""
    return [said.reason for said in plugins.opinions(CALL)]


kinds = st.sampled_from([Saying, First, Last, Incurious])
steps = st.lists(st.tuples(st.booleans(), st.integers(0, 3), kinds), max_size=12)


@pytest.mark.promise(1, 2)
@given(steps)
def test_who_is_registered_is_asked(comings: list[tuple[bool, int, Callable[[str], Any]]]) -> None:
    """Broken if a plugin that has come is not asked, one that has gone still is, or the order is not pluggy's."""
    plugins = Plugins([])
    manager = plugins._manager
    assert asked(plugins) == []
    for comes, number, kind in comings:
        name = f"p{number}"
        if comes and not manager.has_plugin(name):
            manager.register(kind(name), name)
        elif not comes and manager.has_plugin(name):
            manager.unregister(name=name)
        # pluggy calls the one that it has last first; opinions are asked for in the order of its list.
        pluggys = [found.plugin_name for found in manager.hook.interlock_opinion.get_hookimpls()]
        assert asked(plugins) == pluggys
        assert sorted(said.reason for said in manager.hook.interlock_opinion(call=CALL)) == sorted(
            pluggys
        )


@pytest.mark.promise(1)
def test_one_that_is_refused_leaves_the_others() -> None:
    """Broken if a plugin that cannot be registered takes the place, or the ear, of those that were."""
    plugins = Plugins([Saying("one")])
    assert asked(plugins) == ["one"]
    with pytest.raises(ValueError, match="already registered"):
        plugins._manager.register(Saying("one"), "one")
    assert asked(plugins) == ["one"]


def test_a_plugin_that_is_blocked_is_not_asked() -> None:
    """Broken if pluggy's own ways to take a plugin out are not noticed."""
    plugins = Plugins([Saying("one"), Saying("two")])
    assert asked(plugins) == ["one", "two"]
    plugins._manager.set_blocked("one")
    assert asked(plugins) == ["two"]


@pytest.mark.promise(1)
def test_one_that_comes_while_others_are_asked_is_asked_from_then_on() -> None:
    """Broken if a list that was being made when a plugin came is kept, and the plugin is never asked."""
    plugins = Plugins([Saying("one")])
    manager = plugins._manager
    reading, registered = threading.Event(), threading.Event()
    hooks = manager.hook

    def slowly() -> Any:
        found = hooks.interlock_opinion.get_hookimpls()
        reading.set()
        assert registered.wait(30)
        return found

    manager.hook = types.SimpleNamespace(  # type: ignore[assignment] # pluggy, taking its time
        interlock_opinion=types.SimpleNamespace(get_hookimpls=slowly)
    )
    heard: list[list[str]] = []
    thread = threading.Thread(target=lambda: heard.append(asked(plugins)))
    thread.start()
    assert reading.wait(30), "the list was not being made"
    manager.hook = hooks
    manager.register(Saying("two"), "two")
    registered.set()
    thread.join()

    assert heard == [["one"]]
    assert asked(plugins) == ["one", "two"]


def test_a_plugin_may_leave_the_argument_out() -> None:
    """Broken if a plugin that has no use for the call, as pluggy lets it, is taken for one that fails."""
    assert asked(Plugins([Incurious("one"), Saying("two")])) == ["one", "two"]


@pytest.mark.promise(1)
def test_a_governor_is_refused_its_second_of_a_name() -> None:
    """Broken if two plugins of one name are taken for one."""
    with pytest.raises(PluginError, match="already registered"):
        Plugins([Saying("one"), Last("one")])
