"""What every test can ask for: a store of its own, a governor over it, a clock, a recorder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from interlock import Governor
from interlock._scope import _scope
from interlock.store import schema
from interlock.store.engine import Store
from interlock.testing import ManualClock, Recorder
from tests import postgres_server as server

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


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of a Postgres server, as a user who may create databases; fails where there is none."""
    with server.server() as admin:
        yield admin


@pytest.fixture(scope="session")
def postgres_template(postgres_server: str) -> Iterator[str]:
    """The name of a database with our tables, made once, of which others are copies."""
    with server.database(postgres_server) as url:
        store = Store(url, clock=None, ensure=False)
        store.write(schema.upgrade)
        store.close()  # a database that somebody is connected to is not copied
        yield server.name_of(url)


@pytest.fixture
def postgres(postgres_server: str, postgres_template: str) -> Iterator[str]:
    """The URL of a Postgres database of the test's own, with our tables and nothing in them."""
    with server.database(postgres_server, template=postgres_template) as url:
        yield url


@pytest.fixture
def empty_postgres(postgres_server: str) -> Iterator[str]:
    """The URL of a Postgres database of the test's own, with nothing in it."""
    with server.database(postgres_server) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgres"])
def either(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a fresh store: an SQLite file that does not exist yet, then a Postgres database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'interlock.db'}"
    url: str = request.getfixturevalue("postgres")
    return url


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
