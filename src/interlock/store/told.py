"""Told: the rows that the events of a session add up to."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from interlock import events
from interlock._call import Identity
from interlock._grant import Standing, cost_of
from interlock._halt import HaltTarget
from interlock._halt_scope import HaltScope
from interlock._ticket import Approval, Ticket, TicketState
from interlock._usage import ModelUsage, Priced
from interlock._verdict import combine
from interlock.store import tickets, usage
from interlock.store.budgets import Held
from interlock.store.slots import text_of


class Disagreement(Exception):
    """What is stored is not what the events say; the message names the row."""


class Told:
    """
    The rows that the events of a session add up to.

    Attributes:
        session_id: The session.
        intents: Of each open call: its tool, when it was admitted, and what it holds of budgets and leases, as stored.
        tickets, grants: By id.
        policies: The digests of those that it names.
        judged: The digests of those that decided something.
        usage: The rows of the ledger, by id.
        halts: Of each halt that it was told of, by id, what is halted.
    """

    def __init__(self, session_id: str) -> None:
        """Begin before the first event."""
        self.session_id = session_id
        self.intents: dict[str, tuple[str, datetime, str | None, str | None]] = {}
        self.tickets: dict[str, Ticket] = {}
        self.grants: dict[str, Standing] = {}
        self.policies: set[str] = set()
        self.judged: set[str] = set()
        self.usage: dict[str, dict[str, object]] = {}
        self.halts: dict[str, str] = {}
        self._opened: events.SessionOpened | None = None
        self._decided: events.CallDecided | None = None
        self._held: dict[str, events.CallDecided] = {}

    def hear(self, recorded: events.Recorded) -> None:
        """Take the next event of the session."""
        match recorded.event:
            case events.SessionOpened() as opened:
                self._opened = opened
                self.policies |= {opened.policy} if opened.policy else set()
            case events.CallDecided() as decided:
                self._call_decided(decided, recorded)
            case events.CallFinished() as finished:
                decided_before = self._held.pop(finished.call_id, None)
                self.intents.pop(finished.call_id, None)
                self._call_used(finished, decided_before, recorded)
            case events.UsageRecorded() as used:
                self._used(used, recorded)
            case event:
                self._hear_of_answers(event, recorded)

    def _hear_of_answers(self, event: events.Event, recorded: events.Recorded) -> None:
        match event:
            case events.TicketOpened() as opened:
                self._ticket_opened(opened, recorded)
            case events.TicketApproved() as answer:
                self._approved(answer, recorded)
            case events.TicketResolved() as answer:
                self._resolved(answer, recorded)
            case events.GrantGiven() as given:
                self._given(given)
            case events.SessionHalted() as halted:
                self.halts[halted.halt_id] = HaltTarget(HaltScope.SESSION, self.session_id).key
            case events.HaltOrdered() as ordered:
                self.halts[ordered.halt_id] = ordered.target
            case _:  # what moves the session alone
                pass

    def _call_decided(self, decided: events.CallDecided, recorded: events.Recorded) -> None:
        self._decided = decided
        self.policies.add(decided.policy)
        self.judged.add(decided.policy)
        if decided.admitted:
            held = Held(decided.reserved, decided.windows) if decided.reserved else None
            text = None if held is None else held.text()
            leases = text_of(decided.leases)
            self.intents[decided.call_id] = (decided.tool, recorded.at, text, leases)
            self._held[decided.call_id] = decided
            self._change(decided.ticket_id, state=TicketState.CLAIMED)
            self._used_grant(decided)

    def _ticket_opened(self, opened: events.TicketOpened, recorded: events.Recorded) -> None:
        session, decided = self._opened, self._decided
        if session is None or decided is None or decided.call_id != opened.call_id:
            raise Disagreement(
                f"event {recorded.seq} of session {self.session_id} opens a ticket for a call that was not decided"
            )
        self.tickets[opened.ticket_id] = Ticket(
            id=opened.ticket_id,
            session_id=self.session_id,
            call_id=opened.call_id,
            tool=opened.tool,
            digest=opened.digest,
            policy=decided.policy,
            arguments=decided.arguments,
            resource=decided.resource,
            reason=decided.reason,
            asked=combine(decided.opinions).authors,
            approvers=opened.approvers,
            quorum=opened.quorum,
            requested_by=tuple(name for name in (session.agent, session.user) if name),
            state=TicketState.PENDING,
            opened_at=recorded.at,
            expires_at=opened.expires_at,
            leases=opened.leases,
        )

    def _approved(
        self, answer: events.TicketApproved | events.TicketResolved, recorded: events.Recorded
    ) -> str:
        """Count a yes; return who has said yes."""
        before = self.tickets.get(answer.ticket_id)
        approval = Approval(answer.by, recorded.at, answer.comment)
        approvals = (*(before.approvals if before else ()), approval)
        self._change(answer.ticket_id, approvals=approvals)
        return tickets.names_of(approvals)

    def _resolved(self, answer: events.TicketResolved, recorded: events.Recorded) -> None:
        told: dict[str, object] = {}
        if answer.state in {TicketState.APPROVED, TicketState.DENIED}:
            by = answer.by
            if answer.state is TicketState.APPROVED:
                by = self._approved(answer, recorded)
            told = {"decided_by": by, "decided_at": recorded.at, "comment": answer.comment}
        self._change(answer.ticket_id, state=answer.state, **told)

    def _given(self, given: events.GrantGiven) -> None:
        told = msgspec.structs.asdict(given)
        grant_id = told.pop("grant_id")
        self.grants[grant_id] = Standing(id=grant_id, session_id=self.session_id, **told)

    def _used_grant(self, decided: events.CallDecided) -> None:
        grant = self.grants.get(decided.grant_id or "")
        if grant is not None:
            self.grants[grant.id] = msgspec.structs.replace(
                grant,
                calls_used=grant.calls_used + 1,
                cost_used=grant.cost_used + cost_of(decided.cost_usd),
            )

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

    def _change(self, ticket_id: str | None, **fields: Any) -> None:
        if ticket_id in self.tickets:
            ticket = self.tickets[ticket_id]
            self.tickets[ticket_id] = msgspec.structs.replace(ticket, **fields)


def identity_of(opened: events.SessionOpened) -> Identity:
    """Return on whose behalf a session was opened."""
    return Identity(agent=opened.agent, user=opened.user, team=opened.team, org=opened.org)
