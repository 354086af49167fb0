"""
The text of a path: its names, if everybody who reads it reads the same.

What a shell, Windows, a URL, a template or a normal form would read as something else is refused, whether or not any of
them is about to: a path that passes here means below `open` what it seems to mean.

Source: https://learn.microsoft.com/windows/win32/fileio/naming-a-file for what Windows reads differently.
"""

from __future__ import annotations

import re
from unicodedata import category, is_normalized, normalize

from interlock.evaluators._spelling import Illegible, check_legible, hides

MAX_PATH = 4095
"""Bytes of a path, without the zero that ends it: PATH_MAX of Linux."""

MAX_NAME = 255
"""Bytes of a name in a path: NAME_MAX of Linux, and of most file systems."""

# What shells, Windows, URLs or templates read as more than a character of a name.
_SPECIAL = {
    "\\": "a backslash",
    ":": "a colon, as in a drive, a stream or a URL",
    "%": "a percent sign, as in an escape",
    "$": "a dollar sign, as in a variable",
    "`": "a backquote",
    **dict.fromkeys('*?"<>|', "a character that is a wildcard or has no place in a name"),
    **dict.fromkeys("\u2044\u2215\u2216\u29f5\u29f8\u29f9", "a character that looks like a slash"),
}
_MEANINGS = {".", "/", "~", *(char for char in _SPECIAL if char.isascii())}
_UNSEEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
_DEVICE = re.compile(
    r"(con|prn|aux|nul|conin\$|conout\$|clock\$|(com|lpt)[0-9\u00b9\u00b2\u00b3])[ ]*(\..*)?",
    re.IGNORECASE | re.DOTALL,
)
_SHORT = re.compile(r"~[0-9]")


class Unclear(ValueError):
    """The path could be read differently, or cannot be followed. The message does not hold it."""


def directory(text: str) -> str:
    """Return *text* if it is an absolute path that can be read in one way only."""
    if not text.startswith("/"):
        raise ValueError("a directory is absolute: it begins with '/'")
    try:
        if not parts_of(text):
            raise ValueError(
                "'/' would grant the whole machine; name the directories that are meant"
            )
    except Unclear as error:
        raise ValueError(f"not a directory that can be granted: it has {error}") from None
    return text


def parts_of(text: str, base: str | None = None) -> tuple[str, ...]:
    """
    Return the names in the absolute path *text*, or in *base* and the relative one, from the top.

    Raises:
        Unclear: it could mean something else to somebody else; why.
    """
    _check_text(text)
    if text.startswith("/"):
        above: tuple[str, ...] = ()
    elif base is None:
        raise Unclear("it is relative, and no base is given")
    elif normalize("NFKC", text[0]) == "-":
        raise Unclear("it begins like an option")
    else:
        above = parts_of(base)
    names = text.removeprefix("/").removesuffix("/").split("/")
    if names == [""] and text == "/":
        return above
    for name in names:
        _check_name(name)
    parts = (*above, *(name for name in names if name != "."))
    if len("/".join(parts).encode()) >= MAX_PATH:
        raise Unclear("it is too long")
    return parts


def _check_text(text: str) -> None:
    if not text:
        raise Unclear("it is empty")
    if len(text) > MAX_PATH:
        raise Unclear("it is too long")
    found = next((_SPECIAL[char] for char in text if char in _SPECIAL), None)
    if found is not None:
        raise Unclear(f"it has {found}")
    if text.isascii() and text.isprintable():
        return
    if hides(text) or not _UNSEEN.isdisjoint(map(category, text)):
        raise Unclear("it has a character that is not seen")
    try:
        check_legible(text)
    except Illegible as error:
        raise Unclear(f"it has {error}") from None
    if not is_normalized("NFC", text):
        raise Unclear("it is not in Unicode's composed form, NFC")
    if any(not _is_harmless(char) for char in text if not char.isascii()):
        raise Unclear("it has a character that stands for one with a meaning in paths")


def _is_harmless(char: str) -> bool:
    """Whether *char*, which is not ASCII, becomes nothing that a path gives a meaning to when it is made compatible."""
    return _MEANINGS.isdisjoint(normalize("NFKC", char))


def _check_name(name: str) -> None:
    if name == "":
        raise Unclear("it has two slashes in a row")
    if name == ".":
        return
    if name == "..":
        raise Unclear("it has '..'")
    if name != name.strip() or name.endswith("."):
        raise Unclear("a name in it begins or ends with a blank, or ends with a dot")
    if name.startswith("~") or _SHORT.search(name):
        raise Unclear(
            "a name in it stands for another: a home directory, or a long name made short"
        )
    if _DEVICE.fullmatch(name):
        raise Unclear("a name in it is that of a device")
    if len(name.encode()) > MAX_NAME:
        raise Unclear("a name in it is too long")
