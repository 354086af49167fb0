"""Values that a model or an attacker may send: too much, too deep, ill-formed, of odd kinds; and planted marks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

LARGE = 1_000_000
"""Characters; a call's arguments hold 48,576 more."""

MARK = "qzx81vjk92wfp67hgt"
"""A text that no sentence has a part of by chance."""

NUMBER = 8_675_309_417
"""A number like it."""

_PART = 6
"""So many characters of `MARK` in a row are a leak: part of a secret is one."""


class Custom:
    """An object of a kind that nobody has heard of."""


class Raising:
    """An object that raises whenever it is looked at closely."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no comparison")

    __hash__ = None  # type: ignore[assignment]


class Lying(str):
    """A text that says it is another."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0


def odd() -> dict[str, object]:
    """Values that are no text and no finite number, by what they are."""
    cyclic: list[object] = []
    cyclic.append(cyclic)
    return {
        "NaN": float("nan"),
        "infinity": float("-inf"),
        "a Decimal NaN": Decimal("NaN"),
        "a signalling NaN": Decimal("sNaN"),
        "bytes": b"\xff\xfe\x00",
        "a set": {"a", "b"},
        "a frozenset": frozenset({1}),
        "an object": Custom(),
        "an object that raises": Raising(),
        "a class": Custom,
        "a function": odd,
        "a list of lists, 60 deep": _nested(60),
        "a list of lists, 5,000 deep": _nested(5_000),
        "a list within itself": cyclic,
        "a dict with odd keys": {1: "a", None: "b", ("c",): "d"},
    }


def hostile() -> dict[str, object]:
    """The odd values, and texts and numbers that are hard to judge."""
    return {
        **odd(),
        "None": None,
        "True": True,
        "minus zero": -0.0,
        "an integer of 5,000 digits": 10**5_000,
        "a tiny number": 5e-324,
        "an empty text": "",
        "an empty dict": {},
        "an empty list": [],
        "a text of 1 MB": "x" * LARGE,
        "a text of 4 MB": "x" * 4 * LARGE,
        "a list of 100,000 items": ["x"] * 100_000,
        "a lone surrogate": "a\ud800b",
        "text from right to left": "\u202etxt.exe\u202c",
        "isolated text": "\u2067abc\u2069",
        "zero-width characters": "a\u200bb\u200d\ufeffc",
        "a null character": "a\0b",
        "line ends": "a\r\nb\u2028c",
        "full-width letters": "\uff41\uff42\uff43",
        "many combining marks": "a" + "\u0301" * 10_000,
        "letters that grow": "\ufdfa" * 10_000,
        "a text that says it is another": Lying("other"),
        "text in brackets": "(" * 10_000,
        "what formats": "{0.__class__} %s %n ${jndi:x}",
    }


def replaced(
    arguments: Mapping[str, Any], values: Mapping[str, object], names: Sequence[str] | None = None
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield *arguments* with each of *values* in the place of each of *names*; None: of all, and without each, too."""
    for name in arguments if names is None else [name for name in names if name in arguments]:
        for label, value in values.items():
            yield f"{label} as {name!r}", {**arguments, name: value}
        if names is None:
            yield f"no {name!r}", {key: value for key, value in arguments.items() if key != name}


def planted(value: Any) -> Iterator[Any]:
    """Yield *value* with a mark in it, in each of some ways."""
    yield MARK
    yield NUMBER
    yield [MARK]
    yield {MARK: MARK}
    if isinstance(value, str):
        yield value + MARK
        yield MARK + value
    elif isinstance(value, (Mapping, list, tuple)):
        yield _marked(value)


def leaked(text: str) -> str | None:
    """Return the part of a planted mark that *text* holds, if it does."""
    plain = text.casefold().replace(",", "").replace("_", "")
    parts = [MARK[start : start + _PART] for start in range(len(MARK) - _PART + 1)]
    return next((part for part in [*parts, str(NUMBER)] if part in plain), None)


def _marked(value: Any) -> Any:
    if isinstance(value, str):
        return value + MARK
    if isinstance(value, Mapping):
        return {key: _marked(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_marked(item) for item in value]
    return value


def _nested(depth: int) -> list[object]:
    value: list[object] = []
    for _ in range(depth):
        value = [value]
    return value
