"""
What the provider answers: as one message, whole or put together from a stream, and written anew as a stream.

An answer that was streamed is put together in the form that the same request has without streaming, so that those who
review it see one form; what they leave of it is written as a stream again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from interlock import Usage
from interlock.clients import Json, count, json_in, sse

LAST = frozenset({"error", "message_stop"})
"""The types of the events that end a message."""

_MOST = 10_000
"""The parts of an answer are fewer: a number that a stream names must not fill the memory."""


def told(data: Json) -> object:
    """Return what an event tells of the usage: of the input at the beginning of a stream, of all at its end."""
    message = data.get("message") if data.get("type") == "message_start" else data
    found = message.get("usage") if isinstance(message, Mapping) else None
    if message is data or not isinstance(found, Mapping):
        return found
    return {key: value for key, value in found.items() if not key.startswith("output_tokens")}


def usage(found: Mapping[str, Any]) -> Usage:
    """
    Return the usage that an answer tells.

    The provider counts apart what is read from its cache and written to it; here all of it is input.
    """
    given = count(found, "input_tokens")
    read = count(found, "cache_read_input_tokens")
    kept = count(found, "cache_creation_input_tokens")
    return Usage(
        input_tokens=None if given is None else given + (read or 0) + (kept or 0),
        output_tokens=count(found, "output_tokens"),
        cache_read_tokens=read,
        cache_write_tokens=kept,
        reasoning_tokens=count(found.get("output_tokens_details"), "thinking_tokens"),
    )


def assembled(said: Sequence[Json]) -> Any:
    """Return the message that a stream of events is which say what was *said*; where it is none, that."""
    if not said or said[0].get("type") != "message_start":
        return list(said)
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


def written(answer: Json) -> bytes | None:
    """Return *answer* as a stream of the same protocol; None where it is no message."""
    if not isinstance(answer.get("content"), list):
        return None
    return b"".join(sse(data, data["type"]) for data in _events(answer))


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
        block["input"] = json_in(text.encode()) if text else {}
    return block
