"""What the tests of this adapter share: the real SDK, a provider on a loopback socket, and books."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from anthropic import Anthropic, AsyncAnthropic

from interlock import Governor, Session
from interlock.events import CallDecided, CallFinished
from interlock.store import tickets
from interlock.testing import Recorder
from interlock_anthropic import govern


@pytest.fixture
def anyio_backend() -> str:
    """Run on asyncio, as most hosts do."""
    return "asyncio"


def _module(name: str) -> ModuleType:
    path = Path(__file__).parent / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"interlock_anthropic_tests_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


PROVIDER = _module("provider")


class Desk:
    """
    What one test has: books, a provider, and governed clients of it.

    Attributes:
        provider: The provider.
        recorder: All that was recorded.
        is_async: Which of the two clients is used.
    """

    approve = staticmethod(tickets.approve)
    says = PROVIDER.Says

    def __init__(self, path: Path, provider: Any, *, is_async: bool) -> None:
        """Begin with nothing."""
        self.url = f"sqlite:///{path / 'interlock.db'}"
        self.provider = provider
        self.recorder = Recorder()
        self.is_async = is_async
        self._clients: list[Any] = []

    def plain(self, **options: Any) -> Any:
        """Return an ungoverned client."""
        kind: Any = AsyncAnthropic if self.is_async else Anthropic
        options = {"api_key": "k", "base_url": self.provider.url, "max_retries": 0, **options}
        return self.keep(kind(**options))

    def keep(self, client: Any) -> Any:
        """Return *client*, to be closed when the test is over."""
        self._clients.append(client)
        return client

    async def close(self) -> None:
        """Close the clients that were made."""
        for client in self._clients:
            await settled(client.close())

    def client(self, **terms: Any) -> Any:
        """Return a governed client."""
        return govern(self.plain(), **terms)

    @contextmanager
    def open(
        self, *rules: Mapping[str, Any], default: str = "allow", **options: Any
    ) -> Iterator[tuple[Governor, Session]]:
        """Open a governor with a policy of these *rules*, and a session."""
        within = {key: options.pop(key) for key in ("dry_run", "on_ask") if key in options}
        named = [{"id": f"rule-{number}", **rule} for number, rule in enumerate(rules)]
        policy = {"version": 1, "name": "test", "default": default, "rules": named}
        policy |= options.pop("policy", {})
        options["plugins"] = [self.recorder, *options.get("plugins", ())]
        with (
            Governor(self.url, policy=policy, **options) as governor,
            governor.session("case", agent="desk", **within) as session,
        ):
            yield governor, session
            assert [report.problem for report in governor.verify() if report.problem] == []
            assert governor.verify_budgets() == []

    def decided(self) -> list[CallDecided]:
        """Return the decisions that were recorded."""
        return [one for one in self.recorder.events if isinstance(one, CallDecided)]

    def finished(self) -> list[CallFinished]:
        """Return the ends of calls that were recorded."""
        return [one for one in self.recorder.events if isinstance(one, CallFinished)]

    def outcomes(self) -> list[tuple[str, str]]:
        """Return what became of each call that ran, and by which name it was judged."""
        return [(one.tool, str(one.outcome)) for one in self.finished()]


@pytest.fixture
def provider() -> Iterator[Any]:
    """Give the test a provider of its own."""
    with PROVIDER.Provider() as provider:
        yield provider


@pytest.fixture(params=["sync", "async"])
async def desk(
    tmp_path: Path, provider: Any, request: pytest.FixtureRequest
) -> AsyncIterator[Desk]:
    """Give the test a desk of its own, once with a sync and once with an async client."""
    desk = Desk(tmp_path, provider, is_async=request.param == "async")
    yield desk
    await desk.close()


async def settled(value: Any) -> Any:
    """Return *value*, awaited where the client is async."""
    return await value if hasattr(value, "__await__") else value


async def all_of(stream: Any) -> list[Any]:
    """Return all that a stream gives, of either kind."""
    stream = await settled(stream)
    if hasattr(stream, "__aiter__"):
        return [item async for item in stream]
    return list(stream)


@pytest.fixture
def done() -> Callable[[Any], Any]:
    """Give the test a way to have what a client returns, sync or async."""
    return settled


@pytest.fixture
def every() -> Callable[[Any], Any]:
    """Give the test a way to have all that a stream gives, sync or async."""
    return all_of


class Reading:
    """`with` or `async with`, as the client wants it."""

    def __init__(self, manager: Any) -> None:
        """Take either kind."""
        self._manager = manager

    async def __aenter__(self) -> Any:
        enter = getattr(self._manager, "__aenter__", None)
        return await enter() if enter else self._manager.__enter__()

    async def __aexit__(self, *error: object) -> Any:
        leave = getattr(self._manager, "__aexit__", None)
        return await leave(*error) if leave else self._manager.__exit__(*error)


@pytest.fixture
def within() -> type[Reading]:
    """Give the test a way into a block of either kind."""
    return Reading
