"""One request as a call: what it is judged with, and what it will use at most."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import msgspec
from anthropic._models import FinalRequestOptions

from interlock import Misuse, Tool, Usage
from interlock_anthropic.surfaces import Operation, check_sent, operation_of

_BYTES = 3
"""So many bytes of text are one token at least, in nearly all languages: a reservation is an upper bound."""

_MEDIA = 3_000
"""So many tokens are an image or another file taken to be: its bytes say nothing of it."""

_MEDIA_BYTES = 16
"""... and of one that is large, so many bytes are a token: documents have many pages."""

_ELSEWHERE = "thread"
"""What of a request brings input that is kept at the provider, so that nobody here knows how much."""

_INPUT = ("messages", "output_config", "output_format", "prefill", "system", "tools")


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
            estimate = _estimate(body, self.assumed)
        return Request(operation, tool, body, estimate)


def options_with(options: FinalRequestOptions, body: Mapping[str, Any]) -> FinalRequestOptions:
    """Return *options* that send *body*."""
    return options.model_copy(update={"json_data": dict(body), "extra_json": None})


def _estimate(body: Mapping[str, Any], assumed: Usage) -> Usage:
    given = 0 if body.get(_ELSEWHERE) is None else assumed.input_tokens
    sent = sum(_tokens(body[name]) for name in _INPUT if body.get(name) is not None)
    limit = body.get("max_tokens")
    return Usage(
        input_tokens=None if given is None else given + sent,
        output_tokens=limit if _is_count(limit) else assumed.output_tokens,
    )


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 10**12


def _tokens(value: object) -> int:
    """Return how many tokens *value* is in a prompt at most, roughly: with the marks around each part."""
    if isinstance(value, str):
        return len(value.encode("utf-8", "replace")) // _BYTES + 1
    if isinstance(value, Mapping):
        if value.get("type") in {"base64", "file", "url"}:  # the source of an image or a document
            return max(_MEDIA, len(str(value.get("data", ""))) // _MEDIA_BYTES)
        return sum(_tokens(key) + _tokens(item) for key, item in value.items())
    if isinstance(value, Collection) and not isinstance(value, (bytes, bytearray)):
        return sum(_tokens(item) for item in value) + 4
    return 1
