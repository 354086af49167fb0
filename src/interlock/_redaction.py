"""Redaction: what plugins take out of the texts of a call's arguments, before these are recorded."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any, TypeAlias

import msgspec

from interlock import _canonical
from interlock._call import Call
from interlock._canonical import Tree

Redact: TypeAlias = "Callable[[Content], str | Withheld | None]"
"""Returns the text to record instead, who withholds the whole of it, or None to leave it as it is."""


# How the text is read out of what stands for it in canonical JSON; bytes are searched as the text that they may be.
_READ: dict[str, Callable[[str], str]] = {
    "$path": str,
    "$text": lambda written: bytes.fromhex(written).decode("utf-8", "backslashreplace"),
    "$bytes": lambda written: base64.b64decode(written).decode("utf-8", "backslashreplace"),
}

# What stands for no text that somebody could have put a secret into.
_TEXTLESS = frozenset(
    {
        "$secret",
        "$digest",
        "$object",
        "$cut",
        "$failed",
        "$int",
        "$float",
        "$decimal",
        "$uuid",
        "$datetime",
        "$date",
        "$time",
        "$duration",
    }
)


_TAGS = _TEXTLESS | _READ.keys() | {"$record", "$enum"}


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """
    One text within the arguments of a call, or within what a host notes, as it is about to be recorded.

    Attributes:
        tool: The tool's name, or that of the note.
        path: Where it stands, such as `order.items.0.note`; of a key, the path of what it leads to.
        text: The text itself, or what redactors asked before have left of it.
    """

    tool: str
    path: str
    text: str


class Withheld(msgspec.Struct, frozen=True):
    """A text of which nothing is recorded, because a redactor failed; `by` is its name."""

    by: str


def redacted(call: Call, redact: Redact) -> Call:
    """
    Return *call* as it is to be recorded: *redact* is shown each text of its arguments, keys too, and of its resource.

    What runs, what is judged and the digest stay as they are; where secrets are declared, there is nothing to show.
    """
    walk = _Walk(call.tool.name, redact)
    data = walk.value(msgspec.json.decode(call.recorded), "")
    resource = None
    if call.resource is not None:
        shown = walk.value(call.resource, call.tool.resource or "")
        resource = shown if isinstance(shown, str) else msgspec.json.encode(shown).decode()
    if not walk.has_changed:
        return call
    return msgspec.structs.replace(
        call, recorded=_canonical.encode(data).decode(), recorded_resource=resource
    )


def redacted_data(name: str, data: Tree, redact: Redact) -> Tree:
    """Return canonical *data*, which a host notes under *name*, as it is to be recorded."""
    found: Tree = _Walk(name, redact).value(data, "")
    return found


class _Walk:
    """One pass over canonical data, in which each text is replaced by what is left of it."""

    def __init__(self, tool: str, redact: Redact) -> None:
        self._tool, self._redact = tool, redact
        self.has_changed = False

    def value(self, data: Any, path: str) -> Any:
        """Return what is recorded of *data*."""
        match data:
            case str():
                left = self._left(data, path)
                return {"$redacted": left.by} if isinstance(left, Withheld) else left
            case list():
                return [self.value(item, _join(path, number)) for number, item in enumerate(data)]
            case {"$map": [*pairs]}:
                return {"$map": [self._pair(key, item, path) for key, item in pairs]}
            case {"$tuple": [*items]}:
                return {"$tuple": self.value(items, path)}
            case {"$set": [*items]}:
                return {"$set": self.value(items, path)}
            case dict() if len(data) == 1 and (tag := next(iter(data))) in _TAGS:
                return self._tagged(tag, data[tag], path)
            case dict():
                return self._mapping(data, path)
            case _:
                return data

    def _tagged(self, tag: str, inside: Any, path: str) -> Any:
        """Return what is recorded of a value that JSON has no form for; names of classes are no content."""
        match inside:
            case [kind, value] if tag in {"$record", "$enum"}:
                return {tag: [kind, self.value(value, path)]}
            case str() if tag in _READ:
                return self._spelled(tag, inside, path)
            case _:
                return {tag: inside}

    def _spelled(self, tag: str, written: str, path: str) -> Any:
        """Return what is recorded of a text that JSON has no form for: what it was unless something is taken out."""
        text = _READ[tag](written)
        left = self._left(text, path)
        if isinstance(left, Withheld):
            return {"$redacted": left.by}
        return {tag: written} if left is text else left

    def _pair(self, key: Any, item: Any, path: str) -> list[Any]:
        at = _join(path, key if isinstance(key, str) else "*")
        return [self.value(key, at), self.value(item, at)]

    def _mapping(self, data: dict[str, Any], path: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, item in data.items():
            name = key[1:] if key.startswith("$$") else key
            at = _join(path, name)
            left = self._left(name, at)
            if isinstance(left, Withheld):
                spelled = f"$redacted by {left.by}"
            else:
                spelled = key if left is name else f"${left}" if left.startswith("$") else left
            found[_free(spelled, found)] = self.value(item, at)
        return found

    def _left(self, text: str, path: str) -> str | Withheld:
        """Return *text* itself where nobody changes it."""
        left = self._redact(Content(tool=self._tool, path=path, text=text))
        if left is None or left == text:
            return text
        self.has_changed = True
        return left


def _join(path: str, part: object) -> str:
    return f"{path}.{part}" if path else str(part)


def _free(name: str, taken: dict[str, Any]) -> str:
    """Return *name*, numbered if it is *taken*: two keys of which the same is left are still two."""
    free, number = name, 2
    while free in taken:
        free, number = f"{name} ({number})", number + 1
    return free
