"""Judging: what is decided of a call on a page of the books, and which ticket, grant or earlier call answers for it."""

from __future__ import annotations

from functools import partial

import msgspec

from interlock._budget import Account, Claim, Need
from interlock._call import Call, Risk
from interlock._decide import asks, decide, judge, taken
from interlock._grant import Standing
from interlock._lease import LeaseClaim, Occupancy
from interlock._replies import First
from interlock._state import SessionStatus
from interlock._ticket import Ticket, TicketState
from interlock._verdict import Decision, Mode
from interlock.store import grants, tickets
from interlock.store.entries import Admit
from interlock.store.events import Chain
from interlock.store.keys import Kept
from interlock.store.page import Page
from interlock.store.statements import plain


class Judged(msgspec.Struct, frozen=True):
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


def judge_on(page: Page, chain: Chain, entry: Admit, used: tuple[Ticket, ...] = ()) -> Judged:
    """Decide *entry*, and find the ticket that answers for it where a human must be asked."""
    call = entry.call
    accounts = [
        (claim, page.accounts.under(claim.budget, claim.window(page.at)[0]))
        for claim in entry.claims
    ]
    said = entry.counsel.recalled(call, page.memories.of(chain), page.at)
    edit = used[-1] if used and call.edit is not None else None
    decided = partial(
        decide,
        call,
        status=_status(chain, entry),
        accounts=accounts,
        now=page.at,
        mode=entry.counsel.mode,
        patience=said.patience,
        halts=page.halts.covering(call),
        edit=edit,
    )
    decision, ticket, grant = judge(
        lambda ticket: decided(said.opinions, ticket=ticket),
        standing=lambda: standing(page, chain, entry),
        granted=lambda decision: _granted(page, entry, decision),
        edit=edit,
    )
    found = Judged(decision, ticket, said.risk, accounts, grant)
    kept = None if call.idempotency is None else _kept(page, call, found)
    if kept is not None:
        if kept.is_repeated_by(call, asks=not decision.admits):
            return msgspec.structs.replace(found, first=kept.first, repeats=True)
        if (objection := kept.objection_to(call)) is not None:
            refused = decided([*said.opinions, objection], ticket=None)
            return Judged(refused, None, said.risk, accounts, first=kept.first)
    needed = _needed(entry, found, used)
    if not needed:  # nearly always
        return found
    full = page.slots.full(needed, holding(found, used), page.at)
    if not full:
        return msgspec.structs.replace(found, leases=needed)
    objections = (taken(lease, page.at) for lease in full)
    refused = decided([*said.opinions, *objections], ticket=None)
    return Judged(refused, None, said.risk, accounts, taken=full)


def _kept(page: Page, call: Call, judged: Judged) -> Kept | None:
    """Return who has the key of a call that is about to run, or to be asked about; None: nobody."""
    matters = judged.decision.admits or judged.asks
    return page.keys.of(call.idempotency.key) if matters and call.idempotency else None


def _granted(page: Page, entry: Admit, decision: Decision) -> Standing | None:
    """Return the grant that stands for the yes that *decision* wants; None where there is none."""
    return grants.covering(
        plain(page.connection), entry.call, decision, policy=entry.policy, at=page.at
    )


def standing(page: Page, chain: Chain, entry: Admit) -> Ticket | None:
    """Return the ticket that answers for a call now; one that expired without a no answers for nothing any more."""
    connection = plain(page.connection)
    ticket = tickets.newest(connection, entry.call, policy=entry.policy)
    if ticket is None or ticket.state.is_over:
        return None
    if ticket.answers_at(page.at):
        return ticket
    expired = tickets.end(connection, ticket, TicketState.EXPIRED, at=page.at)
    if expired is not None:
        chain.append(expired, at=page.at)
        page.slots.release(ticket.leases, at=page.at)
    return None


def holding(judged: Judged, used: tuple[Ticket, ...]) -> Ticket | None:
    """Return the ticket that holds slots for the call, if one does: of those that it uses, only the first can."""
    return used[0] if used else judged.ticket


def _needed(entry: Admit, judged: Judged, used: tuple[Ticket, ...]) -> tuple[LeaseClaim, ...]:
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
