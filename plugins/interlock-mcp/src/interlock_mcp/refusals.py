"""
How a refusal is said in the protocol.

Of a tool it is a result with `isError`, whose text the model reads: the reason, the guidance, the ticket. Every
other request has no such form, so there it is an error of the protocol with the same text.
"""

from __future__ import annotations

from typing import Any

from mcp import MCPError

from interlock import ApprovalNeeded, InterlockError, Refused

REFUSED = -32050
"""The code of the protocol's error for a request that Interlock refused; in the range that servers may use."""

META = "interlock/refusal"
"""The key of a refusal's `_meta`, for programs: `kind`, and where there is one `ticket`."""


def text(error: InterlockError) -> str:
    """Return what the model is told."""
    if isinstance(error, ApprovalNeeded):
        return f"{error} A person approves it with `interlock approvals approve {error.ticket.id}`."
    return str(error)


def tool_error(told: str, data: dict[str, Any]) -> dict[str, Any]:
    """Return the result of a tool that says *told* instead of having run."""
    return {
        "content": [{"type": "text", "text": told}],
        "isError": True,
        "_meta": {META: data},
    }


def data_of(error: InterlockError) -> dict[str, Any]:
    """Return what programs are told of *error*."""
    data: dict[str, Any] = {"kind": type(error).__name__}
    if isinstance(error, Refused):
        data["ran"] = error.ran
    if isinstance(error, ApprovalNeeded):
        data["ticket"] = error.ticket.id
    return data


def answer(method: str, error: InterlockError, before: str = "") -> dict[str, Any]:
    """
    Return *error* as the result of a tool's call.

    Args:
        method: What was asked for.
        error: Why it was not done.
        before: A sentence to begin with.

    Raises:
        MCPError: *method* is not a tool's call, so that this is the form.
    """
    told, data = before + text(error), data_of(error)
    if method == "tools/call":
        return tool_error(told, data)
    raise MCPError(code=REFUSED, message=told, data=data) from error
