"""
Again: the flow of each call of a session, driven once more by what was recorded.

What evaluators, plugins, the store and people replied is taken from the events; what follows from it is computed anew,
by the flow and the functions that govern: what the policy says, who has said yes, what budgets, steering and the state
of the session say, the decision, whether the tool runs, and whether its result is withheld. No store is written, no
tool runs, and no clock is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple

import msgspec

from interlock import _flow, events
from interlock._call import Call
from interlock._capture import Keyed
from interlock._decide import UNSEEN, Counsel, Recalled, asks, decide, judge
from interlock._flow import Flow
from interlock._grant import Standing
from interlock._memory import Steered
from interlock._past import History, Past, taken_of
from interlock._replies import Admission, Ending, First, Reviewed, Settlement
from interlock._state import SessionStatus
from interlock._ticket import Ticket, TicketState
from interlock._trial import Trial
from interlock._verdict import Decision, Opinion, Verdict
from interlock.errors import InterlockError, Misuse
from interlock.policy import Policy


class Difference(msgspec.Struct, frozen=True):
    """What comes out otherwise: a field of the decision or of the end of a call, as recorded and as it is again."""

    field: str
    recorded: str
    again: str


class Again(msgspec.Struct, frozen=True, kw_only=True):
    """
    What came of one recorded decision, or of the end of a call, when it was gone through again.

    Attributes:
        seq: The number of the event that recorded it.
        call_id, tool: Which call.
        differences: In what it comes out otherwise.
        unknown: What cannot be told of it from what was recorded, a sentence each.
    """

    seq: int
    call_id: str
    tool: str
    differences: tuple[Difference, ...] = ()
    unknown: tuple[str, ...] = ()


class Replay(msgspec.Struct, frozen=True, kw_only=True):
    """
    What came of going through a session again.

    Attributes:
        session_id: The session.
        decisions: How many decisions were made again.
        differing: Those that come out otherwise, and ends of calls that do.
        unknown: Those of which something cannot be told, and that do not differ in what can.
    """

    session_id: str
    decisions: int
    differing: tuple[Again, ...]
    unknown: tuple[Again, ...]

    @property
    def agrees(self) -> bool:
        """Whether nothing comes out otherwise."""
        return not self.differing


def again(
    session_id: str,
    history: History,
    policy_of: Callable[[str], Policy],
    other: Trial | None = None,
    key: Keyed | None = None,
) -> Replay:
    """
    Go through the decisions of a session again, and compare.

    Args:
        session_id: The session.
        history: Its events.
        policy_of: Returns the policy with a digest.
        other: Another policy, to tell which verdicts would differ under it: each call by itself, after what has really
            happened in the session. Its evaluators are asked. None: the recorded policies.
        key: What keyed digests were made with; without it, it is not known of such calls that nothing is left out.
    """
    past = Past(session_id, history, policy_of, key)
    decisions = 0
    differing: list[Again] = []
    unknown: list[Again] = []
    for one, is_decision in _Rerun(past, history, other).all():
        decisions += is_decision
        if one.differences:
            differing.append(one)
        elif one.unknown:
            unknown.append(one)
    return Replay(
        session_id=session_id,
        decisions=decisions,
        differing=tuple(differing),
        unknown=tuple(unknown),
    )


class _Judged(NamedTuple):
    """What a call was judged to be again, and what could not be told."""

    decision: Decision
    ticket: Ticket | None
    grant: Standing | None
    unknown: list[str]


class _Rerun:
    """One session gone through again: its past before each decision, and the flows under way."""

    def __init__(self, past: Past, history: History, other: Trial | None) -> None:
        self._past = past
        self._history = history
        self._other = other
        self._flows: dict[str, Flow] = {}

    def all(self) -> Iterator[tuple[Again, bool]]:
        for recorded in self._history():
            place = f"event {recorded.seq} of session {recorded.session_id}"
            event = events.understood(recorded.event, place)
            match event:
                case events.CallDecided():
                    yield self._decided(recorded, event), True
                case events.CallFinished() if self._other is None:
                    yield self._finished(recorded, event), False
                case _:  # it is what the store replies from here on
                    pass
            self._past.hear(recorded, event)

    def _decided(self, recorded: events.Recorded, event: events.CallDecided) -> Again:
        named = partial(Again, seq=recorded.seq, call_id=event.call_id, tool=event.tool)
        try:
            call = self._past.call(event)
            if self._other is not None:
                differences, unknown = self._otherwise(self._other, recorded, event, call)
            else:
                differences, unknown = self._likewise(recorded, event, call)
        except InterlockError as error:  # its policy or its arguments cannot be read here
            return named(unknown=(f"it cannot be judged again: {error}",))
        return named(differences=tuple(differences), unknown=tuple(unknown))

    def _finished(self, recorded: events.Recorded, event: events.CallFinished) -> Again:
        """Take the flow of a call from its tool's end to its own."""
        named = partial(Again, seq=recorded.seq, call_id=event.call_id, tool=event.tool)
        flow = self._flows.pop(event.call_id, None)
        if flow is None:
            return named()  # it was not let run again: that is told where it was decided
        error = None if event.outcome is events.Outcome.RETURNED else _Recorded()
        reply: Any = Ending(outcome=event.outcome, error=error)
        left: Reviewed | None = None
        try:
            while True:
                effect = flow.send(reply)
                reply = None
                if isinstance(effect, _flow.Review):
                    reply = Reviewed(opinions=event.reviews, redacted_by=event.redacted_by)
                elif isinstance(effect, _flow.Settle):
                    left = effect.reviewed
                    reply = Settlement(recorded=recorded)
        except (StopIteration, InterlockError, _Recorded):
            pass
        withheld = left is not None and left.withheld
        found = (
            []
            if event.outcome is not events.Outcome.RETURNED
            else [*_compared("withheld", event.withheld, withheld)]
        )
        return named(differences=tuple(found))

    def _likewise(
        self, recorded: events.Recorded, event: events.CallDecided, call: Call
    ) -> tuple[list[Difference], list[str]]:
        """Drive the flow up to the tool, under the recorded policy; return in what it goes otherwise."""
        flow = _flow.govern(call, reviewed=True)
        judged: _Judged | None = None
        unknown: list[str] = []
        runs = False
        reply: Any = None
        try:
            while True:
                effect = flow.send(reply)
                reply = None
                match effect:
                    case _flow.Begin():
                        reply = recorded.trace
                    case _flow.Consult():
                        reply, unknown = self._counsel(event, call, recorded.at)
                    case _flow.Admit(counsel=counsel):
                        judged = self._judge(event, call, counsel, recorded.at, unknown)
                        reply = _admission(recorded, call, judged)
                    case _flow.Run(simulated=simulated):
                        runs = not simulated
                        break
                    case _:  # nothing is shown, and nobody waits for an answer
                        pass
        except InterlockError:
            pass
        if judged is None:
            raise Misuse("its flow ended before it was decided")
        if runs and event.admitted:
            self._flows[event.call_id] = flow
        else:
            flow.close()
        return [*_differences(event, judged, runs=runs)], judged.unknown

    def _counsel(
        self, event: events.CallDecided, call: Call, at: datetime
    ) -> tuple[Counsel, list[str]]:
        """Return what was heard: from the record, but for what the policy says, which is asked again."""
        policy = self._past.policy(event.policy)
        unknown: list[str] = []
        own = partial(_is_policys, policy)
        if not self._past.is_whole(event):
            recorded = {one for one in event.opinions if own(one)}
            if set(_said(policy, event, call, self._past.memory(event.policy), at)) != recorded:
                unknown.append("what its policy says: its arguments are masked in the record")
        replies = [one for one in event.opinions if unknown or not own(one)]
        replies = [one for one in replies if not _is_recomputed(event, one)]

        def recall(memory: Any, when: datetime) -> Recalled:
            patience = None if policy.retries is None else policy.retries - memory[Steered().key]
            said = () if unknown else _said(policy, event, call, memory, when)
            return Recalled(opinions=said, risk=event.risk, patience=patience)

        counsel = Counsel(
            opinions=tuple(replies),
            risk=event.risk,
            points=event.points,
            mode=self._past.mode(event),
            trackers=policy.trackers,
            recall=recall,
        )
        return counsel, unknown

    def _judge(
        self,
        event: events.CallDecided,
        call: Call,
        counsel: Counsel,
        at: datetime,
        unknown: list[str],
    ) -> _Judged:
        """Decide, by the functions that decide in the admitting transaction, and what the events add up to."""
        said = counsel.recalled(call, self._past.memory(event.policy), at)
        edit = self._past.ticket(event.uses[-1]) if event.edited_by and event.uses else None
        claims = self._past.policy(event.policy).budgets.claims_on(call)
        accounts, _ = self._past.accounts(event, claims, at)
        decided = partial(
            decide,
            call,
            said.opinions,
            status=SessionStatus.OPEN if event.resumed else self._past.status,
            accounts=accounts,
            now=at,
            mode=counsel.mode,
            patience=said.patience,
            edit=edit,
        )
        decision, ticket, grant = judge(
            lambda ticket: decided(ticket=ticket),
            standing=lambda: self._past.standing(call, event.policy, at),
            granted=lambda decision: self._past.granted(call, decision, event.policy, at),
            edit=edit,
        )
        return _Judged(decision, ticket, grant, unknown)

    def _otherwise(
        self, trial: Trial, recorded: events.Recorded, event: events.CallDecided, call: Call
    ) -> tuple[list[Difference], list[str]]:
        """Judge the call by another policy; return what it would have made of it, and what is not known."""
        policy, at, unknown = trial.policy, recorded.at, []
        own = partial(_is_policys, self._past.policy(event.policy))
        replies = [
            one
            for one in event.opinions
            if not own(one)
            and not one.author.startswith(("evaluator:", "budget:"))
            and one.author not in {"steering", "approver", UNSEEN}
        ]
        ruling = trial.ruling(call, self._past.memory(policy.digest, policy), at)
        accounts, untold = self._past.accounts(event, policy.budgets.claims_on(call), at)
        unknown += [
            f"what budget {claim.budget.name} says: what was taken of it is not recorded"
            for claim in untold
        ]
        if not self._past.is_whole(event):
            unknown.append("what it says of arguments that are masked in the record")
        decision = decide(
            call,
            [*ruling.decision.opinions, *replies],
            status=SessionStatus.OPEN,
            accounts=accounts,
            ticket=None,
            now=at,
        )
        found = [*_compared("verdict", event.verdict, decision.verdict)]
        if found:
            found += _compared("reason", event.reason, decision.reason)
        if decision.verdict is Verdict.ASK and event.approved_by is None:
            unknown.append("whether somebody would have said yes")
        return found, unknown


