"""A provider on a loopback socket: it speaks chat completions, responses and the rest, whole and as streams."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from tests.clients import server
from tests.clients.server import Says

CHAT_USAGE = {
    "prompt_tokens": 100,
    "completion_tokens": 20,
    "total_tokens": 120,
    "prompt_tokens_details": {"cached_tokens": 40},
    "completion_tokens_details": {"reasoning_tokens": 5},
}
RESPONSE_USAGE = {
    "input_tokens": 100,
    "output_tokens": 20,
    "total_tokens": 120,
    "input_tokens_details": {"cached_tokens": 40, "cache_write_tokens": 10},
    "output_tokens_details": {"reasoning_tokens": 5},
}


class Provider(server.Provider):
    """The server, within a `with` block."""

    root = "/v1"

    def is_asked(self, path: str) -> bool:
        """Return whether *path* is one of a model."""
        return path in _ANSWERS

    def answer(self, path: str, body: Mapping[str, Any], says: Says) -> Any:
        """Return the answer of that endpoint."""
        return _ANSWERS[path](body, says)

    def stream(self, path: str, answer: Any, body: Mapping[str, Any], says: Says) -> Iterator[str]:
        """Return it as that endpoint streams."""
        found: Iterator[str] = _STREAMS[path](answer, body, says)
        return found


def _chat(body: Mapping[str, Any], says: Says) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": says.text or None}
    if says.calls:
        message["tool_calls"] = [
            {"id": one, "type": "function", "function": {"name": name, "arguments": arguments}}
            for one, name, arguments in says.calls
        ]
    reason = "tool_calls" if says.calls else "stop"
    choice = {"index": 0, "message": message, "finish_reason": reason, "logprobs": None}
    head = {"id": "c-1", "created": 1, "model": body.get("model", ""), "object": "chat.completion"}
    return {**head, "choices": [choice], **({"usage": CHAT_USAGE} if says.usage else {})}


def _chunks(answer: dict[str, Any], body: Mapping[str, Any], says: Says) -> Iterator[str]:
    head = {**answer, "object": "chat.completion.chunk"}
    usage = head.pop("usage", None)
    wants = (body.get("stream_options") or {}).get("include_usage")
    if wants:
        head["usage"] = None

    def chunk(delta: Mapping[str, Any], reason: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        return f"data: {json.dumps({**head, 'choices': [choice]})}\n\n"

    yield chunk({"role": "assistant", "content": ""})
    for word in says.text.split(" "):
        yield chunk({"content": word + " "})
    for number, (one, name, arguments) in enumerate(says.calls):
        function = {"name": name, "arguments": ""}
        yield chunk(
            {"tool_calls": [{"index": number, "id": one, "type": "function", "function": function}]}
        )
        half = len(arguments) // 2
        for part in (arguments[:half], arguments[half:]):
            yield chunk({"tool_calls": [{"index": number, "function": {"arguments": part}}]})
    yield chunk({}, "tool_calls" if says.calls else "stop")
    if wants and usage:
        yield f"data: {json.dumps({**head, 'choices': [], 'usage': usage})}\n\n"
    yield "data: [DONE]\n\n"


def _response(body: Mapping[str, Any], says: Says) -> dict[str, Any]:
    output: list[dict[str, Any]] = []
    if says.text:
        part = {"type": "output_text", "text": says.text, "annotations": []}
        output.append(
            {
                "type": "message",
                "id": "m-1",
                "role": "assistant",
                "status": "completed",
                "content": [part],
            }
        )
    for one, name, arguments in says.calls:
        output.append(
            {
                "type": "function_call",
                "id": f"f-{one}",
                "call_id": one,
                "name": name,
                "arguments": arguments,
                "status": "completed",
            }
        )
    head = {"id": "r-1", "object": "response", "created_at": 1, "model": body.get("model", "")}
    rest = {"status": "completed", "parallel_tool_calls": True, "tool_choice": "auto", "tools": []}
    usage = {"usage": RESPONSE_USAGE} if says.usage else {}
    return {**head, **rest, "output": output, "error": None, **usage}


def _response_events(answer: dict[str, Any], _: Mapping[str, Any], says: Says) -> Iterator[str]:
    number = 0

    def event(kind: str, **data: Any) -> str:
        nonlocal number
        number += 1
        written = json.dumps({"type": kind, "sequence_number": number, **data})
        return f"event: {kind}\ndata: {written}\n\n"

    begun = {**answer, "output": [], "status": "in_progress", "usage": None}
    yield event("response.created", response=begun)
    for place, item in enumerate(answer["output"]):
        at = {"output_index": place}
        empty = {"content": []} if item["type"] == "message" else {"arguments": ""}
        yield event("response.output_item.added", item={**item, **empty}, **at)
        at["item_id"] = item["id"]
        if item["type"] == "message":
            part = item["content"][0]
            at["content_index"] = 0
            yield event("response.content_part.added", part={**part, "text": ""}, **at)
            for word in part["text"].split(" "):
                yield event("response.output_text.delta", delta=word + " ", logprobs=[], **at)
            yield event("response.output_text.done", text=part["text"], logprobs=[], **at)
            yield event("response.content_part.done", part=part, **at)
        else:
            kind = "response.function_call_arguments"
            yield event(f"{kind}.delta", delta=item["arguments"], **at)
            yield event(f"{kind}.done", arguments=item["arguments"], name=item["name"], **at)
        yield event("response.output_item.done", item=item, output_index=place)
    yield event("response.completed", response=answer)


def _text(body: Mapping[str, Any], says: Says) -> dict[str, Any]:
    choice = {"index": 0, "text": says.text, "finish_reason": "stop", "logprobs": None}
    head = {"id": "t-1", "created": 1, "model": body["model"], "object": "text_completion"}
    return {**head, "choices": [choice], "usage": CHAT_USAGE}


def _text_chunks(answer: dict[str, Any], body: Mapping[str, Any], says: Says) -> Iterator[str]:
    usage = answer.pop("usage")
    for word in says.text.split(" "):
        choice = {"index": 0, "text": word + " ", "finish_reason": None, "logprobs": None}
        yield f"data: {json.dumps({**answer, 'choices': [choice]})}\n\n"
    if (body.get("stream_options") or {}).get("include_usage"):
        yield f"data: {json.dumps({**answer, 'choices': [], 'usage': usage})}\n\n"
    yield "data: [DONE]\n\n"


def _embeddings(body: Mapping[str, Any], _: Says) -> dict[str, Any]:
    data = [{"object": "embedding", "index": 0, "embedding": [0.5, 0.25]}]
    usage = {"prompt_tokens": 7, "total_tokens": 7}
    return {"object": "list", "model": body["model"], "data": data, "usage": usage}


_ANSWERS: dict[str, Any] = {
    "/chat/completions": _chat,
    "/completions": _text,
    "/embeddings": _embeddings,
    "/moderations": lambda body, _: {"id": "o-1", "model": body.get("model", ""), "results": []},
    "/responses": _response,
    "/responses/compact": _response,
    "/responses/input_tokens": lambda _, __: {
        "object": "response.input_tokens",
        "input_tokens": 9,
    },
}
_STREAMS: dict[str, Any] = {
    "/chat/completions": _chunks,
    "/completions": _text_chunks,
    "/responses": _response_events,
}
