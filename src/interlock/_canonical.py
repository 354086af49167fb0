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
Decimal                                itself; of a subclass,     itself                   ``{"$decimal": "20.00"}``
                                       the plain value
UUID, date, datetime, time,            itself                     itself                   ``{"$uuid": "…"}``
timedelta, path                                                                            and so on
enum member                            itself                     its value                ``{"$enum": [class, value]}``
list, tuple, set, frozenset, dict      rebuilt                    tuple, frozenset,        list; ``{"$tuple": […]}``,
                                                                  immutabledict            ``{"$set": […]}``; object
subclass of one of these containers    deep copy                  like the container       ``{"$record": [class, …]}``
dataclass, pydantic, msgspec           deep copy                  immutabledict of fields  ``{"$record": [class, {…}]}``
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
from collections.abc import Callable, Collection, Iterator, Mapping, Sized
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from types import NoneType
from typing import Any, TypeAlias
from uuid import UUID

import msgspec
import rfc8785
from immutabledict import immutabledict

Tree: TypeAlias = "bool | int | str | list[Tree] | dict[str, Tree] | None"

_SECRET: Tree = {"$secret": True}

MAX_DEPTH = 64
"""Nesting beyond which a value is refused; cycles end here. The bound of OWASP-style JSON parsers."""

MAX_BYTES = 1_048_576
"""Canonical bytes beyond which a value is refused: what must be judged and kept for good has to be bounded."""

_EXACT_INT = 2**53 - 1  # RFC 8785 writes numbers as IEEE 754 doubles
_ATOMS = (UUID, dt.date, dt.time, dt.timedelta, PurePath, Enum, type(None), bool)
_CONTAINERS = frozenset({dict, list, tuple, set, frozenset})
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


class Unrepresentable(ValueError):
    """The value is too deep, cyclic, too large, or fails while being copied. The message never holds the value."""


class Opaque(msgspec.Struct, frozen=True):
    """An object of which only the class is known to the judges."""

    kind: str


def isolate(value: object) -> Any:
    """
    Return a copy of *value* that its owner can no longer change, of the same types.

    Raises:
        Unrepresentable: deeper than `MAX_DEPTH`, of more than `MAX_BYTES` parts, or a record that cannot be copied.
    """
    return _isolate(value, 0, [MAX_BYTES])


def view(value: object) -> Any:
    """
    Return the immutable form of *value* that policies and evaluators see; see the table above.

    Raises:
        Unrepresentable: deeper than `MAX_DEPTH` or of more than `MAX_BYTES` parts.
    """
    return _view(value, 0, [MAX_BYTES])


def tree(value: object) -> Tree:
    """
    Return *value* as plain JSON data in which different types stay different; see the table above.

    Raises:
        Unrepresentable: deeper than `MAX_DEPTH` or of more than `MAX_BYTES` parts.
    """
    return _tree(value, 0, [MAX_BYTES])


def forms(
    values: Mapping[str, object],
) -> tuple[dict[str, Any], Mapping[str, Any], dict[str, Tree]]:
    """
    Return the copy of *values*, the view of the copy and the tree of the copy, made in one pass.

    Raises:
        Unrepresentable: deeper than `MAX_DEPTH`, of more than `MAX_BYTES` parts, or a record that cannot be copied.
    """
    return _dict_forms(values, 0, [MAX_BYTES])


def masked(data: dict[str, Tree], names: Collection[str]) -> Tree:
    """Return the tree *data* of a mapping, ``{"$secret": true}`` in the place of what is called one of *names*."""
    pairs: Any = data.get("$map")
    if pairs is None:
        spelled = {_escaped(name) for name in names}
        return {key: _SECRET if key in spelled else item for key, item in data.items()}
    keys = [_text(name) for name in names]
    return {"$map": [[key, _SECRET if key in keys else item] for key, item in pairs]}


def encode(data: Tree) -> bytes:
    """Return *data* as RFC 8785 bytes."""
    quick = _encoder.encode(data)
    # A Tree holds no float and no inexact integer, and ASCII keys sort alike as code points and as UTF-16, so
    # for ASCII the quick encoder writes what RFC 8785 asks for, 30 times faster: tests/test_canonical.py.
    return quick if quick.isascii() else rfc8785.dumps(data)


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
    written = encode(data)
    if len(written) > MAX_BYTES:
        raise Unrepresentable(f"larger than {MAX_BYTES} bytes")
    return written


