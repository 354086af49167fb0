"""
decide(): a pure function of a session's status, the call, the opinions, the budgets and the ticket for that call.

What was heard outside the transaction that decides is a `Counsel`; what depends on that transaction, because it looks
back at the session or at the clock, is a function in it, which gives a `Recalled`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

import msgspec

from interlock._budget import Account, Claim, has_room, need_of, objection
from interlock._call import Call, Risk
from interlock._grant import Standing
from interlock._halt import Halt, Order, exceeding, ordered
from interlock._lease import Occupancy
from interlock._memory import HALTED, STOPPED, HaltTracker, Memory, Tracker
from interlock._state import SessionStatus
from interlock._ticket import Ticket, TicketState
from interlock._verdict import Decision, Mode, Opinion, Verdict, combine

UNSEEN = "capture"
"""Who denies a call that a human would have to say yes to unseen."""

_UNSEEN = (
    "a human has to say yes to {0}, and could not be shown what would run, since {1} is captured of its arguments; "
    "declare it with capture='redacted', or let the policy decide without a human"
)


class Recalled(msgspec.Struct, frozen=True, kw_only=True):
    """
    What a policy says of a call given its session's past.

    Attributes:
        opinions: What it says.
        risk: How risky the call is after what the session has done.
        patience: How many more calls may be steered elsewhere before they are denied instead; None: any number.
    """

    opinions: tuple[Opinion, ...]
    risk: Risk
    patience: int | None = None


class Counsel(msgspec.Struct, frozen=True, kw_only=True):
    """
    What was heard of a call before the transaction that decides.

    Attributes:
        opinions: Those of evaluators and plugins, and of the policy where it need not look back.
        risk: How risky the call is by itself; None: as its tool declares.
        points: What it adds to its session's score of risk, if it gets in.
        mode: What becomes of the decision.
        trackers: What the session has to remember for the policy.
        recall: What the policy says given the session's memory and the time, where it looks back; a pure function.
        unraised: How risky it is by itself without what plugins say; None: they raise nothing.
        answers: What evaluators replied that conditions of the policy ask, by what was asked.
    """

    opinions: tuple[Opinion, ...]
    risk: Risk | None = None
    points: int = 0
    mode: Mode = Mode.ENFORCE
    trackers: tuple[Tracker, ...] = ()
    recall: Callable[[Memory, datetime], Recalled] | None = None
    unraised: Risk | None = None
    answers: tuple[tuple[str, Opinion | None], ...] = ()

    def recalled(self, call: Call, memory: Memory, at: datetime) -> Recalled:
        """Return all that is said of *call*, in a session with that *memory*, *at* that instant."""
        risk = self.risk or call.tool.risk
        if self.recall is None:
            return Recalled(opinions=self.opinions, risk=risk)
        found = self.recall(memory, at)
        return msgspec.structs.replace(found, opinions=self.opinions + found.opinions)


def decide(
    call: Call,
    opinions: Iterable[Opinion],
    *,
    status: SessionStatus,
    accounts: Sequence[tuple[Claim, Account]] = (),
    ticket: Ticket | None,
    now: datetime,
    mode: Mode = Mode.ENFORCE,
    patience: int | None = None,
    halts: Sequence[Halt] = (),
    edit: Ticket | None = None,
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
        mode: What becomes of the decision. Observing does not open a session that is closed.
        patience: How many more calls may be steered elsewhere; None: any number.
        halts: Those that cover the call, read in the transaction. They bind in every mode.
        edit: The approved ticket whose approver has written this call, read likewise.

    An approved ticket answers an ASK and nothing stricter. A human's no is a DENY. One whose approver has changed the
    arguments answers for the call as it was changed, where that asks for no more than the ticket did; and not for the
    call as it was made.
    """
    stopped = [] if status is SessionStatus.OPEN else [_deny(f"the session is {status}", STOPPED)]
    stopped += map(stop, halts)
    heard = [*opinions, *stopped]
    if call.faults:  # hardly ever, and this is in every call's way
        heard += [_deny(fault) for fault in call.faults]
    if accounts:
        need = need_of(call)
        objections = (objection(call, claim, account, need) for claim, account in accounts)
        heard += [opinion for opinion in objections if opinion is not None]
    decision = combine(heard)
    if decision.verdict is Verdict.STEER and patience is not None and patience <= 0:
        heard.append(_deny("it was steered elsewhere as often as the policy allows", "steering"))
        decision = combine(heard)
    if mode is not Mode.ENFORCE and not stopped:
        return msgspec.structs.replace(decision, mode=mode)
    return _answered(call, decision, heard, ticket, now, edit) if asks(decision) else decision


