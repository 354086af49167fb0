"""
Story: the events of a session, put together as people tell them: each call once, with what came of it.

Events flow in, in their order; lines flow out, in the order in which they began. Nothing is judged here and nothing is
worded: a line holds the events that it is of, and what only their neighbours tell. However long the history, what is
held is a bounded number of lines, and of tickets those that wait.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Context, Decimal
from typing import TypeAlias, TypedDict

import msgspec

from interlock import events
from interlock._ticket import Approval, TicketState
from interlock._verdict import Opinion, Verdict
from interlock.events import Outcome

PATIENCE = 256
"""How many lines wait for the end of the call before them. Then it is told without, and its end has its own line."""

_EXACTLY = Context(prec=1_000)
_MICROSECOND = timedelta(microseconds=1)


class Told(msgspec.Struct, frozen=True, kw_only=True, tag_field="line"):
    """
    A line of the story.

    Attributes:
        seq: The number of the event that it begins with.
        at: When that was; aware UTC.
        after_us: How long that was after the session was opened, in microseconds.
        trace: The span that shows it.
    """

    seq: int
    at: datetime
    after_us: int
    trace: events.TraceIds | None = None


class CallTold(Told, frozen=True, kw_only=True, tag="call"):
    """
    A call, from its decision to its end.

    Attributes:
        number: Its number among the calls of the session, from 1.
        decided: What was decided.
        ended: What came of it; None where it was not admitted, runs, is in doubt, or has its end told further down.
        recovered: What is known of it instead of its end, where its process died.
        approvals: Who has said yes to it, and when: of the ticket that it claimed.
        waited_us: How long after the question the last yes came, in microseconds.
        steered: How many calls had been steered elsewhere up to this one, of one that is steered.
        follows: The number of the call before it that was steered to this tool.
    """

    number: int
    decided: events.CallDecided
    ended: events.CallFinished | None = None
    recovered: events.CallRecovered | None = None
    approvals: tuple[Approval, ...] = ()
    waited_us: int | None = None
    steered: int | None = None
    follows: int | None = None

    @property
    def because(self) -> tuple[Opinion, ...]:
        """The opinions that carry the verdict."""
        return tuple(
            one
            for one in self.decided.opinions
            if one.verdict is self.decided.verdict and not one.observed
        )


class EventTold(Told, frozen=True, kw_only=True, tag="event"):
    """
    What happened besides calls.

    Attributes:
        event: The event; of a newer release, what can be read of it.
        number: The number of the call that it is about.
        waited_us: Of an answer, how long after the question it came, in microseconds.
        unused: Whether it ends a yes that was never used.
    """

    event: events.Event | events.NewerEvent
    number: int | None = None
    waited_us: int | None = None
    unused: bool = False


Line: TypeAlias = CallTold | EventTold


class Totals(msgspec.Struct, frozen=True, kw_only=True, tag_field="line", tag="totals"):
    """
    What a story adds up to.

    Attributes:
        events, calls: How many.
        verdicts, outcomes: How many calls of each.
        ran: How many calls were admitted.
        running: The ids of those that have no end: they run, or are in doubt.
        withheld: How many results were kept from the caller.
        cost_usd: What finished calls and recorded usage cost, as far as that is known.
        unpriced: How many of them nobody knows the cost of, though they used a model.
        tokens: How many tokens they used, as far as that is known.
        tool_us: How long tools ran, all together, in microseconds.
        asked, approved, denied, lapsed: How many tickets were opened, and how they were answered, or were not.
        longest_wait_us: The longest time between a question and its answer, in microseconds.
        took_us: The time from the first event to the last, in microseconds.
    """

    events: int = 0
    calls: int = 0
    verdicts: dict[Verdict, int]
    outcomes: dict[Outcome, int]
    ran: int = 0
    running: tuple[str, ...] = ()
    withheld: int = 0
    cost_usd: Decimal = Decimal(0)
    unpriced: int = 0
    tokens: int = 0
    tool_us: int = 0
    asked: int = 0
    approved: int = 0
    denied: int = 0
    lapsed: int = 0
    longest_wait_us: int | None = None
    took_us: int = 0


class _Place(TypedDict):
    seq: int
    at: datetime
    after_us: int
    trace: events.TraceIds | None


class _Question:
    """A ticket that waits."""

    def __init__(self, number: int, asked_at: datetime) -> None:
        self.number = number
        self.asked_at = asked_at
        self.approvals: tuple[Approval, ...] = ()
        self.waited_us: int | None = None
        self.is_approved = False


class _Begun:
    """A line that is to be told: complete, or of a call whose end is not known yet."""

    def __init__(self, line: Line, *, waits: bool) -> None:
        self.line = line
        self.waits = waits


class Story:
    """Tells a session, given its events in their order; then call `end` once."""

    def __init__(self, patience: int = PATIENCE) -> None:
        """Begin before the first event; *patience* is explained at `PATIENCE`."""
        self._patience = patience
        self._lines: deque[_Begun] = deque()
        self._running: dict[str, tuple[int, _Begun | None]] = {}
        self._questions: dict[str, _Question] = {}
        self._hints: dict[str, int] = {}
        self._first_at: datetime | None = None
        self._last_at: datetime | None = None
        self._verdicts: Counter[Verdict] = Counter()
        self._outcomes: Counter[Outcome] = Counter()
        self._counts: Counter[str] = Counter()
        self._cost = Decimal(0)
        self._longest: int | None = None

    def hear(self, recorded: events.Recorded) -> Iterator[Line]:
        """Take the next event; yield the lines that are complete by it."""
        event = recorded.event
        self._first_at = self._first_at or recorded.at
        self._last_at = recorded.at
        self._counts["events"] += 1
        match event:
            case events.CallDecided():
                self._decided(event, recorded)
            case events.CallFinished():
                self._finished(event, recorded)
            case _:
                self._happened(event, recorded)
        while self._lines and (not self._lines[0].waits or len(self._lines) > self._patience):
            yield self._next()

    def end(self) -> Iterator[Line]:
        """Yield the lines that are left: of calls that have no end, and what came after them."""
        while self._lines:
            yield self._next()

    @property
    def totals(self) -> Totals:
        """What was heard so far adds up to."""
        took = _between(self._first_at, self._last_at)
        return Totals(
            **self._counts,
            verdicts=dict(self._verdicts),
            outcomes=dict(self._outcomes),
            running=tuple(self._running),
            cost_usd=self._cost,
            longest_wait_us=self._longest,
            took_us=took,
        )

    def _next(self) -> Line:
        begun = self._lines.popleft()
        if begun.waits and isinstance(begun.line, CallTold):
            self._running[begun.line.decided.call_id] = begun.line.number, None
        return begun.line

    def _decided(self, event: events.CallDecided, recorded: events.Recorded) -> None:
        self._counts["calls"] += 1
        self._counts["ran"] += event.admitted
        self._verdicts[event.verdict] += 1
        number = self._counts["calls"]
        question = self._questions.get(event.ticket_id or "")
        if question is not None and event.admitted:  # its ticket is used up
            del self._questions[event.ticket_id or ""]
        steered: int | None = None
        if event.verdict is Verdict.STEER and not event.admitted:
            steered = self._verdicts[Verdict.STEER]
        line = CallTold(
            **self._place(recorded),
            number=number,
            decided=event,
            approvals=question.approvals if question and event.approved_by else (),
            waited_us=question.waited_us if question and event.approved_by else None,
            steered=steered,
            follows=self._hints.pop(event.tool, None),
        )
        if steered is not None:
            self._hints |= {name: number for one in line.because for name in one.suggestions}
        begun = _Begun(line, waits=event.admitted)
        if event.admitted:
            self._running[event.call_id] = number, begun
        self._lines.append(begun)

    def _finished(self, event: events.CallFinished, recorded: events.Recorded) -> None:
        self._outcomes[event.outcome] += 1
        self._counts["withheld"] += event.withheld
        self._counts["tool_us"] += event.duration_us
        self._spent(event.cost_usd, event.usage.tokens if event.usage else None)
        self._counts["unpriced"] += event.usage_id is not None and event.cost_usd is None
        number, begun = self._running.pop(event.call_id, (None, None))
        if begun is not None and isinstance(begun.line, CallTold):
            begun.line = msgspec.structs.replace(begun.line, ended=event)
            begun.waits = False
        else:
            line = EventTold(**self._place(recorded), event=event, number=number)
            self._lines.append(_Begun(line, waits=False))

    def _happened(self, event: events.Event | events.NewerEvent, recorded: events.Recorded) -> None:
        number: int | None = None
        waited: int | None = None
        unused = False
        match event:
            case events.TicketOpened():
                self._counts["asked"] += 1
                number = self._counts["calls"]
                self._questions[event.ticket_id] = _Question(number, recorded.at)
            case events.TicketApproved() | events.TicketResolved():
                unused = self._is_approved(event.ticket_id) and _has_lapsed(event)
                number, waited = self._answered(event, recorded)
            case events.CallRecovered():
                number = self._recovered(event)
            case events.CallDoubted() | events.CallStuck():
                number, _ = self._running.get(event.call_id, (None, None))
            case events.UsageRecorded():
                self._spent(event.cost_usd, event.usage.tokens)
                self._counts["unpriced"] += event.cost_usd is None
            case _:  # it changes nothing that is added up
                pass
        line = EventTold(
            **self._place(recorded), event=event, number=number, waited_us=waited, unused=unused
        )
        self._lines.append(_Begun(line, waits=False))

    def _recovered(self, event: events.CallRecovered) -> int | None:
        number, begun = self._running.pop(event.call_id, (None, None))
        if begun is not None and isinstance(begun.line, CallTold):
            begun.line = msgspec.structs.replace(begun.line, recovered=event)
            begun.waits = False
        return number

    def _answered(
        self, event: events.TicketApproved | events.TicketResolved, recorded: events.Recorded
    ) -> tuple[int | None, int | None]:
        question = self._questions.get(event.ticket_id)
        state = TicketState.PENDING if isinstance(event, events.TicketApproved) else event.state
        self._counts["approved"] += state is TicketState.APPROVED
        self._counts["denied"] += state is TicketState.DENIED
        lapsed = _has_lapsed(event)
        self._counts["lapsed"] += lapsed and not self._is_approved(event.ticket_id)
        if question is None:
            return None, None
        if lapsed:
            del self._questions[event.ticket_id]
            return question.number, None
        waited = _between(question.asked_at, recorded.at)
        self._longest = max(waited, self._longest or 0)
        question.waited_us = waited
        if state is TicketState.DENIED:
            del self._questions[event.ticket_id]
        else:
            question.is_approved = state is TicketState.APPROVED
            question.approvals += (Approval(event.by, recorded.at, event.comment),)
        return question.number, waited

    def _is_approved(self, ticket_id: str) -> bool:
        question = self._questions.get(ticket_id)
        return question is not None and question.is_approved

    def _spent(self, cost: Decimal | None, tokens: int | None) -> None:
        self._cost = _EXACTLY.add(self._cost, cost or 0)
        self._counts["tokens"] += tokens or 0

    def _place(self, recorded: events.Recorded) -> _Place:
        return _Place(
            seq=recorded.seq,
            at=recorded.at,
            after_us=_between(self._first_at, recorded.at),
            trace=recorded.trace,
        )


def _between(start: datetime | None, end: datetime | None) -> int:
    return 0 if start is None or end is None else (end - start) // _MICROSECOND


def _has_lapsed(event: events.TicketApproved | events.TicketResolved) -> bool:
    lapsed = {TicketState.EXPIRED, TicketState.CANCELLED}
    return isinstance(event, events.TicketResolved) and event.state in lapsed
