"""How many tokens something is in a prompt at most, roughly: a reservation is an upper bound."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

_BYTES = 3
"""So many bytes of text are one token at least, in nearly all languages."""

MEDIA = 3_000
"""So many tokens are an image or another file taken to be: its bytes say nothing of it."""


def tokens(value: object, media: Callable[[str | Mapping[Any, Any]], int | None]) -> int:
    """
    Return how many tokens *value* is at most, with the marks around each part.

    Args:
        value: Something of a request's body.
        media: Says how many a text or an object in it is that holds an image or another file; None where it holds none.
    """
    if isinstance(value, (str, Mapping)):
        found = media(value)
        if found is not None:
            return found
    if isinstance(value, str):
        return len(value.encode("utf-8", "replace")) // _BYTES + 1
    if isinstance(value, Mapping):
        return sum(tokens(key, media) + tokens(item, media) for key, item in value.items())
    if isinstance(value, Collection) and not isinstance(value, (bytes, bytearray)):
        return sum(tokens(item, media) for item in value) + 4
    return 1  # a number; or a token, where a prompt is given as its tokens


def is_count(value: object) -> bool:
    """Return whether *value* can be how many of something a request wants."""
    return type(value) is int and 0 <= value < 10**12


def count(found: object, *names: str) -> int | None:
    """Return the first of the numbers *names* in an object that a provider sent; None where it has none of them."""
    for name in names:
        told = found.get(name) if isinstance(found, Mapping) else None
        if type(told) is int:
            return told
    return None
