"""Display: text from agents, shown to people so that nothing in it acts, hides, or passes for something else."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from functools import lru_cache

import msgspec
from confusable_homoglyphs import confusables  # type: ignore[import-untyped]
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from interlock._ticket import Ticket

# Controls, invisible and direction-changing characters, surrogates, private use, unassigned, line and paragraph
# separators.
_UNSEEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}

# What is shown as nothing, or as a blank, though it is called a letter, a mark or a symbol.
# Source: Default_Ignorable_Code_Point of DerivedCoreProperties.txt; and U+2800, an empty pattern of Braille.
_BLANK = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)

_WORD = re.compile(r"\S+")

_PLAIN = {
    "$decimal",
    "$int",
    "$float",
    "$uuid",
    "$datetime",
    "$date",
    "$time",
    "$duration",
}

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def shown(value: object) -> str:
    """
    Return *value* as text in which nothing acts and nothing looks like what it is not.

    What cannot be seen is written as its escape, as are blanks other than a space, marks on a letter of ASCII, and what
    looks like ASCII in a word that could be taken for one in ASCII.
    """
    text = "" if value is None else str(value)
    if text.isascii() and text.isprintable():
        return text
    return _WORD.sub(_word, "".join(" " if c == " " else _visible(c) for c in text))


def _visible(character: str) -> str:
    category = unicodedata.category(character)
    blank = category == "Zs" or _BLANK.match(character) is not None
    return _escaped(character) if category in _UNSEEN or blank else character


def _word(match: re.Match[str]) -> str:
    word = match[0]
    if word.isascii():
        return word
    letters = [c for c in word if not c.isascii() and unicodedata.category(c)[0] == "L"]
    scripts = {script(c) for c in word if unicodedata.category(c)[0] == "L"}
    # A word in one other script that has a letter of its own cannot be taken for a word in ASCII.
    is_own = len(scripts) == 1 and any(not looks_ascii(c) for c in letters)
    seen: list[str] = []
    for before, c in zip(" " + word, word, strict=False):
        is_letter = unicodedata.category(c)[0] == "L"
        marks = unicodedata.category(c)[0] == "M" and (before.isascii() or _is_mark(before))
        deceives = looks_ascii(c) and not (is_letter and is_own)
        deceives = deceives or (unicodedata.category(c) == "Nd" and not c.isascii())
        seen.append(_escaped(c) if marks or deceives else c)
    return "".join(seen)


def _is_mark(character: str) -> bool:
    return unicodedata.category(character) == "Me"


@lru_cache(maxsize=4096)
def script(character: str) -> str:
    """Return the script that *character* belongs to, as Unicode names it."""
    name = unicodedata.name(character, "?").split(" ")[0]
    return {"FULLWIDTH": "LATIN", "HIRAGANA": "CJK", "KATAKANA": "CJK"}.get(name, name)


@lru_cache(maxsize=4096)
def looks_ascii(character: str) -> bool:
    """Whether *character* is not in ASCII and looks like something that is. Source: UTS #39, confusables.txt."""
    if character.isascii():
        return False
    if unicodedata.normalize("NFKC", character).isascii():
        return True
    found = confusables.is_confusable(character, greedy=True)
    return any(twin["c"].isascii() for one in found or () for twin in one["homoglyphs"])


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode()


def safe(value: object, style: str = "") -> Text:
    """Return *value* as text in which nothing acts: what cannot be seen, or deceives, is written out as its escape."""
    return Text(shown(value), style=style)


def arguments(recorded: str) -> Text:
    """
    Return recorded arguments as `name=value` pairs: text in quotes, what JSON has no type for in its plain form.

    So "20" and 20 look different, an exact 20.00 looks like itself, and no text can pass for another argument.
    """
    pairs = (f"{_key(name)}={value_text(value)}" for name, value in named(recorded))
    return safe(", ".join(pairs))


def named(recorded: str) -> Iterable[tuple[str, object]]:
    """Return the arguments of a call by name, from their canonical JSON."""
    tree: Mapping[str, object] = msgspec.json.decode(recorded)
    pairs = tree.get("$map")
    if isinstance(pairs, list):
        return [(str(name), value) for name, value in pairs]
    return list(tree.items())


def value_text(value: object) -> str:
    """Return one argument in its plain form; to be shown by `safe`."""
    match value:
        case {"$secret": True}:
            return "••••"
        case {"$digest": str(digest), **others} if not others:
            return f"({digest})"
        case {"$cut": str(why), **others} if not others:
            return f"({why})"
        case dict() if len(value) == 1 and next(iter(value)) in _PLAIN:
            return str(next(iter(value.values())))
        case dict():
            pairs = (f"{_key(key)}: {value_text(item)}" for key, item in value.items())
            return "{" + ", ".join(pairs) + "}"
        case list():
            return "[" + ", ".join(value_text(item) for item in value) + "]"
        case str():
            return _quoted(value)
        case _:
            return msgspec.json.encode(value).decode()


def data_text(recorded: str) -> str:
    """Return recorded data, whatever it is, in its plain form; to be shown by `safe`."""
    return value_text(msgspec.json.decode(recorded))


def _key(name: str) -> str:
    return name if _NAME.fullmatch(name) or name.startswith("$") else _quoted(name)


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def rows(ticket: Ticket) -> list[tuple[str, Text]]:
    """Return what a human has to know of a ticket, row by row; each argument has a row of its own."""
    needed = f"{ticket.quorum} people" if ticket.quorum > 1 else "one person"
    whom = f", of {', '.join(ticket.approvers)}" if ticket.approvers else ""
    found = [
        ("ticket", safe(ticket.id)),
        ("state", safe(ticket.state)),
        ("tool", safe(ticket.tool, "bold")),
        *(
            (f"  {shown(_key(name))}", safe(value_text(value)) + was)
            for name, value, was in _running(ticket)
        ),
        ("resource", safe(ticket.resource)),
        ("asked by", safe(" for ".join(ticket.requested_by))),
        ("because", safe(ticket.reason)),
        ("rule", safe(", ".join(ticket.asked))),
        ("needs", safe(f"the yes of {needed}{whom}")),
        *(
            ("said yes", safe(" ".join(filter(None, [one.by, one.comment and f"({one.comment})"]))))
            for one in ticket.approvals
        ),
        ("expires", safe(f"{ticket.expires_at:%Y-%m-%d %H:%MZ}")),
        ("decided by", safe(ticket.decided_by)),
        ("comment", safe(ticket.comment)),
    ]
    return [(label, value) for label, value in found if value.plain]


def _running(ticket: Ticket) -> Iterable[tuple[str, object, Text]]:
    """Return what will run, argument by argument, and what stood in its place before somebody changed it."""
    before = dict(named(ticket.arguments))
    for name, value in named(ticket.edited or ticket.arguments):
        is_same = msgspec.json.encode(before.get(name)) == msgspec.json.encode(value)
        was = f"  (was {value_text(before.get(name))}; changed by {ticket.edited_by})"
        yield name, value, Text() if is_same else safe(was, "yellow")


def panel(ticket: Ticket, more: Iterable[tuple[str, Text]] = ()) -> Panel:
    """Return all that a human has to know before the answer, framed: nothing in it can draw outside its own row."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, style="dim")
    table.add_column(overflow="fold")
    for label, value in (*rows(ticket), *more):
        table.add_row(Text(label), value)
    return Panel(table, title=f"Ticket, {ticket.state}", title_align="left")
