"""Requests: the tickets and grants of a session, as its events add up to them."""

from __future__ import annotations

from typing import Any

import msgspec

from interlock import events
from interlock._grant import Standing, cost_of
from interlock._ticket import Approval, Ticket, TicketState, names_of
from interlock._verdict import combine


class Requests:
    """
    What was asked of people in a session, and what they answered.

    Attributes:
        session_id: The session.
        tickets, grants: By id, in the order in which they were opened and given.
    """

    def __init__(self, session_id: str) -> None:
        """Begin before the first event."""
        self.session_id = session_id
        self.tickets: dict[str, Ticket] = {}
        self.grants: dict[str, Standing] = {}
        self._opened: events.SessionOpened | None = None
        self._decided: events.CallDecided | None = None

    def hear(self, recorded: events.Recorded, event: events.Event) -> None:
        """
        Take the next event of the session, which is *recorded* and says *event*.

        Raises:
            LookupError: it opens a ticket for a call that was not decided just before.
        """
        match event:
            case events.SessionOpened():
                self._opened = event
            case events.CallDecided():
                self._decided = event
                if event.admitted:
                    for ticket_id in (event.ticket_id, *event.uses):
                        self._change(ticket_id, state=TicketState.CLAIMED)
                    self._used(event)
            case events.TicketOpened():
                self._ticket_opened(event, recorded)
            case events.TicketApproved():
                self._approved(event, recorded)
            case events.TicketResolved():
                self._resolved(event, recorded)
            case events.GrantGiven():
                told = msgspec.structs.asdict(event)
                grant_id = told.pop("grant_id")
                self.grants[grant_id] = Standing(id=grant_id, session_id=self.session_id, **told)
            case _:  # nobody is asked anything
                pass

    def _ticket_opened(self, opened: events.TicketOpened, recorded: events.Recorded) -> None:
        session, decided = self._opened, self._decided
        if session is None or decided is None or decided.call_id != opened.call_id:
            raise LookupError(
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
        if before is not None and before.edited != answer.arguments:
            # Whoever said yes before, said it to other arguments.
            by = None if answer.arguments is None else answer.by
            self._change(answer.ticket_id, edited=answer.arguments, edited_by=by, approvals=())
            before = None
        approvals = (*(before.approvals if before else ()), approval)
        self._change(answer.ticket_id, approvals=approvals)
        return names_of(approvals)

    def _resolved(self, answer: events.TicketResolved, recorded: events.Recorded) -> None:
        told: dict[str, object] = {}
        if answer.state in {TicketState.APPROVED, TicketState.DENIED}:
            by = answer.by
            if answer.state is TicketState.APPROVED:
                by = self._approved(answer, recorded)
            told = {"decided_by": by, "decided_at": recorded.at, "comment": answer.comment}
        self._change(answer.ticket_id, state=answer.state, **told)

    def _used(self, decided: events.CallDecided) -> None:
        grant = self.grants.get(decided.grant_id or "")
        if grant is not None:
            self.grants[grant.id] = msgspec.structs.replace(
                grant,
                calls_used=grant.calls_used + 1,
                cost_used=grant.cost_used + cost_of(decided.cost_usd),
            )

    def _change(self, ticket_id: str | None, **fields: Any) -> None:
        if ticket_id in self.tickets:
            ticket = self.tickets[ticket_id]
            self.tickets[ticket_id] = msgspec.structs.replace(ticket, **fields)
