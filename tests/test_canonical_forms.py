"""The copy that runs and the view that is judged: out of the caller's reach, and the same value as the bytes."""

from __future__ import annotations

import copy
import datetime as dt
import enum
from collections import defaultdict
from collections.abc import Callable
from decimal import Decimal, localcontext
from pathlib import PurePosixPath
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from immutabledict import immutabledict

from interlock._canonical import canonical
from interlock._forms import Opaque, isolate, view
from interlock._kinds import Unrepresentable
from tests import values as sample
from tests.values import Colour, Line, Open, Order, Point, fingerprint, parts, values


@given(values)
def test_the_copy_is_the_same_value_of_the_same_types(value: Any) -> None:
    """Broken if a tool is given something else than it was called with."""
    assert fingerprint(value) == fingerprint(isolate(value))


def mutable(value: Any) -> bool:
    """Whether the value can be changed in place."""
    return isinstance(value, (list, dict, set, bytearray, Order, Line))


@pytest.mark.promise(5)
@given(values)
def test_the_copy_shares_nothing_that_can_change(value: Any) -> None:
    """Broken if the caller can change, after the decision, what the tool will run with."""
    theirs = {id(part) for part in parts(value) if mutable(part)}
    ours = [part for part in parts(isolate(value)) if mutable(part)]
    assert [part for part in ours if id(part) in theirs] == []


@pytest.mark.promise(5)
def test_a_later_change_changes_nothing() -> None:
    """Broken if any change of the caller's object, at any depth, reaches the copy, the view or the bytes."""
    owned = {
        "list": [1, [2]],
        "dict": {"a": {"b": 1}},
        "set": {1},
        "bytes": bytearray(b"x"),
        "record": Order("o", [Line([1])]),
        "open": Open(price=1, tax=[1]),
        "tuple": ([1],),
        "default": defaultdict(list, a=[1]),
    }
    copied = isolate(owned)
    seen, data = view(copied), canonical(copied)
    before = copy.deepcopy(owned)
    owned["list"][1].append(3)
    owned["dict"]["a"]["b"] = 2
    owned["set"].add(2)
    owned["bytes"].extend(b"y")
    owned["record"].id = "p"
    owned["record"].lines[0].price.append(2)
    owned["open"].tax.append(2)
    owned["tuple"][0].append(2)
    owned["default"]["a"].append(2)
    owned["new"] = 1
    assert before == copied
    assert (view(copied), canonical(copied)) == (seen, data)


@given(values)
def test_the_view_cannot_be_changed(value: Any) -> None:
    """Broken if one judge can change what the next one sees."""
    seen = view(isolate(value))
    frozen = (str, int, float, bytes, Decimal, UUID, dt.date, dt.time, dt.timedelta, PurePosixPath)
    kinds = (tuple, frozenset, immutabledict, Opaque, type(None), *frozen)
    # Keys stay as they are: whatever is hashable here has no way to change.
    assert [part for part in parts(seen) if not isinstance(part, (*kinds, enum.Enum))] == []
    assert hash(seen) == hash(view(isolate(value)))


@given(values)
def test_the_three_forms_agree(value: Any) -> None:
    """Broken if what is judged, what is digested and what is run are not one value."""
    copied = isolate(value)
    assert canonical(value) == canonical(copied)
    assert fingerprint(view(value)) == fingerprint(view(copied))


