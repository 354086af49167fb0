"""What the tests of this adapter share: real servers and clients of the protocol's own package, and books."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import anyio
import mcp_types as types
import pytest
from mcp import Client
from mcp.server.mcpserver import MCPServer

from interlock import Governor, Session
from interlock.store import tickets
from interlock.testing import Recorder
from interlock_mcp import Proxy

HERE = Path(__file__).parent


@pytest.fixture
def anyio_backend() -> str:
    """Run on asyncio, as HTTP servers do."""
    return "asyncio"


def _module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        f"interlock_mcp_tests_{name}", HERE / f"{name}.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


BANK = _module("bank")
in_process = _module("links").in_process


class Desk:
    """
    What one test has: books, a bank, and ways to stand between the bank and a client.

    Attributes:
        url: The books.
        recorder: All that was recorded.
        effects: What the bank's tools have done.
        bank: The bank, in this process.
    """

    approve = staticmethod(tickets.approve)
    deny = staticmethod(tickets.deny)

    def __init__(self, path: Path) -> None:
        """Begin with nothing."""
        self.path = path
        self.url = f"sqlite:///{path / 'interlock.db'}"
        self.recorder = Recorder()
        self.effects: Any = BANK.Effects(str(path / "effects"))
        self.bank: MCPServer = BANK.bank(self.effects)

    @property
    def done(self) -> list[str]:
        """What the bank's tools have done, in this process or another."""
        file = self.path / "effects"
        return file.read_text("utf-8").splitlines() if file.exists() else []

    @contextmanager
    def open(
        self, *rules: Mapping[str, Any], default: str = "deny", **options: Any
    ) -> Iterator[tuple[Governor, Session]]:
        """Open a governor with a policy of these *rules*, and a session."""
        within = {key: options.pop(key) for key in ("dry_run", "on_ask") if key in options}
        policy = self.policy(*rules, default=default, **options.pop("policy", {}))
        options["plugins"] = [self.recorder, *options.get("plugins", ())]
        with (
            Governor(self.url, policy=policy, **options) as governor,
            governor.session("case", agent="desk", **within) as session,
        ):
            yield governor, session

    @staticmethod
    def policy(*rules: Mapping[str, Any], default: str = "deny", **more: Any) -> dict[str, Any]:
        """Return a policy of these *rules*."""
        named = [{"id": f"rule-{number}", **rule} for number, rule in enumerate(rules)]
        return {"version": 1, "name": "test", "default": default, "rules": named, **more}

    @asynccontextmanager
    async def proxied(
        self, session: Session, mode: str = "legacy", **options: Any
    ) -> AsyncIterator[Client]:
        """Give a client of the bank with a proxy between."""
        made = {key: options.pop(key) for key in ("catalogue", "timeout") if key in options}
        connect = options.pop("connect", lambda: in_process(self.bank))
        proxy = Proxy(connect, session, name="bank", **made)
        async with Client(proxy.server, mode=mode, **options) as client:
            yield client

    def direct(self, mode: str) -> Client:
        """Return a client of the bank with nothing between."""
        return Client(self.bank, mode=mode)

    @staticmethod
    def told(result: types.CallToolResult) -> str:
        """Return the text of a result."""
        return " ".join(part.text for part in result.content if isinstance(part, types.TextContent))

    @staticmethod
    async def until(is_so: Callable[[], bool]) -> None:
        """Wait until something is so; what never becomes so ends the test."""
        with anyio.fail_after(60):
            while not is_so():  # noqa: ASYNC110 - of other processes there is no event to wait for
                await anyio.sleep(0.02)

    def booked(self) -> list[tuple[str, ...]]:
        """Return what was recorded of calls: (tool, verdict), (tool, outcome) or (tool, outcome, error)."""
        found: list[tuple[str, ...]] = []
        for event in self.recorder.events:
            what = getattr(event, "verdict", None) or getattr(event, "outcome", None)
            if what is not None:
                error = getattr(event, "error_type", None)
                found.append((getattr(event, "tool", ""), str(what), *([error] if error else [])))
        return found


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """Give the test a desk of its own."""
    return Desk(tmp_path)


@pytest.fixture(params=["legacy", "auto"])
def mode(request: pytest.FixtureRequest) -> str:
    """Give the era of the protocol: with the handshake of 2025, or without."""
    found: str = request.param
    return found
