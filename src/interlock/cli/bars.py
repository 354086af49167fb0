"""Bars: how much of a whole is taken, as a row of characters that can be told apart without colour."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

WIDTH = 12
"""How many characters a bar has."""

_STYLES = ("", "yellow", "dim")


def bar(first: int, second: int, whole: int) -> Text:
    """
    Return a bar of *first* and *second* in *whole*: two kinds of filling, and what is left of `WIDTH`.

    It never lies about its ends: what is not nothing is seen, and what looks full is full.
    """
    taken = first + second
    filled = _cells(taken, whole)
    solid = min(filled, _cells(first, whole))
    if second and solid == filled > 1:
        solid -= 1  # it would hide that there is something of the second kind
    marks = "#=." if Console().options.ascii_only else "█▒·"
    counts = (solid, filled - solid, WIDTH - filled)
    return Text.assemble(
        *((mark * count, style) for mark, count, style in zip(marks, counts, _STYLES, strict=True))
    )


def _cells(part: int, whole: int) -> int:
    if part >= whole:
        return WIDTH if part else 0
    return min(WIDTH - 1, -(-part * WIDTH // whole))
