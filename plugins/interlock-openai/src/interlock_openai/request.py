"""One request as a call: what it is judged with, and what it will use at most."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import msgspec
from openai._models import FinalRequestOptions

from interlock import Misuse, Tool, Usage
from interlock_openai.surfaces import Operation, check_sent, operation_of

_BYTES = 3
"""So many bytes of text are one token at least, in nearly all languages: a reservation is an upper bound."""

_MEDIA = 3_000
"""So many tokens are an image or another file taken to be: its bytes say nothing of it."""

_ELSEWHERE = ("conversation", "previous_response_id", "prompt")
"""What of a request to `responses` brings input that is kept at the provider, so that nobody here knows how much."""

_INPUT = ("input", "instructions", "messages", "response_format", "text", "tools")

_LIMITS = ("max_completion_tokens", "max_output_tokens", "max_tokens")


class Request(msgspec.Struct, frozen=True):
    """
    One request that is a call of a model.

    Attributes:
        operation: What it is judged as.
        tool: Its declaration.
        body: What it sends, by name: the arguments of the call.
        estimate: What it will use at most.
    """

    operation: Operation
    tool: Tool
    body: dict[str, Any]
    estimate: Usage


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """
    What a host has said to `govern`.

    Attributes:
        accepted: Names of what may pass ungoverned.
        assumed: What is taken for the estimate where a request does not say.
        provider: Whose models they are.
        secrets: Fields of a request that are neither stored nor shown.
    """

    accepted: frozenset[str]
    assumed: Usage
    provider: str
    secrets: tuple[str, ...]

    def request(self, options: FinalRequestOptions, base_url: str) -> Request | None:
        """
        Return the call that a request is; None where it may pass without being judged.

        Raises:
            Misuse: it is not governed, and not accepted; or its body cannot be read.
        """
        operation = operation_of(options.method, options.url, base_url, self.accepted)
        if operation is None:
            return None
        given, more = options.json_data, options.extra_json
        if not isinstance(given, Mapping) or options.content is not None or options.files:
            raise Misuse(
                f"the body of a request to {options.url} is no JSON object, so it was not sent"
            )
        body = {**given, **(more or {})}
        check_sent(body, self.accepted)
        tool = Tool(
            name=operation.name,
            kind="model",
            model="model",
            provider=self.provider,
            secrets=tuple(name for name in self.secrets if name in body),
        )
        estimate = Usage(input_tokens=0, output_tokens=0, cost_usd="0")  # type: ignore[arg-type]
        if not operation.is_free:
            estimate = _estimate(operation, body, self.assumed)
        return Request(operation, tool, body, estimate)


def options_with(options: FinalRequestOptions, body: Mapping[str, Any]) -> FinalRequestOptions:
    """Return *options* that send *body*."""
    return options.model_copy(update={"json_data": dict(body), "extra_json": None})


def _estimate(operation: Operation, body: Mapping[str, Any], assumed: Usage) -> Usage:
    fields = (*_INPUT, "prompt", "suffix") if operation.name == "text_completion" else _INPUT
    unseen = operation.name == "chat" and any(body.get(name) is not None for name in _ELSEWHERE)
    given = assumed.input_tokens if unseen else 0
    sent = sum(_tokens(body[name]) for name in fields if body.get(name) is not None)
    written: int | None = 0
    if operation.name != "embeddings":
        limits = [body[name] for name in _LIMITS if _is_count(body.get(name))]
        written = limits[0] if limits else assumed.output_tokens
        times = body["n"] if _is_count(body.get("n")) else 1
        if operation.name == "text_completion" and isinstance(body.get("prompt"), (list, tuple)):
            times *= max(1, len(body["prompt"]))
        written = None if written is None else written * times
    return Usage(
        input_tokens=None if given is None else given + sent,
        output_tokens=written,
    )


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 10**12


def _tokens(value: object) -> int:
    """Return how many tokens *value* is in a prompt at most, roughly: with the marks around each part."""
    if isinstance(value, str):
        return (
            _MEDIA
            if value.startswith("data:")
            else len(value.encode("utf-8", "replace")) // _BYTES + 1
        )
    if isinstance(value, Mapping):
        media = _MEDIA if _is_media(value) else 0
        return media + sum(_tokens(key) + _tokens(item) for key, item in value.items())
    if isinstance(value, Collection) and not isinstance(value, (bytes, bytearray)):
        return sum(_tokens(item) for item in value) + 4
    return 1  # a number; or a token, where a prompt is given as its tokens


def _is_media(part: Mapping[Any, Any]) -> bool:
    return part.get("type") in {"file", "image_url", "input_audio", "input_file", "input_image"}