def digest(data: bytes) -> str:
    """Return the SHA-256 of *data* as 64 lower-case hexadecimal characters."""
    return hashlib.sha256(data).hexdigest()


def _forms(value: Any, depth: int, room: list[int]) -> tuple[Any, Any, Tree]:
    """
    The copy, the view and the tree of the copy.

    Describing a call costs little more than this, so for the values that nearly all arguments are made of it does at
    once what `_isolate`, `_view` and `_tree` do; that they agree is shown in tests/test_canonical_once.py.
    """
    kind = type(value)
    if (write := _PLAIN.get(kind)) is not None:
        return value, value, write(value)
    if kind is dict:
        return _dict_forms(value, depth, room)
    if kind is list or kind is tuple:
        _bound_items(value, depth, room)
        parts = [_forms(item, depth + 1, room) for item in value]
        copied: Any = kind([part[0] for part in parts])
        trees: Tree = [part[2] for part in parts]
        return (
            copied,
            tuple([part[1] for part in parts]),
            trees if kind is list else {"$tuple": trees},
        )
    return _forms_apart(value, depth, room)


def _dict_forms(value: Mapping[Any, Any], depth: int, room: list[int]) -> tuple[Any, Any, Any]:
    _bound_items(value, depth, room)
    copied: dict[Any, Any] = {}
    seen: dict[Any, Any] = {}
    data: dict[Any, Tree] = {}
    special = False
    for given, item in value.items():
        key = given if type(given) is str else _isolate(given, depth + 1, room)
        special = special or type(key) is not str or not key.isascii() or "$" in key
        if (write := _PLAIN.get(type(item))) is not None:  # as in _forms, without calling it
            copied[key] = seen[key] = item
            data[key] = write(item)
        else:
            copied[key], seen[key], data[key] = _forms(item, depth + 1, room)
    written = _spelled([*data.items()], depth, room) if special else data
    return copied, _frozen(seen), written


def _forms_apart(value: object, depth: int, room: list[int]) -> tuple[Any, Any, Tree]:
    copied = _isolate(value, depth, [room[0]])
    return copied, _view(copied, depth, [room[0]]), _tree(copied, depth, room)


def _isolate(value: object, depth: int, room: list[int]) -> Any:
    _bound(depth, room)
    kind = type(value)
    if kind in _PLAIN or issubclass(kind, _ATOMS):
        return value
    if kind in {list, tuple, set, frozenset}:
        return kind(_isolate(item, depth + 1, room) for item in value)  # type: ignore[attr-defined]
    if kind is dict:
        return {
            _isolate(key, depth + 1, room): _isolate(item, depth + 1, room)
            for key, item in value.items()  # type: ignore[attr-defined]
        }
    if isinstance(value, (str, int, float, bytes, Decimal)):
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


def _view(value: object, depth: int, room: list[int]) -> Any:
    _bound(depth, room)
    # `isinstance` would believe what an object says its class is; the methods used here do not.
    kind = type(value)
    if kind in _PLAIN:
        return value
    if issubclass(kind, Enum):
        return _view(value.value, depth + 1, room)  # type: ignore[attr-defined]
    match value:
        case str() | int() | float() | bytes() | Decimal():
            return _exact(value)
        case bytearray():
            return bytes(value)
        case dict():
            items = dict.items(value)
            return immutabledict({key: _view(item, depth + 1, room) for key, item in items})
        case list() | tuple():
            return tuple(_view(item, depth + 1, room) for item in _items(value))
        case set() | frozenset():
            return frozenset(_view(item, depth + 1, room) for item in _items(value))
        case _ if issubclass(kind, _ATOMS):
            return value
        case _ if (fields := _fields(value)) is not None:
            return immutabledict(
                {key: _view(item, depth + 1, room) for key, item in fields.items()}
            )
        case _:
            return Opaque(_name(kind))


def _tree(value: object, depth: int, room: list[int]) -> Tree:
    _bound(depth, room)
    kind = type(value)
    if (write := _PLAIN.get(kind)) is not None:
        return write(value)
    if issubclass(kind, Enum):
        return {"$enum": [_name(kind), _tree(value.value, depth + 1, room)]}  # type: ignore[attr-defined]
    match value:
        case str() | int() | float() | bytes() | Decimal():
            exact = _exact(value)
            return _PLAIN[type(exact)](exact)
        case bytearray():
            return _bytes(value)
        case dict() | list() | tuple() | set() | frozenset():
            plain = _container(value, depth, room)
            return plain if kind in _CONTAINERS else {"$record": [_name(kind), plain]}
        case _:
            return _other(value, depth, room)


