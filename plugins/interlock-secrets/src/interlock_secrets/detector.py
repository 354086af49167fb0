"""Where secrets stand in a text: the detector's findings, as spans of characters, in every spelling that we undo."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from functools import cache
from importlib.resources import as_file, files
from typing import Final, NamedTuple
from unicodedata import category, normalize

from kingfisher_sdk import Finding, Rules, Scanner

__all__ = ["MAX_BYTES", "Span", "check_kinds", "find", "masked", "scanner"]

MAX_BYTES: Final = 65_536
"""How long a text may be, in UTF-8, that is searched before it is recorded; a longer one is masked whole."""

_SUREST: Final = ("high", "medium", "low")

_MASK: Final = "[secret: "

# A control character ends a word; and with NULs between its letters a text is not to be taken for UTF-16.
_SPACED: Final = {
    **{code: " " for code in (*range(32), 127) if chr(code) not in "\t\n\r"},
    **dict.fromkeys(range(0xD800, 0xE000), " "),
}

# Fillers show nothing, but are letters or symbols to Unicode.
_FILLERS: Final = frozenset("\u115f\u1160\u2800\u3164\uffa0")
_SHOWS_NOTHING: Final = frozenset(["Cc", "Cf", "Cs", "Mn", "Me"])


class Span(NamedTuple):
    """A secret in a text: from the character `start` up to `end`, and its kind, such as `github-pat`."""

    start: int
    end: int
    kind: str


class _Folded(dict[int, str]):
    """What is left of each character: its compatibility form without accents, or nothing where it shows nothing."""

    def __missing__(self, code: int) -> str:
        left = self[code] = "".join(
            part
            for part in normalize("NFKD", chr(code))
            if part in "\t\n\r" or not (part in _FILLERS or category(part) in _SHOWS_NOTHING)
        )
        return left


@cache
def scanner() -> Scanner:
    """
    Return the detector with its whole catalogue and our own rules. The first call compiles them, which takes seconds.

    What was compiled is kept on disk only where the host says so, in `KF_RULE_CACHE_DIR`.
    """
    with as_file(files("interlock_secrets") / "rules.yml") as path:
        rules = Rules([path], confidence="low", cache="KF_RULE_CACHE_DIR" in os.environ)
    return Scanner(rules)


@cache
def _kinds() -> frozenset[str]:
    return frozenset(_kind(rule["id"]) for rule in scanner().rules.metadata() if rule["visible"])


def check_kinds(kinds: Iterable[str]) -> None:
    """Raise ValueError if one of *kinds* is none that can be found."""
    if unknown := sorted(set(kinds) - _kinds()):
        raise ValueError(f"{unknown[0]!r} is no kind of secret that can be found")


def find(text: str, kinds: frozenset[str] | None = None) -> list[Span]:
    """
    Return where secrets stand in *text*, in order and apart from each other; only of *kinds*, if given.

    The text is searched as it is and as it looks: full-width letters made plain, and without what shows nothing.
    Time is linear in its length; the caller sees to it that it is bounded.
    """
    spans = _scan(text.translate(_SPACED))
    table = _Folded()
    looks = text.translate(table)
    if looks != text:
        spans += _unfolded(_scan(looks), text, table)
    return _apart(span for span in spans if _counts(span, text, kinds))


def masked(text: str, spans: Iterable[Span]) -> str:
    """Return *text* with `[secret: KIND]` in the place of each of *spans*, which are in order and apart."""
    parts, done = [], 0
    for start, end, kind in spans:
        parts += [text[done:start], f"{_MASK}{kind}]"]
        done = end
    return "".join([*parts, text[done:]])


def _scan(text: str) -> list[Span]:
    data = text.encode("utf-8", "replace")
    found = []
    for one in sorted(_findings(data), key=_doubt):
        if not one.visible:
            continue  # A helper's finding, such as the name of an account.
        start, end = one.location["start_offset"], one.location["end_offset"]
        if not one.is_base64_encoded and data[start:end] != one.secret.encode():
            start, end = (
                0,
                len(data),
            )  # The detector read something else than the text: all of it is suspect.
        found.append((start, end, _kind(one.rule_id)))
    if text.isascii() or not found:
        return [Span(*one) for one in found]
    place = _characters(data, {at for start, end, _ in found for at in (start, end)})
    return [Span(place[start], place[end], kind) for start, end, kind in found]


def _doubt(finding: Finding) -> tuple[int, str]:
    return _SUREST.index(finding.confidence), finding.rule_id


def _findings(data: bytes) -> list[Finding]:
    try:
        return scanner().scan(data)
    except (Exception, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as panic:  # noqa: BLE001 - of the detector, and no Exception
        raise RuntimeError(f"the detector failed: {type(panic).__name__}") from None


def _characters(data: bytes, offsets: set[int]) -> dict[int, int]:
    """Return how many characters stand before each of *offsets*, which are counted in bytes."""
    place: dict[int, int] = {}
    characters = done = 0
    for at in sorted(offsets):
        characters += len(data[done:at].decode("utf-8", "replace"))
        place[at], done = characters, at
    return place


def _unfolded(spans: list[Span], text: str, table: _Folded) -> list[Span]:
    """Return *spans* of the folded text as spans of *text* itself."""
    if not spans:
        return []
    origin: list[int] = []
    for number, character in enumerate(text):
        origin += [number] * len(table[ord(character)])
    return [
        Span(origin[start], origin[end - 1] + 1, kind) for start, end, kind in spans if end > start
    ]


def _counts(span: Span, text: str, kinds: frozenset[str] | None) -> bool:
    if kinds is not None and span.kind not in kinds:
        return False
    # What a mask says of a secret is no secret: `[secret: 1password-secret-key]`.
    before = text[max(0, span.start - len(_MASK)) : span.start]
    return not (before == _MASK and text[span.start : span.end].rstrip("]") in _kinds())


def _apart(spans: Iterable[Span]) -> list[Span]:
    """Return *spans* in order, those that overlap made one, with the kind of the longest, or surest."""
    found: list[Span] = []
    widest = 0
    for span in sorted(spans, key=lambda one: (one.start, -one.end)):
        width = span.end - span.start
        if found and span.start < found[-1].end:
            last = found[-1]
            kind = span.kind if width > widest else last.kind
            found[-1] = Span(last.start, max(last.end, span.end), kind)
            widest = max(widest, width)
        else:
            found.append(span)
            widest = width
    return found


def _kind(rule: str) -> str:
    """The kind of what a rule finds: its id without the catalogue that it is from."""
    return sys.intern(
        rule.removeprefix("betterleaks.").removeprefix("veles.secrets/").removeprefix("interlock.")
    )
