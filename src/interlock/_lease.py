"""
Leases: how many calls may run at once, of which resource, for how long; who holds one, and by which token.

A call takes a slot when it is admitted and gives it back when it ends. In between it is renewed: a holder that is not
heard of for the lease's term has lost it, and its slot goes to the next, under a higher token. So a token that is
higher than another's says who came later, and what is protected can refuse who came earlier.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum

import msgspec

from interlock import _canonical
from interlock._call import Call


class Sharing(StrEnum):
    """By what a lease tells its parts apart, each with all its slots for itself."""

    TOOL = "tool"
    RESOURCE = "resource"
    SESSION = "session"
    AGENT = "agent"
    USER = "user"
    TEAM = "team"
    ORG = "org"


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """
    How many calls may run at once.

    Attributes:
        name: Its name, one in each policy.
        per: What tells its parts apart: each combination of these has all slots for itself. None: all calls share them.
        max_concurrent: How many calls may hold it at once.
        expires: For how long it is held without being renewed.
        while_asking: Whether a call that waits for a human holds it already.
    """

    name: str
    per: tuple[Sharing, ...] = ()
    max_concurrent: int = 1
    expires: timedelta
    while_asking: bool = False

    def lacks(self, call: Call) -> bool:
        """Whether *call* does not say which part of the lease it needs."""
        return Sharing.RESOURCE in self.per and call.resource is None

    def key(self, call: Call) -> LeaseKey:
        """
        Return which part of the lease *call* needs.

        Who has no name by which parts are told apart shares one with all others who have none.
        """
        who = call.identity
        named = {
            Sharing.TOOL: call.tool.name,
            Sharing.RESOURCE: call.resource,
            Sharing.SESSION: call.session_id,
            Sharing.AGENT: who.agent,
            Sharing.USER: who.user,
            Sharing.TEAM: who.team,
            Sharing.ORG: who.org,
        }
        # A digest: a resource may be of any length, and one that plugins redact must not be stored.
        parts: list[_canonical.Tree] = [named[one] for one in self.per]
        return LeaseKey(self.name, _canonical.digest(_canonical.encode(parts)))


class LeaseKey(msgspec.Struct, frozen=True, array_like=True, order=True):
    """
    One part of a lease.

    Attributes:
        lease: The lease's name.
        scope: Which part: SHA-256 of the canonical JSON list of what tells it apart.
    """

    lease: str
    scope: str


class LeaseClaim(msgspec.Struct, frozen=True):
    """A lease that a call needs, and which part of it."""

    lease: Lease
    key: LeaseKey


class Slot(msgspec.Struct, frozen=True, kw_only=True):
    """
    A slot as it was taken.

    Attributes:
        lease, scope: Of which part of which lease.
        token: Its fencing token: higher than that of each earlier holder of this part.
        expires_at: Until when it is held, unless it is renewed.
        displaced: The tokens of those who had lost theirs by then, and were put out.
    """

    lease: str
    scope: str
    token: int
    expires_at: datetime
    displaced: tuple[int, ...] = ()

    @property
    def key(self) -> LeaseKey:
        """Of which part of which lease it is."""
        return LeaseKey(self.lease, self.scope)


class Holder(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """
    Who holds a slot.

    Attributes:
        token: The fencing token.
        session_id: In which session.
        call_id: Which call; of a ticket, the attempt that opened it.
        ticket_id: The ticket that holds it as long as a human is asked; None: the call runs.
        tool, resource: What is called, and what it acts on, as recorded.
        expires_at: Until when, unless it is renewed; aware UTC.
    """

    token: int
    session_id: str
    call_id: str
    ticket_id: str | None = None
    tool: str
    resource: str | None = None
    expires_at: datetime


class Occupancy(msgspec.Struct, frozen=True, kw_only=True):
    """
    One part of a lease as it stands.

    Attributes:
        key: Which.
        token: The last that was given; 0: none yet.
        holders: By token. Some may have lost their slot, and stay until the next takes one.
    """

    key: LeaseKey
    token: int = 0
    holders: tuple[Holder, ...] = ()

    def living(self, at: datetime) -> tuple[Holder, ...]:
        """Return those who hold a slot *at* that instant."""
        return tuple(holder for holder in self.holders if at < holder.expires_at)

    def find(self, token: int) -> Holder | None:
        """Return who has that token and was not put out, if anybody."""
        return next((holder for holder in self.holders if holder.token == token), None)

    def taken(self, by: Holder, *, at: datetime) -> tuple[Occupancy, Slot]:
        """Return how it stands once *by* has taken a slot *at* that instant, under a new token, and that slot."""
        token, alive = self.token + 1, self.living(at)
        slot = Slot(
            lease=self.key.lease,
            scope=self.key.scope,
            token=token,
            expires_at=by.expires_at,
            displaced=tuple(one.token for one in self.holders if one not in alive),
        )
        holder = msgspec.structs.replace(by, token=token)
        return Occupancy(key=self.key, token=token, holders=(*alive, holder)), slot

    def put(self, holder: Holder) -> Occupancy:
        """Return how it stands once *holder* is in the place of who has its token."""
        holders = tuple(holder if one.token == holder.token else one for one in self.holders)
        return msgspec.structs.replace(self, holders=holders)

    def without(self, token: int) -> Occupancy:
        """Return how it stands once the holder with that token has gone."""
        holders = tuple(one for one in self.holders if one.token != token)
        return msgspec.structs.replace(self, holders=holders)
