"""One request as a call: with what it is judged, and what it will use at most."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from interlock._call import Tool
from interlock._usage import Usage
from interlock.clients.dialect import Dialect, Operation
from interlock.clients.surfaces import check_runner, check_sent, operation_of
from interlock.errors import Misuse


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


class Terms(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """
    What a host has said to `govern`.

    Attributes:
        dialect: What is the provider's own.
        accepted: Names of what may pass ungoverned.
        assumed: What is taken for the estimate where a request does not say.
        provider: Whose models they are.
        secrets: Fields of a request that are neither stored nor shown.
    """

    dialect: Dialect
    accepted: frozenset[str]
    assumed: Usage
    provider: str
    secrets: tuple[str, ...]

    def request(self, options: Any, base_url: str) -> Request | None:
        """
        Return the call that a request is, given by the SDK's FinalRequestOptions; None where it may pass unjudged.

        Raises:
            Misuse: it is not governed, and not accepted; or its body cannot be read.
        """
        operation = operation_of(self.dialect, options.method, options.url, base_url, self.accepted)
        if operation is None:
            return None
        check_runner(self.dialect, options.headers, self.accepted)
        given, more = options.json_data, options.extra_json
        if not isinstance(given, Mapping) or options.content is not None or options.files:
            raise Misuse(
                f"the body of a request to {options.url} is no JSON object, so it was not sent"
            )
        body = {**given, **(more or {})}
        check_sent(self.dialect, body, self.accepted)
        tool = Tool(
            name=operation.name,
            kind="model",
            model="model",
            provider=self.provider,
            secrets=tuple(name for name in self.secrets if name in body),
        )
        estimate = Usage(input_tokens=0, output_tokens=0, cost_usd="0")  # type: ignore[arg-type]
        if not operation.is_free:
            estimate = self.dialect.estimate(operation, body, self.assumed)
        return Request(operation, tool, body, estimate)


def options_with(options: Any, body: Mapping[str, Any]) -> Any:
    """Return *options*, of the SDK's FinalRequestOptions, such that they send *body*."""
    return options.model_copy(update={"json_data": dict(body), "extra_json": None})