class _Recorded(Exception):
    """What a tool raised, of which only the class was recorded."""


def _admission(recorded: events.Recorded, call: Call, judged: _Judged) -> Admission:
    decision, ticket = judged.decision, judged.ticket
    event = recorded.event
    if isinstance(event, events.CallDecided) and event.repeats is not None:
        first = First(call_id=event.repeats, payload="")
        return Admission(decision=decision, recorded=recorded, first=first, repeats=True)
    if ticket is None and asks(decision) and judged.grant is None:  # it is opened now
        ticket = Ticket(
            id="",
            session_id=call.session_id,
            call_id=call.id,
            tool=call.tool.name,
            digest=call.digest,
            policy="",
            arguments=call.recorded,
            reason=decision.reason,
            approvers=decision.approvers,
            requested_by=(),
            state=TicketState.PENDING,
            opened_at=recorded.at,
            expires_at=recorded.at,
        )
    return Admission(decision=decision, recorded=recorded, ticket=ticket)


def _differences(event: events.CallDecided, judged: _Judged, *, runs: bool) -> Iterator[Difference]:
    decision = judged.decision
    yield from _compared("verdict", event.verdict, decision.verdict)
    admits = decision.admits and event.repeats is None
    yield from _compared("admitted", event.admitted, admits)
    yield from _compared("reason", event.reason, decision.reason)
    yield from _compared("mode", event.mode, decision.mode)
    yield from _compared("approved_by", event.approved_by, decision.approved_by)
    if event.repeats is None:
        yield from _compared("grant_id", event.grant_id, judged.grant.id if judged.grant else None)
    if (
        event.repeats is None
        and asks(decision)
        and (judged.ticket is not None or judged.grant is not None)
    ):
        yield from _compared("ticket_id", event.ticket_id, judged.ticket and judged.ticket.id)
    yield from _compared("opinions", _listed(event.opinions), _listed(decision.opinions))
    if runs != admits:
        yield Difference("ran", str(admits), str(runs))


