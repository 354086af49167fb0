"""What a request will use at most."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from interlock import Usage
from interlock.clients import MEDIA, Json, Operation, is_count, tokens

_MEDIA_BYTES = 16
"""Of an image or a document that is large, so many bytes are a token: documents have many pages."""

_ELSEWHERE = "thread"
"""What of a request brings input that is kept at the provider, so that nobody here knows how much."""

_INPUT = ("messages", "output_config", "output_format", "prefill", "system", "tools")


def estimate(operation: Operation, body: Json, assumed: Usage) -> Usage:  # noqa: ARG001 - there is one operation
    """Return what a request will use at most; what it does not say is what is assumed."""
    given = 0 if body.get(_ELSEWHERE) is None else assumed.input_tokens
    sent = sum(tokens(body[name], _media) for name in _INPUT if body.get(name) is not None)
    limit = body.get("max_tokens")
    return Usage(
        input_tokens=None if given is None else given + sent,
        output_tokens=limit if is_count(limit) else assumed.output_tokens,
    )


def _media(value: str | Mapping[Any, Any]) -> int | None:
    if isinstance(value, str) or value.get("type") not in {"base64", "file", "url"}:
        return None
    # It is the source of an image or a document.
    return max(MEDIA, len(str(value.get("data", ""))) // _MEDIA_BYTES)
