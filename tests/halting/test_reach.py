"""How a halt reaches what runs and waits: wherever it was engaged."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

import interlock
from interlock import Governor, _flights
from interlock.store import ear, tickets, watch
from tests.halting._endless import reached
from tests.halting._policies import THREE, WHO, call, halting, refused

Make = Callable[..., Governor]
NEVER = 10_000.0


@pytest.fixture
def database(either: str) -> str:
    """Run the tests here on both databases that do not say otherwise."""
    return either


@pytest.mark.promise(4)
def test_a_policy_elsewhere_cancels_what_runs_here(governor: Make) -> None:
    """Broken if a halt that a policy orders in one process leaves calls running in others: this would not end."""
    one, two = (governor(halting({**THREE, "halt": "org"})) for _ in range(2))
    with one.session("a", **WHO) as here, two.session("b", **WHO) as there:
        assert reached(here, lambda: refused("sync", there)) == "policy:p"


@pytest.mark.promise(4)
def test_the_very_process_cancels_what_it_runs(
    governor: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Broken if this process learns of its own policy's halt only by looking: this would not end."""
    monkeypatch.setattr(_flights, "POLL_S", NEVER)
    monkeypatch.setattr(_flights, "RELIEF_S", NEVER)
    monkeypatch.setattr(ear, "tell", lambda *_: None)
    one = governor(halting({**THREE, "halt": "org"}))
    with one.session("a", **WHO) as here, one.session("b", **WHO) as there:
        assert reached(here, lambda: refused("sync", there)) == "policy:p"


@pytest.mark.promise(4)
def test_whoever_waits_for_a_human_is_told(governor: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Broken if a call waits for a human's yes after a policy has halted its agent: this would not end."""
    monkeypatch.setattr(watch, "RELIEF_S", NEVER)
    policy = halting({**THREE, "halt": "agent"})
    one, two = governor(policy, on_ask=interlock.wait()), governor(policy)
    with (
        one.session("a", **WHO) as waits,
        two.session("b", **WHO) as other,
        ThreadPoolExecutor(1) as pool,
    ):
        ended = pool.submit(call, "sync", waits, "ship")
        while not one.read(tickets.pending):
            pass
        refused("sync", other)
        assert ended.result() == "HaltedError"
