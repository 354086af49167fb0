"""
What Interlock makes of each request of the protocol: which call it is, under which name, with which arguments.

The names are made of the host's own name for the server, never of what the server calls itself. A tool is
`SERVER.TOOL`; everything else is `SERVER:KIND`, so that no server can offer a tool by the name of another kind.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import msgspec
from mcp import MCPError
from mcp_types import INVALID_PARAMS
from mcp_types.methods import CACHEABLE_METHODS
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from interlock import Misuse, Tool

Params: TypeAlias = Mapping[str, Any]
"""The parameters of a request as they are on the wire."""

PASSED = frozenset(
    {
        "initialize",
        "logging/setLevel",
        "ping",
        "prompts/list",
        "resources/list",
        "resources/templates/list",
        "resources/unsubscribe",
        "server/discover",
        "tools/list",
    }
)
"""Requests that begin a connection, keep it, or ask what there is: they are not calls. Lists of tools are watched."""

JUDGED = frozenset(
    {
        "completion/complete",
        "elicitation/create",
        "prompts/get",
        "resources/read",
        "resources/subscribe",
        "roots/list",
        "sampling/createMessage",
        "subscriptions/listen",
        "tools/call",
    }
)
"""Requests that are calls: judged, recorded, and only then passed on."""

_SERVER = re.compile(r"[A-Za-z0-9_-]{1,64}")

_LONGEST = 256
"""The longest name of a tool, in characters: the protocol recommends half of it at most."""


class Request(msgspec.Struct, frozen=True):
    """
    One request as a call.

    Attributes:
        tool: What is called.
        arguments: With what, by name.
        passed_on: Makes the parameters to be sent of the arguments that were judged.
    """

    tool: Tool
    arguments: dict[str, Any]
    passed_on: Callable[[Mapping[str, Any]], dict[str, Any]]


def checked_server(name: str) -> str:
    """
    Return *name* if a server can be called so.

    Raises:
        Misuse: it cannot.
    """
    if _SERVER.fullmatch(name):
        return name
    raise Misuse(
        f"{name!r} cannot be the name of a server: use letters, digits, _ and -, 64 of them at most"
    )


def described(
    server: str, method: str, params: Params, declared: Mapping[str, Tool] | None = None
) -> Request:
    """
    Return the call that a request of *method* is; it must be in `JUDGED`.

    Args:
        server: The host's name for the server.
        method: The request's method.
        params: Its parameters.
        declared: What the host has declared of the server's tools, by the names that the protocol has for them.

    Raises:
        MCPError: the parameters are not what the method has.
    """
    match method:
        case "tools/call":
            name = _text(params, "name")
            given = params.get("arguments")
            if given is not None and not isinstance(given, Mapping):
                raise _invalid("arguments must be an object")
            tool = (declared or {}).get(name) or Tool(name=f"{server}.{name}", labels=("mcp",))
            return Request(tool, dict(given or {}), _within(params, "arguments"))
        case "resources/read" | "resources/subscribe":
            kind = "resource" if method == "resources/read" else "subscribe"
            uri = _text(params, "uri", longest=None)
            return Request(_tool(server, kind, resource="uri"), {"uri": uri}, _over(params))
        case "prompts/get":
            arguments = {"name": _text(params, "name"), "arguments": params.get("arguments") or {}}
            return Request(_tool(server, "prompt", resource="name"), arguments, _over(params))
        case "roots/list":
            return Request(_tool(server, "roots"), {}, lambda _: dict(params))
        case "sampling/createMessage":
            arguments = {**_plain(params), "model": _model(params)}
            tool = Tool(name=f"{server}:sampling", kind="model", model="model", labels=("mcp",))
            return Request(tool, arguments, _sampled(params))
        case _:
            return Request(_tool(server, _KINDS[method]), _plain(params), _over(params))


_KINDS = {
    "completion/complete": "completion",
    "elicitation/create": "elicitation",
    "subscriptions/listen": "subscribe",
}


def complete(method: str, result: dict[str, Any], version: str) -> dict[str, Any]:
    """Return *result* with what the protocol's *version* wants in each, and which an older server does not say."""
    if version not in MODERN_PROTOCOL_VERSIONS:
        return result
    hints = {"ttlMs": 0, "cacheScope": "private"} if method in CACHEABLE_METHODS else {}
    return {"resultType": "complete", **hints, **result}


def changed(server: str) -> Tool:
    """Return what is called when a tool is used whose definition is no longer the one that was pinned."""
    return _tool(server, "changed", resource="tool")


def _tool(server: str, kind: str, *, resource: str | None = None) -> Tool:
    return Tool(name=f"{server}:{kind}", resource=resource, labels=("mcp",))


def _within(params: Params, key: str) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """Put what was judged under *key*, unless there was nothing there and nothing was judged."""

    def passed_on(judged: Mapping[str, Any]) -> dict[str, Any]:
        return (
            {**params, key: dict(judged)} if judged or params.get(key) is not None else {**params}
        )

    return passed_on


def _over(params: Params) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """Put what was judged in the place of what was given."""

    def passed_on(judged: Mapping[str, Any]) -> dict[str, Any]:
        return {**params, **{key: judged[key] for key in judged if key in params or judged[key]}}

    return passed_on


def _sampled(params: Params) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """Put what was judged in the place of what was given; but for the model, which only the client can choose."""

    def passed_on(judged: Mapping[str, Any]) -> dict[str, Any]:
        if judged["model"] != _model(params):
            raise _invalid("the model of a sampling cannot be changed; change modelPreferences")
        return {**params, **{key: judged[key] for key in judged if key != "model"}}

    return passed_on


def _plain(params: Params) -> dict[str, Any]:
    return {key: value for key, value in params.items() if key != "_meta"}


def _model(params: Params) -> str:
    """The first model that a server would like to answer; the client chooses as it likes."""
    try:
        name = params["modelPreferences"]["hints"][0]["name"]
    except (KeyError, IndexError, TypeError):
        return ""
    return name if isinstance(name, str) else ""


def _text(params: Params, key: str, *, longest: int | None = _LONGEST) -> str:
    found = params.get(key)
    if not isinstance(found, str) or not found or "\0" in found:
        raise _invalid(f"{key} must be text")
    if longest is not None and len(found) > longest:
        raise _invalid(f"{key} is longer than {longest} characters")
    try:
        found.encode()
    except UnicodeEncodeError:
        raise _invalid(f"{key} must be text") from None
    return found


def _invalid(why: str) -> MCPError:
    return MCPError(code=INVALID_PARAMS, message=f"Invalid request parameters: {why}")
