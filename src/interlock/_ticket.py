"""Ticket: one request for a human's yes, bound to the exact call."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum

import msgspec

from interlock._lease import Slot


class TicketState(StrEnum):
    """
    Where a ticket stands.

    It leaves PENDING once: to APPROVED, DENIED, EXPIRED when nobody answered in time, or CANCELLED when its session was
    closed; and APPROVED at most once: to CLAIMED by the call, or likewise to EXPIRED or CANCELLED.
    """

    PENDING = "pending"
    APPROVED = "approved"
    DENIED = "denied"
    CLAIMED = "claimed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"

    @property
    def is_over(self) -> bool:
        """Whether a ticket that stands there answers for no call any more."""
        return self in {TicketState.CLAIMED, TicketState.EXPIRED, TicketState.CANCELLED}


class Approval(msgspec.Struct, frozen=True):
    """One person's yes: who, when, and what they said."""

    by: str
    at: datetime
    comment: str | None = None


def names_of(approvals: Iterable[Approval]) -> str:
    """Return who has said yes, as one text."""
    return ", ".join(approval.by for approval in approvals)


class Ticket(msgspec.Struct, frozen=True, kw_only=True):
    """
    A request for approval as it stood when it was read.

    Attributes:
        id: UUIDv7.
        session_id: The session whose call it is about.
        call_id: The attempt that opened it.
        tool: The tool's name.
        digest: `Call.digest`: the ticket answers for this call and no other.
        policy: The digest of the policy that asked: under another one a human is asked anew.
        arguments: The arguments as canonical JSON, declared secrets masked.
        resource: What the call acts on; None when its tool declares none.
        reason: Why a human is asked.
        asked: Who wants that: `author`, or `author/rule`.
        approvers: The groups that are asked.
        quorum: How many of them have to say yes.
        approvals: Who has, in order.
        requested_by: The agent that wants the call, and the user it works for when there is one.
        state: Where the ticket stands.
        opened_at, expires_at: Aware UTC. From `expires_at` on it can be neither approved nor claimed.
        edited: The arguments that an approver has put in their place, as canonical JSON; None where nobody has. Then
            these are what is approved and what runs; what is the same in both is as the caller gave it.
        edited_by: Who has.
        decided_by, decided_at, comment: Who answered, all of them, and when, and what the last one said; None while
            pending.
        leases: The slots that it was given when it was opened, to hold as long as the call waits.
    """

    id: str
    session_id: str
    call_id: str
    tool: str
    digest: str
    policy: str
    arguments: str
    resource: str | None = None
    reason: str
    asked: tuple[str, ...] = ()
    approvers: tuple[str, ...]
    quorum: int = 1
    approvals: tuple[Approval, ...] = ()
    requested_by: tuple[str, ...]
    state: TicketState
    opened_at: datetime
    expires_at: datetime
    edited: str | None = None
    edited_by: str | None = None
    decided_by: str | None = None
    decided_at: datetime | None = None
    comment: str | None = None
    leases: tuple[Slot, ...] = ()

    def answers_at(self, at: datetime) -> bool:
        """Return whether its answer counts at the time *at*, or can still come: a no stands for good."""
        if self.state is TicketState.DENIED:
            return True
        return not self.state.is_over and at < self.expires_at
