"""
Canonical JSON: values as plain data in which different types stay different, its bytes, and their digests.

How each type is written is in the table at the top of `_forms`. So 1, 1.0, True and "1" have four digests; the order of
keys has none. A mapping whose keys are not all text is ``{"$map": [[key, value], …]}``; a text key that begins with
``$`` gets another ``$``; text with lone surrogates is ``{"$text": "<hex of UTF-8 with surrogates>"}``.

Source: RFC 8785 (JSON Canonicalization Scheme).
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
from collections.abc import Callable, Collection
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from types import NoneType
from typing import Any, TypeAlias
from uuid import UUID

import msgspec
import rfc8785

from interlock import _kinds
from interlock._kinds import (
    CONTAINERS,
    Unrepresentable,
    bound,
    exact,
    fields_of,
    items_of,
    name_of,
)

Tree: TypeAlias = "bool | int | str | list[Tree] | dict[str, Tree] | None"

_SECRET: Tree = {"$secret": True}

_EXACT_INT = 2**53 - 1  # RFC 8785 writes numbers as IEEE 754 doubles
# With the base class's own way to write it: a subclass may say of itself what it likes.
_TAGS: tuple[tuple[type, str, Callable[[Any], str]], ...] = (
    (UUID, "$uuid", UUID.__str__),
    (dt.datetime, "$datetime", dt.datetime.isoformat),  # before date, its base class
    (dt.date, "$date", dt.date.isoformat),
    (dt.time, "$time", dt.time.isoformat),
    (dt.timedelta, "$duration", dt.timedelta.__str__),
    (PurePath, "$path", PurePath.__str__),
)

_encoder = msgspec.json.Encoder(order="sorted")
_sha256 = hashlib.sha256


def tree(value: object) -> Tree:
    """
    Return *value* as plain JSON data in which different types stay different; see the table above.

    Raises:
        Unrepresentable: deeper than `MAX_DEPTH` or of more than `MAX_BYTES` parts.
    """
    return tree_at(value, 0, [_kinds.MAX_BYTES])


def canonical(value: object) -> bytes:
    """
    Return the canonical bytes of *value*.

    Raises:
        Unrepresentable: deeper than `MAX_DEPTH` or larger than `MAX_BYTES`.
    """
    return bounded(tree(value))


def bounded(data: Tree) -> bytes:
    """
    Return *data* as RFC 8785 bytes.

    Raises:
        Unrepresentable: larger than `MAX_BYTES`.
    """
    written = _encoder.encode(data)
    if not written.isascii():
        written = encode(data)
    if len(written) > _kinds.MAX_BYTES:
        raise Unrepresentable(f"larger than {_kinds.MAX_BYTES} bytes")
    return written


def encode(data: Tree) -> bytes:
    """Return *data* as RFC 8785 bytes."""
    quick = _encoder.encode(data)
    # A Tree holds no float and no inexact integer, and ASCII keys sort alike as code points and as UTF-16, so
    # for ASCII the quick encoder writes what RFC 8785 asks for, 30 times faster: tests/test_canonical.py.
    return quick if quick.isascii() else rfc8785.dumps(data)


def digest(data: bytes) -> str:
    """Return the SHA-256 of *data* as 64 lower-case hexadecimal characters."""
    return _sha256(data).hexdigest()


def digest_within(
    before: bytes, data: bytes, after: bytes, seal: Callable[[bytes], str] | None = None
) -> str:
    """Return the digest of what has the digest of *data*, or what *seal* makes of it, between *before* and *after*."""
    inner = _sha256(data).hexdigest() if seal is None else seal(data)
    return _sha256(before + inner.encode() + after).hexdigest()


def masked(data: dict[str, Tree], names: Collection[str]) -> Tree:
    """Return the tree *data* of a mapping, ``{"$secret": true}`` in the place of what is called one of *names*."""
    pairs: Any = data.get("$map")
    if pairs is None:
        spelled = {_escaped(name) for name in names}
        return {key: _SECRET if key in spelled else item for key, item in data.items()}
    keys = [_text(name) for name in names]
    return {"$map": [[key, _SECRET if key in keys else item] for key, item in pairs]}


def tree_at(value: object, depth: int, room: list[int]) -> Tree:
    bound(depth, room)
    kind = type(value)
    if (write := PLAIN.get(kind)) is not None:
        return write(value)
    if issubclass(kind, Enum):
        return {"$enum": [name_of(kind), tree_at(value.value, depth + 1, room)]}  # type: ignore[attr-defined]
    match value:
        case str() | int() | float() | bytes() | Decimal():
            plain_value = exact(value)
            return PLAIN[type(plain_value)](plain_value)
        case bytearray():
            return _bytes(value)
        case dict() | list() | tuple() | set() | frozenset():
            plain = _container(value, depth, room)
            return plain if kind in CONTAINERS else {"$record": [name_of(kind), plain]}
        case _:
            return _other(value, depth, room)


def spelled(items: list[tuple[Any, Tree]], depth: int, room: list[int]) -> Tree:
    """The tree of a mapping, given its keys and the trees of its values."""
    if all(type(key) is str and _text(key) is key for key, _ in items):
        return {_escaped(key): item for key, item in items}
    pairs: list[Tree] = [[tree_at(key, depth + 1, room), item] for key, item in items]
    return {"$map": sorted(pairs, key=encode)}


def _container(value: Any, depth: int, room: list[int]) -> Tree:
    if isinstance(value, dict):
        return _mapping(value, depth, room)
    trees = [tree_at(item, depth + 1, room) for item in items_of(value)]
    match value:
        case list():
            return trees
        case tuple():
            return {"$tuple": trees}
        case _:
            return {"$set": sorted(trees, key=encode)}


def _mapping(value: dict[Any, Any], depth: int, room: list[int]) -> Tree:
    items = dict.items(value)
    return spelled([(key, tree_at(item, depth + 1, room)) for key, item in items], depth, room)


def _other(value: object, depth: int, room: list[int]) -> Tree:
    if (tagged := _tagged(value)) is not None:
        return tagged
    if (fields := fields_of(value)) is not None:
        return {"$record": [name_of(type(value)), _mapping(fields, depth, room)]}
    return {"$object": name_of(type(value))}


def _tagged(value: object) -> Tree:
    for kind, tag, text in _TAGS:
        if issubclass(type(value), kind):
            return {tag: _text(text(value))}
    return None


def _integer(value: int) -> Tree:
    return value if -_EXACT_INT <= value <= _EXACT_INT else {"$int": str(value)}


def _bytes(value: bytes | bytearray) -> Tree:
    return {"$bytes": base64.b64encode(value).decode("ascii")}


def _escaped(key: str) -> str:
    return f"${key}" if key.startswith("$") else key


def _text(value: str) -> Tree:
    if value.isascii():
        return value
    try:
        value.encode()
    except UnicodeEncodeError:
        return {"$text": value.encode("utf-8", "surrogatepass").hex()}
    return value


# Of exactly these classes, a value is its own copy and its own view, and this is its tree.
PLAIN: dict[type, Callable[[Any], Tree]] = {
    str: _text,
    int: _integer,
    bool: bool,
    NoneType: lambda _: None,
    float: lambda value: {"$float": repr(value)},
    bytes: _bytes,
    Decimal: lambda value: {"$decimal": str(value)},
    **dict.fromkeys((UUID, dt.datetime, dt.date, dt.time, dt.timedelta), _tagged),
}
