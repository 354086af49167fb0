"""Consultation: ask policy, plugins and evaluators about one call, outside any transaction."""

from __future__ import annotations

from datetime import datetime

import msgspec

from interlock._call import Call
from interlock._decide import Counsel, Recalled
from interlock._memory import Memory, Steered
from interlock._plugins import Plugins
from interlock._verdict import Mode, Opinion, Verdict
from interlock.evaluators import Hearing, Inbox, Panel
from interlock.policy import Policy
from interlock.policy.situation import Situation


class Judges(msgspec.Struct, frozen=True, kw_only=True):
    """Who is consulted: a policy, and the evaluators that it names."""

    policy: Policy
    panel: Panel


class Consultation:
    """
    What is heard of one call.

    The policy and the plugins are heard at once; the evaluators, if `needs_panel`, by the hearing `ask_panel`. A policy
    that looks back at the session, or at the clock, speaks in the transaction that decides, by `Counsel.recall`.
    """

    def __init__(self, judges: Judges, plugins: Plugins, call: Call, mode: Mode) -> None:
        """Hear whoever can say at once what they think of *call*."""
        policy = judges.policy
        self._policy, self._panel, self._call, self._mode = policy, judges.panel, call, mode
        named, self._opinions = plugins.risk(call)
        self._opinions += plugins.opinions(call)
        self._risk = policy.risk_of(call, named)
        self._unraised = self._risk if named is None else policy.risk_of(call)
        self._questions = policy.questions_for(call)
        self._answers: dict[str, Opinion | None] = {}
        self._looks_back = policy.needs_past(call)
        if not self._looks_back and not self._questions:
            self._hear_policy()

    def needs_panel(self) -> bool:
        """Whether an evaluator has to be asked. Nothing can loosen a DENY, so then nobody is."""
        if self._questions:
            return True
        return self._panel.is_needed(self._call) and not self._is_denied()

    def ask_panel(self, inbox: Inbox) -> Hearing[None]:
        """Ask the evaluators: first those that conditions of the policy ask, then those that judge the call."""
        if self._questions:
            self._answers = yield from self._panel.answers(self._call, self._questions, inbox)
            if not self._looks_back:
                self._hear_policy()
        if self._panel.is_needed(self._call) and not self._is_denied():
            self._opinions += yield from self._panel.opinions(self._call, inbox)

    def counsel(self) -> Counsel:
        """Return what was heard."""
        policy = self._policy
        return Counsel(
            opinions=tuple(self._opinions),
            risk=self._risk,
            points=policy.points_of(self._risk),
            mode=self._mode,
            trackers=policy.trackers,
            recall=self._recall if self._looks_back else None,
            unraised=None if self._unraised is self._risk else self._unraised,
            answers=tuple(self._answers.items()),
        )

    def situation(self, memory: Memory, at: datetime | None) -> Situation:
        """Return what the policy is asked about: the call, after what its session remembers, at that time."""
        return self._policy.situation(
            self._call, self._risk, memory=memory, mode=self._mode, at=at, answers=self._answers
        )

    def _hear_policy(self) -> None:
        self._opinions += self._said(self.situation({}, None))

    def _recall(self, memory: Memory, at: datetime) -> Recalled:
        policy = self._policy
        patience = None if policy.retries is None else policy.retries - memory[Steered().key]
        situation = self.situation(memory, at)
        return Recalled(opinions=self._said(situation), risk=situation.risk, patience=patience)

    def _said(self, situation: Situation) -> tuple[Opinion, ...]:
        """What the policy says; and, where plugins raise the risk, what it says without: they must not loosen it."""
        policy, around = self._policy, situation
        said = policy.opinions(situation)
        if self._unraised is self._risk:
            return said
        unraised = policy.situation(
            self._call,
            self._unraised,
            memory=around.memory,
            mode=around.mode,
            at=around.at,
            answers=around.answers,
        )
        return tuple(dict.fromkeys([*said, *policy.opinions(unraised)]))

    def _is_denied(self) -> bool:
        return any(one.verdict is Verdict.DENY and not one.observed for one in self._opinions)
