"""The ways to call a tool, so that one test body serves all: each has its effect once, and says "done"."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, closing
from typing import Any, NamedTuple

import anyio.lowlevel
import pytest

from interlock import Governor, governed

Effect = Callable[[], None]


class Shape(NamedTuple):
    """
    One way to be called.

    Attributes:
        name: What the tests call it.
        make: Makes the governed tool, called "act", around an effect.
        run: Calls it to its end and returns "done".
        arun: Does so in a running loop; None for what only sync code calls.
    """

    name: str
    make: Callable[[Effect], Any]
    run: Callable[[Any], str]
    arun: Callable[[Any], Awaitable[str]] | None = None


def _function(effect: Effect) -> Any:
    @governed(name="act")
    def act() -> str:
        effect()
        return "done"

    return act


def _coroutine(effect: Effect) -> Any:
    @governed(name="act")
    async def act() -> str:
        await anyio.lowlevel.checkpoint()
        effect()
        await anyio.lowlevel.checkpoint()
        return "done"

    return act


def _eager_coroutine(effect: Effect) -> Any:
    @governed(name="act")
    async def act() -> str:
        effect()
        await anyio.lowlevel.checkpoint()
        return "done"

    return act


def _returns_coroutine(effect: Effect) -> Any:
    async def later() -> str:
        await anyio.lowlevel.checkpoint()
        effect()
        await anyio.lowlevel.checkpoint()
        return "done"

    @governed(name="act")
    def act() -> Awaitable[str]:
        return later()

    return act


def _generator(effect: Effect) -> Any:
    @governed(name="act")
    def act() -> Iterator[str]:
        yield "begun"
        effect()
        yield "done"

    return act


def _async_generator(effect: Effect) -> Any:
    @governed(name="act")
    async def act() -> AsyncIterator[str]:
        yield "begun"
        await anyio.lowlevel.checkpoint()
        effect()
        await anyio.lowlevel.checkpoint()
        yield "done"

    return act


async def _await(tool: Any) -> str:
    result: str = await tool()
    return result


async def _consume(tool: Any) -> str:
    last = ""
    async with aclosing(tool()) as items:
        async for item in items:
            await anyio.lowlevel.checkpoint()
            last = item
    return last


SHAPES = [
    Shape("function", _function, lambda tool: tool()),
    Shape("generator", _generator, lambda tool: list(tool())[-1]),
    Shape("coroutine", _coroutine, lambda tool: asyncio.run(_await(tool)), _await),
    Shape("eager", _eager_coroutine, lambda tool: asyncio.run(_await(tool)), _await),
    Shape("awaitable", _returns_coroutine, lambda tool: asyncio.run(_await(tool)), _await),
    Shape("async-generator", _async_generator, lambda tool: asyncio.run(_consume(tool)), _consume),
]

every_shape = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)

every_async_shape = pytest.mark.parametrize(
    "shape", [shape for shape in SHAPES if shape.arun], ids=lambda shape: shape.name
)


class Witness:
    """An effect that notes, each time it comes about, how many intents the file holds, as another process sees it."""

    def __init__(self, governor: Governor) -> None:
        self._path = str(governor._machinery.store.url.database)
        self.seen: list[int] = []

    def __call__(self) -> None:
        self.seen.append(len(self.intents()))

    def intents(self) -> set[str]:
        """Return the ids of calls that have an intent, as it is in the file now."""
        with closing(sqlite3.connect(self._path)) as connection:
            return {row[0] for row in connection.execute("SELECT call_id FROM intents")}
