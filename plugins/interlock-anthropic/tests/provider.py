"""A provider on a loopback socket: it speaks messages, whole and as streams."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from tests.clients import server
from tests.clients.server import Says

USAGE = {
    "input_tokens": 50,
    "cache_read_input_tokens": 40,
    "cache_creation_input_tokens": 10,
    "output_tokens": 20,
    "output_tokens_details": {"thinking_tokens": 5},
}


class Provider(server.Provider):
    """The server, within a `with` block."""

    def is_asked(self, path: str) -> bool:
        """Return whether *path* is that of messages."""
        return path == "/v1/messages"

    def other(self, path: str) -> Any:
        """Return how many tokens there are, or what says nothing."""
        return {"input_tokens": 9} if path == "/v1/messages/count_tokens" else super().other(path)

    def answer(self, path: str, body: Mapping[str, Any], says: Says) -> Any:
        """Return a message."""
        return _message(body, says)

    def stream(self, path: str, answer: Any, body: Mapping[str, Any], says: Says) -> Iterator[str]:
        """Return it as events."""
        return _events(answer, says)


def _message(body: Mapping[str, Any], says: Says) -> dict[str, Any]:
    content: list[dict[str, Any]] = []
    if says.text:
        content.append({"type": "text", "text": says.text})
    for one, name, arguments in says.calls:
        content.append(
            {"type": "tool_use", "id": one, "name": name, "input": json.loads(arguments)}
        )
    head = {"id": "m-1", "type": "message", "role": "assistant", "model": body.get("model", "")}
    reason = "tool_use" if says.calls else "end_turn"
    usage = USAGE if says.usage else {"input_tokens": None, "output_tokens": None}
    return {
        **head,
        "content": content,
        "stop_reason": reason,
        "stop_sequence": None,
        "usage": usage,
    }


def _events(answer: dict[str, Any], says: Says) -> Iterator[str]:
    def event(kind: str, **data: Any) -> str:
        return f"event: {kind}\ndata: {json.dumps({'type': kind, **data})}\n\n"

    usage = {**answer["usage"], "output_tokens_details": None}
    usage["output_tokens"] = 1 if says.usage else None
    empty = {"content": [], "stop_reason": None, "usage": usage}
    yield event("message_start", message={**answer, **empty})
    yield event("ping")
    for place, block in enumerate(answer["content"]):
        at = {"index": place}
        if block["type"] == "text":
            yield event("content_block_start", content_block={**block, "text": ""}, **at)
            deltas = [
                {"type": "text_delta", "text": f"{word} "} for word in block["text"].split(" ")
            ]
        else:
            yield event("content_block_start", content_block={**block, "input": {}}, **at)
            text = json.dumps(block["input"])
            parts = (text[: len(text) // 2], text[len(text) // 2 :])
            deltas = [{"type": "input_json_delta", "partial_json": part} for part in parts]
        for delta in deltas:
            yield event("content_block_delta", delta=delta, **at)
        yield event("content_block_stop", **at)
    ended = {key: answer[key] for key in ("stop_reason", "stop_sequence")}
    told = {
        "usage": {
            key: answer["usage"].get(key) for key in ("output_tokens", "output_tokens_details")
        }
    }
    yield event("message_delta", delta=ended, **told)
    yield event("message_stop")