def _compared(field: str, recorded: object, now: object) -> Iterator[Difference]:
    if recorded != now:
        yield Difference(field, _text(recorded), _text(now))


def _text(value: object) -> str:
    return "nothing" if value is None else str(value)


def _listed(opinions: Iterable[Opinion]) -> str:
    """All that was heard, one way whatever the order."""
    return "; ".join(
        f"{one.author}{f'/{one.rule}' if one.rule else ''} {one.verdict}: {one.reason}"
        for one in sorted(opinions, key=msgspec.json.encode)
    )


def _said(
    policy: Policy, event: events.CallDecided, call: Call, memory: Any, at: datetime
) -> tuple[Opinion, ...]:
    """What the policy says again, of the risk as recorded; and where plugins raised that, what it says without."""
    risks = dict.fromkeys([event.risk] if event.unraised is None else [event.risk, event.unraised])
    answers = dict(event.answers)
    return tuple(
        dict.fromkeys(
            said
            for risk in risks
            for said in policy.opinions(
                policy.situation(call, risk, mode=event.mode, memory=memory, at=at, answers=answers)
            )
        )
    )


def _is_recomputed(event: events.CallDecided, opinion: Opinion) -> bool:
    """Whether *opinion* is of those that the deciding transaction forms itself, of what is known here."""
    if opinion.author in {"session", "steering", "approver", UNSEEN}:
        return True
    return any(
        opinion.author == f"budget:{key.budget}" and spent is not None
        for key, spent in taken_of(event).items()
    )


def _is_policys(policy: Policy, opinion: Opinion) -> bool:
    """Whether *opinion* is the policy's own: its rules', its models', its risk section's, or of what looks back."""
    return opinion.author in {f"policy:{policy.name}", "models", "risk", "evaluator:sequence"}
