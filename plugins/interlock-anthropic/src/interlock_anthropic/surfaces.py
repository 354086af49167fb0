"""Which endpoints are calls of a model, and what runs at the provider."""

from __future__ import annotations

import re
from collections.abc import Mapping

from interlock.clients import Operation

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

RUNNERS = {"BetaToolRunner": "tool_runner"}
"""What of the SDK runs the functions that a model calls, by the name that it gives itself in the header."""

LOCAL_TOOLS = re.compile(r"custom|(bash|computer|memory|text_editor)(_\d{8})?")
"""Kinds of tools that the caller runs. Any other kind runs at the provider, where Interlock cannot judge its calls."""

_DATED = re.compile(r"_\d{8}$")


def provider_tool(tool: object) -> str | None:
    """Return the kind of a tool that runs at the provider, without its date; None of one that the caller runs."""
    kind = tool.get("type") if isinstance(tool, Mapping) else None
    if isinstance(tool, Mapping) and kind is None:
        return None
    return None if LOCAL_TOOLS.fullmatch(str(kind)) else _DATED.sub("", str(kind))
