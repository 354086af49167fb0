"""Which endpoints are calls of a model, and what runs at the provider."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from interlock.clients import Operation

JUDGED: Mapping[str, Operation] = {
    "/chat/completions": Operation("chat"),
    "/completions": Operation("text_completion"),
    "/embeddings": Operation("embeddings"),
    "/moderations": Operation("moderation", is_free=True),
    "/responses": Operation("chat"),
    "/responses/compact": Operation("chat"),
    "/responses/input_tokens": Operation("count_tokens", is_free=True),
}
"""By path, what a POST is judged as. Their names are the operations of OpenTelemetry's conventions where it has one."""

PASSED = re.compile(r"/models(/[^/]+)?")
"""What a GET may ask for without being judged: which models there are. It costs nothing and sends nothing."""

SENT = {
    # What a request may have the provider do beside the model, and which costs more than tokens.
    "web_search_options": "web_search",
    "background": "background",
}

LOCAL_TOOLS = frozenset(
    {
        "apply_patch",
        "computer",
        "computer_use_preview",
        "custom",
        "function",
        "local_shell",
    }
)
"""Kinds of tools that the caller runs. Any other kind runs at the provider, where Interlock cannot judge its calls."""


def provider_tool(tool: object) -> str | None:
    """Return the kind of a tool that runs at the provider; None of one that the caller runs."""
    kind = tool.get("type") if isinstance(tool, Mapping) else None
    if isinstance(tool, Mapping) and kind == "shell" and _is_local_shell(tool):
        return None
    return None if kind in LOCAL_TOOLS else str(kind)


def _is_local_shell(tool: Mapping[str, Any]) -> bool:
    environment = tool.get("environment")
    return isinstance(environment, Mapping) and environment.get("type") == "local"
