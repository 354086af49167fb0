"""
Every shape a tool can have, made from one plain body, and how a call of each is run to its end.

So that one test body serves all of them: a tool is called as `tool(order, amount=3)`, runs `body(order, amount)`
once, and gives what that returns, as its result or as its one item.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Coroutine, Generator, Iterable
from dataclasses import dataclass
from typing import Any

import anyio
import anyio.lowlevel

from interlock import governed

Body = Callable[[Any, Any], Any]
Decorate = Callable[[Any], Any]


@dataclass(frozen=True)
class Shape:
    """
    One shape of tool.

    Attributes:
        name: What the tests call it.
        made: Makes the tool out of a body and the decorator to put on it.
        run: Calls a tool to its end and returns what the body returned.
        is_stream: Whether its results are items.
    """

    name: str
    made: Callable[[Body, Decorate], Any]
    run: Callable[..., Any]
    is_stream: bool = False

    def make(self, body: Body, **options: Any) -> Any:
        """Return the governed tool; without options `@governed` is used bare."""
        return self.made(body, governed(**options) if options else governed)

    def __str__(self) -> str:
        return self.name


def _function(body: Body, decorate: Decorate) -> Any:
    @decorate
    def tool(order: Any, amount: Any = 3) -> Any:
        return body(order, amount)

    return tool


def _coroutine(body: Body, decorate: Decorate) -> Any:
    @decorate
    async def tool(order: Any, amount: Any = 3) -> Any:
        await anyio.lowlevel.checkpoint()
        return body(order, amount)

    return tool


def _generator(body: Body, decorate: Decorate) -> Any:
    @decorate
    def tool(order: Any, amount: Any = 3) -> Generator[Any]:
        yield body(order, amount)

    return tool


def _async_generator(body: Body, decorate: Decorate) -> Any:
    @decorate
    async def tool(order: Any, amount: Any = 3) -> AsyncGenerator[Any]:
        await anyio.lowlevel.checkpoint()
        yield body(order, amount)

    return tool


def _method(body: Body, decorate: Decorate) -> Any:
    class Desk:
        @decorate
        def tool(self, order: Any, amount: Any = 3) -> Any:
            assert isinstance(self, Desk)
            return body(order, amount)

    return Desk().tool


def _async_method(body: Body, decorate: Decorate) -> Any:
    class Desk:
        @decorate
        async def tool(self, order: Any, amount: Any = 3) -> Any:
            await anyio.lowlevel.checkpoint()
            assert isinstance(self, Desk)
            return body(order, amount)

    return Desk().tool


def _method_by_class(body: Body, decorate: Decorate) -> Any:
    class Desk:
        @decorate
        def tool(self, order: Any, amount: Any = 3) -> Any:
            assert isinstance(self, Desk)
            return body(order, amount)

    return functools.partial(Desk.tool, Desk())


def _generator_method(body: Body, decorate: Decorate) -> Any:
    class Desk:
        @decorate
        def tool(self, order: Any, amount: Any = 3) -> Generator[Any]:
            assert isinstance(self, Desk)
            yield body(order, amount)

    return Desk().tool


def _governed_class_method(body: Body, decorate: Decorate) -> Any:
    class Desk:
        @decorate
        @classmethod
        def tool(cls, order: Any, amount: Any = 3) -> Any:
            assert cls is Desk
            return body(order, amount)

    return Desk.tool


def _class_method_of_governed(body: Body, decorate: Decorate) -> Any:
    class Desk:
        @classmethod
        @decorate
        def tool(cls, order: Any, amount: Any = 3) -> Any:
            assert cls is Desk
            return body(order, amount)

    return Desk().tool


def _governed_static_method(body: Body, decorate: Decorate) -> Any:
    class Desk:
        @decorate
        @staticmethod
        def tool(order: Any, amount: Any = 3) -> Any:
            return body(order, amount)

    return Desk().tool


def _static_method_of_governed(body: Body, decorate: Decorate) -> Any:
    class Desk:
        @staticmethod
        @decorate
        def tool(order: Any, amount: Any = 3) -> Any:
            return body(order, amount)

    return Desk.tool


def _callable_object(body: Body, decorate: Decorate) -> Any:
    class Desk:
        def __call__(self, order: Any, amount: Any = 3) -> Any:
            return body(order, amount)

    return decorate(Desk())


def _async_callable_object(body: Body, decorate: Decorate) -> Any:
    class Desk:
        async def __call__(self, order: Any, amount: Any = 3) -> Any:
            await anyio.lowlevel.checkpoint()
            return body(order, amount)

    return decorate(Desk())


def _call_method(body: Body, decorate: Decorate) -> Any:
    class Desk:
        @decorate
        def __call__(self, order: Any, amount: Any = 3) -> Any:
            return body(order, amount)

    return Desk()


def _bound_method(body: Body, decorate: Decorate) -> Any:
    class Desk:
        def tool(self, order: Any, amount: Any = 3) -> Any:
            return body(order, amount)

    return decorate(Desk().tool)


def _property(body: Body, decorate: Decorate) -> Any:
    class Desk:
        @property
        def tool(self) -> Any:
            @decorate
            def tool(order: Any, amount: Any = 3) -> Any:
                return body(order, amount)

            return tool

    return Desk().tool


def _partial(body: Body, decorate: Decorate) -> Any:
    def tool(_shop: str, order: Any, amount: Any = 3) -> Any:
        return body(order, amount)

    return decorate(functools.partial(tool, "shop-1"))


def _async_partial(body: Body, decorate: Decorate) -> Any:
    async def tool(order: Any, amount: Any = 3, *, shop: str) -> Any:
        await anyio.lowlevel.checkpoint()
        assert shop == "shop-1"
        return body(order, amount)

    return decorate(functools.partial(tool, shop="shop-1"))


def _partial_generator(body: Body, decorate: Decorate) -> Any:
    def tool(_shop: str, order: Any, amount: Any = 3) -> Generator[Any]:
        yield body(order, amount)

    return decorate(functools.partial(tool, "shop-1"))


def _partial_async_generator(body: Body, decorate: Decorate) -> Any:
    async def tool(_shop: str, order: Any, amount: Any = 3) -> AsyncGenerator[Any]:
        await anyio.lowlevel.checkpoint()
        yield body(order, amount)

    return decorate(functools.partial(tool, "shop-1"))


def _lambda(body: Body, decorate: Decorate) -> Any:
    return decorate(lambda order, amount=3: body(order, amount))


def _returns_coroutine(body: Body, decorate: Decorate) -> Any:
    async def later(order: Any, amount: Any) -> Any:
        await anyio.lowlevel.checkpoint()
        return body(order, amount)

    @decorate
    def tool(order: Any, amount: Any = 3) -> Coroutine[Any, Any, Any]:
        return later(order, amount)

    return tool


def at_once(tool: Any, /, *args: Any, **kwargs: Any) -> Any:
    """Call a function."""
    return tool(*args, **kwargs)


def only(items: Iterable[Any]) -> Any:
    """Return the one item of a stream."""
    (item,) = items
    return item


async def aonly(items: AsyncIterable[Any]) -> Any:
    """Return the one item of an async stream."""
    (item,) = [item async for item in items]
    return item


def _from_stream(tool: Any, /, *args: Any, **kwargs: Any) -> Any:
    return only(tool(*args, **kwargs))


def _awaited(backend: str) -> Callable[..., Any]:
    def run(tool: Any, /, *args: Any, **kwargs: Any) -> Any:
        async def main() -> Any:
            return await tool(*args, **kwargs)

        return anyio.run(main, backend=backend)

    return run


def _from_async_stream(backend: str) -> Callable[..., Any]:
    def run(tool: Any, /, *args: Any, **kwargs: Any) -> Any:
        async def main() -> Any:
            return await aonly(tool(*args, **kwargs))

        return anyio.run(main, backend=backend)

    return run


SHAPES: tuple[Shape, ...] = (
    *(
        Shape(made.__name__.strip("_"), made, at_once)
        for made in (
            _function,
            _method,
            _method_by_class,
            _governed_class_method,
            _class_method_of_governed,
            _governed_static_method,
            _static_method_of_governed,
            _callable_object,
            _call_method,
            _bound_method,
            _property,
            _partial,
            _lambda,
        )
    ),
    *(
        Shape(made.__name__.strip("_"), made, _from_stream, is_stream=True)
        for made in (_generator, _generator_method, _partial_generator)
    ),
    *(
        Shape(f"{made.__name__.strip('_')}-{backend}", made, _awaited(backend))
        for backend in ("asyncio", "trio")
        for made in (
            _coroutine,
            _async_method,
            _async_callable_object,
            _async_partial,
            _returns_coroutine,
        )
    ),
    *(
        Shape(
            f"{made.__name__.strip('_')}-{backend}",
            made,
            _from_async_stream(backend),
            is_stream=True,
        )
        for backend in ("asyncio", "trio")
        for made in (_async_generator, _partial_async_generator)
    ),
)
"""Of every kind of function, in every place it can stand; what is awaited, on both event loops."""

BASIC: tuple[Shape, ...] = tuple(
    shape for shape in SHAPES if shape.made in (_function, _coroutine, _generator, _async_generator)
)
"""The four bodies that all others come down to."""
