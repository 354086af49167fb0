"""What @governed makes of arguments: bound by signature, judged in full, copied, and passed on as they were given."""

from __future__ import annotations

import dataclasses
import enum
import itertools
import threading
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from pydantic import BaseModel

from interlock import Call, Denied, Governor, Opinion, Session, Verdict, governed, hookimpl
from interlock.events import CallDecided
from interlock.testing import Recorder
from tests.shapes import BASIC, Shape

MakeGovernor = Callable[..., Governor]
MISSING = object()


class Watcher:
    """A plugin that keeps the calls it is asked about, and does something while it is asked."""

    def __init__(self, meanwhile: Callable[[], object] = lambda: None) -> None:
        """Do *meanwhile* during each evaluation."""
        self.calls: list[Call] = []
        self._meanwhile = meanwhile

    @hookimpl
    def interlock_opinion(self, call: Call) -> Opinion | None:
        """Have no opinion."""
        self.calls.append(call)
        self._meanwhile()
        return None


@pytest.fixture
def watcher() -> Watcher:
    """A plugin that sees every call."""
    return Watcher()


@pytest.fixture
def session(governor: MakeGovernor, recorder: Recorder, watcher: Watcher) -> Iterator[Session]:
    """An open session in which everything is allowed, and watched."""
    allowing = governor(url="sqlite://", plugins=[recorder, watcher])
    with allowing.session("s", agent="bot") as session:
        yield session


def taker(taken: list[Any]) -> Callable[[Any], None]:
    """A tool that keeps what it is given."""

    @governed
    def take(value: Any) -> None:
        taken.append(value)

    return take


def digests(recorder: Recorder) -> list[str]:
    """The digests of the calls that were decided."""
    return [event.digest for event in recorder.events if isinstance(event, CallDecided)]


def test_defaults_are_judged(session: Session, watcher: Watcher) -> None:
    """Broken if a rule about an argument does not see its default, or a spelled-out default needs a new ticket."""

    @governed
    def refund(order: str, amount: Decimal = Decimal(20), *, note: str = "none") -> None:
        pass

    refund("o-1")
    refund("o-1", Decimal(20), note="none")

    first, second = watcher.calls
    assert first.arguments == {"order": "o-1", "amount": Decimal(20), "note": "none"}
    assert first.arguments == second.arguments
    assert first.digest == second.digest


@pytest.mark.promise(8)
def test_defaults_are_the_functions_own(session: Session) -> None:
    """Broken if a function that keeps state in a default, or compares with one, does not find it again."""

    @governed
    def counted(item: str, seen: list[str] = []) -> int:  # noqa: B006 - the habit in question
        seen.append(item)
        return len(seen)

    @governed
    def compared(item: object = MISSING, config: Mapping[str, int] = {}) -> tuple[bool, bool]:
        return item is MISSING, config is compared.__defaults__[1]

    assert [counted("a"), counted("b"), counted("c", ["x"]), counted("d")] == [1, 2, 2, 3]
    assert compared() == (True, True)


def test_variable_arguments(session: Session, watcher: Watcher) -> None:
    """Broken if arguments that a signature only collects are not judged, or arrive otherwise than given."""

    @governed
    def run(first: int, /, second: int = 2, *rest: Any, third: int = 3, **others: Any) -> Any:
        return first, second, rest, third, others

    assert run(1) == (1, 2, (), 3, {})
    assert run(1, 5, 6, [7], third=8, z=9, first=10) == (1, 5, (6, [7]), 8, {"z": 9, "first": 10})
    assert run(1, third=4, second=7, self=5) == (1, 7, (), 4, {"self": 5})

    assert watcher.calls[1].arguments == {
        "first": 1,
        "second": 5,
        "rest": (6, (7,)),
        "third": 8,
        "others": {"z": 9, "first": 10},
    }


@pytest.mark.parametrize("names", list(itertools.permutations("abc")))
def test_order_of_names_is_irrelevant(
    names: tuple[str, ...], session: Session, recorder: Recorder
) -> None:
    """Broken if an approval holds for one order of named arguments and not for another."""

    @governed
    def run(a: int, b: int = 2, **others: int) -> None:
        pass

    values = {"a": 1, "b": 2, "c": 3}
    run(**{name: values[name] for name in names})
    run(1, c=3)

    assert len(set(digests(recorder))) == 1


@pytest.mark.promise(5)
@pytest.mark.parametrize("shape", BASIC, ids=str)
def test_a_change_during_evaluation_does_not_reach_the_tool(
    shape: Shape, governor: MakeGovernor
) -> None:
    """Broken if another thread can change the arguments after they were judged and before they are used."""
    order = {"lines": [{"sku": "pen", "count": 1}]}
    changed = threading.Event()

    def change() -> None:
        order["lines"][0]["count"] = 1_000_000
        order["lines"].append({"sku": "gold", "count": 1})
        changed.set()

    def meanwhile() -> None:
        thread = threading.Thread(target=change)
        thread.start()
        thread.join()

    watcher = Watcher(meanwhile)
    ran: list[Any] = []
    tool = shape.make(lambda order, amount: ran.append(order))

    with governor(url="sqlite://", plugins=[watcher]).session("s", agent="bot"):
        shape.run(tool, order)

    assert changed.is_set()
    assert ran == [{"lines": [{"sku": "pen", "count": 1}]}]
    assert order["lines"][0]["count"] == 1_000_000


