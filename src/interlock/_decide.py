"""decide(): a pure function of a session's status, the call, the opinions, the budgets and the ticket for that call."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

import msgspec

from interlock._budget import Account, Claim, need_of, objection
from interlock._call import Call
from interlock._state import SessionStatus
from interlock._ticket import Ticket, TicketState
from interlock._verdict import Decision, Opinion, Verdict, combine


def decide(
    call: Call,
    opinions: Iterable[Opinion],
    *,
    status: SessionStatus,
    accounts: Sequence[tuple[Claim, Account]] = (),
    ticket: Ticket | None,
    now: datetime,
) -> Decision:
    """
    Return what happens to *call*.

    Args:
        call: What is attempted; each of its faults is a DENY.
        opinions: What policy, evaluators and plugins think of it.
        status: The session's, read in the transaction that will record the decision.
        accounts: The budgets that count the call, and how they stand, read likewise.
        ticket: The newest ticket with this call's digest in this session, read likewise.
        now: The store's time.

    An approved ticket answers an ASK and nothing stricter. A human's no is a DENY.
    """
    heard = [*opinions, *(_deny(fault) for fault in call.faults)]
    if status is not SessionStatus.OPEN:
        heard.append(_deny(f"the session is {status}", author="session"))
    if accounts:
        need = need_of(call)
        objections = (objection(call, claim, account, need) for claim, account in accounts)
        heard += [opinion for opinion in objections if opinion is not None]
    decision = combine(heard)
    if decision.verdict is not Verdict.ASK or ticket is None or ticket.digest != call.digest:
        return decision
    if ticket.state is TicketState.DENIED:
        said = f": {ticket.comment}" if ticket.comment else ""
        return combine([*heard, _deny(f"{ticket.decided_by} said no{said}", author="approver")])
    if ticket.state is TicketState.APPROVED and now < ticket.expires_at:
        return msgspec.structs.replace(decision, approved_by=ticket.decided_by)
    return decision


def _deny(reason: str, author: str = "interlock") -> Opinion:
    return Opinion(verdict=Verdict.DENY, reason=reason, author=author)
