"""Operations on calls: admit, ask, settle. The two transactions of a governed call, for many calls at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, select

from interlock import _canonical, events
from interlock._budget import Account, Amounts, Budget, need_of
from interlock._call import Call
from interlock._clock import new_id
from interlock._decide import orders
from interlock._halt import Order, exceeding, ordered
from interlock._lease import Slot
from interlock._replies import Admission, Outdated, Settlement
from interlock._state import SessionStatus
from interlock._ticket import Ticket, TicketState
from interlock._usage import Priced
from interlock.errors import Conflict
from interlock.store import grants, tickets, usage
from interlock.store.budgets import Held
from interlock.store.entries import Admit, Ask, Entry, Settle
from interlock.store.events import Chain, unknown
from interlock.store.judging import Judged, holding, judge_on, standing
from interlock.store.page import Page
from interlock.store.statements import plain, tables_of


def post(connection: Connection, entries: Sequence[Entry]) -> list[Any]:
    """
    Enter *entries* in the books, in order, and return what came of each.

    All that is needed is locked and read at once, in a fixed order (sessions, leases, budgets); each entry is
    decided by pure functions of that state and of what those before it changed; then all is written at once. So a
    batch of calls costs about as many statements as one.

    Args:
        connection: A transaction on the store; what was locked stays locked until it ends.
        entries: What is entered.

    Returns:
        For each entry an `Admission`, a `Ticket`, a `Settlement`, or None, as its class says; or the `Conflict` that
        is to be raised for it, with nothing written.
    """
    page = Page(connection, entries)
    results = [_enter(page, entry) for entry in entries]
    page.write()
    return results


def in_doubt(
    connection: Connection, *, session_id: str | None = None, limit: int = 1_000
) -> list[tuple[str, str, str]]:
    """Return up to *limit* (call id, session id, tool) of calls admitted and not finished, oldest first."""
    table = tables_of(connection).intents
    query = select(table.c.call_id, table.c.session_id, table.c.tool).order_by(table.c.call_id)
    if session_id is not None:
        query = query.where(table.c.session_id == session_id)
    return [
        (row.call_id, row.session_id, row.tool) for row in connection.execute(query.limit(limit))
    ]


def _enter(page: Page, entry: Entry) -> Any:
    chain = page.chains[entry.call.session_id]
    if chain is None:
        if page.is_open(entry.call):  # its intent is to stay, so the transaction must not
            raise unknown(entry.call.session_id)
        return unknown(entry.call.session_id)
    match entry:
        case Settle():
            return _settle(page, chain, entry)
        case Ask():
            return standing(page, chain, entry) or _asked(page, chain, entry)
        case Admit():
            try:
                used = _used(page, entry)
            except Outdated as late:
                return late
            return _admit(page, chain, entry, judge_on(page, chain, entry, used), used)


def _asked(page: Page, chain: Chain, entry: Ask) -> Admission | Conflict | None:
    found = judge_on(page, chain, entry)
    needs_human = found.asks and found.grant is None and found.first is None
    return _admit(page, chain, entry, found) if needs_human else None


def _used(page: Page, entry: Admit) -> tuple[Ticket, ...]:
    """Return the tickets that a call uses up if it is admitted, whether or not a human must still be asked."""
    edit = entry.call.edit
    if edit is None and entry.resumes is None:  # nearly always
        return ()
    ids = (entry.resumes,) if edit is None else edit.tickets
    found = tuple(tickets.get(plain(page.connection), one) for one in ids if one)
    for ticket in found:
        is_good = ticket.state is TicketState.APPROVED and page.at < ticket.expires_at
        if not is_good or ticket.policy != entry.policy:
            raise Outdated(f"ticket {ticket.id} is {ticket.state}, and cannot be used any more")
    return found


def _admit(
    page: Page, chain: Chain, entry: Admit, judged: Judged, used: tuple[Ticket, ...] = ()
) -> Admission | Conflict:
    call, decision, ticket = entry.call, judged.decision, judged.ticket
    answered = (ticket,) if ticket is not None and decision.approved_by is not None else ()
    claimed = {one.id: one for one in (*answered, *used)} if judged.admits else {}
    for one in claimed.values():
        if not tickets.claim(page.connection, one, at=page.at):
            raise Conflict(f"ticket {one.id} was claimed elsewhere")
    if judged.grant is not None and not judged.repeats:
        grants.use(plain(page.connection), judged.grant, call)
    is_new = judged.asks and ticket is None and judged.grant is None
    if is_new:
        ticket = tickets.open_ticket(
            page.connection,
            call,
            decision,
            policy=entry.policy,
            at=page.at,
            hold=lambda ticket: page.slots.hold(judged.leases, call, ticket, at=page.at),
        )
    slots: tuple[Slot, ...] = ()
    holder = holding(judged, used)
    if judged.admits and (judged.leases or (holder is not None and holder.leases)):
        slots = page.slots.take(judged.leases, call, ticket=holder, at=page.at)
    shown = ticket if judged.asks else None
    need, admits = need_of(call), judged.admits
    reserved = need.amounts if admits and judged.has_room(need) else None
    windows = tuple(account.key for _, account in judged.accounts)
    decided = events.CallDecided(
        call_id=call.id,
        tool=call.tool.name,
        tool_kind=call.tool.kind,
        risk=judged.risk,
        arguments=call.recorded,
        digest=call.digest,
        resource=call.resource if call.recorded_resource is None else call.recorded_resource,
        cost_usd=call.cost,
        verdict=decision.verdict,
        admitted=admits,
        reason=decision.reason,
        opinions=decision.opinions,
        policy=entry.policy,
        ticket_id=shown.id if shown else None,
        approved_by=decision.approved_by,
        grant_id=judged.grant.id if judged.grant and not judged.repeats else None,
        model=call.model,
        windows=windows,
        reserved=reserved,
        mode=decision.mode,
        points=entry.counsel.points,
        leases=slots,
        tokens=call.tokens,
        taken=tuple(map(page.accounts.taken, windows)) if windows else (),
        labels=call.tool.labels,
        capabilities=call.tool.capabilities,
        unraised=entry.counsel.unraised,
        answers=entry.counsel.answers,
        edited_by=None if call.edit is None else call.edit.by,
        schema=call.tool.schema,
        uses=tuple(one.id for one in used),
        resumed=chain.status is SessionStatus.PAUSED and entry.while_paused,
        recovery=call.tool.recovery,
        idempotency=call.idempotency,
        repeats=judged.first.call_id if judged.repeats and judged.first else None,
        capture=call.capture,
        keyed=call.keyed,
    )
    recorded = chain.append(decided, at=page.at, trace=entry.trace)
    page.memories.remember(chain, decided)
    opened: events.Recorded | None = None
    if is_new and shown is not None:
        opened = chain.append(_ticket_opened(shown), at=page.at, trace=entry.trace)
    if admits:
        page.open(entry, windows, reserved, slots)
    return Admission(
        decision=decision,
        recorded=recorded,
        ticket=shown,
        opened=opened,
        budgets=_stood(page, judged),
        halts=() if admits else page.halts.covering(call),
        slots=slots,
        taken=judged.taken,
        orders=() if admits or judged.repeats else _orders(page, chain, entry, judged),
        first=judged.first,
        repeats=judged.repeats,
    )


def _orders(page: Page, chain: Chain, entry: Admit, judged: Judged) -> tuple[Order, ...]:
    """Return what is to be halted now that the call was refused, unless it is stopped already."""
    if chain.status is not SessionStatus.OPEN or page.halts.covering(entry.call):
        return ()
    return orders(entry.call, entry.counsel, page.memories.of(chain), judged.accounts)


def _stood(page: Page, judged: Judged) -> tuple[Account, ...]:
    """Return how budgets stood, in full where a refusal shows them."""
    accounts = tuple(account for _, account in judged.accounts)
    return accounts if judged.decision.admits or judged.repeats else page.accounts.shown(accounts)


def _settle(page: Page, chain: Chain, entry: Settle) -> Settlement | None:
    call, ending, used = entry.call, entry.ending, entry.used
    if not page.is_open(call):
        return None
    held, slots = page.let_go(call)
    charged: Amounts | None = None
    if held is not None:
        charged = entry.charge(held.amounts)
        page.accounts.charge(held.windows, held.amounts, charged)
    cost = call.cost if ending.outcome is events.Outcome.RETURNED else None
    usage_id: str | None = None
    if used is not None:
        usage_id = _use(page, call, used, charged, held)
        cost = cost if used.cost_usd is None else used.cost_usd
    finished = events.CallFinished(
        call_id=call.id,
        tool=call.tool.name,
        outcome=ending.outcome,
        duration_us=entry.duration_us,
        cost_usd=cost,
        error_type=None if ending.error is None else type(ending.error).__qualname__,
        result_digest=entry.result_digest,
        result=entry.result,
        charged=charged,
        usage=None if used is None else used.of.usage,
        usage_id=usage_id,
        provider=None if used is None else used.of.provider,
        priced_by=None if used is None else used.by,
    )
    if entry.reviewed is not None:
        finished = msgspec.structs.replace(
            finished,
            reviews=entry.reviewed.opinions,
            withheld=entry.reviewed.withheld,
            redacted_by=entry.reviewed.redacted_by,
        )
    halt = next(iter(page.halts.covering(call)), None)
    if halt is not None:
        finished = msgspec.structs.replace(finished, halt_id=halt.id)
    if call.idempotency is not None:
        result = entry.kept if halt is None else None
        page.keys.end(call, ending.outcome, result)
        if result is not None:
            kept = _canonical.digest(result.encode())
            finished = msgspec.structs.replace(finished, kept=kept)
    lost = page.slots.release(slots, at=page.at)
    if lost:
        finished = msgspec.structs.replace(finished, leases_lost=lost)
    recorded = chain.append(finished, at=page.at, trace=entry.trace)
    overspent = _overspent(page, entry, held)
    return Settlement(
        recorded=recorded,
        overspent=tuple(account for budget, account in overspent if budget.raises),
        halt=halt,
        orders=_overrun(entry, overspent, held, charged) if overspent and halt is None else (),
        leases_lost=lost,
    )


def _use(page: Page, call: Call, used: Priced, charged: Amounts | None, held: Held | None) -> str:
    usage_id = new_id()
    page.usage.append(
        usage.row(
            usage_id,
            page.at,
            used,
            call.identity,
            session_id=call.session_id,
            call_id=call.id,
            charged=None if charged is None or held is None else Held(charged, held.windows),
        )
    )
    return usage_id


def _overspent(page: Page, entry: Settle, held: Held | None) -> list[tuple[Budget, Account]]:
    """Return the budgets that want something to be done about it and are overspent."""
    watching = {
        claim.budget.name: claim.budget
        for claim in entry.claims
        if claim.budget.raises or claim.budget.halt is not None
    }
    if held is None or not watching:
        return []
    found = (
        (budget, page.accounts.under(budget, key))
        for key in held.windows
        if (budget := watching.get(key.budget)) is not None
    )
    return [(budget, account) for budget, account in found if account.is_overspent]


def _overrun(
    entry: Settle,
    overspent: Iterable[tuple[Budget, Account]],
    held: Held | None,
    charged: Amounts | None,
) -> tuple[Order, ...]:
    """Return what is to be halted because of a call that took more than it had reserved."""
    if held is None or charged is None:
        return ()
    more = charged - held.amounts
    wanted = [
        (budget.halt, *exceeding(budget))
        for budget, account in overspent
        if budget.halt is not None and account.is_overspent_by(more)
    ]
    call = entry.call
    return ordered(wanted, call.identity, session_id=call.session_id, tool=call.tool.name)


def _ticket_opened(ticket: Ticket) -> events.TicketOpened:
    return events.TicketOpened(
        ticket_id=ticket.id,
        call_id=ticket.call_id,
        tool=ticket.tool,
        digest=ticket.digest,
        approvers=ticket.approvers,
        quorum=ticket.quorum,
        expires_at=ticket.expires_at,
        leases=ticket.leases,
    )