class Text(str):
    """Text that says it equals everything."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0

    def __str__(self) -> str:
        return "safe"

    def encode(self, *_: Any) -> bytes:  # type: ignore[override]
        """Lie."""
        return b"safe"

    def startswith(self, *_: Any) -> bool:
        """Lie."""
        return False


class Cheap(Decimal):
    """An amount that says it is small."""

    __slots__ = ()

    def __str__(self) -> str:
        return "1"

    def __le__(self, other: object) -> bool:
        return True

    def is_finite(self) -> bool:
        """Break whoever asks."""
        raise RuntimeError


class Whole(int):
    """A number that says it is another."""

    def __repr__(self) -> str:
        return "1"

    __str__ = __repr__

    def __int__(self) -> int:
        return 1


class Real(float):
    """A number that says it is another."""

    def __repr__(self) -> str:
        return "1.0"


class Raw(bytes):
    """Bytes that say they are others."""

    def __getitem__(self, key: Any) -> Any:
        return b"safe"

    def __iter__(self) -> Any:
        return iter(b"safe")


class Later(dt.datetime):
    """A time that says it is another."""

    def isoformat(self, *_: Any, **__: Any) -> str:
        """Lie."""
        return "2000-01-01"

    __str__ = isoformat


@pytest.mark.promise(5)
@pytest.mark.parametrize(
    ("hostile", "plain"),
    [
        (Text("evil"), "evil"),
        (Cheap("900.00"), Decimal("900.00")),
        (Whole(900), 900),
        (Real(900.5), 900.5),
        (Raw(b"evil"), b"evil"),
    ],
    ids=["str", "Decimal", "int", "float", "bytes"],
)
def test_a_subclass_becomes_the_plain_value(hostile: Any, plain: Any) -> None:
    """Broken if an argument can say one thing to the judges and be another to the tool."""
    for form in (isolate(hostile), view(hostile), isolate([hostile])[0], view((hostile,))[0]):
        assert (type(plain), repr(plain)) == (type(form), repr(form))
    assert canonical(plain) == canonical(hostile) == canonical(isolate(hostile))


def test_a_time_cannot_lie_in_the_digest() -> None:
    """Broken if a subclass chooses the text that is digested and recorded for it."""
    moment = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)
    assert canonical(moment) == canonical(Later(2026, 1, 2, tzinfo=dt.UTC))


class Quiet:
    """A container that is copied as it is and, when asked, shows nothing of what it holds."""

    def __iter__(self) -> Any:
        return iter(())

    def __deepcopy__(self, memo: object) -> Any:
        return self


class QuietList(Quiet, list):  # type: ignore[type-arg]
    """A list that shows nothing."""


class QuietTuple(Quiet, tuple):  # type: ignore[type-arg] # noqa: SLOT001
    """A tuple that shows nothing."""


class QuietSet(Quiet, frozenset):  # type: ignore[type-arg]
    """A set that shows nothing."""


class QuietDict(Quiet, dict):  # type: ignore[type-arg]
    """A mapping that shows nothing."""

    def items(self) -> Any:
        """Show nothing."""
        return ()


@pytest.mark.promise(5)
@pytest.mark.parametrize(
    ("kind", "held", "seen"),
    [
        (QuietList, lambda x: [x], ("evil",)),
        (QuietTuple, lambda x: [x], ("evil",)),
        (QuietSet, lambda x: [x], frozenset(["evil"])),
        (QuietDict, lambda x: {"to": x}, immutabledict(to="evil")),
    ],
)
def test_a_container_cannot_hide_what_it_holds(
    kind: Any, held: Callable[[Any], Any], seen: Any
) -> None:
    """Broken if a subclass that iterates over nothing is judged as if it held nothing."""
    assert list(kind(held("evil"))) == []
    assert seen == view(isolate(kind(held("evil"))))
    assert canonical(isolate(kind(held("evil")))) != canonical(isolate(kind(held("fine"))))


@pytest.mark.parametrize("said", [type(None), Decimal, UUID, dt.date, PurePosixPath, enum.Enum])
def test_an_object_is_not_taken_for_the_class_it_names(said: type) -> None:
    """Broken if a stand-in, such as a lazy proxy, is judged live because it names an immutable class."""

    class Proxy:
        __class__ = said  # type: ignore[assignment]

    assert isinstance(Proxy(), said)
    try:
        seen = view(isolate(Proxy()))
    except Exception:  # noqa: BLE001 - refused: `describe` turns it into a fault
        return
    assert Opaque(f"{__name__}.{Proxy.__qualname__}") == seen


HERE = sample.__name__
TABLE: list[tuple[Any, Any, Any, str]] = [
    (None, None, None, "null"),
    (True, True, True, "true"),
    (7, 7, 7, "7"),
    (2**60, 2**60, 2**60, '{"$int":"1152921504606846976"}'),
    ("x", "x", "x", '"x"'),
    (0.5, 0.5, 0.5, '{"$float":"0.5"}'),
    (b"x", b"x", b"x", '{"$bytes":"eA=="}'),
    (bytearray(b"x"), bytearray(b"x"), b"x", '{"$bytes":"eA=="}'),
    (Decimal("20.00"), Decimal("20.00"), Decimal("20.00"), '{"$decimal":"20.00"}'),
    (UUID(int=0), UUID(int=0), UUID(int=0), '{"$uuid":"00000000-0000-0000-0000-000000000000"}'),
    (dt.date(2026, 1, 2), dt.date(2026, 1, 2), dt.date(2026, 1, 2), '{"$date":"2026-01-02"}'),
    (dt.time(1), dt.time(1), dt.time(1), '{"$time":"01:00:00"}'),
    (dt.timedelta(1), dt.timedelta(1), dt.timedelta(1), '{"$duration":"1 day, 0:00:00"}'),
    (PurePosixPath("a"), PurePosixPath("a"), PurePosixPath("a"), '{"$path":"a"}'),
    (Colour.RED, Colour.RED, "red", f'{{"$enum":["{HERE}.Colour","red"]}}'),
    ([1, "a"], [1, "a"], (1, "a"), '[1,"a"]'),
    ((1,), (1,), (1,), '{"$tuple":[1]}'),
    ({2, 1}, {1, 2}, frozenset([1, 2]), '{"$set":[1,2]}'),
    (frozenset([1]), frozenset([1]), frozenset([1]), '{"$set":[1]}'),
    ({"b": 1, "a": [2]}, {"b": 1, "a": [2]}, immutabledict(b=1, a=(2,)), '{"a":[2],"b":1}'),
    ({"$int": 1}, {"$int": 1}, immutabledict({"$int": 1}), '{"$$int":1}'),
    ({1: 2}, {1: 2}, immutabledict({1: 2}), '{"$map":[[1,2]]}'),
    (
        Order("o", [1]),
        Order("o", [1]),
        immutabledict(id="o", lines=(1,)),
        f'{{"$record":["{HERE}.Order",{{"id":"o","lines":[1]}}]}}',
    ),
    (Line(1), Line(1), immutabledict(price=1), f'{{"$record":["{HERE}.Line",{{"price":1}}]}}'),
    (
        Open(price=1, tax=2),
        Open(price=1, tax=2),
        immutabledict(price=1, tax=2),
        f'{{"$record":["{HERE}.Open",{{"price":1,"tax":2}}]}}',
    ),
    (Point(1, 2), Point(1, 2), (1, 2), f'{{"$record":["{HERE}.Point",{{"$tuple":[1,2]}}]}}'),
    (len, len, Opaque("builtins.builtin_function_or_method"), None),  # type: ignore[list-item]
]


@pytest.mark.parametrize(("value", "copied", "seen", "text"), TABLE, ids=lambda v: repr(v)[:30])
def test_the_table(value: Any, copied: Any, seen: Any, text: str | None) -> None:
    """Broken if the table in the module's docstring is not what happens."""
    result = isolate(value)
    assert (type(copied), copied) == (type(result), result)
    assert (type(seen), seen) == (type(view(result)), view(result))
    kind = "builtins.builtin_function_or_method"
    assert (text or f'{{"$object":"{kind}"}}') == canonical(result).decode()


def test_opaque_objects_pass_as_they_are() -> None:
    """Broken if a connection or a lock is copied on its way to the tool, or looked into."""
    thing = object()
    assert isolate([thing])[0] is thing
    assert view(thing) == Opaque("builtins.object")


def test_what_refuses_to_be_copied_is_refused() -> None:
    """Broken if a record that cannot be copied is run uncopied, or its own message gets into ours."""

    class Stubborn(Order):
        def __deepcopy__(self, memo: object) -> Any:
            raise RuntimeError("4111-planted")

    with pytest.raises(Unrepresentable, match="cannot be copied") as refused:
        isolate(Stubborn("o"))
    assert "planted" not in str(refused.value)


def test_the_hosts_decimal_context_is_nothing() -> None:
    """Broken if a host that rounds its own arithmetic rounds what is digested."""
    amount = Decimal("123456.789")
    expected = canonical(amount)
    with localcontext(prec=2):
        assert expected == canonical(isolate(amount))
        assert expected == canonical(isolate(Cheap("123456.789")))
