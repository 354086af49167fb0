"""How a refusal is said to the model, and to a host whose run ends by one."""

from __future__ import annotations

from interlock import ApprovalNeeded, InterlockError


class ToolFailed(Exception):
    """What the books have of a tool that Claude Code says has failed; the model reads the tool's own words."""


class Ungoverned(InterlockError):
    """A run met what Interlock cannot govern, and was stopped."""


def text(error: InterlockError) -> str:
    """Return what the model is told."""
    if isinstance(error, ApprovalNeeded):
        return (
            f"{error} Its arguments must be the very same, all of them. "
            f"A person approves it with `interlock approvals approve {error.ticket.id}`."
        )
    return str(error)
