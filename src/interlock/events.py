"""
Events: what is kept for good, one struct for each kind, with the JSON codec and the hash chain.

An event is an immutable fact in a session. It is stored as canonical JSON beside the columns of its envelope
(`Recorded`), and every stored field is covered by the envelope's hash.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import ClassVar, TypeAlias

import msgspec

from interlock._call import CallKind, Risk
from interlock._canonical import Tree, digest, encode
from interlock._ticket import TicketState
from interlock._verdict import Opinion, Verdict

GENESIS = "0" * 64
"""The previous hash of a session's first event."""


class Outcome(StrEnum):
    """How a call ended. ABANDONED: the consumer of a stream stopped before its end."""

    RETURNED = "returned"
    RAISED = "raised"
    CANCELLED = "cancelled"
    ABANDONED = "abandoned"


class _Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind"):
    version: ClassVar[int] = 1


class SessionOpened(_Event, frozen=True, kw_only=True, tag="session_opened"):
    """
    A governed run began, for the agent, user, team and organisation that the host named.

    `name` is the host's label; `policy` is the digest of the policy in force, None without one.
    """

    name: str
    agent: str
    user: str | None = None
    team: str | None = None
    org: str | None = None
    policy: str | None = None


class CallDecided(_Event, frozen=True, kw_only=True, tag="call_decided"):
    """
    A call met its opinions. `admitted` says whether it was let through: it is then the intent to run it.

    `arguments` is the canonical JSON of what was judged, declared secrets masked; `cost_usd` is what was declared.
    Of the `opinions`, those with this very `verdict` carry it.
    """

    call_id: str
    tool: str
    tool_kind: CallKind
    risk: Risk
    arguments: str
    digest: str
    resource: str | None
    cost_usd: Decimal | None
    verdict: Verdict
    admitted: bool
    reason: str
    opinions: tuple[Opinion, ...]
    policy: str
    ticket_id: str | None = None
    approved_by: str | None = None


class TicketOpened(_Event, frozen=True, kw_only=True, tag="ticket_opened"):
    """A human is asked about the call with this `digest`, until `expires_at`."""

    ticket_id: str
    call_id: str
    tool: str
    digest: str
    approvers: tuple[str, ...]
    expires_at: datetime


class TicketResolved(_Event, frozen=True, kw_only=True, tag="ticket_resolved"):
    """Somebody answered: `state` is APPROVED or DENIED."""

    ticket_id: str
    state: TicketState
    by: str
    comment: str | None = None


class CallFinished(_Event, frozen=True, kw_only=True, tag="call_finished"):
    """
    What came of an admitted call.

    `error_type` is the class of what the tool raised, never its text. `result_digest` is the SHA-256 of the
    canonical JSON of what it returned; None when that has none. `duration_us` is in microseconds. `cost_usd` is
    the declared cost of a call that returned; None means unknown, which is not zero.
    """

    call_id: str
    tool: str
    outcome: Outcome
    duration_us: int
    cost_usd: Decimal | None = None
    error_type: str | None = None
    result_digest: str | None = None


class SessionClosed(_Event, frozen=True, kw_only=True, tag="session_closed"):
    """The run is over. `error_type` is the class of the exception that ended it, None when it ended well."""

    error_type: str | None = None


Event: TypeAlias = (
    SessionOpened | CallDecided | TicketOpened | TicketResolved | CallFinished | SessionClosed
)
"""Any kind of event; in JSON the key `kind` tells them apart."""

_decoder: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)


class TraceIds(msgspec.Struct, frozen=True):
    """Where a decision is in the tracing backend: ids as lower-case hexadecimal, flags as W3C trace flags."""

    trace_id: str
    span_id: str
    flags: int


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """
    An event in its place: the row of the table `events`.

    Attributes:
        id: UUIDv7, the row's own.
        session_id, seq: Its place; `seq` counts from 1 without a gap in each session.
        at: When it was written; aware UTC, to the microsecond.
        kind, version: The event's type and the version of its fields.
        body: The event as canonical JSON.
        trace: The span that shows it; None when nothing was traced.
        previous_hash: The hash of event `seq - 1`, or `GENESIS`.
        hash: `seal()` of everything above.
    """

    id: str
    session_id: str
    seq: int
    at: datetime
    kind: str
    version: int
    body: str
    trace: TraceIds | None
    previous_hash: str
    hash: str

    @property
    def event(self) -> Event:
        """The event itself, decoded from `body`."""
        return _decoder.decode(self.body)


def body_of(event: Event) -> str:
    """Return *event* as canonical JSON, its `kind` included."""
    return encode(msgspec.to_builtins(event)).decode()


def kind_of(event: Event) -> str:
    """Return the name of the type of *event*, as stored and as shown."""
    return str(type(event).__struct_config__.tag)


def link(
    event: Event,
    *,
    id: str,  # noqa: A002 - the column's name
    session_id: str,
    seq: int,
    at: datetime,
    trace: TraceIds | None,
    previous_hash: str,
) -> Recorded:
    """Return *event* in its place in the chain, sealed."""
    unsealed = Recorded(
        id=id,
        session_id=session_id,
        seq=seq,
        at=at,
        kind=kind_of(event),
        version=event.version,
        body=body_of(event),
        trace=trace,
        previous_hash=previous_hash,
        hash="",
    )
    return msgspec.structs.replace(unsealed, hash=seal(unsealed))


def seal(recorded: Recorded) -> str:
    """
    Return the hash of an event: SHA-256 over the canonical JSON array of its stored fields, all but the hash itself.

    The text of `body` is covered as it is stored, so verification needs no decoder of the event's version.
    """
    trace = recorded.trace
    fields: list[Tree] = [
        "interlock.event.v1",
        recorded.previous_hash,
        recorded.session_id,
        recorded.seq,
        recorded.id,
        recorded.at.isoformat(timespec="microseconds"),
        recorded.kind,
        recorded.version,
        recorded.body,
        *((trace.trace_id, trace.span_id, trace.flags) if trace else (None, None, None)),
    ]
    return digest(encode(fields))
