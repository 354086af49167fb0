"""
The flow: the one order of steps of a governed call.

    describe → consult → admit → (ask) → run → (review) → settle → observe

The order is the security property, so it is written once, as a generator. It yields effects, plain data that say
what is to be done next, and is sent what came of each; `_drive` performs them, for sync and for async callers.
Nothing here does I/O, reads a clock, or knows how an effect is performed. Fed with recorded replies, the flow
replays a call without a database or a tool.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Generic, TypeAlias, TypeVar

import msgspec

from interlock import errors
from interlock._budget import Account
from interlock._call import Call
from interlock._decide import Counsel, stop
from interlock._halt import Halt, Order
from interlock._lease import Occupancy, Slot
from interlock._restored import restored
from interlock._ticket import Ticket, TicketState
from interlock._verdict import Decision, Mode, Opinion, Verdict, combine
from interlock.events import Outcome, Recorded, TraceIds

_T = TypeVar("_T")


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """
    How the tool ended: a value, not an exception, since cancellation and failure are outcomes too.

    Attributes:
        outcome: How.
        result: What it returned.
        error: What it raised.
        unreviewable: Why what it gave cannot be shown to those who review it; it is then withheld.
        halt: What cancelled it, if it was a halt.
    """

    outcome: Outcome
    result: Any = None
    error: BaseException | None = None
    unreviewable: str | None = None
    halt: Halt | None = None


class Reviewed(msgspec.Struct, frozen=True, kw_only=True):
    """
    What came of showing a result to those who review it.

    Attributes:
        result: What is left of it, for the caller; None when it is withheld.
        opinions: What they think, in the order in which they were asked.
        redacted_by: The authors who put something else in its place, in that order.
        withheld: Whether the caller is given an exception instead.
    """

    result: Any = None
    opinions: tuple[Opinion, ...] = ()
    redacted_by: tuple[str, ...] = ()
    withheld: bool = False


class First(msgspec.Struct, frozen=True, kw_only=True):
    """
    The call that was made before with the idempotency key of another.

    Attributes:
        call_id: Its id.
        payload: The digest of its arguments.
        outcome: How it ended; None as long as nobody knows.
        result: What it gave, as canonical JSON; None where that is not kept.
    """

    call_id: str
    payload: str
    outcome: Outcome | None = None
    result: str | None = None


class Admission(msgspec.Struct, frozen=True, kw_only=True):
    """
    What the admitting transaction decided and wrote.

    Attributes:
        decision: What was decided.
        recorded: Its event.
        ticket: The request for approval, if one is needed.
        opened: The event of that request, if it was opened now.
        budgets: Those that count the call, as they stood before it.
        halts: Those that cover it, the widest first.
        slots: Of which leases it holds one.
        taken: The leases of which it needs one and none is left.
        orders: What the policy wants halted because of it.
        first: The call that was made before with its idempotency key, where it counts.
        repeats: Whether it is given what that one gave, instead of being run.
    """

    decision: Decision
    recorded: Recorded
    ticket: Ticket | None = None
    opened: Recorded | None = None
    budgets: tuple[Account, ...] = ()
    halts: tuple[Halt, ...] = ()
    slots: tuple[Slot, ...] = ()
    taken: tuple[Occupancy, ...] = ()
    orders: tuple[Order, ...] = ()
    first: First | None = None
    repeats: bool = False


class Settlement(msgspec.Struct, frozen=True, kw_only=True):
    """
    What the settling transaction wrote.

    Attributes:
        recorded: The event of the call's end.
        overspent: Budgets that ask for it to be said that, with this call, more was spent than they allow.
        halt: The halt that covers the call, which was engaged while it ran.
        leases_lost: The leases that it had lost by then.
        orders: What the policy wants halted because of it.
    """

    recorded: Recorded
    overspent: tuple[Account, ...] = ()
    halt: Halt | None = None
    leases_lost: tuple[str, ...] = ()
    orders: tuple[Order, ...] = ()


class GivenUp(msgspec.Struct, frozen=True):
    """A call that ran is not this process's any more, so nothing was written: recovery has it."""


