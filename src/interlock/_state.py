"""SessionState: what a session's events add up to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from decimal import Context, Decimal
from enum import StrEnum
from typing import TypeVar

import msgspec
from immutabledict import immutabledict

from interlock import events
from interlock._usage import Usage
from interlock._verdict import Verdict

_K = TypeVar("_K")

# Sums of money are not rounded, whatever context the host has set for its own.
_EXACTLY = Context(prec=1_000)
_MICROSECOND = timedelta(microseconds=1)


class SessionStatus(StrEnum):
    """
    OPEN sessions admit calls. PAUSED: to be resumed. COMPLETED: ended well. ABORTED: ended by an exception or by hand.

    HALTED lies over the first two while a halt of this very session stands: it is shown, and never stored.
    """

    OPEN = "open"
    PAUSED = "paused"
    HALTED = "halted"
    COMPLETED = "completed"
    ABORTED = "aborted"


class Tokens(msgspec.Struct, frozen=True, kw_only=True):
    """
    Tokens by kind, summed as far as they are known; see `Usage`.

    Attributes:
        input, output: All that models were given and have written.
        cache_read, cache_write, reasoning: Those among them.
    """

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0
    reasoning: int = 0

    def plus(self, usage: Usage) -> Tokens:
        """Return these and those of *usage*."""
        return Tokens(
            input=self.input + (usage.input_tokens or 0),
            output=self.output + (usage.output_tokens or 0),
            cache_read=self.cache_read + (usage.cache_read_tokens or 0),
            cache_write=self.cache_write + (usage.cache_write_tokens or 0),
            reasoning=self.reasoning + (usage.reasoning_tokens or 0),
        )


class SessionState(msgspec.Struct, frozen=True, kw_only=True):
    """
    A session as its events tell it.

    Attributes:
        head: The number of the last event; 0 before the first.
        head_hash: That event's hash.
        status: Whether calls are admitted.
        verdicts: How many calls got each verdict.
        running: Calls admitted and not finished, by id, with the tool's name; their process may be gone.
        in_doubt: Calls whose process is gone, by id, with the tool's name: a human has to find out what became of them.
        outcomes: How many calls ended in each way.
        cost_usd: The sum of what finished calls and recorded usage cost, as far as that is known.
        unpriced: How many of them used a model, and nobody knows what that cost.
        tokens: What they used, by kind.
        opened: The first event: name, identity, policy.
        closed: The event that ended it: what ended it, and why.
        halt_id: The halt of this very session that stands.
        opened_at, closed_at: Aware UTC; None while it has not happened.
        last_at: When the last event was written.
    """

    head: int = 0
    head_hash: str = events.GENESIS
    status: SessionStatus = SessionStatus.OPEN
    verdicts: Mapping[Verdict, int] = immutabledict()
    running: Mapping[str, str] = immutabledict()
    in_doubt: Mapping[str, str] = immutabledict()
    outcomes: Mapping[events.Outcome, int] = immutabledict()
    cost_usd: Decimal = Decimal(0)
    unpriced: int = 0
    tokens: Tokens = Tokens()
    opened: events.SessionOpened | None = None
    closed: events.SessionClosed | None = None
    halt_id: str | None = None
    opened_at: datetime | None = None
    closed_at: datetime | None = None
    last_at: datetime | None = None

    @property
    def state(self) -> SessionStatus:
        """The status as it is shown: HALTED where it could go on but for its halt."""
        return shown_status(self.status, self.halt_id)

    @property
    def calls(self) -> int:
        """How many calls were decided."""
        return sum(self.verdicts.values())

    @property
    def duration_us(self) -> int:
        """How long it has lasted, in microseconds: from its opening to its end, or else to its last event."""
        end = self.closed_at or self.last_at
        if self.opened_at is None or end is None:
            return 0
        return (end - self.opened_at) // _MICROSECOND


def shown_status(status: SessionStatus, halt_id: str | None) -> SessionStatus:
    """Return a session's status as it is shown, given the halt of it that stands."""
    is_halted = halt_id is not None and status in {SessionStatus.OPEN, SessionStatus.PAUSED}
    return SessionStatus.HALTED if is_halted else status


