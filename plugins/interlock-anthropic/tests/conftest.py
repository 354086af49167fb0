"""What the tests of this adapter have of their own: its SDK, and its provider on a loopback socket."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import pytest
from anthropic import Anthropic, AsyncAnthropic

from interlock import Usage
from interlock_anthropic import canary, govern
from interlock_anthropic.dialect import DIALECT
from tests.clients.desk import Sdk, module
from tests.clients.fixtures import anyio_backend, desk, done, every, within

__all__ = ["anyio_backend", "desk", "done", "every", "within"]


PROVIDER = module(Path(__file__).with_name("provider.py"))

SDK = Sdk(
    module=anthropic,
    clients={"sync": Anthropic, "async": AsyncAnthropic},
    govern=govern,
    canary=canary,
    dialect=DIALECT,
    endpoint=lambda client: client.messages,
    body={"model": "m-1", "max_tokens": 50, "messages": [{"role": "user", "content": "hi"}]},
    limit="max_tokens",
    answer_id="m-1",
    used=Usage(
        input_tokens=100,
        output_tokens=20,
        cache_read_tokens=40,
        cache_write_tokens=10,
        reasoning_tokens=5,
    ),
    begun=Usage(input_tokens=100, cache_read_tokens=40, cache_write_tokens=10),
    priced="claude-haiku-4-5",
    busy=529,
    parts=8,
    last='data: {"type": "message_stop"}',
)


@pytest.fixture
def sdk() -> Sdk:
    """Give the test the SDK, and the call that it can make."""
    return SDK


@pytest.fixture
def provider() -> Iterator[Any]:
    """Give the test a provider of its own."""
    with PROVIDER.Provider() as provider:
        yield provider
