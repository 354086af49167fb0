"""The texts within plain data: read in one order, searched together, and put back without their secrets."""

from __future__ import annotations

import dataclasses
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Final, NamedTuple
from uuid import UUID

import msgspec
from pydantic import BaseModel

from interlock.evaluators import Streamed
from interlock_secrets.detector import Span, find, masked

__all__ = ["MAX_DEPTH", "MAX_TEXTS", "Hit", "Texts", "TooMuch", "Unreadable"]

MAX_DEPTH: Final = 64
"""How deep data may be nested that is read."""

MAX_TEXTS: Final = 100_000
"""How many values data may have that is read."""

_TEXTLESS: Final = (
    bool,
    int,
    float,
    complex,
    Decimal,
    date,
    time,
    timedelta,
    Enum,
    UUID,
    type(None),
    type(...),
)


class Unreadable(ValueError):
    """Data that cannot be read, or could not be put together again; says what it is, never what it holds."""


class TooMuch(Unreadable):
    """Data that is larger than what is searched."""


class _Key(NamedTuple):
    """A step of a path: the key of a mapping, by the number of its text."""

    text: int


class Hit(NamedTuple):
    """A secret that was found: of which kind, and where, as a path in which no key shows a secret."""

    kind: str
    path: str


class _Text(NamedTuple):
    text: str
    path: tuple[str | int | _Key, ...]
    is_key: bool


class Texts:
    """
    The texts of *data*, keys of mappings too, and the secrets in them.

    A text is searched by itself, with the key before it, as in `password=…`, and joined with those that stand at the
    same place in other items, since a secret may be split over two items of a stream or two lines of a list.
    """

    def __init__(self, max_bytes: int) -> None:
        """Take texts of *max_bytes* at most, all together, as UTF-8."""
        self._left = max_bytes
        self._values = 0
        self._texts: list[_Text] = []
        self._spans: dict[int, list[Span]] = {}
        self._opaque: list[str] = []

    def read(self, data: object, path: tuple[str | int | _Key, ...] = ()) -> None:
        """
        Add the texts of *data*.

        Raises:
            Unreadable: it is neither plain data nor a record of such, or is too large.
        """
        self._values += 1
        if self._values > MAX_TEXTS or len(path) > MAX_DEPTH:
            raise TooMuch("nested too deeply or of too many values to be searched")
        match data:
            case str() | bytes() | bytearray() | PurePath():
                self._add(_text_of(data), path)
            case Streamed():
                self._each(data.items, path)
                self.read(data.returned, (*path, "returned"))
            case Mapping():
                for key, value in data.items():
                    step: str | int | _Key = "*"
                    if isinstance(key, (str, bytes)):
                        step = _Key(self._add(_text_of(key), path, is_key=True))
                    else:
                        self.read(key, (*path, "*"))
                    self.read(value, (*path, step))
            case list() | tuple() | set() | frozenset():
                self._each(data, path)
            case _ if isinstance(data, _TEXTLESS):
                pass
            case _:
                for name, value in _fields(data):
                    self.read(value, (*path, name))

    def search(self, kinds: frozenset[str] | None = None) -> list[Hit]:
        """Look for secrets, only of *kinds*, if given; return them in the order of their texts."""
        if not self._texts:
            return []
        numbers = range(len(self._texts))
        self._search(list(numbers), "\n", kinds)
        groups: dict[tuple[object, ...], list[int]] = {}
        for number in numbers:
            one = self._texts[number]
            if not one.is_key:
                place = tuple("*" if isinstance(step, int) else step for step in self._spelled(one))
                groups.setdefault(place, []).append(number)
        for group in groups.values():
            if len(group) > 1:
                self._search(group, "", kinds)
        return [
            Hit(span.kind, self._path(number))
            for number, spans in sorted(self._spans.items())
            for span in spans
        ]

    def without_secrets(self, data: object) -> object:
        """
        Return *data*, which was read and searched, with `[secret: KIND]` for each secret; what has none as it is.

        Raises:
            Unreadable: one is within a record, which cannot be put together with other values.
        """
        return _Rebuilt(iter(self._left_of(number) for number in range(len(self._texts)))).value(
            data
        )

    def _left_of(self, number: int) -> str | None:
        spans = self._spans.get(number)
        return masked(self._texts[number].text, _merged(spans)) if spans else None

    def _each(self, items: object, path: tuple[str | int | _Key, ...]) -> None:
        for number, item in enumerate(items):  # type: ignore[arg-type,var-annotated]  # a collection, by the cases above
            self.read(item, (*path, number))

    def _add(self, text: str, path: tuple[str | int | _Key, ...], *, is_key: bool = False) -> int:
        self._left -= len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
        if self._left < 0:
            raise TooMuch("too long to be searched")
        self._texts.append(_Text(text, path, is_key))
        return len(self._texts) - 1

    def _search(self, numbers: list[int], between: str, kinds: frozenset[str] | None) -> None:
        """Search these texts as one, and put down each span with the texts that it lies in."""
        starts, parts, at = [], [], 0
        for number in numbers:
            one = self._texts[number]
            starts.append(at)
            parts += [one.text, "=" if one.is_key else between]
            at += len(one.text) + len(parts[-1])
        for start, end, kind in find("".join(parts), kinds):
            place = bisect_right(starts, start) - 1
            while place < len(starts) and starts[place] < end:
                number, shift = numbers[place], starts[place]
                span = Span(
                    max(start - shift, 0), min(end - shift, len(self._texts[number].text)), kind
                )
                if span.end > span.start:
                    self._spans.setdefault(number, []).append(span)
                place += 1

    def _spelled(self, one: _Text) -> tuple[str | int, ...]:
        return tuple(
            self._texts[step.text].text if isinstance(step, _Key) else step for step in one.path
        )

    def _path(self, number: int) -> str:
        """Return the path of a text; a key that is no plain name, or in which a secret is, is a star."""
        steps = []
        for step in self._texts[number].path:
            if isinstance(step, _Key):
                name = self._texts[step.text].text
                plain = name.isidentifier() and name.isascii() and len(name) <= 40  # noqa: PLR2004 - of a name
                steps.append(name if plain and step.text not in self._spans else "*")
            else:
                steps.append(str(step))
        return ".".join([*steps, "(key)"] if self._texts[number].is_key else steps)


