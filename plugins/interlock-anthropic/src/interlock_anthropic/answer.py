"""
What the provider answers: as one message, whole or put together from a stream, and written anew as a stream.

An answer that was streamed is put together in the form that the same request has without streaming, so that those who
review it see one form; what they leave of it is written as a stream again.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import msgspec

from interlock import Misuse, Usage

log = logging.getLogger("interlock")

Json: TypeAlias = dict[str, Any]

_END = re.compile(rb"\r\n\r\n|\n\n|\r\r")

_LAST = frozenset({"error", "message_stop"})

_MOST = 10_000
"""The parts of an answer are fewer: a number that a stream names must not fill the memory."""


class Event(msgspec.Struct, frozen=True):
    """
    One event of a stream.

    Attributes:
        raw: Its bytes, with the empty line that ends it.
        data: What it says; None where that is no JSON object.
        is_last: Whether it ends the answer.
    """

    raw: bytes
    data: Json | None
    is_last: bool = False


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
            yield event_of(raw)

    def rest(self) -> Iterator[Event]:
        """Give what came after the last event that ended."""
        if self._held:
            yield event_of(self._held)
            self._held = b""


class Tally:
    """
    The usage that a stream tells: of the input at its beginning, of all at its end.

    Attributes:
        is_final: Whether the end was told.
    """

    def __init__(self) -> None:
        """Begin with nothing."""
        self.is_final = False
        self._told: Json = {}

    def add(self, event: Event) -> None:
        """Take what *event* says of it."""
        data = event.data or {}
        message = data.get("message") if data.get("type") == "message_start" else data
        told = message.get("usage") if isinstance(message, Mapping) else None
        if isinstance(told, Mapping):
            self._told |= {key: value for key, value in told.items() if value is not None}
            self.is_final = self.is_final or data.get("type") == "message_delta"

    def used(self, output_tokens: int | None = None) -> Usage | None:
        """Return it; *output_tokens* stands in for what was written where the end was not told."""
        if not self._told:
            return None
        told = self._told
        if not self.is_final:
            told = {**told, "output_tokens": output_tokens, "output_tokens_details": None}
        return used_by({"usage": told})


def events_in(content: bytes) -> list[Event]:
    """Return the events of a whole stream."""
    splitter = Splitter()
    return [*splitter.feed(content), *splitter.rest()]


def event_of(raw: bytes) -> Event:
    """Return the event that *raw* is."""
    lines = [
        line for line in raw.decode("utf-8", "replace").splitlines() if line.startswith("data:")
    ]
    data = _object("\n".join(line[5:].removeprefix(" ") for line in lines))
    return Event(raw, data, is_last=data is not None and data.get("type") in _LAST)


def answer_in(content: bytes) -> Any:
    """Return what a whole body says: JSON, or where it is none its text."""
    try:
        return json.loads(content)
    except ValueError:
        return content.decode("utf-8", "replace")


def used_by(answer: object) -> Usage | None:
    """
    Return the usage that *answer* tells; None where it tells none, or one that cannot be.

    The provider counts apart what is read from its cache and written to it; here all of it is input.
    """
    found = answer.get("usage") if isinstance(answer, Mapping) else None
    if not isinstance(found, Mapping):
        return None
    given = _count(found, "input_tokens")
    read = _count(found, "cache_read_input_tokens")
    kept = _count(found, "cache_creation_input_tokens")
    try:
        return Usage(
            input_tokens=None if given is None else given + (read or 0) + (kept or 0),
            output_tokens=_count(found, "output_tokens"),
            cache_read_tokens=read,
            cache_write_tokens=kept,
            reasoning_tokens=_count(found.get("output_tokens_details"), "thinking_tokens"),
        )
    except Misuse:
        log.warning("the provider tells a usage that cannot be; it is booked as not known")
        return None


def assembled(events: Iterable[Event]) -> Any:
    """Return the message that *events* are the stream of; where they are none, what they say."""
    said = [event.data for event in events if event.data is not None]
    if not said or said[0].get("type") != "message_start":
        return said
    message: Json = dict(said[0]["message"])
    blocks: dict[int, Json] = {}
    for data in said[1:]:
        place = data.get("index")
        if data.get("type") == "content_block_start" and type(place) is int and place < _MOST:
            blocks[place] = dict(data["content_block"])
        elif data.get("type") == "content_block_delta" and place in blocks:
            _add(blocks[place], data["delta"])
        elif data.get("type") == "message_delta":
            message |= {key: value for key, value in data.items() if key not in {"type", "usage"}}
            message |= message.pop("delta", None) or {}
            told = data.get("usage") or {}
            usage = {key: value for key, value in told.items() if value is not None}
            message["usage"] = {**(message.get("usage") or {}), **usage}
    message["content"] = [_whole(blocks[place]) for place in sorted(blocks)]
    return message


def written(answer: Any) -> bytes:
    """
    Return *answer* as a stream of the same protocol.

    Raises:
        Misuse: it is no answer of the protocol.
    """
    if isinstance(answer, list):
        return b"".join(_sse(data) for data in answer if isinstance(data, dict))
    if not isinstance(answer, dict) or not isinstance(answer.get("content"), list):
        raise no_answer()
    return b"".join(map(_sse, _events(answer)))


def no_answer() -> Misuse:
    """Return what is raised where a review leaves what is no answer."""
    return Misuse(
        "the call of the model ran and was booked, and its review left no answer of the protocol; do not make it again"
    )


def _events(message: Json) -> Iterator[Json]:
    begun = {**message, "content": [], "stop_reason": None, "stop_sequence": None}
    yield {"type": "message_start", "message": begun}
    for place, block in enumerate(message["content"]):
        empty, deltas = _parts(block)
        yield {"type": "content_block_start", "index": place, "content_block": empty}
        for delta in deltas:
            yield {"type": "content_block_delta", "index": place, "delta": delta}
        yield {"type": "content_block_stop", "index": place}
    ended = {key: message.get(key) for key in ("stop_reason", "stop_sequence")}
    yield {"type": "message_delta", "delta": ended, "usage": message.get("usage") or {}}
    yield {"type": "message_stop"}


def _parts(block: Json) -> tuple[Json, list[Json]]:
    """Return how a block begins, and what comes after."""
    match block.get("type"):
        case "text":
            return {**block, "text": ""}, [{"type": "text_delta", "text": block.get("text", "")}]
        case "tool_use" | "server_tool_use" | "mcp_tool_use":
            text = json.dumps(block.get("input", {}))
            return {**block, "input": {}}, [{"type": "input_json_delta", "partial_json": text}]
        case "thinking":
            deltas = [
                {"type": "thinking_delta", "thinking": block.get("thinking", "")},
                {"type": "signature_delta", "signature": block.get("signature", "")},
            ]
            return {**block, "thinking": "", "signature": ""}, deltas
        case _:
            return block, []


def _add(block: Json, delta: Mapping[str, Any]) -> None:
    """Add what one event says to what those before it said of a block."""
    for key, value in delta.items():
        if key == "type":
            continue
        if key == "citation":
            block["citations"] = [*(block.get("citations") or []), value]
        elif isinstance(value, str) and isinstance(block.get(key), str):
            block[key] += value
        else:
            block[key] = value


def _whole(block: Json) -> Json:
    text = block.pop("partial_json", None)
    if text is not None:
        block["input"] = answer_in(text.encode()) if text else {}
    return block


def _count(found: object, name: str) -> int | None:
    count = found.get(name) if isinstance(found, Mapping) else None
    return count if type(count) is int else None


def _object(text: str) -> Json | None:
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _sse(data: Json) -> bytes:
    return f"event: {data.get('type')}\ndata: {json.dumps(data)}\n\n".encode()
