"""
Events: what is kept for good, one struct for each kind, with the JSON codec and the hash chain.

An event is an immutable fact in a session. It is stored as canonical JSON beside the columns of its envelope
(`Recorded`), and every stored field is covered by the envelope's hash.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from functools import lru_cache
from types import MappingProxyType
from typing import Any, ClassVar, TypeAlias, get_args

import msgspec

from interlock._budget import Amounts, WindowKey
from interlock._call import CallKind, Idempotency, Identity, Recovery, Risk
from interlock._canonical import Tree, digest, encode
from interlock._capture import Capture
from interlock._lease import Slot
from interlock._ticket import TicketState
from interlock._usage import Usage
from interlock._verdict import Mode, Opinion, Verdict
from interlock.errors import NewerRelease

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

    `name` is the host's label; `policy` is the digest of the policy in force, None without one; `mode` is what becomes
    of decisions in this session. `parent` is the session that it was opened in. Of those with one `exclusive` key in
    one organisation only one is open or paused at a time.
    """

    name: str
    agent: str
    user: str | None = None
    team: str | None = None
    org: str | None = None
    policy: str | None = None
    mode: Mode = Mode.ENFORCE
    parent: str | None = None
    exclusive: str | None = None


class CallDecided(_Event, frozen=True, kw_only=True, tag="call_decided"):
    """
    A call met its opinions. `admitted` says whether it was let through: it is then the intent to run it.

    `arguments` is the canonical JSON of what was judged, declared secrets masked; `cost_usd` is what was declared.
    `risk` is what the tool declares, raised by the policy, by plugins and by what the session has done; `points` is
    what the call adds to the session's score of risk, if it got in. Of the `opinions`, those with this very `verdict`
    that are not only observed carry it. In `mode` observe the call was let through whatever the verdict; in dry_run it
    was at most simulated. `grant_id` is the grant that stood for the yes of `approved_by`. `windows` are those of the
    budgets that count the call, and `taken` what was reserved and spent of each before it; None where others held
    parts of it that nobody had to look at, since there was room in this worker's own. `reserved` is what an admitted
    call holds, of each of them; `leases` are the slots that it took, or was passed by its ticket. `tokens` is how many
    it said that it takes at most. Its tool declares the `labels` and `capabilities`. `unraised` is its risk by itself
    without what plugins say, where they raise it. `answers` are what evaluators replied that conditions of the policy
    ask, by what was asked.
    `schema` is the digest of what parameters its tool takes. `edited_by` is who has written its arguments instead of
    its caller. `uses` are the tickets that it used up, if it was admitted, besides `ticket_id`: those whose approvers
    have written it, in order, or the one by which it was resumed. `resumed` is it where its session was paused.
    `recovery` is what becomes of it where its process dies while it runs.
    `idempotency` tells that it was made before; `repeats` is then the call that has run instead of it, once, and this
    one was given what that one returned.
    `capture` is how much of the arguments was recorded; `keyed` says whether the digest was made with a key.
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
    grant_id: str | None = None
    model: str | None = None
    windows: tuple[WindowKey, ...] = ()
    reserved: Amounts | None = None
    mode: Mode = Mode.ENFORCE
    points: int = 0
    leases: tuple[Slot, ...] = ()
    tokens: int | None = None
    taken: tuple[Amounts | None, ...] = ()
    labels: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()
    unraised: Risk | None = None
    answers: tuple[tuple[str, Opinion | None], ...] = ()
    schema: str | None = None
    edited_by: str | None = None
    uses: tuple[str, ...] = ()
    resumed: bool = False
    recovery: Recovery = Recovery.HOLD
    idempotency: Idempotency | None = None
    repeats: str | None = None
    capture: Capture = Capture.REDACTED
    keyed: bool = False


class TicketOpened(_Event, frozen=True, kw_only=True, tag="ticket_opened"):
    """
    A human is asked about the call with this `digest`, until `expires_at`.

    `leases` are the slots that it holds for the call meanwhile.
    """

    ticket_id: str
    call_id: str
    tool: str
    digest: str
    approvers: tuple[str, ...]
    quorum: int = 1
    expires_at: datetime
    leases: tuple[Slot, ...] = ()


class TicketApproved(_Event, frozen=True, kw_only=True, tag="ticket_approved"):
    """
    Somebody said yes, and so many others are still `missing`.

    `arguments` are those that they said yes to, as canonical JSON, where these are not the caller's. Where they differ
    from those of the yes before, that one does not count any more.
    """

    ticket_id: str
    by: str
    comment: str | None = None
    missing: int
    arguments: str | None = None


class TicketResolved(_Event, frozen=True, kw_only=True, tag="ticket_resolved"):
    """
    A ticket has its answer: `state` is APPROVED, by the last whose yes was missing; DENIED; EXPIRED; or CANCELLED.

    Of the last two `by` is `interlock`: time has passed, or the session was closed. `waited_us` is for how many
    microseconds the ticket was open. `arguments` as for a `TicketApproved`.
    """

    ticket_id: str
    state: TicketState
    by: str
    comment: str | None = None
    waited_us: int
    arguments: str | None = None


class GrantGiven(_Event, frozen=True, kw_only=True, tag="grant_given"):
    """
    With a yes, somebody granted further `calls` of a tool in this session, of these `resources`, until `expires_at`.

    `grant_id` is the ticket's. It stands for a human where nobody asks for one but those who `asked`. `cost` is in
    nano-dollars, for all of them together; `resources` is None for calls without one.
    """

    grant_id: str
    tool: str
    policy: str
    asked: tuple[str, ...]
    resources: tuple[str, ...] | None
    calls: int
    cost: int
    expires_at: datetime
    by: str


class CallFinished(_Event, frozen=True, kw_only=True, tag="call_finished"):
    """
    What came of an admitted call.

    `error_type` is the class of what the tool raised, never its text. `result_digest` is the SHA-256 of the
    canonical JSON of what it returned, or begins with `hmac-sha256:` where that was made with a key; None when it has
    none. `result` is what the caller was given, as canonical JSON, where that is captured. `duration_us` is in
    microseconds. `cost_usd` is what it cost as far as that is known: what was reported, or else what was declared, of
    a call that returned; None means unknown, which is not zero. `charged` is what its budget windows were charged
    instead of what it had reserved. `usage`, `usage_id` and `priced_by` are those of its row in the ledger of usage,
    when it has one.
    `reviews` are the opinions on its result, in the order in which they were asked for: who withheld it, when it was
    `withheld` from the caller, and with an ALLOW those in `redacted_by`, who gave the caller something else.
    `halt_id` is the halt that covered the call when it ended: it completed after it was halted, and what it returned
    was withheld. `leases_lost` are the leases that it had lost by then: they may have been another's meanwhile.
    `kept` is the SHA-256 of what is kept for those who make the call again.
    """

    call_id: str
    tool: str
    outcome: Outcome
    duration_us: int
    cost_usd: Decimal | None = None
    error_type: str | None = None
    result_digest: str | None = None
    result: str | None = None
    charged: Amounts | None = None
    usage: Usage | None = None
    usage_id: str | None = None
    provider: str | None = None
    priced_by: str | None = None
    reviews: tuple[Opinion, ...] = ()
    withheld: bool = False
    redacted_by: tuple[str, ...] = ()
    halt_id: str | None = None
    leases_lost: tuple[str, ...] = ()
    kept: str | None = None


class CallDoubted(_Event, frozen=True, kw_only=True, tag="call_doubted"):
    """
    The process that ran this call is gone, and nothing tells whether the call happened: a human has to find out.

    What it has reserved stays reserved, and the leases that it held are given back. `owner` is the process.
    """

    call_id: str
    tool: str
    owner: str


class CallRecovered(_Event, frozen=True, kw_only=True, tag="call_recovered"):
    """
    What is known of a call whose process is gone, instead of its outcome.

    `happened` is None where nobody knows, and need not: the call may be made again. `by` is who has found out;
    `interlock`, where the `rule` is what its tool declares: RETRY, or PROBE, by which the tool was asked. `charged` is
    what its budget windows were charged instead of what it had reserved.
    """

    call_id: str
    tool: str
    happened: bool | None
    by: str
    rule: Recovery | None = None
    comment: str | None = None
    charged: Amounts | None = None


class CallStuck(_Event, frozen=True, kw_only=True, tag="call_stuck"):
    """A call runs for longer than the policy finds good, in a process that lives; `since` is when it was admitted."""

    call_id: str
    tool: str
    since: datetime


class SessionStuck(_Event, frozen=True, kw_only=True, tag="session_stuck"):
    """The session is open for longer than the policy finds good, in a process that lives, `since` that time."""

    since: datetime


class UsageRecorded(_Event, frozen=True, kw_only=True, tag="usage_recorded"):
    """
    Usage of a model was booked that no governed call stands for; `usage_id` is its row in the ledger of usage.

    It was used on behalf of `identity`, which need not be the session's; None when nobody was named.
    `cost_usd` is None when nobody knows the price; `charged` is what each budget window in `windows` was charged.
    """

    usage_id: str
    identity: Identity | None = None
    model: str
    provider: str | None = None
    usage: Usage
    cost_usd: Decimal | None = None
    priced_by: str | None = None
    windows: tuple[WindowKey, ...] = ()
    charged: Amounts | None = None


class SessionPaused(_Event, frozen=True, kw_only=True, tag="session_paused"):
    """
    The run waits, as for a human's answer; it can be resumed by the session's id.

    `reason` says why where it was not the host who paused it: its process is gone.
    """

    reason: str | None = None


class SessionResumed(_Event, frozen=True, kw_only=True, tag="session_resumed"):
    """The run goes on, perhaps in another process."""


class SessionHalted(_Event, frozen=True, kw_only=True, tag="session_halted"):
    """Somebody halted this very session: nothing is admitted in it until the halt is released."""

    halt_id: str
    reason: str
    by: str


class SessionReleased(_Event, frozen=True, kw_only=True, tag="session_released"):
    """Somebody released the halt of this very session."""

    halt_id: str
    reason: str
    by: str


class HaltOrdered(_Event, frozen=True, kw_only=True, tag="halt_ordered"):
    """
    A call of this session had the policy halt `target`, for which `halt_id` stands: engaged for it, or before.

    `rule` is what in the policy ordered it: `budget:NAME`, or the tracker that the session remembers for it.
    """

    halt_id: str
    target: str
    rule: str
    reason: str
    by: str


class SessionClosed(_Event, frozen=True, kw_only=True, tag="session_closed"):
    """
    The run is over. `error_type` is the class of the exception that ended it.

    `reason` says why it was aborted, a sentence: that of Interlock's own exception, or whoever aborted it gave it; `by`
    is who, where it was not the run itself. All three are None when it ended well.
    """

    error_type: str | None = None
    reason: str | None = None
    by: str | None = None


class AppNoted(_Event, frozen=True, kw_only=True, tag="app_noted"):
    """
    The host has noted something by `Session.record`; nothing follows from it.

    `name` is the host's own; `data` is the canonical JSON of what it gave, secrets masked.
    """

    name: str
    data: str


Event: TypeAlias = (
    SessionOpened
    | CallDecided
    | TicketOpened
    | TicketApproved
    | TicketResolved
    | GrantGiven
    | CallFinished
    | CallDoubted
    | CallRecovered
    | CallStuck
    | UsageRecorded
    | SessionPaused
    | SessionResumed
    | SessionStuck
    | SessionHalted
    | SessionReleased
    | HaltOrdered
    | SessionClosed
    | AppNoted
)
"""Any kind of event; in JSON the key `kind` tells them apart."""

_decoder: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)

_kinds: dict[type, str] = {kind: str(kind.__struct_config__.tag) for kind in get_args(Event)}
_versions: dict[str, int] = {_kinds[kind]: kind.version for kind in get_args(Event)}

UPCASTS: Mapping[tuple[str, int], Callable[[dict[str, Any]], dict[str, Any]]] = MappingProxyType({})
"""By kind and version, a pure function that makes of the fields of that version those of the next."""


class NewerEvent(msgspec.Struct, frozen=True, kw_only=True):
    """
    An event of a kind, or of a version of its kind, that this release does not know: readable, not understood.

    Attributes:
        kind, version: As stored.
        body: The event as canonical JSON.
    """

    kind: str
    version: int
    body: str

    @property
    def bears_state(self) -> bool:
        """Whether something may follow from it: not of a kind whose name ends in `_noted`, in any release."""
        return not self.kind.endswith("_noted")


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
    def event(self) -> Event | NewerEvent:
        """The event itself, decoded from `body`; in its present shape, if it was written in an older one."""
        return decode(self.body, self.kind, self.version)


def decode(body: str, kind: str, version: int) -> Event | NewerEvent:
    """
    Return the event that `body_of` wrote, of that kind and version.

    Raises:
        msgspec.DecodeError: it is none.
    """
    known = _versions.get(kind, 0)
    if version == known:
        return _decoder.decode(body)
    if version > known:
        return NewerEvent(kind=kind, version=version, body=body)
    fields = msgspec.json.decode(body, type=dict[str, Any])
    for older in range(version, known):
        upcast = UPCASTS.get((kind, older))
        if upcast is None:
            raise msgspec.DecodeError(f"there has never been a version {older} of {kind}")
        fields = upcast(fields)
    return _decoder.decode(msgspec.json.encode(fields))


def understood(event: Event | NewerEvent, place: str) -> Event | None:
    """
    Return *event* for who adds up what follows from events; None: nothing follows from it.

    Args:
        event: What was decoded.
        place: Where it stands, such as `event 7 of session …`.

    Raises:
        NewerRelease: something may follow from it, and this release does not know what.
    """
    if not isinstance(event, NewerEvent):
        return event
    if event.bears_state:
        raise NewerRelease(
            f"{place} is of a newer release of Interlock ({event.kind}, version {event.version}), and what follows "
            "from it is not known here; upgrade interlock",
            kind=event.kind,
            version=event.version,
        )
    return None


def body_of(event: Event) -> str:
    """Return *event* as canonical JSON, its `kind` included."""
    # What RFC 8785 asks for: the keys of events are ASCII, which sorts alike everywhere, and they hold no floats. Their
    # integers are exact, though RFC 8785 stops at 2**53, and sums in nano-dollars do not.
    return msgspec.json.encode(event, order="sorted").decode()


def kind_of(event: Event | NewerEvent) -> str:
    """Return the name of the type of *event*, as stored and as shown; of a newer one, what its body says."""
    if isinstance(event, NewerEvent):
        return str(msgspec.json.decode(event.body, type=dict[str, Any]).get("kind"))
    return _kinds[type(event)]


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
    kind, body = kind_of(event), body_of(event)
    return Recorded(
        id=id,
        session_id=session_id,
        seq=seq,
        at=at,
        kind=kind,
        version=event.version,
        body=body,
        trace=trace,
        previous_hash=previous_hash,
        hash=_seal(previous_hash, session_id, seq, id, at, kind, event.version, body, trace),
    )


def seal(recorded: Recorded) -> str:
    """
    Return the hash of an event: SHA-256 over the canonical JSON array of its stored fields, all but the hash itself.

    The text of `body` is covered as it is stored, so verification needs no decoder of the event's version.
    """
    return _seal(
        recorded.previous_hash,
        recorded.session_id,
        recorded.seq,
        recorded.id,
        recorded.at,
        recorded.kind,
        recorded.version,
        recorded.body,
        recorded.trace,
    )


def _seal(  # noqa: PLR0917 - all that a row has
    previous_hash: str,
    session_id: str,
    seq: int,
    id: str,  # noqa: A002 - the column's name
    at: datetime,
    kind: str,
    version: int,
    body: str,
    trace: TraceIds | None,
) -> str:
    fields: list[Tree] = [
        "interlock.event.v1",
        previous_hash,
        session_id,
        seq,
        id,
        _instant(at),
        kind,
        version,
        body,
        *((trace.trace_id, trace.span_id, trace.flags) if trace else (None, None, None)),
    ]
    return digest(encode(fields))


@lru_cache(maxsize=16)  # all that a transaction writes has one time
def _instant(at: datetime) -> str:
    """Return *at* as `isoformat` writes it, to the microsecond."""
    if (
        at.tzinfo is UTC and at.microsecond
    ):  # msgspec takes a tenth of the time, and writes the same but for the Z
        return f"{msgspec.to_builtins(at)[:-1]}+00:00"
    return at.isoformat(timespec="microseconds")