class _Rebuilt:
    """One pass over data, in which each text is replaced by what is left of it, in the order in which it was read."""

    def __init__(self, left: Iterator[str | None]) -> None:
        self._left = left

    def value(self, data: object) -> object:
        """Return *data* itself where all of it is left."""
        match data:
            case str() | bytes() | bytearray() | PurePath():
                return self._text(data)
            case Streamed():
                items, returned = self.value(data.items), self.value(data.returned)
                if items is data.items and returned is data.returned:
                    return data
                return Streamed(items=tuple(items), returned=returned)  # type: ignore[arg-type]
            case Mapping():
                return self._mapping(data)
            case list() | tuple() | set() | frozenset():
                return self._collection(data)
            case _ if isinstance(data, _TEXTLESS):
                return data
            case _:
                for _, value in _fields(data):
                    if self.value(value) is not value:
                        raise Unreadable("a record with a secret in it")
                return data

    def _text(self, data: str | bytes | bytearray | PurePath) -> object:
        left = next(self._left)
        if left is None:
            return data
        return left.encode("utf-8", "replace") if isinstance(data, (bytes, bytearray)) else left

    def _collection(
        self, data: list[object] | tuple[object, ...] | set[object] | frozenset[object]
    ) -> object:
        items = tuple(self.value(item) for item in data)
        if all(new is old for new, old in zip(items, data, strict=True)):
            return data
        for kind in (list, tuple, set, frozenset):
            if type(data) is kind:
                return kind(items)
        raise Unreadable("a record with a secret in it")

    def _mapping(self, data: Mapping[object, object]) -> object:
        found: dict[object, object] = {}
        has_changed = False
        for key, item in data.items():
            left = self._text(key) if isinstance(key, (str, bytes)) else self.value(key)
            value = self.value(item)
            has_changed = has_changed or left is not key or value is not item
            number = 2
            name = left
            while name in found:
                name, number = f"{left!s} ({number})", number + 1
            found[name] = value
        return found if has_changed else data


def _merged(spans: list[Span]) -> list[Span]:
    """Return *spans*, of several searches, in order and apart."""
    found: list[Span] = []
    for span in sorted(spans):
        if found and span.start < found[-1].end:
            found[-1] = found[-1]._replace(end=max(found[-1].end, span.end))
        else:
            found.append(span)
    return found


def _text_of(data: str | bytes | bytearray | PurePath) -> str:
    """The text that *data* is, or may be."""
    if isinstance(data, str):
        return str.__str__(data)
    return (
        str(data) if isinstance(data, PurePath) else bytes(data).decode("utf-8", "backslashreplace")
    )


def _fields(data: object) -> list[tuple[str, object]]:
    """Return what a record holds, its fields and whatever else. Raises Unreadable where *data* is none."""
    kind = type(data)
    if dataclasses.is_dataclass(kind):
        names = [field.name for field in dataclasses.fields(kind)]
    elif isinstance(data, msgspec.Struct):
        names = [*kind.__struct_fields__]  # type: ignore[attr-defined]  # a Struct, by the line above
    elif isinstance(data, BaseModel):
        names = []
    else:
        raise Unreadable("no plain data")
    held = {name: getattr(data, name, None) for name in names} | getattr(data, "__dict__", {})
    if isinstance(data, BaseModel):
        held |= {**(data.model_extra or {}), **(data.__pydantic_private__ or {})}
    return [*held.items()]
