"""Grants: a human's yes for more than one call, and how far it reaches."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from fnmatch import fnmatchcase

import msgspec

from interlock._budget import nano
from interlock._call import Call
from interlock._verdict import Decision, Verdict


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """
    What an approver grants besides the one call of a ticket: further calls of its tool in its session.

    Attributes:
        calls: How many.
        lasts: For how long, from the answer on.
        resources: Of which resources, by name or glob; None: of that of the ticket's call. An empty one grants none.
        cost_usd: How much they may cost together; None and zero: only calls that cost nothing.
    """

    calls: int
    lasts: timedelta = timedelta(hours=1)
    resources: tuple[str, ...] | None = None
    cost_usd: Decimal | None = None


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """
    A grant as it stands in the books.

    Attributes:
        id: That of the ticket with whose answer it was given.
        session_id, tool, policy: Where it holds.
        asked: Who asked for the human: what somebody else asks for is not granted.
        resources: Of which resources; None: of calls without one.
        calls, calls_used: For how many calls it is good, and was used.
        cost, cost_used: For how much in nano-dollars, and was used.
        expires_at: Aware UTC.
        by: Who gave it.
    """

    id: str
    session_id: str
    tool: str
    policy: str
    asked: tuple[str, ...]
    resources: tuple[str, ...] | None
    calls: int
    calls_used: int = 0
    cost: int
    cost_used: int = 0
    expires_at: datetime
    by: str

    def covers(self, call: Call, decision: Decision, at: datetime) -> bool:
        """Whether it stands for the yes that *decision* wants of a human for *call*, *at* that instant."""
        if decision.verdict is not Verdict.ASK or at >= self.expires_at:
            return False
        if self.calls_used >= self.calls or not set(decision.authors) <= set(self.asked):
            return False
        if self.resources is None:
            acts = call.resource is None
        else:
            acts = call.resource is not None and any(
                fnmatchcase(call.resource, pattern) for pattern in self.resources
            )
        return acts and self.cost_used + cost_of(call.cost) <= self.cost


def cost_of(amount: Decimal | None) -> int:
    """Return what a call of that cost in US dollars takes of a grant, in nano-dollars."""
    return 0 if amount is None else nano(amount)
