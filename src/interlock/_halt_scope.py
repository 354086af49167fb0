"""HaltScope: of what kind what is halted can be."""

from __future__ import annotations

from enum import StrEnum


class HaltScope(StrEnum):
    """What a halt stops: everything, or all calls of one organisation, team, user, session, agent or tool."""

    SYSTEM = "system"
    ORG = "org"
    TEAM = "team"
    USER = "user"
    SESSION = "session"
    AGENT = "agent"
    TOOL = "tool"
