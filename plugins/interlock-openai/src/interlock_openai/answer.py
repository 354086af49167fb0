"""
What a provider answers: as one JSON object, whole or put together from a stream, and written anew as a stream.

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

_MOST = 10_000
"""The parts of an answer are fewer: a number that a stream names must not fill the memory."""

_LAST = frozenset({"error", "response.completed", "response.failed", "response.incomplete"})


class Event(msgspec.Struct, frozen=True):
    """
    One event of a stream.

    Attributes:
        raw: Its bytes, with the empty line that ends it.
        data: What it says; None where that is no JSON object.
        is_done: Whether nothing follows, so that nobody reads on.
        is_last: Whether it ends the answer.
    """

    raw: bytes
    data: Json | None
    is_done: bool = False
    is_last: bool = False

    @property
    def is_usage(self) -> bool:
        """Whether it is what `include_usage` adds at the end of a stream of chunks."""
        found = self.data
        return found is not None and found.get("choices") == [] and bool(found.get("usage"))


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


def events_in(content: bytes) -> list[Event]:
    """Return the events of a whole stream."""
    splitter = Splitter()
    return [*splitter.feed(content), *splitter.rest()]


def event_of(raw: bytes) -> Event:
    """Return the event that *raw* is."""
    lines = [
        line for line in raw.decode("utf-8", "replace").splitlines() if line.startswith("data:")
    ]
    text = "\n".join(line[5:].removeprefix(" ") for line in lines)
    if text.startswith("[DONE]"):
        return Event(raw, None, is_done=True, is_last=True)
    data = _object(text)
    return Event(raw, data, is_last=data is not None and data.get("type") in _LAST)


def answer_in(content: bytes) -> Any:
    """Return what a whole body says: JSON, or where it is none its text."""
    try:
        return json.loads(content)
    except ValueError:
        return content.decode("utf-8", "replace")


def used_by(answer: object) -> Usage | None:
    """Return the usage that *answer* tells; None where it tells none, or one that cannot be."""
    found = answer.get("usage") if isinstance(answer, Mapping) else None
    if not isinstance(found, Mapping):
        return None
    given = _count(found, "prompt_tokens", "input_tokens")
    read = found.get("prompt_tokens_details") or found.get("input_tokens_details") or {}
    written = found.get("completion_tokens_details") or found.get("output_tokens_details") or {}
    output = _count(found, "completion_tokens", "output_tokens")
    if output is None and found.get("total_tokens") == given:  # of embeddings, which have no output
        output = 0
    try:
        return Usage(
            input_tokens=given,
            output_tokens=output,
            cache_read_tokens=_count(read, "cached_tokens"),
            cache_write_tokens=_count(read, "cache_write_tokens"),
            reasoning_tokens=_count(written, "reasoning_tokens"),
        )
    except Misuse:
        log.warning("the provider tells a usage that cannot be; it is booked as not known")
        return None


def assembled(events: Iterable[Event]) -> Any:
    """Return the answer that *events* are the stream of."""
    said = [event.data for event in events if event.data is not None]
    for data in reversed(said):
        if isinstance(data.get("response"), dict) and data.get("type") in _LAST:
            return data["response"]
    if not any("choices" in data for data in said):
        return said
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


def written(answer: Any, *, usage: bool) -> bytes:
    """
    Return *answer* as a stream of the same protocol; with usage at the end, if *usage*.

    Raises:
        Misuse: it is no answer of the protocol.
    """
    if isinstance(answer, list):
        return b"".join(_sse(data, data.get("type")) for data in answer if isinstance(data, dict))
    if not isinstance(answer, dict):
        raise no_answer()
    if "choices" not in answer:
        return b"".join(_sse(data, data["type"]) for data in _response_events(answer))
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
    if usage and answer.get("usage"):
        parts.append({**head, "choices": [], "usage": answer["usage"]})
    return b"".join(map(_sse, parts)) + b"data: [DONE]\n\n"


def no_answer() -> Misuse:
    """Return what is raised where a review leaves what is no answer."""
    return Misuse(
        "the call of the model ran and was booked, and its review left no answer of the protocol; do not make it again"
    )


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


def _count(found: object, *names: str) -> int | None:
    for name in names:
        count = found.get(name) if isinstance(found, Mapping) else None
        if type(count) is int:
            return count
    return None


def _object(text: str) -> Json | None:
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _sse(data: Json, name: str | None = None) -> bytes:
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(data)}\n\n".encode()