class Outdated(errors.Conflict):
    """A ticket that the call was to use was used, or has expired, since it was looked at; nothing was written."""


class Effect(msgspec.Struct, Generic[_T], frozen=True):
    """Something to be done for `call`; the reply is a `_T`."""

    call: Call


class Begin(Effect["TraceIds | None"], frozen=True):
    """Start to trace the call; reply with the ids of the span that will show the decision."""


class Consult(Effect[Counsel], frozen=True):
    """Ask policy, evaluators and plugins, outside any transaction. A failure among them is an opinion, too."""


class Admit(Effect[Admission], frozen=True):
    """Decide and record in one transaction, durable before the reply."""

    counsel: Counsel
    trace: TraceIds | None


class Ask(Effect["Admission | Ticket | None"], frozen=True):
    """
    Reply with the ticket that stands for this call.

    Where there is none and a human must be asked, decide and record as `Admit` does; else reply with None.
    """

    counsel: Counsel
    trace: TraceIds | None


class Await(Effect["Call | None"], frozen=True):
    """
    Get an answer to the ticket in the way that the host has chosen, if it has.

    Reply with the call, to be judged again from the start and under an id of its own, once there is an answer; with
    None when there is none.
    """

    ticket: Ticket


class Rewrite(Effect[Call], frozen=True):
    """
    Reply with the call as the approver of `ticket` has changed it; None: as its caller made it.

    It is another attempt, under an id of its own, to be judged from the start.
    """

    ticket: Ticket | None


class Run(Effect[Ending], frozen=True):
    """Run the tool, once; or, in a dry run, its simulation; or give what it gave before, and run nothing."""

    simulated: bool = False
    given: tuple[Any, ...] = ()


class Review(Effect[Reviewed], frozen=True):
    """Show the result to those who review it, before the caller sees it; reply what they make of it."""

    ending: Ending


class Settle(Effect["Settlement | None"], frozen=True):
    """Record how the call ended, whoever cancels meanwhile. Reply None if it had never been admitted."""

    ending: Ending
    trace: TraceIds | None
    reviewed: Reviewed | None = None


class Obey(Effect[None], frozen=True):
    """Engage what the policy wants halted because of the call, in a transaction of its own."""

    orders: tuple[Order, ...]


class Observe(Effect[None], frozen=True):
    """Show, after the commit, what was recorded or what could not be. Whatever fails there changes nothing."""

    fact: Admission | Settlement | GivenUp | BaseException | None


Flow: TypeAlias = Generator[Effect[Any], Any, Any]


def govern(call: Call, *, reviewed: bool, ticket: Ticket | None = None) -> Flow:
    """
    Take *call* from its description to its result.

    Args:
        call: What is attempted.
        reviewed: Whether there is anybody who reviews what it returns.
        ticket: The approved ticket that the call is resumed by, where its approver has changed the call.

    Returns:
        What the caller of the tool is to be given.

    Raises:
        Refused: recorded; the tool did not run, but for one that says that it did (`ran`).
        Undecided: the tool did not run, but for an EvaluatorFailed that says that it did. Nothing was recorded,
            except by EvaluatorFailed.
        BaseException: an interruption before the tool ran, itself; recorded if the call had been admitted.
    """
    if ticket is not None:
        call = yield Rewrite(call, ticket)
    while True:
        try:
            decided, trace = yield from _decided(call)
        except Outdated:
            call = yield Rewrite(call, None)
            continue
        decision, ticket = decided.decision, decided.ticket
        if decided.repeats:
            repetition: Ending = yield Run(call, simulated=True, given=(_given(call, decided),))
            return repetition.result
        if decision.simulates:
            simulation: Ending = yield Run(call, simulated=True)
            return simulation.result
        if decision.admits:
            break
        if decided.orders:
            yield Obey(call, decided.orders)
        again: Call | None = None
        if decision.verdict is Verdict.ASK and ticket is not None:
            # Interrupted here, nothing is admitted, and the ticket stays.
            again = yield Rewrite(call, ticket) if _is_edited(call, ticket) else Await(call, ticket)
        if again is None:
            raise refusal(call, decided)
        call = again
    ending: Ending = yield Run(call)
    return (yield from _concluded(call, decision, ending, trace, reviewed=reviewed))


