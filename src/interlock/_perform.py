"""Performer: performs the effects of a call's flow with what a governor has, its machinery."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, NoReturn, TypeAlias

import msgspec

from interlock import _flow
from interlock._answering import Answering
from interlock._asking import OnAsk
from interlock._call import Call, Edit, Tool
from interlock._call_trace import trace_of
from interlock._capture import Capturing, Seal
from interlock._captured import result_of, result_seal
from interlock._clock import Clock, new_id
from interlock._consult import Consultation, Judges
from interlock._edit import changed, changes_of
from interlock._flights import Flight, Flights, Stream
from interlock._flow import Flow, GivenUp
from interlock._plugins import Plugins
from interlock._prices import price
from interlock._refusal import halted
from interlock._renewals import Renewals, Tenure
from interlock._replies import Admission, Ending, Reviewed, Settlement
from interlock._telemetry import Telemetry
from interlock._ticket import Ticket
from interlock._usage import Estimate, ModelUsage, Priced, Usage
from interlock._verdict import Mode
from interlock.errors import Conflict
from interlock.evaluators import Hearing, Inbox, aheard, heard
from interlock.events import Outcome, Recorded
from interlock.store import entries
from interlock.store.engine import Store

log = logging.getLogger("interlock")

# Effects are of exactly these classes. `isinstance` of a struct takes as long as many a step, and each call has seven.
TRANSACTIONS = frozenset({_flow.Admit, _flow.Ask, _flow.Settle})

Arguments: TypeAlias = tuple[Sequence[Any], Mapping[str, Any]]

Lay: TypeAlias = Callable[[Mapping[str, Any], Collection[str], Mapping[str, Any]], Arguments]

Describe: TypeAlias = (
    "Callable[[Tool, Mapping[str, Any], Estimate | None], tuple[Call, dict[str, Any]]]"
)

Origin: TypeAlias = "tuple[Describe, dict[str, Any], Estimate | None]"


class Machinery(msgspec.Struct, frozen=True, kw_only=True):
    """What a governor has for performing effects; without judges nothing governed runs."""

    store: Store
    judges: Judges | None
    plugins: Plugins
    telemetry: Telemetry
    clock: Clock
    flights: Flights
    renewals: Renewals
    on_ask: OnAsk | None = None
    capturing: Capturing = Capturing()


class Performer:
    """
    Performs the effects of one call.

    Attributes:
        call: The call. Once a human has answered, it goes on as another attempt, under an id of its own.
        stand_in: What is run instead of the tool in a dry run; None: nothing is.
        origin: What the call was described of, and by whom, to describe it anew where a human changes it.
        lay: Says how the tool is called with all arguments by name, given which were changed and what they were before;
            None: whoever calls it cannot be given others.
        rewritten: What the tool is called with instead, where a human has changed it.
        keeps: Whether what it gives can be given again to who repeats the call.
        ticket: The ticket that the call is resumed by; it runs by that, or not at all.
        while_paused: Whether the call may run in a session that is paused.
    """

    def __init__(
        self,
        machinery: Machinery,
        judges: Judges,
        call: Call,
        session_name: str,
        mode: Mode = Mode.ENFORCE,
        *,
        on_ask: OnAsk | None = None,
    ) -> None:
        """Stand ready to perform the effects of *call*; *mode* is what becomes of the decision."""
        self.call = call
        self.stand_in: Callable[..., Any] | None = None
        self.origin: Origin | None = None
        self.lay: Lay | None = None
        self.rewritten: Arguments | None = None
        self.keeps = True
        self.ticket: Ticket | None = None
        self.while_paused = False
        self._made: tuple[Call, dict[str, Any]] | None = None
        self._machinery = machinery
        self._judges = judges
        self._mode = mode
        self._session_name = session_name
        self._on_ask = on_ask
        self._answering: Answering | None = None
        self._trace = trace_of(machinery.telemetry, call, judges.policy, session_name)
        self._started_at: float | None = None
        self._took_us: int | None = None
        self._used: Usage | None = None
        self._tenure: Tenure | None = None

    @property
    def is_reviewed(self) -> bool:
        """Whether anybody reviews what the call returns."""
        return self._judges.panel.reviews(self.call)

    def shown(self) -> Call:
        """Return the call with the leases that it holds."""
        return self.call if self._tenure is None else self._tenure.shown(self.call)

    def flow(self) -> Flow:
        """Return the flow of the call, which is to be driven."""
        ticket = self.ticket
        edited = None if ticket is None or ticket.edited is None else ticket
        return _flow.govern(self.call, reviewed=self.is_reviewed, ticket=edited)

    def report(self, usage: Usage) -> None:
        """Remember what the call has really used, to be booked when it ends."""
        self._used = usage

    def perform(self, effect: _flow.Effect[Any]) -> Any:
        """Perform *effect*, blocking until it is done, and return the reply."""
        if type(effect) in TRANSACTIONS:
            self._expect_unlatched(effect)
            entry = self._entry(effect)
            sent = self._sent(entry)
            return self._posted(entry, sent, self._machinery.store.post(entry))
        if type(effect) is _flow.Consult:
            consultation = self._consultation()
            if consultation.needs_panel():
                with self._trace.deciding():
                    heard(consultation.ask_panel)
            return consultation.counsel()
        if type(effect) is _flow.Review:
            with self._reviewing():
                return heard(self._review(effect))
        if type(effect) is _flow.Await:
            return self._again(is_answered=self._answers().get(effect.call, effect.ticket))
        if type(effect) is _flow.Rewrite:
            return self._rewrite(effect.ticket)
        return self._witness(effect)

    async def aperform(self, effect: _flow.Effect[Any]) -> tuple[Any, BaseException | None]:
        """
        Perform *effect* and return the reply.

        A transaction is seen through to its end; a cancellation that arrives meanwhile is returned beside the reply.
        """
        if type(effect) in TRANSACTIONS:
            self._expect_unlatched(effect)
            entry = self._entry(effect)
            sent = self._sent(entry)
            reply, held = await self._machinery.store.apost(entry)
            return self._posted(entry, sent, reply), held
        if type(effect) is _flow.Consult:
            consultation = self._consultation()
            if consultation.needs_panel():
                with self._trace.deciding():
                    await aheard(consultation.ask_panel)
            return consultation.counsel(), None
        if type(effect) is _flow.Review:
            with self._reviewing():
                return await aheard(self._review(effect)), None
        if type(effect) is _flow.Await:
            return self._again(
                is_answered=await self._answers().aget(effect.call, effect.ticket)
            ), None
        if type(effect) is _flow.Obey:
            cut: BaseException | None = None
            if self._mode is Mode.ENFORCE:
                recorded, cut = await self._machinery.flights.aobey(
                    effect.call.session_id, effect.orders, by=self._judges.policy.author
                )
                self._show(recorded)
            return None, cut
        return self._witness(effect), None

    def running(self, run: _flow.Run, *, attach: bool = True) -> AbstractContextManager[None]:
        """
        Hold the tool's span open while it runs, and take its time; see `CallTrace.running` for *attach*.

        Entered again where the same call goes on later. A simulation has neither span nor duration.
        """
        if run.simulated:
            return nullcontext()
        if self._started_at is None:
            self._started_at = self._machinery.clock.monotonic()
        return self._trace.running(attach=attach)

    def flight(self) -> Flight:
        """Return the block within which an async call can be cancelled by a halt."""
        return Flight(self._machinery.flights, self.call)

    def _sent(self, entry: entries.Entry) -> float:
        """Return when *entry* is posted, if that matters; renew no longer what it gives back."""
        if isinstance(entry, entries.Settle):
            tenure, self._tenure = self._tenure, None
            if tenure is not None:
                self._machinery.renewals.end(tenure)
            return 0.0
        return self._machinery.renewals.sent() if entry.leases else 0.0

    def _posted(self, entry: entries.Entry, sent: float, reply: Any) -> Any:
        """Keep what *reply* says that the call holds."""
        if type(reply) is Admission and reply.slots and not isinstance(entry, entries.Settle):
            self._tenure = self._machinery.renewals.begin(
                entry.call, reply.slots, entry.leases, sent=sent
            )
        return reply

    def stream(self) -> Stream:
        """Return the block within which a stream learns, between its steps, that it is halted."""
        return Stream(self._machinery.flights, self.call)

    def _obey(self, effect: _flow.Effect[Any]) -> None:
        if not isinstance(effect, _flow.Obey):
            raise _unknown(effect)
        if self._mode is Mode.ENFORCE:
            self._show(
                self._machinery.flights.obey(
                    effect.call.session_id, effect.orders, by=self._judges.policy.author
                )
            )

    def _show(self, recorded: tuple[Recorded, ...]) -> None:
        for one in recorded:
            self._machinery.plugins.recorded(one)

    def _expect_unlatched(self, effect: _flow.Effect[Any]) -> None:
        halt = self._machinery.flights.latched(effect.call)
        if halt is not None and type(effect) is not _flow.Settle:
            raise halted(effect.call, halt)

    def _answers(self) -> Answering:
        if self._answering is None:
            self._answering = Answering(
                self._on_ask, self._machinery.store, self._machinery.plugins
            )
        return self._answering

    def _again(self, *, is_answered: bool) -> Call | None:
        """Return the call to be judged from the start: another attempt, which is recorded and traced as one."""
        if not is_answered:
            return None
        return self._anew(msgspec.structs.replace(self.call, id=new_id()))

    def _rewrite(self, ticket: Ticket | None) -> Call:
        """Return the call as the approver of *ticket* has changed it; or as it was made, where that came to nothing."""
        describe, copied, estimate = self.origin or _nobody()
        if self._made is None:
            self._made = self.call, copied
        if ticket is None:
            if self.ticket is not None:
                raise Conflict(
                    f"ticket {self.ticket.id} was used, or has expired, so nothing was run by it"
                )
            made, copied = self._made
            self.origin, self.rewritten = (describe, copied, estimate), None
            return self._anew(msgspec.structs.replace(made, id=new_id()))
        names, values = changed(ticket), copied
        faults: tuple[str, ...] = ()
        try:
            values = {**copied, **changes_of(ticket)}
        except ValueError as error:
            faults = (f"what {ticket.edited_by} has written cannot be read: {error}",)
        call, values = describe(self.call.tool, values, estimate)
        try:
            self.rewritten = (self.lay or _as_made)(values, names, copied)
        except ValueError as error:
            faults += (f"what {ticket.edited_by} has written cannot be run: {error}",)
        before = () if self.call.edit is None else self.call.edit.tickets
        edit = Edit(
            by=ticket.edited_by or "",
            comment=ticket.comment,
            changed=names,
            tickets=(*before, ticket.id),
        )
        self.origin = describe, values, estimate
        return self._anew(msgspec.structs.replace(call, edit=edit, faults=call.faults + faults))

    def _anew(self, call: Call) -> Call:
        self.call = call
        self._trace = trace_of(
            self._machinery.telemetry, self.call, self._judges.policy, self._session_name
        )
        return self.call

    def _reviewing(self) -> AbstractContextManager[None]:
        self._took_us = self._duration_us()  # the time of the reviewers is not the tool's
        return self._trace.running(attach=True)

    def _review(self, effect: _flow.Review) -> Callable[[Inbox], Hearing[Reviewed]]:
        return partial(self._judges.panel.review, effect.call, effect.ending.result)

    def _consultation(self) -> Consultation:
        return Consultation(self._judges, self._machinery.plugins, self.call, self._mode)

    def _entry(self, effect: _flow.Effect[Any]) -> entries.Entry:
        policy, call = self._judges.policy, effect.call
        claims = policy.budgets.claims_on(call)
        if type(effect) is _flow.Settle:
            result, seal = self._kept(effect.ending, effect.reviewed)
            return entries.Settle(
                call=call,
                ending=effect.ending,
                result=result,
                seal=seal,
                used=self._priced(),
                claims=claims,
                duration_us=self._duration_us(),
                trace=effect.trace,
                reviewed=effect.reviewed,
                keeps=self.keeps,
            )
        if not isinstance(effect, (_flow.Admit, _flow.Ask)):
            raise _unknown(effect)
        kind = entries.Admit if type(effect) is _flow.Admit else entries.Ask
        return kind(
            call=call,
            counsel=effect.counsel,
            claims=claims,
            leases=policy.leases.claims(call),
            policy=policy.digest,
            trace=effect.trace,
            resumes=None if self.ticket is None else self.ticket.id,
            while_paused=self.while_paused,
        )

    def _kept(self, ending: Ending, reviewed: Reviewed | None) -> tuple[str | None, Seal | None]:
        """Return what is recorded of a result, as the caller is given it, and what makes its digest."""
        call, capturing = self.call, self._machinery.capturing
        seal = result_seal(call, capturing)
        if seal is None or ending.outcome is not Outcome.RETURNED:
            return None, seal
        if reviewed is not None and reviewed.withheld:
            return None, seal
        given = ending.result if reviewed is None else reviewed.result
        return result_of(call, given, capturing, self._machinery.plugins.redaction()), seal

    def _priced(self) -> Priced | None:
        call, usage = self.call, self._used
        if usage is None and (call.model is None or self._started_at is None):
            return None
        used = ModelUsage(
            model=call.model or call.tool.name,
            provider=call.tool.provider,
            usage=usage or Usage(),
        )
        return price(used, plugins=self._machinery.plugins)

    def _duration_us(self) -> int:
        if self._took_us is not None:
            return self._took_us
        if self._started_at is None:
            return 0
        return round((self._machinery.clock.monotonic() - self._started_at) * 1_000_000)

    def _witness(self, effect: _flow.Effect[Any]) -> Any:
        if type(effect) is _flow.Begin:
            self._trace.begin()
            return self._trace.ids
        if not isinstance(effect, _flow.Observe):
            return self._obey(effect)
        fact = effect.fact
        if fact is None:
            self._trace.settled(None)
        elif type(fact) is Admission:
            self._trace.decided(fact)
            self._machinery.plugins.recorded(fact.recorded)
            if fact.opened is not None:
                self._machinery.plugins.recorded(fact.opened)
                if fact.ticket is not None:
                    self._machinery.plugins.requested(fact.ticket)
        elif type(fact) is Settlement:
            self._trace.settled(fact.recorded)
            self._machinery.plugins.recorded(fact.recorded)
            if fact.leases_lost:
                log.error(
                    "call %s of %s ended after it had lost: %s",
                    self.call.id,
                    self.call.tool.name,
                    ", ".join(fact.leases_lost),
                )
        elif isinstance(fact, (GivenUp, BaseException)):
            self._unbooked(fact)
        return None

    def _unbooked(self, fact: GivenUp | BaseException) -> None:
        """Show why nothing was recorded: the call did not run, or what came of it is not known to the books."""
        if isinstance(fact, BaseException):
            (self._trace.undecided if self._started_at is None else self._trace.lost)(fact)
            return
        gone = "it was taken for gone, and recovery has it"
        self._trace.lost(Conflict(f"call {self.call.id} is not this process's any more: {gone}"))


def _nobody() -> NoReturn:
    raise Conflict("this call cannot be described anew, so nobody can change it")


def _as_made(*_: object) -> NoReturn:
    raise ValueError("whoever makes this call cannot be given other arguments")


def _unknown(effect: _flow.Effect[Any]) -> TypeError:
    return TypeError(f"no such effect: {type(effect).__name__}")
