"""
Refusals: the exceptions that say why a call does not run, or why its result is withheld, and what to do instead.

The model reads these sentences, so each says whether the tool has run and whether to try again.
"""

from __future__ import annotations

from interlock import errors
from interlock._budget import Account
from interlock._call import Call
from interlock._decide import stop
from interlock._halt import Halt
from interlock._replies import Admission, First, Reviewed
from interlock._verdict import Decision, Opinion, Verdict, combine
from interlock.events import Outcome


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


def overrun(
    call: Call, decision: Decision, overspent: tuple[Account, ...]
) -> errors.BudgetExceeded:
    """Return the exception that says that *call* ran, and with it more was spent than *overspent* allow."""
    names = ", ".join(dict.fromkeys(account.key.budget for account in overspent))
    return errors.BudgetExceeded(
        f"{named(call)} ran, was booked, and cost more than was left of: {names}. Do not run it again.",
        decision=decision,
        call=call,
        budgets=overspent,
        ran=True,
    )


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


def _way(decision: Decision) -> list[str]:
    """Return the sentences that say what to do instead."""
    ways = ", ".join(decision.suggestions)
    told = [decision.guidance, f"Use instead: {ways}." if ways else None]
    return [part for part in told if part]


def _is_budget(opinion: Opinion) -> bool:
    return opinion.author.startswith("budget:")
