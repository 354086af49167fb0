"""
Spellings: what a text is once the ways to write the same differently are taken away.

Source: UAX #15 (normal forms, and the Stream-Safe Text Format of section 13), UTS #39 (confusables).
"""

from __future__ import annotations

import re
from functools import lru_cache
from unicodedata import combining, normalize

MAX_MARKS = 30
"""Marks in a row that a text may have: Stream-Safe Text has no more, and Unicode's own sorting of them is quadratic."""

_IGNORABLE = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
"""Default_Ignorable_Code_Point of DerivedCoreProperties.txt: what is shown as nothing."""

_FORMAT = "\u070f\u180e\ufff9-\ufffb\U00013430-\U0001343f"
"""Format characters beside those that show nothing, or only move others."""

_HIDDEN = re.compile(f"[{_IGNORABLE}{_FORMAT}]+")
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f]+")

# What looks alike within ASCII, by confusables.txt.
_LOOKS = str.maketrans({"0": "O", "1": "l", "I": "l", "|": "l", "m": "rn", "`": "'", '"': "''"})


class Illegible(ValueError):
    """No text that anybody writes: it cannot be compared, and trying would take long."""


def hides(text: str) -> bool:
    """Whether *text* has characters that show nothing."""
    return _HIDDEN.search(text) is not None


def plain(text: str) -> str:
    """
    Return *text* in NFKC, without characters that show nothing: full-width and zero-width spellings become plain.

    Raises:
        Illegible: more than `MAX_MARKS` combining marks in a row.
    """
    if text.isascii():
        return text
    text = _HIDDEN.sub("", text)
    check_legible(text)
    return normalize("NFKC", text)


def folded(text: str) -> str:
    """
    Return what `plain` does, without regard to case, as Unicode folds it (section 3.13, D146).

    Raises:
        Illegible: as there.
    """
    text = plain(text)
    if text.isascii():
        return text.lower()
    once = normalize("NFKC", normalize("NFD", text).casefold())
    return normalize("NFKC", once.casefold())


def looks(text: str) -> frozenset[str]:
    """
    Return what *text* may be taken for, but for controls and outer blanks: two texts that share one look alike.

    They are: the text without regard to case, the same with ASCII's look-alikes made one, and that with regard to
    case, because I looks like l while i does not. Look-alikes beyond ASCII are not known here.

    Raises:
        Illegible: as `plain`.
    """
    text = _CONTROLS.sub("", plain(text)).strip()
    lower = folded(text)
    return frozenset(
        {f"={lower}", f"~{lower.translate(_LOOKS).lower()}", f"^{text.translate(_LOOKS)}"}
    )


def check_legible(text: str) -> None:
    """
    Check that *text* can be normalised in little time.

    Raises:
        Illegible: more than `MAX_MARKS` combining marks in a row.
    """
    marks = {char for char in set(text) if _is_mark(char)}
    run = 0
    for char in text if marks else "":
        run = run + 1 if char in marks else 0
        if run > MAX_MARKS:
            raise Illegible(f"more than {MAX_MARKS} combining marks in a row")


@lru_cache(maxsize=4096)
def _is_mark(char: str) -> bool:
    """Whether *char*, taken apart, begins with what is sorted."""
    return combining(normalize("NFKD", char)[0]) != 0