def _given(call: Call, admission: Admission) -> Any:
    """Return what the first call with the same idempotency key returned."""
    first = admission.first
    if first is None or first.result is None:
        raise refusal(call, admission)
    return restored(msgspec.json.decode(first.result))


def _is_edited(call: Call, ticket: Ticket) -> bool:
    """Whether a human has said yes to *ticket*, which is for *call*, and changed the arguments with it."""
    known = () if call.edit is None else call.edit.tickets
    is_approved = ticket.state is TicketState.APPROVED and ticket.edited is not None
    return is_approved and ticket.id not in known


def _decided(call: Call) -> Generator[Effect[Any], Any, tuple[Admission, TraceIds | None]]:
    """Have *call* judged and the decision recorded; return it, and the span that shows it."""
    trace: TraceIds | None = yield Begin(call)
    admission: Admission | None = None
    try:
        counsel: Counsel = yield Consult(call)
        decided: Admission = yield Admit(call, counsel, trace)
        admission = decided
        yield Observe(call, decided)
    except GeneratorExit:  # the flow itself was dropped; yielding now would be an error
        raise
    except BaseException as error:
        if admission is None:
            yield Observe(call, error)
        if not isinstance(error, (errors.Undecided, errors.HaltedError, Outdated)):
            # Interrupted, perhaps between the commit and the reply: an intent that may stand is closed.
            yield from _settle(call, Ending(outcome=Outcome.CANCELLED, error=error), trace)
        raise
    return decided, trace


def _concluded(
    call: Call, decision: Decision, ending: Ending, trace: TraceIds | None, *, reviewed: bool
) -> Flow:
    """Review what the tool gave, record how it ended, and return what is left for the caller."""
    review: Reviewed | None = None
    if reviewed and (ending.outcome is Outcome.RETURNED or ending.unreviewable):
        try:
            review = yield from _reviewed(call, ending, decision.mode)
        except GeneratorExit:
            raise
        except BaseException as error:  # interrupted; the tool has run, so that is recorded first
            unheard = _unheard(f"its review was interrupted ({type(error).__name__})")
            yield from _settle(call, ending, trace, unheard)
            raise
    settlement = yield from _settle(call, ending, trace, review, ran=True)
    overrun: errors.BudgetExceeded | None = None
    if settlement is not None and settlement.overspent and ending.outcome is Outcome.RETURNED:
        overrun = _overrun(call, decision, settlement.overspent)
    halt = ending.halt
    if settlement is not None and ending.outcome is Outcome.RETURNED:
        halt = settlement.halt
    if halt is not None:
        raise halted(call, halt, ended=ending.outcome) from overrun
    if review is not None and review.withheld:
        raise withholding(call, review, booked=settlement is not None) from overrun
    if overrun is not None:
        raise overrun
    return ending.result if review is None else review.result


def _reviewed(call: Call, ending: Ending, mode: Mode) -> Generator[Effect[Any], Any, Reviewed]:
    """Return what is left of a result for the caller. Whatever fails here, nothing that was not reviewed is left."""
    if ending.unreviewable is not None:
        heard = _unheard(ending.unreviewable)
    else:
        try:
            heard = yield Review(call, ending)
        except Exception as error:  # noqa: BLE001 - whatever keeps the result from being reviewed
            heard = _unheard(f"its review failed ({type(error).__name__})")
    if mode is Mode.OBSERVE:  # what they think is recorded, and that is all
        return msgspec.structs.replace(heard, result=ending.result, redacted_by=(), withheld=False)
    if heard.withheld or any(map(_objects, heard.opinions)):
        return msgspec.structs.replace(heard, result=None, withheld=True)
    return heard


