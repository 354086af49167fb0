"""The fixtures of those tests; the `conftest.py` of a plugin imports them, and has `sdk` and `provider` of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.clients.desk import Desk, Reading, Sdk, all_of, settled
from tests.clients.server import Provider

__all__ = ["anyio_backend", "desk", "done", "every", "within"]


@pytest.fixture
def anyio_backend() -> str:
    """Run on asyncio, as most hosts do."""
    return "asyncio"


@pytest.fixture(params=["sync", "async"])
async def desk(
    sdk: Sdk, tmp_path: Path, provider: Provider, request: pytest.FixtureRequest
) -> AsyncIterator[Desk]:
    """Give the test a desk of its own, once with a sync and once with an async client."""
    desk = Desk(sdk, tmp_path, provider, is_async=request.param == "async")
    yield desk
    await desk.close()


@pytest.fixture
def done() -> Callable[[Any], Any]:
    """Give the test a way to have what a client returns, sync or async."""
    return settled


@pytest.fixture
def every() -> Callable[[Any], Any]:
    """Give the test a way to have all that a stream gives, sync or async."""
    return all_of


@pytest.fixture
def within() -> type[Reading]:
    """Give the test a way into a block of either kind."""
    return Reading
