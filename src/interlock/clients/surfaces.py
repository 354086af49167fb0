"""Which requests are calls of a model, and what becomes of all others."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import urlsplit

from interlock.clients.dialect import Dialect, Operation
from interlock.errors import Misuse

SOCKETS = "websocket"
"""By this name a host accepts connections that are no requests, and so carry model calls unseen."""

_HELPERS = "x-stainless-helper"
"""The header in which SDKs of this generation say which of their helpers makes a request."""


def operation_of(
    dialect: Dialect, method: str, url: str, base_url: str, accepted: Collection[str]
) -> Operation | None:
    """
    Return what a request is judged as; None if it may pass without being judged.

    Raises:
        Misuse: it may not pass.
    """
    path = _path(url, base_url, dialect.root)
    method = method.upper()
    if path is not None and method == "POST" and path in dialect.judged:
        return dialect.judged[path]
    if path is not None and method == "GET" and dialect.passed.fullmatch(path):
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


def check_sent(dialect: Dialect, body: Mapping[str, Any], accepted: Collection[str]) -> None:
    """
    Check that a request has nothing run at the provider that the host has not accepted.

    Raises:
        Misuse: it has.
    """
    wanted = [
        name for field, name in dialect.beside.items() if body.get(field) or body.get(field) == {}
    ]
    tools = body.get("tools")
    for tool in tools if isinstance(tools, (list, tuple)) else []:
        name = dialect.provider_tool(tool)
        if name is not None:
            wanted.append(name)
    refused = sorted({name for name in wanted if name not in accepted})
    if refused:
        raise Misuse(
            f"this request has the provider do what Interlock cannot judge ({', '.join(refused)}), so it was not sent; "
            f"leave it out, or accept that: govern(client, accepted={refused})"
        )


def check_runner(dialect: Dialect, headers: object, accepted: Collection[str]) -> None:
    """
    Check that a request is none of a helper of the SDK that runs functions by itself, unless the host accepts that.

    Raises:
        Misuse: it is.
    """
    given = headers if isinstance(headers, Mapping) else {}
    said = {
        part.strip()
        for header, value in given.items()
        if str(header).lower() == _HELPERS
        for part in str(value).split(",")
    }
    for helper, name in dialect.runners.items():
        if helper in said and name not in accepted:
            raise Misuse(
                f"{name} runs what the model calls by itself, which Interlock does not judge, so nothing was sent; run "
                "the calls in an answer with run_tools, or give it functions that are @governed and accept that: "
                f'govern(client, accepted=["{name}"])'
            )


def _path(url: str, base_url: str, root: str) -> str | None:
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
    return path.removeprefix(root) or "/"


def _names(path: str | None) -> list[str]:
    """Return the names by which a path can be accepted, the shortest first."""
    parts = (path or "/").strip("/").split("/")
    return [".".join(parts[: length + 1]) for length in range(len(parts))]