def _objects(opinion: Opinion) -> bool:
    return opinion.verdict is not Verdict.ALLOW and not opinion.observed


def _unheard(why: str) -> Reviewed:
    fault = Opinion(verdict=Verdict.DENY, reason=why, author="interlock", fault=True)
    return Reviewed(opinions=(fault,), withheld=True)


def preview(call: Call) -> Flow:
    """
    Open the ticket that *call* needs, ahead of the call, for frameworks that pause before they invoke a tool.

    Returns:
        The ticket, pending or already answered, when a human must be asked; else None, and nothing was recorded:
        any other decision is left to the call itself. An approval is not used up here.
    """
    counsel: Counsel = yield Consult(call)
    may_ask = counsel.recall is not None or combine(counsel.opinions).verdict is Verdict.ASK
    if call.faults or counsel.mode is not Mode.ENFORCE or not may_ask:
        return None
    trace: TraceIds | None = yield Begin(call)
    asked: Admission | Ticket | None = yield Ask(call, counsel, trace)
    yield Observe(call, asked if isinstance(asked, Admission) else None)
    return asked.ticket if isinstance(asked, Admission) else asked


def _met(
    call: Call, admission: Admission, first: First
) -> errors.InProgress | errors.KeyReused | errors.AlreadyDone:
    """Return the exception that says why *call* does not run beside, or after, the first with its idempotency key."""
    name, decision = named(call), admission.decision
    if admission.repeats:
        ended = "returned" if first.outcome is Outcome.RETURNED else "was cut short"
        return errors.AlreadyDone(
            f"{name} was made before, as call {first.call_id}, which {ended}; what it gave is not kept, so it cannot "
            "be given again. It did not run again. See for yourself whether it had its effect.",
            decision=decision,
            call=call,
            first=first.call_id,
        )
    if (
        first.outcome is None
        and call.idempotency is not None
        and call.idempotency.payload == first.payload
    ):
        return errors.InProgress(
            f"{name} was not run: {decision.reason}. Try again later.",
            decision=decision,
            call=call,
            first=first.call_id,
        )
    return errors.KeyReused(
        f"{name} was not run: {decision.reason}. Give what is another effect another key.",
        decision=decision,
        call=call,
        first=first.call_id,
    )


def refusal(call: Call, admission: Admission) -> errors.Refused | errors.EvaluatorFailed:
    """Return the exception that says why *call* may not run, and what to do instead."""
    decision = admission.decision
    name = named(call)
    if admission.halts:
        return halted(call, admission.halts[0], decision=decision)
    if decision.verdict is Verdict.ASK and admission.ticket is not None:
        who = " or ".join(decision.approvers) or "a human"
        return errors.ApprovalNeeded(
            f"{name} needs approval by {who}: {decision.reason}. It did not run; make the same call again once "
            f"ticket {admission.ticket.id} is approved.",
            decision=decision,
            call=call,
            ticket=admission.ticket,
        )
    if decision.verdict is Verdict.STEER:
        return errors.Steered(
            " ".join([f"{name} was not run: {decision.reason}.", *_way(decision)]),
            decision=decision,
            call=call,
        )
    if decision.is_fault:
        return errors.EvaluatorFailed(
            f"{name} was not run, because it could not be judged: {decision.reason}. "
            "Repair what failed; it is in `decision.because`.",
            decision=decision,
            call=call,
        )
    if admission.first is not None:
        return _met(call, admission, admission.first)
    if admission.taken:
        return errors.LeaseTaken(
            f"{name} was not run: {decision.reason}. Try again later.",
            decision=decision,
            call=call,
            leases=admission.taken,
        )
    spent = {o.author.removeprefix("budget:") for o in decision.because if _is_budget(o)}
    if spent and all(map(_is_budget, decision.because)):
        return errors.BudgetExceeded(
            f"{name} was not run: {decision.reason}. "
            + (decision.guidance or "Ask for less, or wait for the next window."),
            decision=decision,
            call=call,
            budgets=tuple(one for one in admission.budgets if one.key.budget in spent),
        )
    return errors.Denied(
        f"{name} is denied: {decision.reason}. Do not retry it.", decision=decision, call=call
    )


