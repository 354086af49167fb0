"""Told: the rows that the events of a session add up to."""

from __future__ import annotations

from datetime import datetime

import msgspec

from interlock import events
from interlock._call import Identity
from interlock._grant import Standing
from interlock._halt import HaltTarget
from interlock._halt_scope import HaltScope
from interlock._requests import Requests
from interlock._ticket import Ticket
from interlock._usage import ModelUsage, Priced
from interlock.store import usage
from interlock.store.budgets import Held
from interlock.store.keys import Kept
from interlock.store.slots import text_of


class Disagreement(Exception):
    """What is stored is not what the events say; the message names the row."""


class Told:
    """
    The rows that the events of a session add up to.

    Attributes:
        session_id: The session.
        intents: The row of each open call, as stored, but for its keys and who runs it.
        session: The columns of the session's row that say since when it is open, and stuck.
        policies: The digests of those that it names.
        judged: The digests of those that decided something.
        usage: The rows of the ledger, by id.
        halts: Of each halt that it was told of, by id, what is halted.
        keys: Of each idempotency key that its calls have, which call and how that ended; without what it gave.
        results: Of each such key, the digest of what the call gave; None where that is not kept.
    """

    def __init__(self, session_id: str) -> None:
        """Begin before the first event."""
        self.session_id = session_id
        self.intents: dict[str, dict[str, object]] = {}
        self.session: dict[str, datetime | None] = {"owned_at": None, "stuck_at": None}
        self.policies: set[str] = set()
        self.judged: set[str] = set()
        self.usage: dict[str, dict[str, object]] = {}
        self.halts: dict[str, str] = {}
        self.keys: dict[str, Kept] = {}
        self.results: dict[str, str | None] = {}
        self._opened: events.SessionOpened | None = None
        self._requests = Requests(session_id)
        self._held: dict[str, events.CallDecided] = {}

    @property
    def tickets(self) -> dict[str, Ticket]:
        """The tickets, by id."""
        return self._requests.tickets

    @property
    def grants(self) -> dict[str, Standing]:
        """The grants, by id."""
        return self._requests.grants

    def hear(self, recorded: events.Recorded) -> None:
        """Take the next event of the session."""
        place = f"event {recorded.seq} of session {recorded.session_id}"
        event = events.understood(recorded.event, place)
        match event:
            case events.SessionOpened() as opened:
                self._opened = opened
                self.policies |= {opened.policy} if opened.policy else set()
            case events.CallDecided() as decided:
                self._call_decided(decided, recorded)
            case events.CallFinished() as finished:
                self._call_finished(finished, recorded)
            case events.CallDoubted() | events.CallRecovered() | events.CallStuck():
                self._recovered(event, recorded)
            case events.UsageRecorded() as used:
                self._used(used, recorded)
            case events.SessionHalted() as halted:
                self.halts[halted.halt_id] = HaltTarget(HaltScope.SESSION, self.session_id).key
            case events.HaltOrdered() as ordered:
                self.halts[ordered.halt_id] = ordered.target
            case _:  # what people were asked and answered, and what moves the session alone
                pass
        self._move(event, recorded)
        try:
            if event is not None:
                self._requests.hear(recorded, event)
        except LookupError as error:
            raise Disagreement(str(error)) from None

    def _call_decided(self, decided: events.CallDecided, recorded: events.Recorded) -> None:
        self.policies.add(decided.policy)
        self.judged.add(decided.policy)
        if decided.admitted:
            held = Held(decided.reserved, decided.windows) if decided.reserved else None
            self.intents[decided.call_id] = {
                "tool": decided.tool,
                "admitted_at": recorded.at,
                "reserved": None if held is None else held.text(),
                "leases": text_of(decided.leases),
                "recovery": decided.recovery.value,
                "doubted_at": None,
                "stuck_at": None,
            }
            self._held[decided.call_id] = decided
            if decided.idempotency is not None:
                key, payload = decided.idempotency.key, decided.idempotency.payload
                self.keys[key] = Kept(
                    key, payload, decided.digest, self.session_id, decided.call_id
                )

    def _call_finished(self, finished: events.CallFinished, recorded: events.Recorded) -> None:
        decided = self._held.pop(finished.call_id, None)
        self.intents.pop(finished.call_id, None)
        self._call_used(finished, decided, recorded)
        if decided is not None:
            self._key_ended(finished, decided)

    def _key_ended(self, finished: events.CallFinished, decided: events.CallDecided) -> None:
        if decided.idempotency is None:
            return
        key = decided.idempotency.key
        if finished.outcome is events.Outcome.RAISED:
            self.keys.pop(key, None)
        else:
            self.keys[key] = msgspec.structs.replace(self.keys[key], outcome=finished.outcome.value)
            self.results[key] = finished.kept

    def _recovered(
        self,
        event: events.CallDoubted | events.CallRecovered | events.CallStuck,
        recorded: events.Recorded,
    ) -> None:
        intent = self.intents.get(event.call_id)
        if intent is None:
            raise Disagreement(
                f"event {recorded.seq} of session {self.session_id} is about a call that was not running"
            )
        match event:
            case events.CallDoubted():
                intent |= {"doubted_at": recorded.at, "leases": None}
            case events.CallStuck():
                intent |= {"stuck_at": recorded.at}
            case events.CallRecovered():
                del self.intents[event.call_id]
                decided = self._held.pop(event.call_id)
                if decided.idempotency is not None:
                    self._key_recovered(decided.idempotency.key, happened=event.happened is True)

    def _key_recovered(self, key: str, *, happened: bool) -> None:
        if happened:
            outcome = events.Outcome.RETURNED.value
            self.keys[key] = msgspec.structs.replace(self.keys[key], outcome=outcome)
        else:
            del self.keys[key]

    def _move(self, event: events.Event | None, recorded: events.Recorded) -> None:
        match event:
            case events.SessionOpened() | events.SessionResumed():
                self.session = {"owned_at": recorded.at, "stuck_at": None}
            case events.SessionPaused() | events.SessionClosed():
                self.session = {"owned_at": None, "stuck_at": None}
            case events.SessionStuck():
                self.session["stuck_at"] = recorded.at
            case _:
                pass

    def _call_used(
        self,
        finished: events.CallFinished,
        decided: events.CallDecided | None,
        recorded: events.Recorded,
    ) -> None:
        if finished.usage_id is None or finished.usage is None or decided is None:
            return
        # The event's cost may be what was declared; the ledger has only what the usage is known to cost.
        known = finished.priced_by is not None
        priced = Priced(
            of=ModelUsage(
                model=decided.model or decided.tool,
                provider=finished.provider,
                usage=finished.usage,
            ),
            cost_usd=finished.cost_usd if known else None,
            by=finished.priced_by,
        )
        charged = finished.charged
        self._told_usage(
            finished.usage_id,
            recorded,
            priced,
            identity=None if self._opened is None else identity_of(self._opened),
            call_id=finished.call_id,
            charged=Held(charged, decided.windows) if charged and decided.windows else None,
        )

    def _used(self, used: events.UsageRecorded, recorded: events.Recorded) -> None:
        priced = Priced(
            of=ModelUsage(model=used.model, provider=used.provider, usage=used.usage),
            cost_usd=used.cost_usd,
            by=used.priced_by,
        )
        charged = Held(used.charged, used.windows) if used.charged and used.windows else None
        self._told_usage(
            used.usage_id,
            recorded,
            priced,
            identity=used.identity,
            call_id=None,
            charged=charged,
        )

    def _told_usage(
        self,
        usage_id: str,
        recorded: events.Recorded,
        priced: Priced,
        *,
        identity: Identity | None,
        call_id: str | None,
        charged: Held | None,
    ) -> None:
        self.usage[usage_id] = usage.row(
            usage_id,
            recorded.at,
            priced,
            identity,
            session_id=self.session_id,
            call_id=call_id,
            charged=charged,
        )


def identity_of(opened: events.SessionOpened) -> Identity:
    """Return on whose behalf a session was opened."""
    return Identity(agent=opened.agent, user=opened.user, team=opened.team, org=opened.org)
