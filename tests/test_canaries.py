"""Canaries: what adapters are given for theirs, apart from the host."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from importlib.metadata import version

import pytest

from interlock import Denied, Governor, current_session, governed
from interlock.canaries import DeadCanaryError, cage, sing
from interlock.errors import NotConfigured, PluginError
from interlock.testing import Recorder
from tests.tracing import Traces

RULES = [{"id": "never", "tools": ["never"], "verdict": "deny"}]


@governed
def never() -> str:
    """Is never allowed."""
    return "ran"


@governed
def ever() -> str:
    """Is always allowed."""
    return "ran"


def song() -> None:
    """Make both calls."""
    with cage(RULES) as governor, governor.session("canary", agent="canary"):
        with pytest.raises(Denied):
            never()
        assert ever() == "ran"


def test_nothing_of_the_hosts_is_touched(governor: Callable[..., Governor]) -> None:
    """Broken if a canary sings in the host's session, is seen in its books or traces, or leaves a session behind."""
    traces, recorder, seen = Traces(), Recorder(), list[object]()
    options = {"url": "sqlite://", "plugins": [recorder], "tracer_provider": traces.provider}

    def alone() -> None:
        seen.append(threading.current_thread())
        with pytest.raises(NotConfigured):
            current_session("never")
        song()

    with governor("observe", **options).session("host", agent="host") as session:
        before = len(recorder.recorded), len(traces.spans)
        with traces.ambient("host"):
            sing("mcp", alone)
        assert (len(recorder.recorded), len(traces.spans) - 1) == before
        assert current_session("ever") is session
    assert seen != [threading.current_thread()]


async def test_within_a_loop() -> None:
    """Broken if a canary cannot run a loop of its own where one runs already."""

    async def awaited() -> None:
        song()

    sing("mcp", lambda: asyncio.run(awaited()))


def test_dead() -> None:
    """Broken if a dead canary lets a program start, or does not say which adapter is dead, of what, and what to do."""

    def dying() -> None:
        raise DeadCanaryError("what is denied ran")

    with pytest.raises(PluginError) as died:
        sing("mcp", dying)
    assert str(died.value) == (
        f"the canary is dead: with mcp {version('mcp')}, what is denied ran. Start nothing that relies on "
        f"interlock-mcp {version('interlock-mcp')}; install a release of mcp that it is tested with."
    )
    assert died.value.plugin == "mcp"


def test_silent() -> None:
    """Broken if a canary that cannot make its calls counts as one that lives."""
    with pytest.raises(PluginError, match="no call can be made: ZeroDivisionError") as died:
        sing("mcp", lambda: 1 / 0)
    assert isinstance(died.value.__cause__, ZeroDivisionError)
