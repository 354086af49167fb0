"""
The flow: the one order of steps of a governed call.

    describe → consult → admit → (ask) → run → settle → observe

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
from interlock._ticket import Ticket
from interlock._verdict import Decision, Opinion, Verdict, combine
from interlock.events import Outcome, Recorded, TraceIds

_T = TypeVar("_T")


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """How the tool ended: a value, not an exception, since cancellation and failure are outcomes too."""

    outcome: Outcome
    result: Any = None
    error: BaseException | None = None


class Admission(msgspec.Struct, frozen=True, kw_only=True):
    """
    What the admitting transaction decided and wrote.

    Attributes:
        decision: What was decided.
        recorded: Its event.
        ticket: The request for approval, if one is needed.
        opened: The event of that request, if it was opened now.
        budgets: Those that count the call, as they stood before it.
    """

    decision: Decision
    recorded: Recorded
    ticket: Ticket | None = None
    opened: Recorded | None = None
    budgets: tuple[Account, ...] = ()


class Settlement(msgspec.Struct, frozen=True, kw_only=True):
    """
    What the settling transaction wrote.

    Attributes:
        recorded: The event of the call's end.
        overspent: Budgets that ask for it to be said that, with this call, more was spent than they allow.
    """

    recorded: Recorded
    overspent: tuple[Account, ...] = ()


class Effect(msgspec.Struct, Generic[_T], frozen=True):
    """Something to be done for `call`; the reply is a `_T`."""

    call: Call


class Begin(Effect["TraceIds | None"], frozen=True):
    """Start to trace the call; reply with the ids of the span that will show the decision."""


class Consult(Effect[tuple[Opinion, ...]], frozen=True):
    """Ask policy, evaluators and plugins, outside any transaction. A failure among them is an opinion, too."""


class Admit(Effect[Admission], frozen=True):
    """Decide and record in one transaction, durable before the reply."""

    opinions: tuple[Opinion, ...]
    trace: TraceIds | None


class Ask(Effect["Admission | Ticket | None"], frozen=True):
    """Reply with the ticket that stands for this call; where there is none, decide and record as `Admit` does."""

    opinions: tuple[Opinion, ...]
    trace: TraceIds | None


class Run(Effect[Ending], frozen=True):
    """Run the tool, once."""


class Settle(Effect["Settlement | None"], frozen=True):
    """Record how the call ended, whoever cancels meanwhile. Reply None if it had never been admitted."""

    ending: Ending
    trace: TraceIds | None


class Observe(Effect[None], frozen=True):
    """Show, after the commit, what was recorded or what could not be. Whatever fails there changes nothing."""

    fact: Admission | Settlement | BaseException | None


Flow: TypeAlias = Generator[Effect[Any], Any, Any]


def govern(call: Call) -> Flow:
    """
    Take *call* from its description to its result.

    Returns:
        What the caller of the tool is to be given.

    Raises:
        Refused: recorded; the tool did not run, but for a BudgetExceeded that says that it did.
        Undecided: the tool did not run. Nothing was recorded, except by EvaluatorFailed.
        BaseException: an interruption before the tool ran, itself; recorded if the call had been admitted.
    """
    trace: TraceIds | None = yield Begin(call)
    admission: Admission | None = None
    try:
        opinions: tuple[Opinion, ...] = yield Consult(call)
        decided: Admission = yield Admit(call, opinions, trace)
        admission = decided
        yield Observe(call, decided)
    except GeneratorExit:  # the flow itself was dropped; yielding now would be an error
        raise
    except BaseException as error:
        if admission is None:
            yield Observe(call, error)
        if not isinstance(error, errors.Undecided):
            # Interrupted, perhaps between the commit and the reply: an intent that may stand is closed.
            yield from _settle(call, Ending(outcome=Outcome.CANCELLED, error=error), trace)
        raise
    if not decided.decision.admits:
        raise refusal(call, decided)
    ending: Ending = yield Run(call)
    settlement = yield from _settle(call, ending, trace)
    if settlement is not None and settlement.overspent and ending.outcome is Outcome.RETURNED:
        raise _overrun(call, decided.decision, settlement.overspent)
    return ending.result


def preview(call: Call) -> Flow:
    """
    Open the ticket that *call* needs, ahead of the call, for frameworks that pause before they invoke a tool.

    Returns:
        The ticket, pending or already answered, when a human must be asked; else None, and nothing was recorded:
        any other decision is left to the call itself. An approval is not used up here.
    """
    opinions: tuple[Opinion, ...] = yield Consult(call)
    if call.faults or combine(opinions).verdict is not Verdict.ASK:
        return None
    trace: TraceIds | None = yield Begin(call)
    asked: Admission | Ticket = yield Ask(call, opinions, trace)
    yield Observe(call, asked if isinstance(asked, Admission) else None)
    return asked.ticket if isinstance(asked, Admission) else asked


def refusal(call: Call, admission: Admission) -> errors.Refused | errors.EvaluatorFailed:
    """Return the exception that says why *call* may not run, and what to do instead."""
    decision = admission.decision
    name = call.tool.name
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
        ways = ", ".join(decision.suggestions)
        told = [decision.guidance, f"Use instead: {ways}." if ways else None]
        return errors.Steered(
            " ".join([f"{name} was not run: {decision.reason}.", *(part for part in told if part)]),
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


def _overrun(
    call: Call, decision: Decision, overspent: tuple[Account, ...]
) -> errors.BudgetExceeded:
    names = ", ".join(dict.fromkeys(account.key.budget for account in overspent))
    return errors.BudgetExceeded(
        f"{call.tool.name} ran, was booked, and cost more than was left of: {names}. Do not run it again.",
        decision=decision,
        call=call,
        budgets=overspent,
    )


def _is_budget(opinion: Opinion) -> bool:
    return opinion.author.startswith("budget:")


def _settle(
    call: Call, ending: Ending, trace: TraceIds | None, *, again: bool = True
) -> Generator[Effect[Any], Any, Settlement | None]:
    try:
        settlement: Settlement | None = yield Settle(call, ending, trace)
    except Exception as lost:  # noqa: BLE001 - whatever keeps the outcome from being recorded
        # The side effect has happened. An error instead of its result would invite a second one, so the call
        # stays in doubt, in the store and loudly in the log, and its result is returned.
        yield Observe(call, lost)
    except GeneratorExit:  # the flow itself was dropped
        raise
    except BaseException:
        if (
            again
        ):  # interrupted, perhaps before the commit: the outcome is known, so it is recorded first
            yield from _settle(call, ending, trace, again=False)
        raise
    else:
        yield Observe(call, settlement)
        return settlement
    return None
