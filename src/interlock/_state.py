"""SessionState: what a session's events add up to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Context, Decimal
from enum import StrEnum
from typing import TypeVar

import msgspec
from immutabledict import immutabledict

from interlock import events
from interlock._verdict import Verdict

_K = TypeVar("_K")

# Sums of money are not rounded, whatever context the host has set for its own.
_EXACTLY = Context(prec=1_000)


class SessionStatus(StrEnum):
    """OPEN sessions admit calls. PAUSED: to be resumed. COMPLETED: ended well. ABORTED: ended by an exception."""

    OPEN = "open"
    PAUSED = "paused"
    COMPLETED = "completed"
    ABORTED = "aborted"


class SessionState(msgspec.Struct, frozen=True, kw_only=True):
    """
    A session as its events tell it.

    Attributes:
        head: The number of the last event; 0 before the first.
        head_hash: That event's hash.
        status: Whether calls are admitted.
        verdicts: How many calls got each verdict.
        running: Calls admitted and not finished, by id, with the tool's name: in doubt once their process is gone.
        outcomes: How many calls ended in each way.
        cost_usd: The sum of what finished calls and recorded usage cost, as far as that is known.
        opened: The first event: name, identity, policy.
        opened_at, closed_at: Aware UTC; None while it has not happened.
    """

    head: int = 0
    head_hash: str = events.GENESIS
    status: SessionStatus = SessionStatus.OPEN
    verdicts: Mapping[Verdict, int] = immutabledict()
    running: Mapping[str, str] = immutabledict()
    outcomes: Mapping[events.Outcome, int] = immutabledict()
    cost_usd: Decimal = Decimal(0)
    opened: events.SessionOpened | None = None
    opened_at: datetime | None = None
    closed_at: datetime | None = None


def status_after(status: SessionStatus, event: events.Event) -> SessionStatus:
    """Return the status of a session that had *status* when *event* happened."""
    moved = _MOVES.get(type(event))
    if moved is not None:
        return moved
    if isinstance(event, events.SessionClosed):
        return SessionStatus.ABORTED if event.error_type else SessionStatus.COMPLETED
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
    state = msgspec.structs.replace(state, head=recorded.seq, head_hash=recorded.hash)
    place = f"event {recorded.seq} of session {recorded.session_id}"
    match events.understood(recorded.event, place):
        case events.SessionOpened() as opened:
            return msgspec.structs.replace(state, opened=opened, opened_at=recorded.at)
        case events.SessionClosed() as closed:
            status = status_after(state.status, closed)
            return msgspec.structs.replace(state, status=status, closed_at=recorded.at)
        case events.SessionPaused() | events.SessionResumed() as moved:
            return msgspec.structs.replace(state, status=status_after(state.status, moved))
        case events.CallDecided() as decided:
            running = dict(state.running)
            if decided.admitted:
                running[decided.call_id] = decided.tool
            return msgspec.structs.replace(
                state,
                verdicts=_counted(state.verdicts, decided.verdict),
                running=immutabledict(running),
            )
        case events.CallFinished() as finished:
            running = {key: tool for key, tool in state.running.items() if key != finished.call_id}
            return msgspec.structs.replace(
                state,
                running=immutabledict(running),
                outcomes=_counted(state.outcomes, finished.outcome),
                cost_usd=_EXACTLY.add(state.cost_usd, finished.cost_usd or 0),
            )
        case events.UsageRecorded(cost_usd=cost):
            spent = _EXACTLY.add(state.cost_usd, cost or 0)
            return msgspec.structs.replace(state, cost_usd=spent)
        case (
            events.TicketOpened()
            | events.TicketApproved()
            | events.TicketResolved()
            | events.GrantGiven()
            | events.SessionHalted()
            | events.SessionReleased()
            | events.HaltOrdered()
            | events.AppNoted()
            | None
        ):
            return state


def _counted(counts: Mapping[_K, int], key: _K) -> Mapping[_K, int]:
    return immutabledict({**counts, key: counts.get(key, 0) + 1})
