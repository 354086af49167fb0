"""
Which endpoints are calls of a model, and what becomes of all others.

A path that is in no table is refused: what a release adds is not let through because nobody has thought of it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec

from interlock import Misuse


class Operation(msgspec.Struct, frozen=True):
    """
    What a request to one endpoint is.

    Attributes:
        name: What rules, budgets and events call it.
        is_free: Whether the provider takes nothing for it, so that only what it sends is to be judged.
    """

    name: str
    is_free: bool = False


JUDGED: Mapping[str, Operation] = {
    "/messages": Operation("chat"),
    "/messages/count_tokens": Operation("count_tokens", is_free=True),
}
"""By path, what a POST is judged as. Their names are the operations of OpenTelemetry's conventions where it has one."""

PASSED = re.compile(r"/models(/[^/]+)?")
"""What a GET may ask for without being judged: which models there are. It costs nothing and sends nothing."""

SENT = {
    # What a request may have the provider do beside the model, or with other models than the one that was judged.
    "container": "container",
    "fallbacks": "fallbacks",
    "mcp_servers": "mcp",
}

LOCAL_TOOLS = re.compile(r"custom|(bash|computer|memory|text_editor)(_\d{8})?")
"""Kinds of tools that the caller runs. Any other kind runs at the provider, where Interlock cannot judge its calls."""

_ROOT = "/v1"


def operation_of(
    method: str, url: str, base_url: str, accepted: Collection[str]
) -> Operation | None:
    """
    Return what a request is judged as; None if it may pass without being judged.

    Raises:
        Misuse: it may not pass.
    """
    path = _path(url, base_url)
    method = method.upper()
    if path is not None and method == "POST" and path in JUDGED:
        return JUDGED[path]
    if path is not None and method == "GET" and PASSED.fullmatch(path):
        return None
    names = _names(path)
    if path is not None and any(name in accepted for name in names):
        return None
    remedy = f'accept that it is not governed: govern(client, accepted=["{names[0]}"])'
    if path is None:
        remedy = "make it by the path of an endpoint, without `..` and within the client's base URL"
    raise Misuse(
        f"{method} {path or 'of a foreign or ambiguous URL'} is not governed by Interlock, so it was not sent; {remedy}"
    )


def check_sent(body: Mapping[str, Any], accepted: Collection[str]) -> None:
    """
    Check that a request has nothing run at the provider that the host has not accepted.

    Raises:
        Misuse: it has.
    """
    wanted = [name for field, name in SENT.items() if body.get(field) or body.get(field) == {}]
    tools = body.get("tools")
    for tool in tools if isinstance(tools, (list, tuple)) else []:
        kind = tool.get("type") if isinstance(tool, Mapping) else None
        if kind is None and isinstance(tool, Mapping):
            continue
        if not LOCAL_TOOLS.fullmatch(str(kind)):
            wanted.append(_DATED.sub("", str(kind)))
    refused = sorted({name for name in wanted if name not in accepted})
    if refused:
        raise Misuse(
            f"this request has the provider do what Interlock cannot judge ({', '.join(refused)}), so it was not sent; "
            f"leave it out, or accept that: govern(client, accepted={refused})"
        )


_DATED = re.compile(r"_\d{8}$")


def _path(url: str, base_url: str) -> str | None:
    """Return the path below the API's root, from `/` on; None where it is none, or can be read in several ways."""
    if "://" in url or url.startswith("//"):
        base = base_url.rstrip("/") + "/"
        if not url.startswith(base):
            return None
        url = url[len(base) - 1 :]
    path = "/" + urlsplit(url).path.strip("/")
    parts = path.split("/")[1:]
    if any(part in {"", ".", ".."} for part in parts) and path != "/":
        return None
    return path.removeprefix(_ROOT) or "/"


def _names(path: str | None) -> list[str]:
    """Return the names by which a path can be accepted, the shortest first."""
    parts = (path or "/").strip("/").split("/")
    return [".".join(parts[: length + 1]) for length in range(len(parts))]
