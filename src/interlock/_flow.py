"""
The flow: the one order of steps of a governed call.

    describe → consult → admit → (ask) → run → (review) → settle → observe

The order is the security property, so it is written once, as a generator. It yields effects, plain data that say
what is to be done next, and is sent what came of each; `_perform` does them, and `_drive` goes from one to the next,
for sync and for async callers.
Nothing here does I/O, reads a clock, or knows how an effect is performed. Fed with recorded replies, the flow
replays a call without a database or a tool.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Generic, TypeAlias, TypeVar

import msgspec

from interlock import errors
from interlock._call import Call
from interlock._decide import Counsel
from interlock._halt import Order
from interlock._refusal import halted, overrun, refusal, withholding
from interlock._replies import Admission, Ending, Outdated, Reviewed, Settlement
from interlock._restored import restored
from interlock._ticket import Ticket, TicketState
from interlock._verdict import Decision, Mode, Opinion, Verdict, combine
from interlock.events import Outcome, TraceIds

_T = TypeVar("_T")


class GivenUp(msgspec.Struct, frozen=True):
    """A call that ran is not this process's any more, so nothing was written: recovery has it."""


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
    overspent: errors.BudgetExceeded | None = None
    if settlement is not None and settlement.overspent and ending.outcome is Outcome.RETURNED:
        overspent = overrun(call, decision, settlement.overspent)
    halt = ending.halt
    if settlement is not None and ending.outcome is Outcome.RETURNED:
        halt = settlement.halt
    if halt is not None:
        raise halted(call, halt, ended=ending.outcome) from overspent
    if review is not None and review.withheld:
        raise withholding(call, review, booked=settlement is not None) from overspent
    if overspent is not None:
        raise overspent
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