def halted(
    call: Call, halt: Halt, *, decision: Decision | None = None, ended: Outcome | None = None
) -> errors.HaltedError:
    """Return the exception that says that *halt* stops *call*, or that it ran and *ended* so meanwhile."""
    did = "was not run"
    if ended is Outcome.RETURNED:
        did = "ran and was booked, but its result is withheld"
    elif ended is not None:
        did = "was cancelled while it ran, and may have had its effect"
    return errors.HaltedError(
        f"{named(call)} {did}: {stop(halt).reason}. Do not retry it; stop and tell the operator.",
        decision=decision or combine([stop(halt)]),
        call=call,
        halt=halt,
        ran=ended is not None,
    )


def withholding(
    call: Call, review: Reviewed, *, booked: bool
) -> errors.Refused | errors.EvaluatorFailed:
    """Return the exception that says why the result of *call* is withheld, and that it has run."""
    decision = combine(review.opinions)
    did = f"{named(call)} ran{' and was booked' if booked else ''}, but its result is withheld"
    if decision.is_fault:
        return errors.EvaluatorFailed(
            f"{did}, because it could not be reviewed: {decision.reason}. Do not run it again. "
            "What failed is in `decision.because`.",
            decision=decision,
            call=call,
            ran=True,
        )
    if decision.verdict is Verdict.STEER:
        return errors.Steered(
            " ".join([f"{did}: {decision.reason}.", *_way(decision), "Do not run it again."]),
            decision=decision,
            call=call,
            ran=True,
        )
    return errors.Denied(
        f"{did}: {decision.reason}. Do not run it again.", decision=decision, call=call, ran=True
    )


def named(call: Call) -> str:
    """Return what a call is called where a caller is told of it: they must know that it is not the one they made."""
    if call.edit is None:
        return call.tool.name
    said = f" ({call.edit.comment})" if call.edit.comment else ""
    return f"{call.tool.name}, of which {call.edit.by} has changed {', '.join(call.edit.changed)}{said},"


def _way(decision: Decision) -> list[str]:
    """Return the sentences that say what to do instead."""
    ways = ", ".join(decision.suggestions)
    told = [decision.guidance, f"Use instead: {ways}." if ways else None]
    return [part for part in told if part]


def _overrun(
    call: Call, decision: Decision, overspent: tuple[Account, ...]
) -> errors.BudgetExceeded:
    names = ", ".join(dict.fromkeys(account.key.budget for account in overspent))
    return errors.BudgetExceeded(
        f"{named(call)} ran, was booked, and cost more than was left of: {names}. Do not run it again.",
        decision=decision,
        call=call,
        budgets=overspent,
        ran=True,
    )


def _is_budget(opinion: Opinion) -> bool:
    return opinion.author.startswith("budget:")


def _settle(
    call: Call,
    ending: Ending,
    trace: TraceIds | None,
    reviewed: Reviewed | None = None,
    *,
    again: bool = True,
    ran: bool = False,
) -> Generator[Effect[Any], Any, Settlement | None]:
    try:
        settlement: Settlement | None = yield Settle(call, ending, trace, reviewed)
    except Exception as lost:  # noqa: BLE001 - whatever keeps the outcome from being recorded
        # The side effect has happened. An error instead of its result would invite a second one, so the call
        # stays in doubt, in the store and loudly in the log, and its result is returned: what its review left of it.
        yield Observe(call, lost)
    except GeneratorExit:  # the flow itself was dropped
        raise
    except BaseException:
        if (
            again
        ):  # interrupted, perhaps before the commit: the outcome is known, so it is recorded first
            yield from _settle(call, ending, trace, reviewed, again=False)
        raise
    else:
        taken = settlement is None and ran
        yield Observe(call, GivenUp() if taken else settlement)
        if settlement is not None and settlement.orders:
            yield Obey(call, settlement.orders)
        return settlement
    return None
