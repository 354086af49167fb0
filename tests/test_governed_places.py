"""@governed where functions stand: in classes that inherit, under and over other decorators, in other callables."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import types
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, overload

import pytest

from interlock import Governor, Misuse, Session, governed, tool_of
from interlock.testing import Recorder
from tests.books import judged

MakeGovernor = Callable[..., Governor]


@pytest.fixture
def session(governor: MakeGovernor, recorder: Recorder) -> Iterator[Session]:
    """An open session in which everything is allowed."""
    with governor(url="sqlite://", plugins=[recorder]).session("s", agent="bot") as session:
        yield session


class Desk:
    """A class with governed methods."""

    def __init__(self) -> None:
        """Begin with nothing done."""
        self.done: list[str] = []

    @governed
    def refund(self, order: str) -> str:
        """Refund."""
        self.done.append(f"refund {order}")
        return f"refunded {order}"

    @governed
    @classmethod
    def described(cls, order: str) -> str:
        """Say which class was asked."""
        return f"{cls.__name__} {order}"

    @classmethod
    @governed
    def named(cls, order: str) -> str:
        """Say which class was asked."""
        return f"{cls.__name__} {order}"


class QuietDesk(Desk):
    """Inherits everything."""


class CarefulDesk(Desk):
    """Overrides without a decorator of its own, and calls what it overrides."""

    def refund(self, order: str) -> str:
        """Refund, carefully."""
        self.done.append("careful")
        return super().refund(order)

    @classmethod
    def described(cls, order: str) -> str:
        """Say which class was asked, twice."""
        return f"{super().described(order)}!"


class StrictDesk(Desk):
    """Overrides with a governed method, and calls what it overrides."""

    @governed(name="strict_refund")
    def refund(self, order: str) -> str:
        """Refund, strictly."""
        self.done.append("strict")
        return super().refund(order)


def test_inherited_method_is_judged_once(session: Session, recorder: Recorder) -> None:
    """Broken if a subclass's objects are not governed, or the class method sees the wrong class."""
    desk = QuietDesk()

    assert desk.refund("o-1") == "refunded o-1"
    assert QuietDesk.described("o-2") == "QuietDesk o-2"
    assert QuietDesk.named("o-3") == "QuietDesk o-3"

    assert desk.done == ["refund o-1"]
    assert judged(recorder) == [
        ("refund", '{"order":"o-1"}'),
        ("described", '{"order":"o-2"}'),
        ("named", '{"order":"o-3"}'),
    ]


def test_overriding_method_that_calls_super_is_judged_once(
    session: Session, recorder: Recorder
) -> None:
    """Broken if `super()` misses the governed method, or governs it twice."""
    desk = CarefulDesk()

    assert desk.refund("o-1") == "refunded o-1"
    assert CarefulDesk.described("o-2") == "CarefulDesk o-2!"

    assert desk.done == ["careful", "refund o-1"]
    assert judged(recorder) == [("refund", '{"order":"o-1"}'), ("described", '{"order":"o-2"}')]


def test_two_governed_methods_are_two_calls(session: Session, recorder: Recorder) -> None:
    """Broken if a governed method hides the governed method that it calls."""
    desk = StrictDesk()

    assert desk.refund("o-1") == "refunded o-1"

    assert desk.done == ["strict", "refund o-1"]
    assert [tool for tool, _ in judged(recorder)] == ["strict_refund", "refund"]


@pytest.mark.promise(8)
def test_methods_can_be_referred_to_weakly(session: Session, recorder: Recorder) -> None:
    """Broken if what signals and callbacks hold weakly is no method any more, keeps its object, or is not judged."""
    desk = Desk()
    references = [weakref.WeakMethod(desk.refund), weakref.WeakMethod(Desk.described)]
    references += [weakref.WeakMethod(desk.named), weakref.WeakMethod(QuietDesk.named)]

    assert [found("o-1") for reference in references if (found := reference())] == [
        "refunded o-1",
        "Desk o-1",
        "Desk o-1",
        "QuietDesk o-1",
    ]
    assert [tool for tool, _ in judged(recorder)] == ["refund", "described", "named", "named"]
    assert references[0]() == desk.refund
    del desk
    assert references[0]() is None


