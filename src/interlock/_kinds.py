"""Kinds of values, beneath what they say of themselves: their parts, the plain values they hold, and their bounds."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Iterator, Sized
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any
from uuid import UUID

import msgspec

MAX_DEPTH = 64
"""Nesting beyond which a value is refused; cycles end here. The bound of OWASP-style JSON parsers."""

MAX_BYTES = 1_048_576
"""Canonical bytes beyond which a value is refused: what must be judged and kept for good has to be bounded."""

ATOMS = (UUID, dt.date, dt.time, dt.timedelta, PurePath, Enum, type(None), bool)
"""Of these classes and their subclasses, a value is its own copy."""

CONTAINERS = frozenset({dict, list, tuple, set, frozenset})
"""The containers of which more is known than of their subclasses."""


class Unrepresentable(ValueError):
    """The value is too deep, cyclic, too large, or fails while being copied. The message never holds the value."""


def bound(depth: int, room: list[int]) -> None:
    """Count one more part: data that shares its parts can be small in memory and endless when written out."""
    room[0] -= 1
    if depth > MAX_DEPTH:
        raise Unrepresentable(f"nested deeper than {MAX_DEPTH} levels")
    if room[0] < 0:
        raise Unrepresentable(f"larger than {MAX_BYTES} bytes")


def bound_items(items: Sized, depth: int, room: list[int]) -> None:
    """Count the parts of a container, which stands at *depth*, before any is looked at."""
    room[0] -= len(items)
    if items and depth >= MAX_DEPTH:
        raise Unrepresentable(f"nested deeper than {MAX_DEPTH} levels")
    if room[0] < 0:
        raise Unrepresentable(f"larger than {MAX_BYTES} bytes")


def items_of(value: list[Any] | tuple[Any, ...] | set[Any] | frozenset[Any]) -> Iterator[Any]:
    """What the container holds, whatever a subclass says when it is iterated."""
    if type(value) in CONTAINERS:
        return iter(value)
    base: Any = next(kind for kind in (list, tuple, set, frozenset) if isinstance(value, kind))
    found: Iterator[Any] = base.__iter__(value)
    return found


def fields_of(value: object) -> dict[str, object] | None:
    """The fields of a record by name, or None when *value* is not a record of a kind we know."""
    kind = type(value)
    extra: object = None
    if dataclasses.is_dataclass(kind):
        names: tuple[str, ...] = tuple(field.name for field in dataclasses.fields(kind))
    elif isinstance(value, msgspec.Struct):
        names = value.__struct_fields__
    elif isinstance(
        found := getattr(kind, "model_fields", None), dict
    ):  # pydantic, without importing it
        names = tuple(found)
        extra = getattr(value, "model_extra", None)
    else:
        return None
    fields: dict[str, object] = {name: getattr(value, name, None) for name in names}
    return {**fields, **extra} if isinstance(extra, dict) else fields


def exact(value: str | float | bytes | Decimal) -> Any:
    """
    The plain value that a str, int, float, bytes, Decimal or an instance of their subclass holds.

    What is judged is what runs: a subclass may answer `==` as it likes, the plain value may not.
    """
    match value:
        case bool():
            return value
        case str():
            return str.__str__(value)
        case int():
            return int.__pos__(value)
        case float():
            return float.__pos__(value)
        case Decimal():
            return Decimal(value)
        case _:
            return bytes.__getitem__(value, slice(None))


def name_of(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"