@pytest.mark.promise(5)
@pytest.mark.parametrize("shape", BASIC, ids=str)
def test_a_change_between_call_and_start_does_not_reach_the_tool(
    shape: Shape, session: Session, watcher: Watcher
) -> None:
    """Broken if a coroutine or stream runs with what its arguments have become by the time it is started."""
    ran: list[Any] = []
    order = ["o-1"]
    tool = shape.make(lambda order, amount: ran.append(order))

    def called(*args: Any) -> Any:
        made = tool(*args)
        order.append("o-2")
        return made

    shape.run(called, order)

    assert ran == [["o-1"]]
    assert watcher.calls[0].arguments["order"] == ("o-1",)


@dataclasses.dataclass
class Order:
    """A record of the host's."""

    lines: list[str]
    note: str = ""


class Address(BaseModel):
    """A pydantic record."""

    city: str
    tags: list[str] = []


class Colour(enum.Enum):
    """An enumeration."""

    RED = "red"


@pytest.mark.promise(5)
@pytest.mark.parametrize(
    "value",
    [
        [1, [2, 3]],
        {"a": {"b": [1]}},
        ({"a": 1}, [2]),
        {1, 2},
        bytearray(b"abc"),
        Order(["pen"]),
        Address(city="Bonn", tags=["a"]),
        {"orders": [Order(["pen"])]},
    ],
    ids=str,
)
def test_the_tool_is_given_an_equal_copy(value: Any, session: Session) -> None:
    """Broken if what the tool does to its arguments reaches the caller's, or they arrive with another value or type."""
    given: list[Any] = []

    taker(given)(value)

    assert given[0] == value
    assert type(given[0]) is type(value)
    assert given[0] is not value
    assert not shared(given[0], value)


def shared(one: Any, other: Any) -> bool:
    """Whether anything that can change is part of both values."""
    return bool({id(part) for part in parts(one)} & {id(part) for part in parts(other)})


def parts(value: Any) -> Iterator[Any]:
    """Every part of *value* that can change."""
    match value:
        case dict():
            yield value
            yield from itertools.chain.from_iterable(map(parts, value.values()))
        case list() | set():
            yield value
            yield from itertools.chain.from_iterable(map(parts, value))
        case tuple():
            yield from itertools.chain.from_iterable(map(parts, value))
        case bytearray():
            yield value
        case Order() | Address():
            yield value
            yield from parts(vars(value))


def test_what_cannot_change_is_the_same_object(session: Session) -> None:
    """Broken if values that a tool compares by identity arrive as others."""
    values = [Colour.RED, Decimal("1.50"), None, MISSING, open, Order, 10**30, "x" * 100]
    given: list[Any] = []
    take = taker(given)

    for value in values:
        take(value)

    assert all(arrived is value for arrived, value in zip(given, values, strict=True))


@pytest.mark.promise(1)
def test_arguments_that_cannot_be_copied_are_refused(session: Session, watcher: Watcher) -> None:
    """Broken if what cannot be judged is run, or takes the program down instead of the call."""
    cyclic: list[Any] = []
    cyclic.append(cyclic)

    class Hostile(dict[str, Any]):
        def __deepcopy__(self, memo: object) -> None:
            raise RuntimeError("mine")

    ran: list[Any] = []
    take = taker(ran)

    for value in (cyclic, Hostile()):
        with pytest.raises(Denied, match="cannot be judged"):
            take(value)

    assert ran == []
    assert session.state().verdicts == {Verdict.DENY: 2}


def test_text_of_a_subclass_is_judged_and_run_as_text(session: Session, watcher: Watcher) -> None:
    """Broken if an object that says it equals something else can pass for it."""

    class Chameleon(str):
        __slots__ = ()

        def __eq__(self, other: object) -> bool:
            return True

        def __hash__(self) -> int:
            return 0

    given: list[Any] = []
    taker(given)(Chameleon("o-1"))

    assert type(given[0]) is str
    assert given == ["o-1"]
    assert watcher.calls[0].arguments["value"] != "o-2"


def test_arguments_of_concurrent_calls_do_not_mix(session: Session) -> None:
    """Broken if calls that run at once are given each other's arguments."""

    @governed
    async def echo(value: list[int]) -> list[int]:
        await anyio.lowlevel.checkpoint()
        value.append(-1)
        return value

    results: dict[int, list[int]] = {}

    async def one(number: int) -> None:
        results[number] = await echo([number])

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for number in range(50):
                group.start_soon(one, number)

    anyio.run(main)

    assert results == {number: [number, -1] for number in range(50)}
