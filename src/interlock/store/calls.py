"""Operations on calls: admit one, ask about one, settle one. The two transactions of a governed call."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, bindparam, delete, insert, select

from interlock import _canonical, events
from interlock._call import Call
from interlock._decide import decide
from interlock._flow import Admission, Ending
from interlock._ticket import Ticket
from interlock._verdict import Opinion, Verdict
from interlock.errors import Conflict
from interlock.store import tables, tickets
from interlock.store.events import Head, append, lock
from interlock.store.time import now

_OPEN = insert(tables.intents)
_CLOSE = delete(tables.intents).where(tables.intents.c.call_id == bindparam("call"))


def admit(
    connection: Connection,
    call: Call,
    opinions: tuple[Opinion, ...],
    *,
    policy: str,
    trace: events.TraceIds | None,
) -> Admission:
    """
    Decide *call* and write the decision; when it admits, this is the intent, durable before the side effect.

    An ASK claims the approved ticket for this very call, or finds the open one, or opens one.

    Args:
        connection: A transaction on the store; the session's row stays locked until it ends.
        call: What is attempted.
        opinions: What policy, evaluators and plugins think of it.
        policy: The digest of the policy they were formed under.
        trace: The span that shows the decision.

    Raises:
        Conflict: there is no such session.
    """
    head, at = lock(connection, call.session_id), now(connection)
    asked = any(opinion.verdict is Verdict.ASK for opinion in opinions)
    ticket = tickets.standing(connection, call, at=at) if asked else None
    return _admit(
        connection, head, call, opinions, policy=policy, trace=trace, ticket=ticket, at=at
    )


def ask(
    connection: Connection,
    call: Call,
    opinions: tuple[Opinion, ...],
    *,
    policy: str,
    trace: events.TraceIds | None,
) -> Admission | Ticket:
    """
    Return the ticket that stands for *call*, using nothing up; where there is none, decide as `admit` does.

    Raises:
        Conflict: there is no such session.
    """
    head, at = lock(connection, call.session_id), now(connection)
    ticket = tickets.standing(connection, call, at=at)
    return ticket or _admit(
        connection, head, call, opinions, policy=policy, trace=trace, ticket=None, at=at
    )


def settle(
    connection: Connection,
    call: Call,
    ending: Ending,
    *,
    duration_us: int,
    trace: events.TraceIds | None,
) -> events.Recorded | None:
    """
    Write how an admitted call ended, at most once; return None, writing nothing, when no intent stands.

    Args:
        connection: A transaction on the store.
        call: The call.
        ending: How it ended.
        duration_us: How long the tool ran, in microseconds.
        trace: The span that shows the decision.
    """
    closed = connection.execute(_CLOSE, {"call": call.id})
    if closed.rowcount != 1:
        return None
    finished = events.CallFinished(
        call_id=call.id,
        tool=call.tool.name,
        outcome=ending.outcome,
        duration_us=duration_us,
        cost_usd=call.cost if ending.outcome is events.Outcome.RETURNED else None,
        error_type=None if ending.error is None else type(ending.error).__qualname__,
        result_digest=_result_digest(ending),
    )
    head = lock(connection, call.session_id)
    return append(connection, head, [finished], at=now(connection), trace=trace)[0]


def in_doubt(
    connection: Connection, *, session_id: str | None = None, limit: int = 1_000
) -> list[tuple[str, str, str]]:
    """Return up to *limit* (call id, session id, tool) of calls admitted and not finished, oldest first."""
    query = select(
        tables.intents.c.call_id, tables.intents.c.session_id, tables.intents.c.tool
    ).order_by(tables.intents.c.call_id)
    if session_id is not None:
        query = query.where(tables.intents.c.session_id == session_id)
    return [
        (row.call_id, row.session_id, row.tool) for row in connection.execute(query.limit(limit))
    ]


def _admit(
    connection: Connection,
    head: Head,
    call: Call,
    opinions: tuple[Opinion, ...],
    *,
    policy: str,
    trace: events.TraceIds | None,
    ticket: Ticket | None,
    at: datetime,
) -> Admission:
    decision = decide(call, opinions, status=head.status, ticket=ticket, now=at)
    claims = decision.approved_by is not None and ticket is not None
    if claims and ticket is not None and not tickets.claim(connection, ticket, at=at):
        raise Conflict(f"ticket {ticket.id} was claimed elsewhere")
    new: list[events.Event] = []
    asks = decision.verdict is Verdict.ASK
    if asks and ticket is None:
        ticket = tickets.open_ticket(connection, call, decision, at=at)
        new.append(
            events.TicketOpened(
                ticket_id=ticket.id,
                call_id=call.id,
                tool=ticket.tool,
                digest=ticket.digest,
                approvers=ticket.approvers,
                expires_at=ticket.expires_at,
            )
        )
    ticket = ticket if asks else None
    decided = events.CallDecided(
        call_id=call.id,
        tool=call.tool.name,
        tool_kind=call.tool.kind,
        risk=call.tool.risk,
        arguments=call.recorded,
        digest=call.digest,
        resource=call.resource,
        cost_usd=call.cost,
        verdict=decision.verdict,
        admitted=decision.admits,
        reason=decision.reason,
        opinions=decision.opinions,
        policy=policy,
        ticket_id=ticket.id if ticket else None,
        approved_by=decision.approved_by,
    )
    recorded = append(connection, head, [decided, *new], at=at, trace=trace)
    if decision.admits:
        intent = {"call_id": call.id, "session_id": call.session_id, "tool": call.tool.name}
        connection.execute(_OPEN, {**intent, "admitted_at": at})
    return Admission(
        decision=decision,
        recorded=recorded[0],
        ticket=ticket,
        opened=recorded[1] if new else None,
    )


def _result_digest(ending: Ending) -> str | None:
    if ending.outcome is not events.Outcome.RETURNED:
        return None
    try:
        return _canonical.digest(_canonical.canonical(ending.result))
    except Exception:  # noqa: BLE001 - a result that has no canonical form has no digest, and is none of our business
        return None
