"""Operations on calls: admit, ask, settle. The two transactions of a governed call, for many calls at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import msgspec
from sqlalchemy import Connection, bindparam, delete, select

from interlock import _canonical, events
from interlock._budget import Account, Amounts, Budget, Claim, Need, WindowKey, need_of
from interlock._call import Call, Risk
from interlock._clock import new_id
from interlock._decide import asks, decide, judge, orders, taken
from interlock._flow import Admission, First, Outdated, Settlement
from interlock._grant import Standing
from interlock._halt import Order, exceeding, ordered
from interlock._lease import LeaseClaim, Occupancy, Slot
from interlock._state import SessionStatus
from interlock._ticket import Ticket, TicketState
from interlock._usage import Priced
from interlock._verdict import Decision, Mode
from interlock.errors import Conflict
from interlock.store import grants, halts, owners, tickets, usage
from interlock.store.accounts import Accounts
from interlock.store.budgets import Held
from interlock.store.entries import Admit, Ask, Entry, Settle, wanted
from interlock.store.events import Chain, ask_heads, chains, lost_at, unknown, write
from interlock.store.keys import Kept, Keys
from interlock.store.memories import Memories
from interlock.store.slots import Slots, slots_of, text_of
from interlock.store.statements import (
    Prepared,
    ask_time,
    binding,
    insertion,
    plain,
    read,
    tables_of,
    told,
)
from interlock.store.tables import Tables, to_microseconds

_OPEN = Prepared(lambda tables: insertion(tables.intents))

_OVER = frozenset({TicketState.CLAIMED, TicketState.EXPIRED, TicketState.CANCELLED})


def _is_this(tables: Tables) -> Any:
    table = tables.intents
    return (table.c.session_id == bindparam("session")) & (table.c.call_id == bindparam("call"))


_CLOSE = Prepared(
    lambda tables: (
        delete(tables.intents)
        .where(
            _is_this(tables),
            tables.intents.c.owner == bindparam("owner"),  # whoever went on as another has lost it
            tables.intents.c.doubted_at.is_(None),
        )
        .returning(tables.intents.c.reserved, tables.intents.c.leases)
    )
)


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
    page = _Page(connection, entries)
    results = [page.enter(entry) for entry in entries]
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


class _Judged(msgspec.Struct, frozen=True):
    """
    A decision, and what it was made with.

    Attributes:
        decision: What happens to the call.
        ticket: The one that answers for it, where a human must be asked.
        grant: The one that stands for that human, where no ticket is claimed.
        risk: How risky the call is, all told.
        accounts: The budgets that count it, and how they stand.
        leases: Those of which it takes a slot, or of which its ticket does.
        taken: Those of which it needs one and none is left.
        first: The call that was made before with its idempotency key, where it counts.
        repeats: Whether it is given what that one gave, instead of being run.
    """

    decision: Decision
    ticket: Ticket | None
    risk: Risk
    accounts: list[tuple[Claim, Account]]
    grant: Standing | None = None
    leases: tuple[LeaseClaim, ...] = ()
    taken: tuple[Occupancy, ...] = ()
    first: First | None = None
    repeats: bool = False

    @property
    def admits(self) -> bool:
        """Whether the call is let through, to run."""
        return self.decision.admits and not self.repeats

    @property
    def asks(self) -> bool:
        """Whether a human has to say yes, or has."""
        return asks(self.decision) and not self.repeats

    def has_room(self, need: Need) -> bool:
        """Whether *need* can be booked, and anywhere: it might not be where budgets are only observed."""
        full = any(account.is_full for _, account in self.accounts)
        return bool(self.accounts) and need.is_bookable and not full


class _Page:
    """One page of the books: the state that a batch of entries needs, and what they change of it."""

    def __init__(self, connection: Connection, entries: Sequence[Entry]) -> None:
        self._connection = connection
        bound = binding(connection)
        self._owner = bound.owner
        self._me = bound.me
        sessions = {entry.call.session_id for entry in entries}
        settled = [entry.call for entry in entries if isinstance(entry, Settle)]
        halts.share(connection)
        heads, closed, time, stopping = read(
            connection,
            ask_heads(sessions, self._me),
            (_CLOSE, [{**_key(call), "owner": self._me} for call in settled]),
            ask_time(connection),
            halts.ask_first(),
        )
        self._halts = halts.Standing(connection, stopping[0], (entry.call for entry in entries))
        self._chains = chains(sessions, heads)
        self._take_name(lost_at(heads))
        self._keys = Keys(connection)
        self._keys.lock(
            entry.call.idempotency.key
            for entry in entries
            if entry.call.idempotency is not None and not isinstance(entry, Settle)
        )
        self._at = told(connection, time)
        self._holding: dict[str, Held | None] = {
            call.id: Held.read(rows[0][0]) if rows[0][0] else None
            for call, rows in zip(settled, closed, strict=True)
            if rows
        }
        self._slots_held = {
            call.id: slots_of(rows[0][1])
            for call, rows in zip(settled, closed, strict=True)
            if rows and rows[0][1]
        }
        self._slots = Slots(connection)
        at = self._slots.lock(
            (slot.key for held in self._slots_held.values() for slot in held),
            wanted=(
                claim.key
                for entry in entries
                if not isinstance(entry, Settle)
                for claim in entry.leases
            ),
        )
        self._at = at or self._at
        self._accounts = Accounts(connection)
        self._opened: dict[str, dict[str, object]] = {}
        self._usage: list[dict[str, object]] = []
        if wants := wanted(entries, self._holding, at=self._at):
            self._accounts.lock(wants, at=self._at)
        self._memories = Memories(connection, self._chains, entries)

    def enter(self, entry: Entry) -> Any:
        chain = self._chains[entry.call.session_id]
        if chain is None:
            if entry.call.id in self._holding:  # its intent is to stay, so the transaction must not
                raise unknown(entry.call.session_id)
            return unknown(entry.call.session_id)
        match entry:
            case Settle():
                return self._settle(chain, entry)
            case Ask():
                return self._standing(chain, entry) or self._asked(chain, entry)
            case Admit():
                try:
                    used = self._used(entry)
                except Outdated as late:
                    return late
                return self._admit(chain, entry, self._judge(chain, entry, used), used)

    def write(self) -> None:
        write(self._connection, self._chains.values())
        if self._opened and self._owner is not None and not self._has_row:
            owners.enter(self._connection, self._owner, at=self._at)
        _OPEN.run(self._connection, list(self._opened.values()))
        usage.write(self._connection, self._usage)
        self._accounts.write()
        self._slots.write()
        self._keys.write()

    def _take_name(self, lost: int | None) -> None:
        """Go on as another where this process was declared lost: what it opens must be that of somebody who lives."""
        self._has_row = lost == 0
        if lost and self._owner is not None:
            self._owner.renew(self._me)
            self._me = self._owner.id

    def _asked(self, chain: Chain, entry: Ask) -> Admission | Conflict | None:
        judged = self._judge(chain, entry)
        needs_human = judged.asks and judged.grant is None and judged.first is None
        return self._admit(chain, entry, judged) if needs_human else None

    def _used(self, entry: Admit) -> tuple[Ticket, ...]:
        """Return the tickets that a call uses up if it is admitted, whether or not a human must still be asked."""
        edit = entry.call.edit
        if edit is None and entry.resumes is None:  # nearly always
            return ()
        ids = (entry.resumes,) if edit is None else edit.tickets
        found = tuple(tickets.get(plain(self._connection), one) for one in ids if one)
        for ticket in found:
            is_good = ticket.state is TicketState.APPROVED and self._at < ticket.expires_at
            if not is_good or ticket.policy != entry.policy:
                raise Outdated(f"ticket {ticket.id} is {ticket.state}, and cannot be used any more")
        return found

    def _admit(
        self, chain: Chain, entry: Admit, judged: _Judged, used: tuple[Ticket, ...] = ()
    ) -> Admission | Conflict:
        call, decision, ticket = entry.call, judged.decision, judged.ticket
        answered = (ticket,) if ticket is not None and decision.approved_by is not None else ()
        claimed = {one.id: one for one in (*answered, *used)} if judged.admits else {}
        for one in claimed.values():
            if not tickets.claim(self._connection, one, at=self._at):
                raise Conflict(f"ticket {one.id} was claimed elsewhere")
        if judged.grant is not None and not judged.repeats:
            grants.use(plain(self._connection), judged.grant, call)
        is_new = judged.asks and ticket is None and judged.grant is None
        if is_new:
            ticket = tickets.open_ticket(
                self._connection,
                call,
                decision,
                policy=entry.policy,
                at=self._at,
                hold=lambda ticket: self._slots.hold(judged.leases, call, ticket, at=self._at),
            )
        slots: tuple[Slot, ...] = ()
        holding = _holding(judged, used)
        if judged.admits and (judged.leases or (holding is not None and holding.leases)):
            slots = self._slots.take(judged.leases, call, ticket=holding, at=self._at)
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
            taken=tuple(map(self._accounts.taken, windows)) if windows else (),
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
        recorded = chain.append(decided, at=self._at, trace=entry.trace)
        self._memories.remember(chain, decided)
        opened: events.Recorded | None = None
        if is_new and shown is not None:
            opened = chain.append(_ticket_opened(shown), at=self._at, trace=entry.trace)
        if admits:
            self._open(entry, windows, reserved, slots)
        return Admission(
            decision=decision,
            recorded=recorded,
            ticket=shown,
            opened=opened,
            budgets=self._stood(judged),
            halts=() if admits else self._halts.covering(call),
            slots=slots,
            taken=judged.taken,
            orders=() if admits or judged.repeats else self._orders(chain, entry, judged),
            first=judged.first,
            repeats=judged.repeats,
        )

    def _orders(self, chain: Chain, entry: Admit, judged: _Judged) -> tuple[Order, ...]:
        """Return what is to be halted now that the call was refused, unless it is stopped already."""
        if chain.status is not SessionStatus.OPEN or self._halts.covering(entry.call):
            return ()
        return orders(entry.call, entry.counsel, self._memories.of(chain), judged.accounts)

    def _stood(self, judged: _Judged) -> tuple[Account, ...]:
        """Return how budgets stood, in full where a refusal shows them."""
        accounts = tuple(account for _, account in judged.accounts)
        return (
            accounts if judged.decision.admits or judged.repeats else self._accounts.shown(accounts)
        )

    def _judge(self, chain: Chain, entry: Admit, used: tuple[Ticket, ...] = ()) -> _Judged:
        """Decide *entry*, and find the ticket that answers for it where a human must be asked."""
        call = entry.call
        accounts = [
            (claim, self._accounts.under(claim.budget, claim.window(self._at)[0]))
            for claim in entry.claims
        ]
        said = entry.counsel.recalled(call, self._memories.of(chain), self._at)
        edit = used[-1] if used and call.edit is not None else None
        decided = partial(
            decide,
            call,
            status=_status(chain, entry),
            accounts=accounts,
            now=self._at,
            mode=entry.counsel.mode,
            patience=said.patience,
            halts=self._halts.covering(call),
            edit=edit,
        )
        decision, ticket, grant = judge(
            lambda ticket: decided(said.opinions, ticket=ticket),
            standing=lambda: self._standing(chain, entry),
            granted=lambda decision: self._granted(entry, decision),
            edit=edit,
        )
        judged = _Judged(decision, ticket, said.risk, accounts, grant)
        kept = None if call.idempotency is None else self._kept(call, judged)
        if kept is not None:
            if kept.is_repeated_by(call, asks=not decision.admits):
                return msgspec.structs.replace(judged, first=kept.first, repeats=True)
            if (objection := kept.objection_to(call)) is not None:
                refused = decided([*said.opinions, objection], ticket=None)
                return _Judged(refused, None, said.risk, accounts, first=kept.first)
        needed = _needed(entry, judged, used)
        if not needed:  # nearly always
            return judged
        full = self._slots.full(needed, _holding(judged, used), self._at)
        if not full:
            return msgspec.structs.replace(judged, leases=needed)
        objections = (taken(lease, self._at) for lease in full)
        refused = decided([*said.opinions, *objections], ticket=None)
        return _Judged(refused, None, said.risk, accounts, taken=full)

    def _kept(self, call: Call, judged: _Judged) -> Kept | None:
        """Return who has the key of a call that is about to run, or to be asked about; None: nobody."""
        matters = judged.decision.admits or judged.asks
        return self._keys.of(call.idempotency.key) if matters and call.idempotency else None

    def _granted(self, entry: Admit, decision: Decision) -> Standing | None:
        """Return the grant that stands for the yes that *decision* wants; None where there is none."""
        return grants.covering(
            plain(self._connection), entry.call, decision, policy=entry.policy, at=self._at
        )

    def _standing(self, chain: Chain, entry: Admit) -> Ticket | None:
        """Return the ticket that answers for a call now; one that expired without a no answers for nothing any more."""
        connection = plain(self._connection)
        ticket = tickets.newest(connection, entry.call, policy=entry.policy)
        if ticket is None or ticket.state in _OVER:
            return None
        if ticket.state is TicketState.DENIED or self._at < ticket.expires_at:
            return ticket
        expired = tickets.end(connection, ticket, TicketState.EXPIRED, at=self._at)
        if expired is not None:
            chain.append(expired, at=self._at)
            self._slots.release(ticket.leases, at=self._at)
        return None

    def _open(
        self,
        entry: Admit,
        windows: tuple[WindowKey, ...],
        reserved: Amounts | None,
        slots: tuple[Slot, ...],
    ) -> None:
        call, held = entry.call, None
        self._keys.take(call)
        if reserved is not None:
            held = Held(reserved, windows)
            self._accounts.reserve(windows, reserved)
        self._holding[call.id] = held
        if slots:
            self._slots_held[call.id] = slots
        self._opened[call.id] = {
            "call_id": call.id,
            "session_id": call.session_id,
            "tool": call.tool.name,
            "admitted_at": to_microseconds(self._at),
            "reserved": None if held is None else held.text(),
            "leases": text_of(slots),
            "owner": self._me,
            "recovery": call.tool.recovery.value,
            "doubted_at": None,
            "stuck_at": None,
        }

    def _settle(self, chain: Chain, entry: Settle) -> Settlement | None:
        call, ending, used = entry.call, entry.ending, entry.used
        if call.id not in self._holding:
            return None
        held = self._holding.pop(call.id)
        self._opened.pop(call.id, None)  # where it was admitted in this very transaction
        charged: Amounts | None = None
        if held is not None:
            charged = entry.charge(held.amounts)
            self._accounts.charge(held.windows, held.amounts, charged)
        cost = call.cost if ending.outcome is events.Outcome.RETURNED else None
        usage_id: str | None = None
        if used is not None:
            usage_id = self._use(call, used, charged, held)
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
        halt = next(iter(self._halts.covering(call)), None)
        if halt is not None:
            finished = msgspec.structs.replace(finished, halt_id=halt.id)
        if call.idempotency is not None:
            result = entry.kept if halt is None else None
            self._keys.end(call, ending.outcome, result)
            if result is not None:
                kept = _canonical.digest(result.encode())
                finished = msgspec.structs.replace(finished, kept=kept)
        lost = self._slots.release(self._slots_held.pop(call.id, ()), at=self._at)
        if lost:
            finished = msgspec.structs.replace(finished, leases_lost=lost)
        recorded = chain.append(finished, at=self._at, trace=entry.trace)
        overspent = self._overspent(entry, held)
        return Settlement(
            recorded=recorded,
            overspent=tuple(account for budget, account in overspent if budget.raises),
            halt=halt,
            orders=_overrun(entry, overspent, held, charged) if overspent and halt is None else (),
            leases_lost=lost,
        )

    def _use(self, call: Call, used: Priced, charged: Amounts | None, held: Held | None) -> str:
        usage_id = new_id()
        self._usage.append(
            usage.row(
                usage_id,
                self._at,
                used,
                call.identity,
                session_id=call.session_id,
                call_id=call.id,
                charged=None if charged is None or held is None else Held(charged, held.windows),
            )
        )
        return usage_id

    def _overspent(self, entry: Settle, held: Held | None) -> list[tuple[Budget, Account]]:
        """Return the budgets that want something to be done about it and are overspent."""
        watching = {
            claim.budget.name: claim.budget
            for claim in entry.claims
            if claim.budget.raises or claim.budget.halt is not None
        }
        if held is None or not watching:
            return []
        found = (
            (budget, self._accounts.under(budget, key))
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


def _holding(judged: _Judged, used: tuple[Ticket, ...]) -> Ticket | None:
    """Return the ticket that holds slots for the call, if one does: of those that it uses, only the first can."""
    return used[0] if used else judged.ticket


def _needed(entry: Admit, judged: _Judged, used: tuple[Ticket, ...]) -> tuple[LeaseClaim, ...]:
    """Return the leases of which a slot is to be taken: for a call that runs, or for one that begins to wait."""
    if not entry.leases or judged.decision.mode is not Mode.ENFORCE:
        return ()
    if judged.decision.admits:
        return entry.leases
    if judged.asks and judged.ticket is None and not used:  # those hold theirs already
        return tuple(claim for claim in entry.leases if claim.lease.while_asking)
    return ()


def _status(chain: Chain, entry: Admit) -> SessionStatus:
    """Return what the session's status is to *entry*."""
    paused = chain.status is SessionStatus.PAUSED
    return SessionStatus.OPEN if paused and entry.while_paused else chain.status


def _key(call: Call) -> dict[str, object]:
    return {"session": call.session_id, "call": call.id}


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
