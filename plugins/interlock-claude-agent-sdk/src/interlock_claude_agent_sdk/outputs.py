"""
What the model is given of a result that a review has changed or withheld.

Claude Code takes another result only in the very shape of the tool's own, and silently keeps its own otherwise. So the
shape is kept, and `leaks` says afterwards, of what the model is about to be given, whether that was taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_KEPT = frozenset({"agentId", "agentType", "file_path", "filePath", "mode", "status", "type"})
"""What a shape is told by, or what the model has said itself; never where a tool's text is."""


def withheld(result: Any, told: str) -> Any:
    """Return a result in the shape of *result* that holds nothing of it but *told*."""
    if isinstance(result, str) or result is None:
        return told
    if is_content(result):
        return [{"type": "text", "text": told}]
    texts = iter([told])
    return _blank(result, texts)


def same_shape(result: Any, other: Any) -> bool:
    """Whether *other* differs from *result* in texts and numbers alone."""
    if isinstance(result, Mapping) and isinstance(other, Mapping):
        return result.keys() == other.keys() and all(
            same_shape(result[key], other[key]) for key in result
        )
    if isinstance(result, list) and isinstance(other, list):
        if is_content(result):
            return is_content(other)
        return len(result) == len(other) and all(map(same_shape, result, other))
    return type(result) is type(other)


def lines(result: Any) -> set[str]:
    """Return the lines of all texts in *result*, without the space around them; empty ones left out."""
    return {line.strip() for text in _texts(result) for line in text.splitlines()} - {""}


def leaks(response: Any, gone: set[str], left: set[str]) -> bool:
    """
    Whether what the model is given, *response*, holds a line that a review has taken away.

    Args:
        response: As it is given to the model.
        gone: The lines of the tool's own result.
        left: The lines of what the review has left of it.
    """
    shown = "\n".join(_texts(response))
    kept = "\n".join(left)
    return any(line in shown for line in gone - left if line not in kept)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _texts(part)
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _texts(part)


def is_content(value: Any) -> bool:
    """Whether *value* is content of the Model Context Protocol: parts, of which there may be any number."""
    return isinstance(value, list) and all(
        isinstance(part, Mapping) and isinstance(part.get("type"), str) for part in value
    )


def _blank(value: Any, texts: Iterator[str], key: str = "") -> Any:
    if isinstance(value, Mapping):
        return {name: _blank(part, texts, str(name)) for name, part in value.items()}
    if isinstance(value, list):
        return [_blank(part, texts, key) for part in value]
    if isinstance(value, str) and key not in _KEPT:
        return next(texts, "")
    return value
