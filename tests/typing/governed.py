# pyright: strict, reportUnnecessaryTypeIgnoreComment=true
"""
Checked, never run: what is governed keeps the type it had, and wrong calls of it are errors.

Each `type: ignore` stands for an error that both checkers must find: both complain of one that is not needed.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Generator
from decimal import Decimal
from typing import Any, assert_type, overload

from interlock import Risk, governed

# functions


@governed
def function(order: str, amount: int = 1, *, note: str = "") -> Decimal:
    return Decimal(amount)


@governed(name="f", resource="order", cost="amount", risk="low", labels=["a"], secrets=("note",))
def function_with_options(order: str, amount: int = 1, *, note: str = "") -> Decimal:
    return Decimal(amount)


assert_type(function("o-1"), Decimal)
assert_type(function("o-1", 2, note="n"), Decimal)
assert_type(function(order="o-1", amount=2), Decimal)
assert_type(function_with_options("o-1", note="n"), Decimal)
as_callable: Callable[[str, int], Decimal] = function

function(1)  # type: ignore[arg-type]
function()  # type: ignore[call-arg]
function("o-1", 2, "n")  # type: ignore[call-arg]
function("o-1", discount=3)  # type: ignore[call-arg]
function_with_options(1)  # type: ignore[arg-type]
function_with_options("o-1", note=2)  # type: ignore[arg-type]
wrong_callable: Callable[[int], Decimal] = function  # type: ignore[assignment]
wrong_result: str = function("o-1")  # type: ignore[assignment]


# coroutine functions


@governed
async def coroutine(order: str) -> Decimal:
    return Decimal(1)


@governed(risk=Risk.HIGH, idempotency_key="order", idempotent=True)
async def coroutine_with_options(order: str) -> Decimal:
    return Decimal(1)


async def await_coroutines() -> None:
    started: Coroutine[Any, Any, Decimal] = coroutine("o-1")
    assert_type(await started, Decimal)
    assert_type(await coroutine("o-1"), Decimal)
    assert_type(await coroutine_with_options(order="o-1"), Decimal)
    await coroutine(1)  # type: ignore[arg-type]
    await function("o-1")  # type: ignore[misc]


# generators


@governed
def generator(order: str) -> Generator[int, str, Decimal]:
    sent = yield 1
    assert_type(sent, str)
    return Decimal(1)


@governed(cost=Decimal("0.10"))
def generator_with_options(order: str) -> Generator[int, str, Decimal]:
    yield 1
    return Decimal(1)


@governed
async def async_generator(order: str) -> AsyncGenerator[int, str]:
    sent = yield 1
    assert_type(sent, str)


@governed(cost=1)
async def async_iterator(order: str) -> AsyncIterator[int]:
    yield 1


def consume() -> Generator[int, str, None]:
    result = yield from generator("o-1")
    assert_type(result, Decimal)
    assert_type(generator_with_options("o-1"), Generator[int, str, Decimal])
    generator("o-1").send(1)  # type: ignore[arg-type]


async def aconsume() -> None:
    assert_type(async_generator("o-1"), AsyncGenerator[int, str])
    async for item in async_iterator("o-1"):
        assert_type(item, int)
    await async_generator("o-1").asend(1)  # type: ignore[arg-type]
    async_generator(1)  # type: ignore[arg-type]


# methods


class Desk:
    @governed
    def method(self, order: str) -> Decimal:
        return Decimal(1)

    @governed(resource="order")
    async def async_method(self, order: str) -> Decimal:
        return Decimal(1)

    @governed
    def generator_method(self, order: str) -> Generator[int, None, None]:
        yield 1

    @classmethod
    @governed
    def class_method(cls, order: str) -> Decimal:
        return Decimal(1)

    @classmethod
    @governed(resource="order")
    def class_method_with_options(cls, order: str) -> Decimal:
        return Decimal(1)

    @staticmethod
    @governed
    def static_method(order: str) -> Decimal:
        return Decimal(1)

    @staticmethod
    @governed(resource="order")
    def static_method_with_options(order: str) -> Decimal:
        return Decimal(1)

    @governed
    @classmethod
    def governed_class_method(cls, order: str) -> Decimal:
        return Decimal(1)

    @governed(resource="order")
    @classmethod
    def governed_class_method_with_options(cls, order: str) -> Decimal:
        return Decimal(1)

    @governed
    @staticmethod
    def governed_static_method(order: str) -> Decimal:
        return Decimal(1)

    @governed(resource="order")
    @staticmethod
    def governed_static_method_with_options(order: str) -> Decimal:
        return Decimal(1)

    @property
    @governed
    def value(self) -> Decimal:
        return Decimal(1)

    @governed
    def __call__(self, order: str) -> Decimal:
        return Decimal(1)


class StrictDesk(Desk):
    @governed
    def method(self, order: str) -> Decimal:
        assert_type(super().method(order), Decimal)
        return Decimal(1)


async def use(desk: Desk) -> None:
    assert_type(desk.method("o-1"), Decimal)
    assert_type(Desk.method(desk, "o-1"), Decimal)
    assert_type(await desk.async_method("o-1"), Decimal)
    assert_type(desk.generator_method("o-1"), Generator[int, None, None])
    assert_type(desk.class_method("o-1"), Decimal)
    assert_type(Desk.class_method("o-1"), Decimal)
    assert_type(Desk.class_method_with_options(order="o-1"), Decimal)
    assert_type(desk.static_method("o-1"), Decimal)
    assert_type(Desk.static_method("o-1"), Decimal)
    assert_type(Desk.static_method_with_options(order="o-1"), Decimal)
    assert_type(desk.governed_class_method("o-1"), Decimal)
    assert_type(Desk.governed_class_method("o-1"), Decimal)
    assert_type(Desk.governed_class_method_with_options(order="o-1"), Decimal)
    assert_type(desk.governed_static_method("o-1"), Decimal)
    assert_type(Desk.governed_static_method("o-1"), Decimal)
    assert_type(Desk.governed_static_method_with_options(order="o-1"), Decimal)
    assert_type(desk.value, Decimal)
    assert_type(desk("o-1"), Decimal)
    desk.method()  # type: ignore[call-arg]
    desk.method(1)  # type: ignore[arg-type]
    desk.method("o-1", "o-2")  # type: ignore[call-arg]
    await desk.async_method(1)  # type: ignore[arg-type]
    Desk.class_method(1)  # type: ignore[arg-type]
    Desk.static_method(1)  # type: ignore[arg-type]
    Desk.governed_class_method(1)  # type: ignore[arg-type]
    Desk.governed_static_method(1)  # type: ignore[arg-type]
    desk(1)  # type: ignore[arg-type]


# other callables


@overload
def overloaded(order: str) -> str: ...
@overload
def overloaded(order: int) -> int: ...
@governed
def overloaded(order: str | int) -> str | int:
    return order


assert_type(overloaded("o-1"), str)
assert_type(overloaded(1), int)
overloaded(1.5)  # type: ignore[call-overload]


class Tool:
    def __call__(self, order: str) -> Decimal:
        return Decimal(1)


assert_type(governed(Tool()), Tool)
assert_type(governed(name="t")(Tool())("o-1"), Decimal)
assert_type(governed(functools.partial(function, "o-1"))(), Decimal)
shouted: Callable[[str], str] = governed(lambda order: order.upper())


@governed
def returns_awaitable(order: str) -> Awaitable[Decimal]:
    return coroutine(order)


assert_type(returns_awaitable("o-1"), Awaitable[Decimal])


# the decorator itself

governed(1)  # type: ignore[call-overload]
governed(nmae="x")  # type: ignore[call-overload]
governed(kind="tol")  # type: ignore[call-overload]
governed(cost=1.5)  # type: ignore[call-overload]
governed(function, name="x")  # type: ignore[call-overload]
