"""
What a provider answers: as one JSON object, whole or put together from a stream, and written anew as a stream.

An answer that was streamed is put together in the form that the same request has without streaming, so that those who
review it see one form; what they leave of it is written as a stream again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from interlock import Usage
from interlock.clients import Json, count, sse

_MOST = 10_000
"""The parts of an answer are fewer: a number that a stream names must not fill the memory."""

LAST = frozenset({"error", "response.completed", "response.failed", "response.incomplete"})
"""The types of the events that end a response; chunks end with a mark of their own."""


def is_usage(data: Json) -> bool:
    """Return whether an event is what `include_usage` adds at the end of a stream of chunks."""
    return data.get("choices") == [] and bool(data.get("usage"))


def told(data: Json) -> object:
    """Return what an event tells of the usage: a response at its end, a chunk at any time."""
    is_end = data.get("type") in LAST and "response" in data
    found: object = data["response"] if is_end else data
    return found.get("usage") if isinstance(found, Mapping) else None


def usage(found: Mapping[str, Any]) -> Usage:
    """Return the usage that an answer tells."""
    given = count(found, "prompt_tokens", "input_tokens")
    read = found.get("prompt_tokens_details") or found.get("input_tokens_details")
    details = found.get("completion_tokens_details") or found.get("output_tokens_details")
    output = count(found, "completion_tokens", "output_tokens")
    if output is None and found.get("total_tokens") == given:  # of embeddings, which have no output
        output = 0
    return Usage(
        input_tokens=given,
        output_tokens=output,
        cache_read_tokens=count(read, "cached_tokens"),
        cache_write_tokens=count(read, "cache_write_tokens"),
        reasoning_tokens=count(details, "reasoning_tokens"),
    )


def assembled(said: Sequence[Json]) -> Any:
    """Return the answer that a stream of events is which say what was *said*."""
    for data in reversed(said):
        if isinstance(data.get("response"), dict) and data.get("type") in LAST:
            return data["response"]
    if not any("choices" in data for data in said):
        return list(said)
    answer: Json = {}
    choices: dict[int, Json] = {}
    for data in said:
        for key, value in data.items():
            if key == "choices":
                for part in value or []:
                    _add(choices.setdefault(part.get("index", 0), {}), part)
            elif value is not None:
                answer[key] = value
    answer["choices"] = [
        {("message" if key == "delta" else key): value for key, value in choices[index].items()}
        for index in sorted(choices)
    ]
    if answer.get("object") == "chat.completion.chunk":
        answer["object"] = "chat.completion"
    return answer


def written(answer: Json) -> bytes | None:
    """Return *answer* as a stream of the same protocol, with usage at the end if it tells one."""
    if "choices" not in answer:
        return b"".join(sse(data, data["type"]) for data in _response_events(answer))
    head = {key: value for key, value in answer.items() if key not in {"choices", "usage"}}
    parts: list[Json] = []
    for choice in answer["choices"]:
        part = dict(choice)
        if "message" in part:
            head["object"] = "chat.completion.chunk"
            message = dict(part.pop("message"))
            calls = message.get("tool_calls")
            if calls:
                message["tool_calls"] = [{"index": n, **call} for n, call in enumerate(calls)]
            part["delta"] = message
        parts.append({**head, "choices": [part]})
    if answer.get("usage"):
        parts.append({**head, "choices": [], "usage": answer["usage"]})
    return b"".join(map(sse, parts)) + b"data: [DONE]\n\n"


def _response_events(response: Json) -> Iterator[Json]:
    numbers = iter(range(1_000_000))
    empty = {**response, "output": [], "status": "in_progress", "usage": None}
    yield {"type": "response.created", "sequence_number": next(numbers), "response": empty}
    for place, item in enumerate(response.get("output") or []):
        at = {"output_index": place}
        begun = {**item, "status": "in_progress"}
        content = item.get("content") if item.get("type") == "message" else None
        if content is not None:
            begun["content"] = []
        if "arguments" in item:
            begun["arguments"] = ""
        yield {
            "type": "response.output_item.added",
            "sequence_number": next(numbers),
            "item": begun,
            **at,
        }
        within = {**at, "item_id": item.get("id", "")}
        for number, part in enumerate(content or []):
            yield from _part_events(part, {**within, "content_index": number}, numbers)
        if "arguments" in item:
            yield {
                "type": "response.function_call_arguments.delta",
                "sequence_number": next(numbers),
                "delta": item["arguments"],
                **within,
            }
            yield {
                "type": "response.function_call_arguments.done",
                "sequence_number": next(numbers),
                "arguments": item["arguments"],
                "name": item.get("name", ""),
                **within,
            }
        yield {
            "type": "response.output_item.done",
            "sequence_number": next(numbers),
            "item": item,
            **at,
        }
    status = response.get("status")
    kind = status if status in {"completed", "failed", "incomplete"} else "completed"
    yield {"type": f"response.{kind}", "sequence_number": next(numbers), "response": response}


def _part_events(part: Json, at: Json, numbers: Iterator[int]) -> Iterator[Json]:
    field = "refusal" if part.get("type") == "refusal" else "text"
    kind = "response.refusal" if field == "refusal" else "response.output_text"
    logprobs: Json = {} if field == "refusal" else {"logprobs": []}
    text = part.get(field, "")
    yield {
        "type": "response.content_part.added",
        "sequence_number": next(numbers),
        "part": {**part, field: ""},
        **at,
    }
    yield {
        "type": f"{kind}.delta",
        "sequence_number": next(numbers),
        "delta": text,
        **logprobs,
        **at,
    }
    yield {"type": f"{kind}.done", "sequence_number": next(numbers), field: text, **logprobs, **at}
    yield {
        "type": "response.content_part.done",
        "sequence_number": next(numbers),
        "part": part,
        **at,
    }


def _add(whole: Json, part: Mapping[str, Any]) -> None:
    """Add what one chunk says to what those before it said."""
    for key, value in part.items():
        known = whole.get(key)
        if known is None or key in {"finish_reason", "id", "index", "role", "type"}:
            whole[key] = value if value is not None else known
            if (
                isinstance(value, list)
                and value
                and isinstance(value[0], dict)
                and "index" in value[0]
            ):
                whole[key] = []
                _add_items(whole[key], value)
            elif isinstance(value, dict):
                whole[key] = {}
                _add(whole[key], value)
        elif isinstance(known, str) and isinstance(value, str):
            whole[key] = known + value
        elif isinstance(known, dict) and isinstance(value, dict):
            _add(known, value)
        elif isinstance(known, list) and isinstance(value, list):
            _add_items(known, value)
        elif value is not None:
            whole[key] = value


def _add_items(known: list[Any], value: list[Any]) -> None:
    for item in value:
        place = item.get("index") if isinstance(item, dict) else None
        if type(place) is not int or not 0 <= place < _MOST:
            known.append(item)
            continue
        known.extend({} for _ in range(place + 1 - len(known)))
        _add(known[place], {key: part for key, part in item.items() if key != "index"})
