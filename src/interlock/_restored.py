"""restored(): the value that canonical JSON stands for, where that can be told from the JSON alone."""

from __future__ import annotations

import base64
import datetime as dt
import re
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any
from uuid import UUID

_DURATION = re.compile(
    r"(?:(?P<days>-?\d+) days?, )?(?P<hours>\d+):(?P<minutes>\d\d):(?P<seconds>\d\d(?:\.\d{6})?)"
)


class Unrestorable(ValueError):
    """What a value was cannot be told from its canonical JSON. The message never holds the value."""


def restored(data: Any) -> Any:
    """
    Return the value of which *data* is the canonical JSON, as it comes from a JSON decoder.

    A path is one of this machine, a set is a `set`, and bytes are `bytes`, whichever of its kind was written. Numbers
    with a fraction, which canonical JSON does not have, are floats: people write them.

    Raises:
        Unrestorable: it holds a secret, what a plugin has taken out, an object, a record or an enum member, of which
            only the class is written; or no such JSON at all.
    """
    try:
        return _restored(data)
    except Unrestorable:
        raise
    except RecursionError:
        raise Unrestorable("it is nested too deeply") from None
    except (ValueError, TypeError, AttributeError, InvalidOperation, OverflowError):
        raise Unrestorable("it holds a value that is not written as its type is") from None


def unescaped(key: str) -> str:
    """Return the key that is written as *key*; one that begins with a dollar is written with another."""
    return key[1:] if key.startswith("$$") else key


def _restored(data: Any) -> Any:
    if isinstance(data, list):
        return [_restored(item) for item in data]
    if not isinstance(data, dict):
        return data
    for key in data:
        if key.startswith("$") and not key.startswith("$$"):
            if len(data) != 1 or key not in _READ:
                raise Unrestorable(
                    f"it holds {key}, which cannot be written by hand"
                    if key in _OPAQUE
                    else "it holds a key with one dollar before it, which is none of canonical JSON; "
                    "write a key that begins with a dollar with another before it"
                )
            return _READ[key](data[key])
    return {unescaped(key): _restored(item) for key, item in data.items()}


_OPAQUE = frozenset({"$secret", "$digest", "$redacted", "$object", "$record", "$enum"})


def _duration(text: str) -> dt.timedelta:
    found = _DURATION.fullmatch(text)
    if found is None:
        raise ValueError(text)
    parts = {name: float(part) for name, part in found.groupdict().items() if part is not None}
    return dt.timedelta(**parts)


# With constructors that take text only: a number in the place of a text is not what was written.
_READ: dict[str, Callable[[Any], Any]] = {
    "$int": lambda text: int(str.strip(text)),
    "$float": lambda text: float(str.strip(text)),
    "$decimal": lambda text: Decimal(str.strip(text)),
    "$bytes": lambda text: base64.b64decode(str.strip(text), validate=True),
    "$uuid": lambda text: UUID(str.strip(text)),
    "$datetime": dt.datetime.fromisoformat,
    "$date": dt.date.fromisoformat,
    "$time": dt.time.fromisoformat,
    "$duration": _duration,
    "$path": Path,
    "$text": lambda text: bytes.fromhex(text).decode("utf-8", "surrogatepass"),
    "$tuple": lambda items: tuple(_restored(list.copy(items))),
    "$set": lambda items: set(_restored(list.copy(items))),
    "$map": lambda pairs: {_restored(key): _restored(item) for key, item in list.copy(pairs)},
}