def test_a_method_is_made_anew_of_its_own_parts_alone() -> None:
    """Broken if a method can be made of a function that is not governed, and would then run unjudged."""
    desk = Desk()
    bound = type(desk.refund)

    for function in (Desk.__init__, CarefulDesk.refund):
        with pytest.raises(TypeError, match="is no governed method of"):
            bound(function, desk)


def test_methods_reached_otherwise_are_the_same_call(session: Session, recorder: Recorder) -> None:
    """Broken if a method found on its class, in its class's dict or by `__func__` escapes, or copies its object."""
    desk = Desk()

    Desk.refund(desk, "o-1")
    Desk.__dict__["refund"](desk, "o-1")
    desk.refund.__func__(desk, "o-1")
    types.MethodType(Desk.refund, desk)("o-1")
    functools.partial(Desk.refund, desk)("o-1")
    Desk.__dict__["refund"].__get__(desk)("o-1")

    assert desk.done == ["refund o-1"] * 6
    assert judged(recorder) == [("refund", '{"order":"o-1"}')] * 6


def loud(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate as most decorators do: a plain wrapper that passes everything on."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        seen.append((args, kwargs))
        return function(*args, **kwargs)

    return wrapper


seen: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
"""What `loud` was called with."""


def aloud(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate as decorators of coroutine functions do."""

    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        return await function(*args, **kwargs)

    return wrapper


@dataclass
class Till:
    """A class whose objects can be copied, and so would be if they were taken for arguments."""

    taken: list[str] = field(default_factory=list)

    @loud
    @governed
    def below(self, order: str, amount: int = 1) -> int:
        """Take, governed below another decorator."""
        self.taken.append(order)
        return amount

    @governed
    @loud
    def above(self, order: str, amount: int = 1) -> int:
        """Take, governed above another decorator."""
        self.taken.append(order)
        return amount

    @loud
    @governed
    @loud
    def between(self, order: str, amount: int = 1) -> int:
        """Take, governed between others."""
        self.taken.append(order)
        return amount

    @aloud
    @governed
    async def abelow(self, order: str, amount: int = 1) -> int:
        """Take, governed below another decorator."""
        self.taken.append(order)
        return amount

    @governed
    @aloud
    async def aabove(self, order: str, amount: int = 1) -> int:
        """Take, governed above another decorator."""
        self.taken.append(order)
        return amount

    @governed
    @loud
    async def aabove_sync(self, order: str, amount: int = 1) -> int:
        """Take, governed above a decorator that returns a coroutine without being one."""
        self.taken.append(order)
        return amount


@pytest.mark.promise(8)
@pytest.mark.parametrize("place", ["below", "above", "between"])
def test_other_decorators_in_either_order(place: str, session: Session, recorder: Recorder) -> None:
    """Broken if a method under or over another decorator runs twice, or on a copy of its object."""
    till = Till()

    assert getattr(till, place)("o-1", amount=2) == 2

    assert till.taken == ["o-1"]
    assert judged(recorder) == [(place, '{"amount":2,"order":"o-1"}')]


@pytest.mark.promise(8)
@pytest.mark.parametrize("place", ["abelow", "aabove", "aabove_sync"])
async def test_other_decorators_in_either_order_async(
    place: str, session: Session, recorder: Recorder
) -> None:
    """Broken if an async method under or over another decorator runs twice, or on a copy of its object."""
    till = Till()

    assert await getattr(till, place)("o-1", amount=2) == 2

    assert till.taken == ["o-1"]
    assert judged(recorder) == [(place, '{"amount":2,"order":"o-1"}')]


@pytest.mark.promise(8)
def test_decorators_below_are_called_as_the_caller_called(session: Session) -> None:
    """Broken if what is given by name arrives by position, or defaults arrive as if they had been given."""

    @governed
    @loud
    def refund(order: str, amount: int = 1, *rest: int, note: str = "", **others: int) -> None:
        pass

    seen.clear()
    refund("o-1")
    refund(order="o-1")
    refund("o-1", 2, 3, 4, note="n", z=1, a=2)
    refund(amount=2, order="o-1")

    assert [(tuple(args), kwargs) for args, kwargs in seen] == [
        (("o-1",), {}),
        ((), {"order": "o-1"}),
        (("o-1", 2, 3, 4), {"note": "n", "z": 1, "a": 2}),
        ((), {"amount": 2, "order": "o-1"}),
    ]
    assert list(seen[2][1]) == ["note", "z", "a"]
    assert list(seen[3][1]) == ["amount", "order"]


def test_standard_decorators_above_and_below(session: Session, recorder: Recorder) -> None:
    """Broken if caching, context managers or dispatch of the standard library do not work with governed functions."""
    ran: list[str] = []

    @governed
    @functools.cache
    def below(order: str) -> str:
        ran.append(order)
        return order

    @functools.cache
    @governed
    def above(order: str) -> str:
        ran.append(order)
        return order

    @governed
    @contextlib.contextmanager
    def opened(order: str) -> Iterator[str]:
        yield order

    @functools.singledispatch
    @governed
    def dispatched(order: object) -> str:
        return "object"

    @dispatched.register
    @governed(name="dispatched_int")
    def _(order: int) -> str:
        return "int"

    assert (below("a"), below("a"), above("b"), above("b")) == ("a", "a", "b", "b")
    with opened("c") as order:
        assert order == "c"
    assert (dispatched("x"), dispatched(1)) == ("object", "int")

    assert ran == ["a", "b"]
    assert [tool for tool, _ in judged(recorder)] == [
        "below",
        "below",
        "above",
        "opened",
        "dispatched",
        "dispatched_int",
    ]


def test_partial_of_a_governed_function_is_governed(session: Session, recorder: Recorder) -> None:
    """Broken if a partial hides that its function is governed, so that adapters judge it again."""

    @governed
    def refund(order: str, amount: int) -> int:
        return amount

    fixed = functools.partial(refund, "o-1")

    assert fixed(5) == 5
    assert judged(recorder) == [("refund", '{"amount":5,"order":"o-1"}')]
    assert tool_of(fixed) == tool_of(refund)
    with pytest.raises(Misuse, match="governed already"):
        governed(fixed)


def test_what_a_partial_holds_is_judged(session: Session, recorder: Recorder) -> None:
    """Broken if a rule about an argument does not see it because a partial gave it."""

    def refund(order: str, amount: int = 1, *, note: str = "") -> tuple[str, int, str]:
        return order, amount, note

    fixed = governed(functools.partial(functools.partial(refund, "o-1"), note="n"))

    assert fixed(5) == ("o-1", 5, "n")
    assert fixed(note="m") == ("o-1", 1, "m")
    assert judged(recorder) == [
        ("refund", '{"amount":5,"note":"n","order":"o-1"}'),
        ("refund", '{"amount":1,"note":"m","order":"o-1"}'),
    ]


def test_overloaded_function(session: Session, recorder: Recorder) -> None:
    """Broken if overloads keep a function from being governed."""

    @overload
    def refund(order: str) -> str: ...
    @overload
    def refund(order: int) -> int: ...
    @governed
    def refund(order: str | int) -> str | int:
        return order

    assert (refund("o-1"), refund(1)) == ("o-1", 1)
    assert len(judged(recorder)) == 2


def test_async_partial_method_and_object(session: Session, recorder: Recorder) -> None:
    """Broken if awaitable tools in unusual places are taken for plain ones and booked before they ran."""
    ended: list[str] = []

    class Desk:
        @governed
        async def __call__(self, order: str) -> str:
            await asyncio.sleep(0)
            ended.append(order)
            return order

        half = functools.partialmethod(__call__, "o-2")

    async def main() -> list[str]:
        return [await Desk()("o-1"), await Desk().half()]

    assert asyncio.run(main()) == ["o-1", "o-2"]
    assert ended == ["o-1", "o-2"]
    assert judged(recorder) == [("__call__", '{"order":"o-1"}'), ("__call__", '{"order":"o-2"}')]


def test_static_method_is_no_method(session: Session, recorder: Recorder) -> None:
    """Broken if the first argument of a function in a class is taken for its object."""

    class Desk:
        @staticmethod
        @governed
        def below(order: str) -> str:
            return order

        @governed
        @staticmethod
        def above(order: str) -> str:
            return order

    for tool in (Desk.below, Desk.above, Desk().below, Desk().above):
        assert tool("o-1") == "o-1"
    assert {arguments for _, arguments in judged(recorder)} == {'{"order":"o-1"}'}
