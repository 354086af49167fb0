"""
One value in three forms: the copy that runs, the frozen view that is judged, the canonical bytes that are digested.

The three agree because the view and the bytes are made from the copy, and the copy is out of the caller's reach.

=====================================  =========================  =======================  ==========================
value                                  copy, passed to the tool   view, judged             canonical JSON
=====================================  =========================  =======================  ==========================
None, bool, int, str                   itself; of a subclass,     itself                   itself; an int beyond 2^53
                                       the plain value                                     is ``{"$int": "…"}``
float                                  the same                   itself                   ``{"$float": "0.5"}``
bytes, bytearray                       the same type              bytes                    ``{"$bytes": "<base64>"}``
Decimal, UUID, date, datetime, time,   itself                     itself                   ``{"$decimal": "20.00"}``
timedelta, path                                                                            and so on
enum member                            itself                     its value                ``{"$enum": [class, value]}``
list, tuple, set, frozenset, dict      rebuilt                    tuple, frozenset,        list; ``{"$tuple": […]}``,
                                                                  immutabledict            ``{"$set": […]}``; object
dataclass, pydantic, msgspec; a        deep copy                  immutabledict of fields  ``{"$record": [class, {…}]}``
subclass of a container
anything else                          the same object            Opaque(class)            ``{"$object": class}``
=====================================  =========================  =======================  ==========================

So 1, 1.0, True and "1" have four digests; the order of keys has none. Of an opaque object only the class is
judged: a policy cannot look inside, and a change within it goes unnoticed.
A mapping whose keys are not all text is ``{"$map": [[key, value], …]}``; a text key that begins with ``$`` gets
another ``$``; text with lone surrogates is ``{"$text": "<hex of UTF-8 with surrogates>"}``.

Source: RFC 8785 (JSON Canonicalization Scheme).
"""

from __future__ import annotations

import base64
import copy
import dataclasses
import datetime as dt
import hashlib
from collections.abc import Mapping
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any, TypeAlias
from uuid import UUID

import msgspec
import rfc8785
from immutabledict import immutabledict

Tree: TypeAlias = "bool | int | str | list[Tree] | dict[str, Tree] | None"

MAX_DEPTH = 64
"""Nesting beyond which a value is refused; cycles end here. The bound of OWASP-style JSON parsers."""

MAX_BYTES = 1_048_576
"""Canonical bytes beyond which a value is refused: what must be judged and kept for good has to be bounded."""

_EXACT_INT = 2**53 - 1  # RFC 8785 writes numbers as IEEE 754 doubles
_ATOMS = (Decimal, UUID, dt.date, dt.time, dt.timedelta, PurePath, Enum, type(None), bool)
_TAGS: tuple[tuple[type, str], ...] = (
    (Decimal, "$decimal"),
    (UUID, "$uuid"),
    (dt.datetime, "$datetime"),  # before date, its base class
    (dt.date, "$date"),
    (dt.time, "$time"),
    (dt.timedelta, "$duration"),
    (PurePath, "$path"),
)


class Unrepresentable(ValueError):
    """The value is too deep, cyclic, too large, or fails while being copied. The message never holds the value."""


class Opaque(msgspec.Struct, frozen=True):
    """An object of which only the class is known to the judges."""

    kind: str


def isolate(value: object, depth: int = 0) -> Any:
    """
    Return a copy of *value* that its owner can no longer change, of the same types.

    Raises:
        Unrepresentable: deeper than `MAX_DEPTH`, or a record that cannot be copied.
    """
    _bound(depth)
    kind = type(value)
    if kind in {str, int, float, bytes} or isinstance(value, _ATOMS):
        return value
    if kind in {list, tuple, set, frozenset}:
        return kind(isolate(item, depth + 1) for item in value)  # type: ignore[attr-defined]
    if kind is dict:
        return {
            isolate(key, depth + 1): isolate(item, depth + 1)
            for key, item in value.items()  # type: ignore[attr-defined]
        }
    if isinstance(value, (str, int, float, bytes)):
        return _exact(value)
    if _fields(value) is not None or isinstance(
        value, (dict, list, tuple, set, frozenset, bytearray)
    ):
        try:
            return copy.deepcopy(value)
        except Exception as error:  # noqa: BLE001 - whatever a foreign __deepcopy__ raises
            raise Unrepresentable(
                f"a {_name(kind)} cannot be copied ({type(error).__name__})"
            ) from None
    return value


