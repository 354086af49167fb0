"""What every test can ask for: a store of its own, a governor over it, a clock, a recorder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from interlock import Governor
from interlock._scope import _scope
from interlock.testing import ManualClock, Recorder

pytest_plugins = ["tests.promises"]

# No test asserts on wall-clock, and neither may Hypothesis.
settings.register_profile(
    "interlock", deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
settings.load_profile("interlock")

ALLOW_ALL: dict[str, Any] = {"version": 1, "name": "allow-all", "default": "allow"}
"""A policy that allows whatever no other judge objects to."""


@pytest.fixture(autouse=True)
def _no_scope_left() -> Iterator[None]:
    """Every test leaves the context as it found it, or the next one would be in its session."""
    before = _scope.get()
    yield
    assert _scope.get() is before


@pytest.fixture
def anyio_backend() -> str:
    """Run async tests on asyncio; those that must hold on trio too say so with a parameter."""
    return "asyncio"


@pytest.fixture
def database(tmp_path: Path) -> str:
    """The URL of an SQLite file that does not exist yet."""
    return f"sqlite:///{tmp_path / 'interlock.db'}"


@pytest.fixture
def clock() -> ManualClock:
    """A clock that stands still until the test moves it."""
    return ManualClock()


@pytest.fixture
def recorder() -> Recorder:
    """A plugin that keeps what was recorded."""
    return Recorder()


@pytest.fixture
def governor(database: str) -> Iterator[Callable[..., Governor]]:
    """Make governors over this test's store; all are closed when the test ends."""
    made: list[Governor] = []

    def make(policy: object = ALLOW_ALL, **options: Any) -> Governor:
        made.append(Governor(options.pop("url", database), policy=policy, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()
