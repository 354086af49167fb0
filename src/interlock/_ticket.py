"""Ticket: one request for a human's yes, bound to the exact call."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

import msgspec


class TicketState(StrEnum):
    """Where a ticket stands. It leaves PENDING once, and APPROVED at most once, to CLAIMED."""

    PENDING = "pending"
    APPROVED = "approved"
    DENIED = "denied"
    CLAIMED = "claimed"


class Ticket(msgspec.Struct, frozen=True, kw_only=True):
    """
    A request for approval as it stood when it was read.

    Attributes:
        id: UUIDv7.
        session_id: The session whose call it is about.
        call_id: The attempt that opened it.
        tool: The tool's name.
        digest: `Call.digest`: the ticket answers for this call and no other.
        arguments: The arguments as canonical JSON, declared secrets masked.
        reason: Why a human is asked.
        approvers: The groups that are asked.
        requested_by: The agent that wants the call, and the user it works for when there is one.
        state: Where the ticket stands.
        opened_at, expires_at: Aware UTC. From `expires_at` on it can be neither approved nor claimed.
        decided_by, decided_at, comment: Who answered, when, and what they said; None while pending.
    """

    id: str
    session_id: str
    call_id: str
    tool: str
    digest: str
    arguments: str
    reason: str
    approvers: tuple[str, ...]
    requested_by: tuple[str, ...]
    state: TicketState
    opened_at: datetime
    expires_at: datetime
    decided_by: str | None = None
    decided_at: datetime | None = None
    comment: str | None = None