def _uncopied(held: dict[Any, Any]) -> Mapping[Any, Any]:
    """Return an immutabledict around *held*, which nobody else has: its own constructor takes four times as long."""
    made = object.__new__(immutabledict)
    made._dict, made._hash = held, None
    return made


# Another release may be made otherwise inside.
_frozen: Callable[[dict[Any, Any]], Mapping[Any, Any]] = (
    _uncopied if vars(_uncopied({"a": 1})) == vars(immutabledict(a=1)) else immutabledict
)


def _bound(depth: int, room: list[int]) -> None:
    """Count one more part: data that shares its parts can be small in memory and endless when written out."""
    room[0] -= 1
    if depth > MAX_DEPTH:
        raise Unrepresentable(f"nested deeper than {MAX_DEPTH} levels")
    if room[0] < 0:
        raise Unrepresentable(f"larger than {MAX_BYTES} bytes")


def _bound_items(items: Sized, depth: int, room: list[int]) -> None:
    """Count the parts of a container, which stands at *depth*, before any is looked at."""
    room[0] -= len(items)
    if items and depth >= MAX_DEPTH:
        raise Unrepresentable(f"nested deeper than {MAX_DEPTH} levels")
    if room[0] < 0:
        raise Unrepresentable(f"larger than {MAX_BYTES} bytes")


def _items(value: list[Any] | tuple[Any, ...] | set[Any] | frozenset[Any]) -> Iterator[Any]:
    """What the container holds, whatever a subclass says when it is iterated."""
    if type(value) in _CONTAINERS:
        return iter(value)
    base: Any = next(kind for kind in (list, tuple, set, frozenset) if isinstance(value, kind))
    found: Iterator[Any] = base.__iter__(value)
    return found


def _integer(value: int) -> Tree:
    return value if -_EXACT_INT <= value <= _EXACT_INT else {"$int": str(value)}


def _bytes(value: bytes | bytearray) -> Tree:
    return {"$bytes": base64.b64encode(value).decode("ascii")}


def _container(value: Any, depth: int, room: list[int]) -> Tree:
    if isinstance(value, dict):
        return _mapping(value, depth, room)
    trees = [_tree(item, depth + 1, room) for item in _items(value)]
    match value:
        case list():
            return trees
        case tuple():
            return {"$tuple": trees}
        case _:
            return {"$set": sorted(trees, key=encode)}


def _other(value: object, depth: int, room: list[int]) -> Tree:
    if (tagged := _tagged(value)) is not None:
        return tagged
    if (fields := _fields(value)) is not None:
        return {"$record": [_name(type(value)), _mapping(fields, depth, room)]}
    return {"$object": _name(type(value))}


def _tagged(value: object) -> Tree:
    for kind, tag, text in _TAGS:
        if issubclass(type(value), kind):
            return {tag: _text(text(value))}
    return None


def _mapping(value: dict[Any, Any], depth: int, room: list[int]) -> Tree:
    items = dict.items(value)
    return _spelled([(key, _tree(item, depth + 1, room)) for key, item in items], depth, room)


def _spelled(items: list[tuple[Any, Tree]], depth: int, room: list[int]) -> Tree:
    """The tree of a mapping, given its keys and the trees of its values."""
    if all(type(key) is str and _text(key) is key for key, _ in items):
        return {_escaped(key): item for key, item in items}
    pairs: list[Tree] = [[_tree(key, depth + 1, room), item] for key, item in items]
    return {"$map": sorted(pairs, key=encode)}


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


def _fields(value: object) -> dict[str, object] | None:
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


def _exact(value: str | float | bytes | Decimal) -> Any:
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


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


# Of exactly these classes, a value is its own copy and its own view, and this is its tree.
_PLAIN: dict[type, Callable[[Any], Tree]] = {
    str: _text,
    int: _integer,
    bool: bool,
    NoneType: lambda _: None,
    float: lambda value: {"$float": repr(value)},
    bytes: _bytes,
    Decimal: lambda value: {"$decimal": str(value)},
    **dict.fromkeys((UUID, dt.datetime, dt.date, dt.time, dt.timedelta), _tagged),
}
