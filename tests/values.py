"""Values for the tests of the canonical form: of every kind in its table, and what they are, type by type."""

from __future__ import annotations

import dataclasses
import enum
from collections import namedtuple
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

import msgspec
import pydantic
from hypothesis import strategies as st
from immutabledict import immutabledict


class Colour(enum.Enum):
    """A plain enumeration."""

    RED = "red"


class Level(enum.IntEnum):
    """An enumeration that is also an int."""

    ONE = 1


@dataclasses.dataclass
class Order:
    """A record."""

    id: str
    lines: Any = None


class Line(msgspec.Struct):
    """A record of msgspec."""

    price: Any


class Open(pydantic.BaseModel, extra="allow"):
    """A record that takes fields nobody declared."""

    price: int


Point = namedtuple("Point", "x y")  # noqa: PYI024 - the untyped one is the harder case
Size = namedtuple("Size", "x y")  # noqa: PYI024

leaves = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=4)
    | st.binary(max_size=4)
    | st.decimals(allow_nan=False)
    | st.uuids()
    | st.datetimes()
    | st.dates()
    | st.times()
    | st.timedeltas()
    | st.sampled_from([Colour.RED, Level.ONE, PurePosixPath("/a/b")])
)
hashables = st.recursive(leaves, lambda inner: st.frozensets(inner, max_size=3), max_leaves=4)
values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(hashables, inner, max_size=3)
        | st.frozensets(hashables, max_size=3)
        | st.sets(hashables, max_size=3)
        | st.builds(Order, st.text(max_size=2), inner)
        | st.builds(Line, inner)
    ),
    max_leaves=12,
)


def fingerprint(value: Any) -> Any:
    """What the value is, type by type: an independent notion of "the same" to compare the bytes with."""
    match value:
        case dict() | immutabledict():
            pairs = ((fingerprint(key), fingerprint(item)) for key, item in value.items())
            return (type(value).__name__, frozenset(pairs))
        case list() | tuple():
            return (type(value).__name__, tuple(fingerprint(item) for item in value))
        case set() | frozenset():
            return ("set", frozenset(fingerprint(item) for item in value))
        case Order() | Line():
            fields = vars(value) if isinstance(value, Order) else {"price": value.price}
            return (type(value).__name__, fingerprint(fields))
        case _:
            return (type(value).__name__, repr(value))


def parts(value: Any) -> Iterator[Any]:
    """The value and everything in it."""
    yield value
    match value:
        case dict() | immutabledict():
            for key, item in value.items():
                yield from parts(key)
                yield from parts(item)
        case list() | tuple() | set() | frozenset():
            for item in value:
                yield from parts(item)
        case Order():
            yield from parts(value.lines)
        case Line():
            yield from parts(value.price)