def view(value: object, depth: int = 0) -> Any:
    """
    Return the immutable form of *value* that policies and evaluators see; see the table above.

    Raises:
        Unrepresentable: deeper than `MAX_DEPTH`.
    """
    _bound(depth)
    match value:
        case Enum():
            return view(value.value, depth + 1)
        case str() | int() | float() | bytes():
            return _exact(value)
        case bytearray():
            return bytes(value)
        case dict():
            return immutabledict({key: view(item, depth + 1) for key, item in dict.items(value)})
        case list() | tuple():
            return tuple(view(item, depth + 1) for item in value)
        case set() | frozenset():
            return frozenset(view(item, depth + 1) for item in value)
        case _ if isinstance(value, _ATOMS):
            return value
        case _ if (fields := _fields(value)) is not None:
            return immutabledict({key: view(item, depth + 1) for key, item in fields.items()})
        case _:
            return Opaque(_name(type(value)))


def tree(value: object, depth: int = 0) -> Tree:
    """
    Return *value* as plain JSON data in which different types stay different; see the table above.

    Raises:
        Unrepresentable: deeper than `MAX_DEPTH`.
    """
    _bound(depth)
    match value:
        case Enum():
            return {"$enum": [_name(type(value)), tree(value.value, depth + 1)]}
        case None | bool() | str() | int() | float() | bytes() | bytearray():
            return _scalar(value)
        case dict():
            return _mapping(value, depth)
        case list():
            return [tree(item, depth + 1) for item in value]
        case tuple():
            return {"$tuple": [tree(item, depth + 1) for item in value]}
        case set() | frozenset():
            return {"$set": sorted((tree(item, depth + 1) for item in value), key=encode)}
        case _:
            return _other(value, depth)


def encode(data: Tree) -> bytes:
    """Return *data* as RFC 8785 bytes."""
    quick = msgspec.json.encode(data, order="sorted")
    # A Tree holds no float and no inexact integer, and ASCII keys sort alike as code points and as UTF-16, so
    # for ASCII the quick encoder writes what RFC 8785 asks for, 30 times faster: tests/test_canonical.py.
    return quick if quick.isascii() else rfc8785.dumps(data)


def canonical(value: object) -> bytes:
    """
    Return the canonical bytes of *value*.

    Raises:
        Unrepresentable: deeper than `MAX_DEPTH` or larger than `MAX_BYTES`.
    """
    data = encode(tree(value))
    if len(data) > MAX_BYTES:
        raise Unrepresentable(f"larger than {MAX_BYTES} bytes")
    return data


def digest(data: bytes) -> str:
    """Return the SHA-256 of *data* as 64 lower-case hexadecimal characters."""
    return hashlib.sha256(data).hexdigest()


def _bound(depth: int) -> None:
    if depth > MAX_DEPTH:
        raise Unrepresentable(f"nested deeper than {MAX_DEPTH} levels")


def _scalar(value: str | float | bytes | bytearray | None) -> Tree:
    match value:
        case None | bool():
            return value
        case str():
            return _text(_exact(value))
        case int():
            exact: int = _exact(value)
            return exact if -_EXACT_INT <= exact <= _EXACT_INT else {"$int": str(exact)}
        case float():
            return {"$float": repr(_exact(value))}
        case _:
            return {"$bytes": base64.b64encode(value).decode("ascii")}


def _other(value: object, depth: int) -> Tree:
    for kind, tag in _TAGS:
        if isinstance(value, kind):
            text = value.isoformat() if isinstance(value, (dt.date, dt.time)) else str(value)
            return {tag: _text(text)}
    if (fields := _fields(value)) is not None:
        return {"$record": [_name(type(value)), _mapping(fields, depth)]}
    return {"$object": _name(type(value))}


def _mapping(value: Mapping[Any, Any], depth: int) -> Tree:
    items = dict.items(value) if isinstance(value, dict) else value.items()
    if all(type(key) is str and _text(key) is key for key in value):
        return {
            f"${key}" if key.startswith("$") else key: tree(item, depth + 1) for key, item in items
        }
    pairs: list[Tree] = [[tree(key, depth + 1), tree(item, depth + 1)] for key, item in items]
    return {"$map": sorted(pairs, key=encode)}


def _text(value: str) -> Tree:
    try:
        value.encode()
    except UnicodeEncodeError:
        return {"$text": value.encode("utf-8", "surrogatepass").hex()}
    return value


def _fields(value: object) -> dict[str, object] | None:
    """The fields of a record by name, or None when *value* is not a record of a kind we know."""
    kind = type(value)
    if dataclasses.is_dataclass(kind):
        names: tuple[str, ...] = tuple(field.name for field in dataclasses.fields(kind))
    elif isinstance(value, msgspec.Struct):
        names = value.__struct_fields__
    elif isinstance(
        found := getattr(kind, "model_fields", None), dict
    ):  # pydantic, without importing it
        names = tuple(found)
    else:
        return None
    return {name: getattr(value, name, None) for name in names}


def _exact(value: str | float | bytes) -> Any:
    """
    The plain value that a str, int, float, bytes or an instance of their subclass holds.

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
        case _:
            return bytes.__getitem__(value, slice(None))


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"