def status_after(status: SessionStatus, event: events.Event) -> SessionStatus:
    """Return the status of a session that had *status* when *event* happened."""
    moved = _MOVES.get(type(event))
    if moved is not None:
        return moved
    if isinstance(event, events.SessionClosed):
        is_well = event.error_type is None and event.reason is None
        return SessionStatus.COMPLETED if is_well else SessionStatus.ABORTED
    return status


_MOVES: Mapping[type, SessionStatus] = {
    events.SessionOpened: SessionStatus.OPEN,
    events.SessionPaused: SessionStatus.PAUSED,
    events.SessionResumed: SessionStatus.OPEN,
}


def fold(history: Iterable[events.Recorded], state: SessionState | None = None) -> SessionState:
    """
    Return the state after *history*, which continues *state*.

    Folding a history in parts gives what folding it whole gives. It is not verified here: see `store.verify`.

    Raises:
        NewerRelease: an event is of a newer release, and something may follow from it.
    """
    state = state or SessionState()
    for recorded in history:
        state = _after(state, recorded)
    return state


def _after(state: SessionState, recorded: events.Recorded) -> SessionState:
    state = msgspec.structs.replace(
        state, head=recorded.seq, head_hash=recorded.hash, last_at=recorded.at
    )
    place = f"event {recorded.seq} of session {recorded.session_id}"
    match events.understood(recorded.event, place):
        case events.SessionOpened() as opened:
            return msgspec.structs.replace(state, opened=opened, opened_at=recorded.at)
        case events.SessionClosed() as closed:
            status = status_after(state.status, closed)
            return msgspec.structs.replace(
                state, status=status, closed=closed, closed_at=recorded.at
            )
        case events.SessionPaused() | events.SessionResumed() as moved:
            return msgspec.structs.replace(state, status=status_after(state.status, moved))
        case events.CallDecided() as decided:
            admitted = {decided.call_id: decided.tool} if decided.admitted else {}
            return msgspec.structs.replace(
                state,
                verdicts=_counted(state.verdicts, decided.verdict),
                running=immutabledict({**state.running, **admitted}),
            )
        case events.CallFinished() | events.CallDoubted() | events.CallRecovered() as known:
            return _known(state, known)
        case events.UsageRecorded(usage=usage, cost_usd=cost):
            return _spent(state, usage, cost, unpriced=cost is None)
        case events.SessionHalted() | events.SessionReleased() as told:
            return msgspec.structs.replace(state, halt_id=_standing(state.halt_id, told))
        case (
            events.TicketOpened()
            | events.TicketApproved()
            | events.TicketResolved()
            | events.GrantGiven()
            | events.CallStuck()
            | events.SessionStuck()
            | events.HaltOrdered()
            | events.AppNoted()
            | None
        ):
            return state


def _known(
    state: SessionState,
    known: events.CallFinished | events.CallDoubted | events.CallRecovered,
) -> SessionState:
    """Return the state after it became known what a call has come to, or that this has to be found out."""
    in_doubt = _without(state.in_doubt, known.call_id)
    if isinstance(known, events.CallDoubted):
        in_doubt = immutabledict({**in_doubt, known.call_id: known.tool})
    running = _without(state.running, known.call_id)
    state = msgspec.structs.replace(state, running=running, in_doubt=in_doubt)
    if not isinstance(known, events.CallFinished):
        return state
    state = msgspec.structs.replace(state, outcomes=_counted(state.outcomes, known.outcome))
    unpriced = known.usage_id is not None and known.cost_usd is None
    return _spent(state, known.usage, known.cost_usd, unpriced=unpriced)


def _without(calls: Mapping[str, str], call_id: str) -> Mapping[str, str]:
    return immutabledict({key: tool for key, tool in calls.items() if key != call_id})


def _standing(
    halt_id: str | None, told: events.SessionHalted | events.SessionReleased
) -> str | None:
    if isinstance(told, events.SessionHalted):
        return told.halt_id
    return None if told.halt_id == halt_id else halt_id


def _spent(
    state: SessionState, usage: Usage | None, cost: Decimal | None, *, unpriced: bool
) -> SessionState:
    return msgspec.structs.replace(
        state,
        cost_usd=_EXACTLY.add(state.cost_usd, cost or 0),
        tokens=state.tokens if usage is None else state.tokens.plus(usage),
        unpriced=state.unpriced + unpriced,
    )


def _counted(counts: Mapping[_K, int], key: _K) -> Mapping[_K, int]:
    return immutabledict({**counts, key: counts.get(key, 0) + 1})
