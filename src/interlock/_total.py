"""
Total: any value as canonical data, whatever it is and does.

What has a canonical form is written in it (see `_forms`). What is marked as secret, by the name under which it stands,
by its class or by its record, is ``{"$secret": true}``; what is nested too deep is ``{"$cut": "…"}``; and what fails
while it is looked at is ``{"$failed": class of the error}``, of which the text is not kept. Nothing is raised.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

from interlock._canonical import Tree, encode, spelled, tree_at
from interlock._kinds import CONTAINERS, exact, fields_of, items_of, name_of

MAX_DEPTH = 16
"""Nesting beyond which is cut; cycles end here."""

MAX_BYTES = 65_536
"""Bytes of canonical JSON beyond which nothing but that is kept."""

_SECRET: Tree = {"$secret": True}
_TOO_DEEP: Tree = {"$cut": f"nested deeper than {MAX_DEPTH} levels"}
_TOO_LARGE: Tree = {"$cut": f"larger than {MAX_BYTES} bytes"}


class _TooLargeError(Exception):
    """There is more of it than is looked at."""


def total(value: object, *, secrets: Collection[str] = ()) -> Tree:
    """Return *value* as canonical data, what stands under a name in *secrets* masked at any depth; never raise."""
    try:
        return _Walk(secrets).tree(value, 0)
    except _TooLargeError:
        return _TOO_LARGE


def written(data: Tree) -> str:
    """Return *data* as canonical JSON, or what says that it is too large."""
    text = encode(data)
    return (text if len(text) <= MAX_BYTES else encode(_TOO_LARGE)).decode()


class _Walk:
    def __init__(self, secrets: Collection[str]) -> None:
        self._secrets = frozenset(secrets)
        self._room = MAX_BYTES  # each part and each comma takes a byte at least, and each character

    def tree(self, value: object, depth: int) -> Tree:
        try:
            return self._tree(value, depth)
        except _TooLargeError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever foreign code raises; its text may quote anything
            return {"$failed": type(error).__name__}

    def _tree(self, value: object, depth: int) -> Tree:
        self._take(1)
        kind = type(value)
        if _is_secret(kind):
            return _SECRET
        if issubclass(kind, (dict, list, tuple, set, frozenset)):
            return _TOO_DEEP if depth >= MAX_DEPTH else self._container(value, depth)
        if isinstance(value, (str, bytes, bytearray)):
            plain = bytes(value) if isinstance(value, bytearray) else exact(value)
            self._take(len(plain))
            return tree_at(plain, 0, [MAX_BYTES])
        fields = fields_of(value)
        if fields is None:
            return tree_at(value, 0, [MAX_BYTES])
        if depth >= MAX_DEPTH:
            return _TOO_DEEP
        hidden = _hidden(kind)
        shown = {name: _Hidden if name in hidden else item for name, item in fields.items()}
        return {"$record": [name_of(kind), self._mapping(shown, depth)]}

    def _container(self, value: Any, depth: int) -> Tree:
        self._take(len(value) if type(value) in CONTAINERS else 0)
        if isinstance(value, dict):
            return self._mapping(dict.copy(value), depth)
        trees = [self.tree(item, depth + 1) for item in list(items_of(value))]
        if issubclass(type(value), list):
            return trees
        if issubclass(type(value), tuple):
            return {"$tuple": trees}
        return {"$set": sorted(trees, key=encode)}

    def _mapping(self, value: Mapping[Any, Any], depth: int) -> Tree:
        pairs: list[tuple[Any, Tree]] = []
        for key, item in value.items():
            name = self._key(key)
            is_secret = item is _Hidden or (type(name) is str and name in self._secrets)
            pairs.append((name, _SECRET if is_secret else self.tree(item, depth + 1)))
        return spelled(pairs, 0, [MAX_BYTES])

    def _key(self, key: object) -> Any:
        """Return a plain key; one that is no text, as the text of what it would be as a value."""
        if isinstance(key, str):
            plain = exact(key)
            self._take(len(plain))
            return plain
        return encode(self.tree(key, MAX_DEPTH)).decode()

    def _take(self, parts: int) -> None:
        self._room -= parts
        if self._room < 0:
            raise _TooLargeError


class _Hidden:
    """Stands for what a record keeps out of its own text."""


def _is_secret(kind: type) -> bool:
    """Whether values of the class say of themselves that they are secret, as pydantic's `SecretStr` does."""
    return callable(getattr(kind, "get_secret_value", None))


def _hidden(kind: type) -> frozenset[str]:
    """Return the fields that a record keeps out of its own text, which is how dataclasses and pydantic mark them."""
    if dataclasses.is_dataclass(kind):
        return frozenset(field.name for field in dataclasses.fields(kind) if not field.repr)
    fields = getattr(kind, "model_fields", None)
    if not isinstance(fields, dict):
        return frozenset()
    return frozenset(
        name for name, field in fields.items() if getattr(field, "repr", True) is False
    )
