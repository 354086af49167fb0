"""Where an argument is: a path such as `order.items.0.price`, as policies write it, and what stands there."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias

from pydantic import Field, StrictInt, StrictStr

ArgumentPath: TypeAlias = (
    Annotated[StrictStr, Field(min_length=1)]
    | Annotated[tuple[StrictStr | StrictInt, ...], Field(min_length=1)]
)
"""A path with dots between its keys, or a list of keys where a key holds a dot."""

MISSING: Any = type("Missing", (), {"__repr__": lambda _: "MISSING"})()
"""What stands at a path that leads nowhere; None can be an argument."""


class Place:
    """
    A place in the arguments of a call.

    Attributes:
        name: The path in quotes, for messages.
    """

    def __init__(self, path: str | tuple[str | int, ...]) -> None:
        """Split *path* once."""
        keys = tuple(path.split(".")) if isinstance(path, str) else path
        self._first, *self._further = keys
        self.name = repr(".".join(map(str, keys)))

    def find(self, arguments: Mapping[str, Any]) -> Any:
        """Return what stands there, or `MISSING`. In a list, a key is the place, from 0."""
        try:
            value: Any = arguments[self._first]  # type: ignore[index]  # a number is no argument's name
        except KeyError:
            return MISSING
        for key in self._further:
            if isinstance(value, Mapping) and key in value:
                value = value[key]
            elif isinstance(value, tuple) and (index := _index(key)) < len(value):
                value = value[index]
            else:
                return MISSING
        return value


def _index(key: str | int) -> int:
    """The place in a list that *key* names; one beyond any list when it names none."""
    return int(key) if re.fullmatch(r"[0-9]{1,9}", str(key)) else sys.maxsize
