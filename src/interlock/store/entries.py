"""Entries: what is entered in the books for a call: its admission, the question to a human ahead of it, its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TypeAlias

import msgspec

from interlock import _canonical, events
from interlock._budget import Amounts, Claim, nano, need_of
from interlock._call import Call
from interlock._capture import Seal, plain
from interlock._decide import Counsel
from interlock._lease import LeaseClaim
from interlock._replies import Ending, Reviewed
from interlock._restored import restored
from interlock._usage import Priced
from interlock.store.budgets import Held
from interlock.store.windows import Want, more_than


class Admit(msgspec.Struct, frozen=True, kw_only=True):
    """
    Decide `call` and write the decision; when it admits, this is the intent, durable before the side effect.

    An ASK claims the approved ticket for this very call, or finds the open one, or opens one.

    Attributes:
        call: What is attempted.
        counsel: What policy, evaluators and plugins think of it.
        claims: The budgets that count it.
        leases: The leases that it needs.
        policy: The digest of the policy that was asked.
        trace: The span that shows the decision.
        resumes: The ticket by which it is to run, or not at all.
        while_paused: Whether it may run in a session that is paused.
    """

    call: Call
    counsel: Counsel
    claims: tuple[Claim, ...] = ()
    leases: tuple[LeaseClaim, ...] = ()
    policy: str
    trace: events.TraceIds | None
    resumes: str | None = None
    while_paused: bool = False


class Ask(Admit, frozen=True, kw_only=True):
    """
    Find the ticket that stands for `call`, using nothing up.

    Where there is none and a human must be asked, decide as `Admit` does; else None comes of it, with nothing written.
    """


class Settle(msgspec.Struct, frozen=True, kw_only=True):
    """
    Write how an admitted call ended, at most once; None comes of it when no intent stands.

    Attributes:
        call: The call.
        ending: How it ended.
        used: What it really used, as it said itself, and what that costs; None when it did not say.
        claims: The budgets that count it.
        duration_us: How long the tool ran, in microseconds.
        trace: The span that shows the decision.
        reviewed: What came of the review of its result, of which that result itself is not recorded; None without one.
        keeps: Whether what it gave can be given again to who repeats the call.
        result: What is recorded of the result, as canonical JSON.
        seal: What makes the digest of the result; None: it gets none.
    """

    call: Call
    ending: Ending
    used: Priced | None = None
    claims: tuple[Claim, ...] = ()
    duration_us: int
    trace: events.TraceIds | None
    reviewed: Reviewed | None = None
    keeps: bool = True
    result: str | None = None
    seal: Seal | None = plain

    @property
    def result_digest(self) -> str | None:
        """The digest of what the tool returned; None where it returned nothing, or what has no canonical form."""
        if self.seal is None or self.ending.outcome is not events.Outcome.RETURNED:
            return None
        try:
            return self.seal(_canonical.canonical(self.ending.result))
        except Exception:  # noqa: BLE001 - a result without a canonical form is none of our business
            return None

    @property
    def kept(self) -> str | None:
        """What those are given who make the call again, as canonical JSON; None where it cannot be given again."""
        returned = self.ending.outcome is events.Outcome.RETURNED and self.ending.halt is None
        if self.call.idempotency is None or not (returned and self.keeps):
            return None
        if self.seal is None or (self.reviewed is not None and self.reviewed.withheld):
            return None
        result = self.ending.result if self.reviewed is None else self.reviewed.result
        try:
            data = _canonical.tree(result)
            if _canonical.tree(restored(msgspec.json.decode(_canonical.encode(data)))) != data:
                return None
            return _canonical.bounded(data).decode()
        except Exception:  # noqa: BLE001 - what has no canonical form, or none that can be read, is not kept
            return None

    def charge(self, reserved: Amounts) -> Amounts:
        """
        Return what the call is charged that reserved so much.

        What it says that it has used. Where it does not say: nothing but the attempt if it raised, which is how a tool
        says that it failed; else what was reserved, since a call that was cancelled or abandoned may have had its
        effect, and the books must not hold less than the truth.
        """
        silent = Amounts() if self.ending.outcome is events.Outcome.RAISED else reserved
        cost, tokens = silent.cost, silent.tokens
        if self.used is not None and self.used.cost_usd is not None:
            cost = nano(self.used.cost_usd)
        if self.used is not None and self.used.of.usage.tokens is not None:
            tokens = self.used.of.usage.tokens
        return Amounts(cost, tokens, reserved.calls)


Entry: TypeAlias = Admit | Ask | Settle
"""What is entered in the books for a call."""


def wanted(
    entries: Sequence[Entry], holding: Mapping[str, Held | None], *, at: datetime
) -> list[Want]:
    """Return what *entries* may reserve and charge of budgets at most, *holding* being what open calls hold."""
    wants: list[Want] = []
    held_here: dict[str, Held] = {}
    for entry in entries:
        call = entry.call
        if not isinstance(entry, Settle):
            if entry.claims:
                need = need_of(call)
                claimed = [Want.of_claim(claim, at, need) for claim in entry.claims]
                wants += claimed
                held_here[call.id] = Held(need.amounts, tuple(want.key for want in claimed))
            continue
        held = holding.get(call.id)
        lets_go = Amounts() if held is None else held.amounts
        held = held or held_here.get(call.id)
        if held is not None:
            charged = entry.charge(held.amounts)
            watched = {
                claim.budget.name: claim.budget.limits
                for claim in entry.claims
                if claim.budget.raises or claim.budget.halt is not None
            }
            wants += [
                Want(
                    key,
                    takes=more_than(charged, held.amounts),
                    lets_go=lets_go,
                    limits=watched.get(key.budget),
                )
                for key in held.windows
            ]
    return wants
