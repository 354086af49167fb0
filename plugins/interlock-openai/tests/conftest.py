"""What the tests of this adapter have of their own: its SDK, and its provider on a loopback socket."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from interlock import Usage
from interlock_openai import canary, govern
from interlock_openai.dialect import DIALECT
from tests.clients.desk import Sdk, module
from tests.clients.fixtures import anyio_backend, desk, done, every, within

__all__ = ["anyio_backend", "desk", "done", "every", "within"]


PROVIDER = module(Path(__file__).with_name("provider.py"))

SDK = Sdk(
    module=openai,
    clients={"sync": OpenAI, "async": AsyncOpenAI},
    govern=govern,
    canary=canary,
    dialect=DIALECT,
    endpoint=lambda client: client.chat.completions,
    body={"model": "m-1", "messages": [{"role": "user", "content": "hi"}]},
    limit="max_completion_tokens",
    answer_id="c-1",
    used=Usage(input_tokens=100, output_tokens=20, cache_read_tokens=40, reasoning_tokens=5),
    begun=Usage(),
    priced="gpt-4o-mini",
    busy=503,
    parts=5,
    last="data: [DONE]",
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
