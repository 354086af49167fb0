"""What the tests of governed clients share: the real SDK, a provider on a loopback socket, and books."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec

from interlock import Governor, Session, Usage
from interlock.clients import Dialect
from interlock.events import CallDecided, CallFinished
from interlock.store import tickets
from interlock.testing import Recorder
from tests.clients.server import Provider, Says


class Sdk(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """
    One SDK, and the call that every test can make with it.

    Attributes:
        module: The SDK.
        clients: Its sync and its async client.
        govern: What governs one of them.
        canary: What finds out whether that works.
        dialect: What is the provider's own.
        endpoint: Finds the resource that makes the call, and streams, in a client.
        body: What the call sends.
        limit: The field that limits what is written.
        answer_id: The id of what is answered.
        used: What is booked for it.
        begun: What a stream has told of that once it has begun.
        priced: A model that has a price.
        busy: The status of a provider that has too much to do.
        parts: How many events its stream has.
        last: The last line of its stream.
    """

    module: ModuleType
    clients: Mapping[str, Any]
    govern: Callable[..., Any]
    canary: Callable[[], None]
    dialect: Dialect
    endpoint: Callable[[Any], Any]
    body: dict[str, Any]
    limit: str
    answer_id: str
    used: Usage
    begun: Usage
    priced: str
    busy: int
    parts: int
    last: str


class Desk:
    """
    What one test has: books, a provider, and governed clients of it.

    Attributes:
        sdk: The SDK, and what its calls are.
        provider: The provider.
        recorder: All that was recorded.
        is_async: Which of the two clients is used.
    """

    approve = staticmethod(tickets.approve)
    says = Says

    def __init__(self, sdk: Sdk, path: Path, provider: Provider, *, is_async: bool) -> None:
        """Begin with nothing."""
        self.url = f"sqlite:///{path / 'interlock.db'}"
        self.sdk = sdk
        self.provider = provider
        self.recorder = Recorder()
        self.is_async = is_async
        self._clients: list[Any] = []

    def plain(self, **options: Any) -> Any:
        """Return an ungoverned client."""
        kind: Any = self.sdk.clients["async" if self.is_async else "sync"]
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
        return self.sdk.govern(self.plain(), **terms)

    def create(self, client: Any, **more: Any) -> Any:
        """Make the call that every test can make."""
        return self.sdk.endpoint(client).create(**{**self.sdk.body, **more})

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
            assert governor.verify_books() == {}

    def decided(self) -> list[CallDecided]:
        """Return the decisions that were recorded."""
        return [one for one in self.recorder.events if isinstance(one, CallDecided)]

    def finished(self) -> list[CallFinished]:
        """Return the ends of calls that were recorded."""
        return [one for one in self.recorder.events if isinstance(one, CallFinished)]

    def outcomes(self) -> list[tuple[str, str]]:
        """Return what became of each call that ran, and by which name it was judged."""
        return [(one.tool, str(one.outcome)) for one in self.finished()]


def module(path: Path) -> ModuleType:
    """Return the module at *path*: directories of tests are no packages, and two plugins may have one name."""
    name = f"{path.parents[1].name}_tests_{path.stem}".replace("-", "_")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = found
    spec.loader.exec_module(found)
    return found


async def settled(value: Any) -> Any:
    """Return *value*, awaited where the client is async."""
    return await value if hasattr(value, "__await__") else value


async def all_of(stream: Any) -> list[Any]:
    """Return all that a stream gives, of either kind."""
    stream = await settled(stream)
    if hasattr(stream, "__aiter__"):
        return [item async for item in stream]
    return list(stream)


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
