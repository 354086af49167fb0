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

Of an opaque object only the class is judged: a policy cannot look inside, and a change within it goes unnoticed.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from decimal import Decimal
from enum import Enum
from typing import Any

import msgspec
from immutabledict import immutabledict

from interlock import _kinds
from interlock._canonical import PLAIN, Tree, spelled, tree_at
from interlock._kinds import (
    ATOMS,
    Unrepresentable,
    bound,
    bound_items,
    exact,
    fields_of,
    items_of,
    name_of,
)


class Opaque(msgspec.Struct, frozen=True):
    """An object of which only the class is known to the judges."""

    kind: str


def isolate(value: object) -> Any:
    """
    Return a copy of *value* that its owner can no longer change, of the same types.

    Raises:
        Unrepresentable: deeper than `MAX_DEPTH`, of more than `MAX_BYTES` parts, or a record that cannot be copied.
    """
    return _isolate(value, 0, [_kinds.MAX_BYTES])


def view(value: object) -> Any:
    """
    Return the immutable form of *value* that policies and evaluators see; see the table above.

    Raises:
        Unrepresentable: deeper than `MAX_DEPTH` or of more than `MAX_BYTES` parts.
    """
    return _view(value, 0, [_kinds.MAX_BYTES])


def forms(
    values: Mapping[str, Any],
) -> tuple[dict[str, Any], Mapping[str, Any], dict[str, Tree]]:
    """
    Return the copy of *values*, the view of the copy and the tree of the copy, made in one pass.

    Raises:
        Unrepresentable: deeper than `MAX_DEPTH`, of more than `MAX_BYTES` parts, or a record that cannot be copied.
    """
    # Nearly all arguments are plain values with plain names, of which nothing has to be copied or counted. They are
    # bounded when they are written: each takes a byte at least.
    copied = {**values}  # once: what is read twice may be something else the second time
    data: dict[str, Tree] = {}
    for name, item in copied.items():
        kind = type(item)
        if type(name) is not str or not name.isascii() or "$" in name:
            return _dict_forms(copied, 0, [_kinds.MAX_BYTES])
        if kind is str and item.isascii():
            data[name] = item
        elif (write := PLAIN.get(kind)) is not None:
            data[name] = write(item)
        else:
            return _dict_forms(copied, 0, [_kinds.MAX_BYTES])
    return copied, _frozen({**copied}), data


def _forms(value: Any, depth: int, room: list[int]) -> tuple[Any, Any, Tree]:
    """
    The copy, the view and the tree of the copy.

    Describing a call costs little more than this, so for the values that nearly all arguments are made of it does at
    once what `_isolate`, `_view` and `tree_at` do; that they agree is shown in tests/test_canonical_once.py.
    """
    kind = type(value)
    if (write := PLAIN.get(kind)) is not None:
        return value, value, write(value)
    if kind is dict:
        return _dict_forms(value, depth, room)
    if kind is list or kind is tuple:
        bound_items(value, depth, room)
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
    bound_items(value, depth, room)
    copied: dict[Any, Any] = {}
    seen: dict[Any, Any] = {}
    data: dict[Any, Tree] = {}
    special = False
    for given, item in value.items():
        key = given if type(given) is str else _isolate(given, depth + 1, room)
        special = special or type(key) is not str or not key.isascii() or "$" in key
        if (write := PLAIN.get(type(item))) is not None:  # as in _forms, without calling it
            copied[key] = seen[key] = item
            data[key] = write(item)
        else:
            copied[key], seen[key], data[key] = _forms(item, depth + 1, room)
    written = spelled([*data.items()], depth, room) if special else data
    return copied, _frozen(seen), written


def _forms_apart(value: object, depth: int, room: list[int]) -> tuple[Any, Any, Tree]:
    copied = _isolate(value, depth, [room[0]])
    return copied, _view(copied, depth, [room[0]]), tree_at(copied, depth, room)


def _isolate(value: object, depth: int, room: list[int]) -> Any:
    bound(depth, room)
    kind = type(value)
    if kind in PLAIN or issubclass(kind, ATOMS):
        return value
    if kind in {list, tuple, set, frozenset}:
        return kind(_isolate(item, depth + 1, room) for item in value)  # type: ignore[attr-defined]
    if kind is dict:
        return {
            _isolate(key, depth + 1, room): _isolate(item, depth + 1, room)
            for key, item in value.items()  # type: ignore[attr-defined]
        }
    if isinstance(value, (str, int, float, bytes, Decimal)):
        return exact(value)
    if fields_of(value) is not None or isinstance(
        value, (dict, list, tuple, set, frozenset, bytearray)
    ):
        try:
            return copy.deepcopy(value)
        except Exception as error:  # noqa: BLE001 - whatever a foreign __deepcopy__ raises
            raise Unrepresentable(
                f"a {name_of(kind)} cannot be copied ({type(error).__name__})"
            ) from None
    return value


def _view(value: object, depth: int, room: list[int]) -> Any:
    bound(depth, room)
    # `isinstance` would believe what an object says its class is; the methods used here do not.
    kind = type(value)
    if kind in PLAIN:
        return value
    if issubclass(kind, Enum):
        return _view(value.value, depth + 1, room)  # type: ignore[attr-defined]
    match value:
        case str() | int() | float() | bytes() | Decimal():
            return exact(value)
        case bytearray():
            return bytes(value)
        case dict():
            items = dict.items(value)
            return immutabledict({key: _view(item, depth + 1, room) for key, item in items})
        case list() | tuple():
            return tuple(_view(item, depth + 1, room) for item in items_of(value))
        case set() | frozenset():
            return frozenset(_view(item, depth + 1, room) for item in items_of(value))
        case _ if issubclass(kind, ATOMS):
            return value
        case _ if (fields := fields_of(value)) is not None:
            return immutabledict(
                {key: _view(item, depth + 1, room) for key, item in fields.items()}
            )
        case _:
            return Opaque(name_of(kind))


def _uncopied(held: dict[Any, Any]) -> Mapping[Any, Any]:
    """Return an immutabledict around *held*, which nobody else has: its own constructor takes four times as long."""
    made = object.__new__(immutabledict)
    made._dict, made._hash = held, None
    return made


# Another release may be made otherwise inside.
_frozen: Callable[[dict[Any, Any]], Mapping[Any, Any]] = (
    _uncopied if vars(_uncopied({"a": 1})) == vars(immutabledict(a=1)) else immutabledict
)