def _answered(  # noqa: PLR0917 - as `decide` has them
    call: Call,
    decision: Decision,
    heard: list[Opinion],
    ticket: Ticket | None,
    now: datetime,
    edit: Ticket | None,
) -> Decision:
    """Return what becomes of a *decision* that a human must be asked."""
    if not call.capture.shows:
        return combine([*heard, _deny(_UNSEEN.format(call.tool.name, call.capture), UNSEEN)])
    if ticket is not None and ticket.digest == call.digest:
        if ticket.state is TicketState.DENIED:
            said = f": {ticket.comment}" if ticket.comment else ""
            return combine([*heard, _deny(f"{ticket.decided_by} said no{said}", "approver")])
        if _is_yes(ticket) and now < ticket.expires_at:
            return msgspec.structs.replace(decision, approved_by=ticket.decided_by)
    if edit is not None and _suffices(edit, decision):
        return msgspec.structs.replace(decision, approved_by=edit.decided_by)
    return decision


def orders(
    call: Call, counsel: Counsel, memory: Memory, accounts: Iterable[tuple[Claim, Account]]
) -> tuple[Order, ...]:
    """
    Return the halts that the policy wants now that *call* was refused, for another reason than that it is halted.

    Args:
        call: What was attempted.
        counsel: What was heard of it.
        memory: What its session remembers, this call included.
        accounts: The budgets that count it, and how they stand.
    """
    wanted = [
        (tracker.halt, tracker.reason, tracker.key)
        for tracker in counsel.trackers
        if isinstance(tracker, HaltTracker) and tracker.is_due(memory.get(tracker.key, 0))
    ]
    need = need_of(call)
    wanted += [
        (claim.budget.halt, *exceeding(claim.budget))
        for claim, account in accounts
        if claim.budget.halt is not None and not has_room(claim.budget, account, need)
    ]
    return ordered(wanted, call.identity, session_id=call.session_id, tool=call.tool.name)


def judge(
    decided: Callable[[Ticket | None], Decision],
    *,
    standing: Callable[[], Ticket | None],
    granted: Callable[[Decision], Standing | None],
    edit: Ticket | None = None,
) -> tuple[Decision, Ticket | None, Standing | None]:
    """
    Decide, and where a human must be asked find who has said yes: by a ticket, else by a grant.

    Args:
        decided: Decides, given the ticket that answers for the call; see `decide`.
        standing: Looks for that ticket.
        granted: Looks for the grant that covers the call.
        edit: The approved ticket whose approver has written the call.

    Returns:
        The decision; the ticket that it was made with; the grant that stands for the yes, and then no ticket does.
    """
    decision = decided(None)
    if not asks(decision):
        return decision, None, None
    ticket = standing()
    if ticket is not None:
        decision = decided(ticket)
    if decision.admits:
        is_own = ticket is not None and _is_yes(ticket)
        return decision, ticket if is_own else edit, None
    if not asks(decision):
        return decision, ticket, None
    grant = granted(decision)
    if grant is None:
        return decision, ticket, None
    return msgspec.structs.replace(decision, approved_by=grant.by), None, grant


def asks(decision: Decision) -> bool:
    """Whether a human has to say yes, or has."""
    return decision.verdict is Verdict.ASK and decision.mode is Mode.ENFORCE


def _is_yes(ticket: Ticket) -> bool:
    """Whether *ticket* is approved for the call that it was opened for, as that was made."""
    return ticket.state is TicketState.APPROVED and ticket.edited is None


def _suffices(edit: Ticket, decision: Decision) -> bool:
    """Whether those who have changed a call are those who must say yes to what it has become, and enough of them."""
    return (
        set(decision.authors) <= set(edit.asked)
        and set(decision.approvers) == set(edit.approvers)
        and decision.quorum <= len(edit.approvals)
    )


def stop(halt: Halt) -> Opinion:
    """Return what *halt* says to a call that it covers."""
    return _deny(
        f"{halt.target} is halted: {halt.reason} (halt {halt.id})",
        f"{HALTED}{halt.target.scope.value}",
    )


def taken(lease: Occupancy, at: datetime) -> Opinion:
    """Return what a lease says to a call for which it has no slot left *at* that instant."""
    first, *others = sorted(lease.living(at), key=lambda one: one.expires_at)
    name, until = lease.key.lease, f"{first.expires_at:%Y-%m-%d %H:%M:%S} UTC"
    held = f"call {first.call_id} of session {first.session_id}"
    if first.ticket_id is not None:
        held = f"{held}, which waits for an answer to ticket {first.ticket_id} until {until} at the latest"
    else:
        held = f"{held} until it ends, and until {until} at the latest unless it renews it"
    more = f"; {len(others)} more hold it, too" if others else ""
    return _deny(f"lease {name} is taken by {held}{more}", f"lease:{name}")


def in_progress(first: str) -> Opinion:
    """Return what is said to a call while the *first* with its idempotency key runs, or is in doubt."""
    return _deny(
        f"call {first} has the same idempotency key, and has not ended, or nobody knows how",
        IDEMPOTENCY,
    )


def reused(first: str) -> Opinion:
    """Return what is said to a call whose idempotency key the *first* has, with other arguments."""
    return _deny(
        f"call {first} has the same idempotency key and was made with other arguments", IDEMPOTENCY
    )


IDEMPOTENCY = "idempotency"
"""Who keeps a call from running beside the first with its key."""


def _deny(reason: str, author: str = "interlock") -> Opinion:
    return Opinion(verdict=Verdict.DENY, reason=reason, author=author)
