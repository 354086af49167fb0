"""
Halting: when a policy engages the kill switch by itself.

What it goes by is remembered by the session, and speaks in the transaction that decides: so a call is refused that
finds the halt due and not engaged, as after a crash between the two.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from pydantic import Field, StrictInt, model_validator

from interlock._call import Risk
from interlock._halt_scope import HaltScope
from interlock._memory import HaltTracker, Memory, Reached, Refused
from interlock._verdict import Opinion, Verdict
from interlock.policy.budgets import HaltWord
from interlock.policy.values import Level, Strict


class HaltDocument(Strict):
    """
    When the policy halts, and what: after so many refusals in a row in one session, or where a call's risk reaches it.

    Whoever has no name of the kind that is to be halted has the session halted instead.
    """

    _needs_one_of = ("after_refusals", "at_risk")

    after_refusals: Annotated[StrictInt, Field(ge=1, le=1_000_000)] | None = None
    at_risk: Level | None = None
    halt: HaltWord

    @model_validator(mode="after")
    def _has_one_reason(self) -> HaltDocument:
        if (self.after_refusals is None) == (self.at_risk is None):
            raise ValueError("it says when to halt by one of: after_refusals, at_risk")
        return self

    @property
    def tracker(self) -> HaltTracker:
        """What a session has to remember for it."""
        scope = HaltScope(self.halt)
        if self.after_refusals is not None:
            return Refused(self.after_refusals, scope)
        return Reached(str(self.at_risk), scope)


class Halting:
    """
    The section `halts` of a policy, made ready.

    Attributes:
        trackers: What a session has to remember for it.
    """

    def __init__(self, documents: Iterable[HaltDocument]) -> None:
        """Make ready what *documents* say."""
        self.trackers = tuple(document.tracker for document in documents)
        self._said = tuple((one, one.key, _denial(one)) for one in self.trackers)

    def opinions(self, risk: Risk, memory: Memory) -> list[Opinion]:
        """Return what is said to a call of that *risk*, in a session that remembers that."""
        return [denial for tracker, key, denial in self._said if tracker.objects(memory[key], risk)]


def _denial(tracker: HaltTracker) -> Opinion:
    return Opinion(
        verdict=Verdict.DENY,
        reason=f"{tracker.reason}, at which the policy halts the {tracker.halt}",
        author="halts",
    )
