"""The events of a stream: bytes in, events out, and JSON out as an event again."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, TypeAlias

import msgspec

Json: TypeAlias = dict[str, Any]

_END = re.compile(rb"\r\n\r\n|\n\n|\r\r")


class Event(msgspec.Struct, frozen=True):
    """
    One event of a stream.

    Attributes:
        raw: Its bytes, with the empty line that ends it.
        text: Its data.
        data: What that says; None where it is no JSON object.
    """

    raw: bytes
    text: str
    data: Json | None

    @property
    def is_done(self) -> bool:
        """Whether nothing follows, so that nobody reads on."""
        return self.text.startswith("[DONE]")


class Splitter:
    """Splits the bytes of a stream into its events."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._held = b""

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """Give the events that end within *chunk*."""
        self._held += chunk
        while (end := _END.search(self._held)) is not None:
            raw, self._held = self._held[: end.end()], self._held[end.end() :]
            yield _event(raw)

    def rest(self) -> Iterator[Event]:
        """Give what came after the last event that ended."""
        if self._held:
            yield _event(self._held)
            self._held = b""


def events_in(content: bytes) -> list[Event]:
    """Return the events of a whole stream."""
    splitter = Splitter()
    return [*splitter.feed(content), *splitter.rest()]


def json_in(content: bytes) -> Any:
    """Return what a whole body says: JSON, or where it is none its text."""
    try:
        return json.loads(content)
    except ValueError:
        return content.decode("utf-8", "replace")


def sse(data: Json, name: str | None = None) -> bytes:
    """Return the event that says *data*, by *name* if it has one."""
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(data)}\n\n".encode()


def _event(raw: bytes) -> Event:
    lines = [
        line for line in raw.decode("utf-8", "replace").splitlines() if line.startswith("data:")
    ]
    text = "\n".join(line[5:].removeprefix(" ") for line in lines)
    data = json_in(text.encode())
    return Event(raw, text, data if isinstance(data, dict) else None)
