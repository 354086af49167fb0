"""What a request will use at most, and how its stream is had to tell what it used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from interlock import Usage
from interlock.clients import MEDIA, Json, Operation, is_count, tokens

_ELSEWHERE = ("conversation", "previous_response_id", "prompt")
"""What of a request to `responses` brings input that is kept at the provider, so that nobody here knows how much."""

_INPUT = ("input", "instructions", "messages", "response_format", "text", "tools")

_LIMITS = ("max_completion_tokens", "max_output_tokens", "max_tokens")

_MEDIA = frozenset({"file", "image_url", "input_audio", "input_file", "input_image"})


def estimate(operation: Operation, body: Json, assumed: Usage) -> Usage:
    """Return what a request will use at most; what it does not say is what is assumed."""
    fields = (*_INPUT, "prompt", "suffix") if operation.name == "text_completion" else _INPUT
    unseen = operation.name == "chat" and any(body.get(name) is not None for name in _ELSEWHERE)
    given = assumed.input_tokens if unseen else 0
    sent = sum(tokens(body[name], _media) for name in fields if body.get(name) is not None)
    written: int | None = 0
    if operation.name != "embeddings":
        limits = [body[name] for name in _LIMITS if is_count(body.get(name))]
        written = limits[0] if limits else assumed.output_tokens
        times = body["n"] if is_count(body.get("n")) else 1
        if operation.name == "text_completion" and isinstance(body.get("prompt"), (list, tuple)):
            times *= max(1, len(body["prompt"]))
        written = None if written is None else written * times
    return Usage(
        input_tokens=None if given is None else given + sent,
        output_tokens=written,
    )


def with_usage(operation: Operation, body: Json) -> tuple[Json, bool]:
    """Return *body* with the wish to be told the usage where streams need it; and whether that is not its caller's."""
    is_of_chunks = ("messages" in body or "prompt" in body) and "input" not in body
    if operation.name == "embeddings" or not is_of_chunks:
        return body, False
    given = body.get("stream_options")
    options = given if isinstance(given, Mapping) else {}
    wished = {**body, "stream_options": {**options, "include_usage": True}}
    return wished, not options.get("include_usage")


def _media(value: str | Mapping[Any, Any]) -> int | None:
    if isinstance(value, str):
        return MEDIA if value.startswith("data:") else None
    if value.get("type") not in _MEDIA:
        return None
    return MEDIA + sum(tokens(part, _media) for pair in value.items() for part in pair)
