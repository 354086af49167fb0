"""
recover(): find what processes left open that are gone, and bring the books in order, a bounded transaction at a time.

Nothing is remembered from one transaction to the next but what is to be reported: cut off anywhere and run again, it
goes on with what is left.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

import msgspec
from sqlalchemy import Connection

from interlock import events
from interlock._call import Recovery
from interlock._halt import HaltTarget
from interlock._halt_scope import HaltScope
from interlock._recovery import Escalation, InDoubt, Interrupted, Probe, Recovered
from interlock._restored import Unrestorable, restored
from interlock.store import counters, halts, recovery, stuck
from interlock.store.engine import Store
from interlock.store.events import whole_history
from interlock.store.recovery import Left, Settled
from interlock.store.stuck import Told

log = logging.getLogger("interlock")

NO_ESCALATION = Escalation()
"""Nothing is ever stuck."""


def recover(
    store: Store,
    *,
    show: Callable[[object], None],
    probes: Mapping[str, Probe],
    escalation: Escalation = NO_ESCALATION,
) -> Recovered:
    """
    Bring the books in order, and return what was done.

    Args:
        store: Whose.
        show: Is given the events of each transaction once it is durable.
        probes: By the names of tools, who says whether a call of it happened.
        escalation: What is stuck, and what then.

    Raises:
        StoreUnavailable: what was committed before stays; run it again.
    """
    lost = store.write(recovery.declare)
    settled = _Sum()
    asked: Sequence[Left] = ()
    after: tuple[str, str] | None = None
    while asked := store.read(recovery.left, asking=probes, after=after):
        after = asked[-1].key
        answers = _answers(store, asked, probes)
        found = _worth(asked, answers)
        if found:
            page = store.write(recovery.settle, found, answers, asking=probes)
            show([*page.recorded])
            settled.add(page)
    paused: list[str] = []
    while left := store.read(recovery.left_sessions):
        recorded = store.write(recovery.pause, left)
        show(recorded)
        paused += [one.session_id for one in recorded]
    escalated = _Escalated(store, escalation, show)
    return Recovered(
        lost=tuple(lost),
        doubted=tuple(settled.doubted),
        retried=tuple(settled.retried),
        happened=tuple(settled.happened),
        not_happened=tuple(settled.not_happened),
        unreadable=tuple(settled.unreadable),
        paused=tuple(paused),
        stuck_calls=tuple(escalated.calls),
        stuck_sessions=tuple(escalated.sessions),
        halted=tuple(escalated.halted),
        joined=store.write(counters.join),
    )


def look(store: Store, escalation: Escalation = NO_ESCALATION) -> Recovered:
    """Return what `recover` would do that asks no tool; nothing is written."""
    left: list[Left] = []
    after: tuple[str, str] | None = None
    while page := store.read(recovery.left, after=after, silent_too=True):
        left += page
        after = page[-1].key
    retried = tuple(one.call for one in left if one.call.rule is Recovery.RETRY)
    doubted = tuple(one.call for one in left if one.call.rule is not Recovery.RETRY)
    calls: list[InDoubt] = []
    sessions: list[str] = []
    if escalation.call_stuck_after is not None:
        calls = store.read(stuck.calls, escalation.call_stuck_after)
    if escalation.session_stuck_after is not None:
        sessions = store.read(stuck.sessions, escalation.session_stuck_after)
    of_calls = {one.session_id for one in calls}
    return Recovered(
        lost=tuple(store.read(recovery.silent)),
        doubted=doubted,
        retried=retried,
        paused=tuple(store.read(recovery.left_sessions, silent_too=True)),
        stuck_calls=tuple(calls),
        stuck_sessions=tuple(sessions),
        halted=tuple(sorted({*of_calls, *sessions})) if escalation.halts else (),
        dry_run=True,
    )


class _Sum:
    """What transactions have made of calls, all told."""

    def __init__(self) -> None:
        self.doubted: list[InDoubt] = []
        self.retried: list[InDoubt] = []
        self.happened: list[InDoubt] = []
        self.not_happened: list[InDoubt] = []
        self.unreadable: list[str] = []

    def add(self, page: Settled) -> None:
        self.doubted += page.doubted
        self.retried += page.retried
        self.happened += page.happened
        self.not_happened += page.not_happened
        self.unreadable += page.unreadable


def _worth(asked: Sequence[Left], answers: Mapping[str, bool | None]) -> list[Left]:
    """Return those of which something is to be made: one in doubt stays there while its tool cannot tell."""
    return [
        one
        for one in asked
        if one.call.doubted_at is None or answers.get(one.call.call_id) is not None
    ]


def _answers(
    store: Store, found: Sequence[Left], probes: Mapping[str, Probe]
) -> dict[str, bool | None]:
    """Ask tools of their calls, outside of any transaction; one that fails to answer cannot tell."""
    asked: dict[str, set[str]] = {}
    for one in found:
        if one.call.rule is Recovery.PROBE and one.call.tool in probes:
            asked.setdefault(one.call.session_id, set()).add(one.call.call_id)
    answers: dict[str, bool | None] = {}
    for session_id, call_ids in asked.items():
        for call in store.read(_recorded, session_id, call_ids):
            try:
                answer = probes[call.tool](call)
            except Exception:
                log.exception(
                    "the probe of %s failed; call %s stays in doubt", call.tool, call.call_id
                )
                answer = None
            answers[call.call_id] = answer if isinstance(answer, bool) else None
    return answers


def _recorded(connection: Connection, session_id: str, call_ids: set[str]) -> list[Interrupted]:
    """Return calls of a session as their decisions say, which are read again from the beginning."""
    found: list[Interrupted] = []
    for recorded in whole_history(connection, session_id):
        if recorded.kind != "call_decided":
            continue
        event = recorded.event
        if isinstance(event, events.CallDecided) and event.call_id in call_ids:
            found.append(
                Interrupted(
                    call_id=event.call_id,
                    session_id=session_id,
                    tool=event.tool,
                    arguments=dict(_arguments(event.arguments)),
                    resource=event.resource,
                    cost_usd=event.cost_usd,
                    admitted_at=recorded.at,
                )
            )
    return found


def _arguments(text: str) -> Iterator[tuple[str, Any]]:
    for name, data in msgspec.json.decode(text, type=dict[str, Any]).items():
        try:
            yield name, restored(data)
        except Unrestorable:
            yield name, data


class _Escalated:
    """Tells of what is stuck, each once; where the session is to be halted, that first: it may be cut off between."""

    def __init__(
        self, store: Store, escalation: Escalation, show: Callable[[object], None]
    ) -> None:
        self._store = store
        self._escalation = escalation
        self._show = show
        self.calls: list[InDoubt] = []
        self.sessions: list[str] = []
        self.halted: list[str] = []
        if escalation.call_stuck_after is not None:
            self._tell_of_calls(escalation.call_stuck_after)
        if escalation.session_stuck_after is not None:
            self._tell_of_sessions(escalation.session_stuck_after)

    def _tell_of_calls(self, longest: timedelta) -> None:
        while found := self._store.read(stuck.calls, longest):
            self._halt([one.session_id for one in found], "a call of it is stuck")
            if not self._told(self._store.write(stuck.tell_of_calls, found, longest)):
                return

    def _tell_of_sessions(self, longest: timedelta) -> None:
        while found := self._store.read(stuck.sessions, longest):
            self._halt(found, "it is stuck")
            if not self._told(self._store.write(stuck.tell_of_sessions, found, longest)):
                return

    def _told(self, told: Told) -> bool:
        self._show([*told.recorded])
        self.calls += told.calls
        self.sessions += told.sessions
        return bool(told.recorded)

    def _halt(self, session_ids: Sequence[str], why: str) -> None:
        for session_id in dict.fromkeys(session_ids) if self._escalation.halts else ():
            target = HaltTarget(HaltScope.SESSION, session_id)
            done = self._store.write(halts.engage, target, reason=why, by=self._escalation.by)
            if done.engaged:
                self.halted.append(session_id)
                self._show(done.recorded)
