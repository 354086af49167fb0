"""CallTrace: the spans, the log event and the point of the histogram that show one call."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

from opentelemetry import context, trace
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.util.types import AttributeValue

from interlock._call import Call
from interlock._replies import Admission
from interlock._telemetry import Telemetry, fails_open
from interlock._unseen import Unseen, say_lost
from interlock._usage import Usage
from interlock._verdict import Decision, Mode, Verdict
from interlock._wire import (
    ADMITTED,
    AGENT_NAME,
    AUTHORS,
    CACHE_READ_TOKENS,
    CACHE_WRITE_TOKENS,
    CALL_ID,
    CALL_KIND,
    CALL_NAME,
    CALL_OUTCOME,
    CHAIN_HEAD,
    CHAT,
    CONVERSATION_ID,
    COST,
    DECISION_EVENT,
    ERROR_TYPE,
    EVENT_ID,
    EVENT_SEQ,
    EXECUTE_TOOL,
    INPUT_TOKENS,
    MODE,
    OPENINFERENCE_KIND,
    OPERATION_NAME,
    OUTPUT_TOKENS,
    POLICY_DIGEST,
    POLICY_NAME,
    PROVIDER_NAME,
    REASONING_TOKENS,
    REDACTED_BY,
    REQUEST_MODEL,
    RULE_ID,
    SESSION_ID,
    TICKET_ID,
    TOOL_NAME,
    TOOL_TYPE,
    UNDECIDED,
    VERDICT,
    WITHHELD_BY,
)
from interlock.events import CallFinished, Outcome, Recorded, TraceIds

log = logging.getLogger("interlock")

_SEVERITY = {
    Verdict.ALLOW: SeverityNumber.INFO,
    Verdict.ASK: SeverityNumber.INFO,
    Verdict.STEER: SeverityNumber.WARN,
    Verdict.DENY: SeverityNumber.WARN,
}


class PolicyRef(Protocol):
    """What telemetry says of a policy."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    digest: str


class CallTrace:
    """
    The spans of one call: `govern NAME`, then `execute_tool NAME` beside it unless the framework has made one.

    Where no span is current, both are children of a root `governed_call NAME`, so that they are in one trace.
    """

    def __init__(
        self,
        telemetry: Telemetry,
        call: Call,
        policy: PolicyRef,
        session_name: str,
        around: context.Context,
    ) -> None:
        """Begin nothing yet; the spans will be children of the one in *around*."""
        self._telemetry = telemetry
        self._call = call
        self._policy = policy
        self._session_name = session_name
        self._root: Span | None = None
        self._decision: Span = trace.INVALID_SPAN
        self._execution: Span | None = None
        self._framework: Span | None = None
        self._parent = around
        self._ids: TraceIds | None = None
        self._opened = False
        self._shown: dict[str, AttributeValue] = {}
        self._began = time.perf_counter()

    @property
    def ids(self) -> TraceIds | None:
        """Where the decision will be found; None when nothing traces."""
        return self._ids

    @fails_open
    def begin(self) -> None:
        """Start the span of the decision."""
        common: dict[str, AttributeValue] = {
            AGENT_NAME: self._call.identity.agent,
            CONVERSATION_ID: self._session_name,
        }
        if not trace.get_current_span(self._parent).get_span_context().is_valid:
            root = self._start("governed_call", {OPENINFERENCE_KIND: "CHAIN", **common})
            if root.get_span_context().is_valid:
                self._root = root
                self._parent = trace.set_span_in_context(root, self._parent)
        self._decision = self._start(
            "govern",
            {
                OPENINFERENCE_KIND: "GUARDRAIL",
                CALL_ID: self._call.id,
                CALL_NAME: self._call.tool.name,
                CALL_KIND: self._call.tool.kind,
                SESSION_ID: self._call.session_id,
                POLICY_NAME: self._policy.name,
                POLICY_DIGEST: self._policy.digest,
                **common,
            },
        )
        found = self._decision.get_span_context()
        if found.is_valid:
            self._ids = TraceIds(
                f"{found.trace_id:032x}", f"{found.span_id:016x}", int(found.trace_flags)
            )

    @contextmanager
    def deciding(self) -> Iterator[None]:
        """Make the decision's span current, for the spans of evaluators."""
        with _current(trace.set_span_in_context(self._decision, self._parent)):
            yield

    @fails_open
    def decided(self, admission: Admission) -> None:
        """Show a recorded decision, and end its span."""
        decision, recorded = admission.decision, admission.recorded
        verdict = decision.verdict.value
        self._shown = {
            VERDICT: verdict,
            ADMITTED: decision.admits,
            EVENT_ID: recorded.id,
            EVENT_SEQ: recorded.seq,
            CHAIN_HEAD: recorded.hash,
            AUTHORS: tuple(opinion.author for opinion in decision.because),
        }
        if decision.mode is not Mode.ENFORCE:
            self._shown[MODE] = decision.mode.value
        if decision.rule is not None:
            self._shown[RULE_ID] = decision.rule
        if admission.ticket is not None:
            self._shown[TICKET_ID] = admission.ticket.id
        span = self._decision
        if span.is_recording():
            span.set_attributes(self._shown)
            if self._telemetry.verdict_in_name and not decision.admits:
                span.update_name(f"govern {self._call.tool.name} [{verdict}]")
        if decision.is_fault:
            self._fail(span, "EvaluatorFailed")
        self._measure(verdict)
        self._emit(decision)
        _end(span)
        if not decision.admits:
            if (outer := self._outer()) is not None:
                outer.set_attributes(self._shown)
            self._end_all()

    @fails_open
    def undecided(self, error: BaseException) -> None:
        """Show that no decision was reached, and why: by the class of *error* alone."""
        self._fail(self._decision, type(error).__qualname__)
        self._measure(UNDECIDED)
        _end(self._decision)
        self._end_all()

    @contextmanager
    def running(self, *, attach: bool) -> Iterator[None]:
        """
        Open the tool's span, and with *attach* make it current.

        A stream must not be given a current span: its consumer, which runs between its items, would see it.
        """
        if not self._opened:
            self._opened = True
            self._open_execution()
        span = self._execution
        if span is None:  # the framework's own span is current already
            yield
        elif attach:
            with _current(trace.set_span_in_context(span, self._parent)):
                yield
        else:
            yield

    @fails_open
    def settled(self, recorded: Recorded | None) -> None:
        """Show how the call ended, and end what is open; None: it had never been admitted."""
        span = self._execution
        if span is not None and recorded is not None:
            finished = recorded.event
            span.set_attributes(
                {EVENT_ID: recorded.id, EVENT_SEQ: recorded.seq, CHAIN_HEAD: recorded.hash}
            )
            if isinstance(finished, CallFinished):
                span.set_attribute(CALL_OUTCOME, finished.outcome.value)
                if self._call.tool.kind == "model":
                    span.set_attributes(_used(finished))
                span.set_attributes(_reviewed(finished))
                if finished.outcome is Outcome.RAISED and finished.error_type:
                    self._fail(span, finished.error_type)
        elif self._framework is not None and recorded is not None:
            finished = recorded.event
            if isinstance(finished, CallFinished):
                self._framework.set_attributes(_reviewed(finished))
        elif recorded is None and self._decision.is_recording():
            self._root = None  # nothing was decided: there is nothing that it would hold together
        self._end_all()

    @fails_open
    def lost(self, error: BaseException) -> None:
        """Show that the outcome could not be recorded; the call is in doubt."""
        say_lost(self._call, error)
        if self._execution is not None:
            self._fail(self._execution, type(error).__qualname__)
        self._end_all()

    @fails_open
    def _open_execution(self) -> None:
        if (outer := self._outer()) is not None:
            outer.set_attributes({CALL_ID: self._call.id, **self._shown})
            self._framework = outer
            return
        common: dict[str, AttributeValue] = {
            CALL_ID: self._call.id,
            AGENT_NAME: self._call.identity.agent,
            CONVERSATION_ID: self._session_name,
            **self._shown,
        }
        tool, model = self._call.tool, self._call.model
        if model is None:
            kind = {OPENINFERENCE_KIND: "TOOL", OPERATION_NAME: EXECUTE_TOOL}
            about = {TOOL_NAME: tool.name, TOOL_TYPE: "function"}
            self._execution = self._start(EXECUTE_TOOL, {**kind, **about, **common})
            return
        kind = {OPENINFERENCE_KIND: "LLM", OPERATION_NAME: CHAT}
        about = {REQUEST_MODEL: model} | ({PROVIDER_NAME: tool.provider} if tool.provider else {})
        self._execution = self._start(CHAT, {**kind, **about, **common}, of=model, client=True)

    def _outer(self) -> Span | None:
        """The current span, if a framework made it for this call: of this tool, and no other call's already."""
        current = trace.get_current_span()
        shown: Mapping[str, object] = getattr(current, "attributes", None) or {}
        is_execution = shown.get(OPERATION_NAME) == EXECUTE_TOOL
        is_this = shown.get(TOOL_NAME) == self._call.tool.name and CALL_ID not in shown
        return current if is_execution and is_this else None

    def _start(
        self,
        verb: str,
        attributes: dict[str, AttributeValue],
        *,
        of: str | None = None,
        client: bool = False,
    ) -> Span:
        return self._telemetry.tracer.start_span(
            f"{verb} {of or self._call.tool.name}",
            context=self._parent,
            kind=SpanKind.CLIENT if client else SpanKind.INTERNAL,
            attributes=attributes,
            record_exception=False,  # the default writes the exception's text, and with it arguments
            set_status_on_exception=False,
        )

    @fails_open
    def _measure(self, verdict: str) -> None:
        self._telemetry.duration.record(
            time.perf_counter() - self._began,
            {
                VERDICT: verdict,
                CALL_NAME: self._call.tool.name,
                CALL_KIND: self._call.tool.kind,
                POLICY_NAME: self._policy.name,
                AGENT_NAME: self._call.identity.agent,
            },
            context=trace.set_span_in_context(self._decision, self._parent),
        )

    @fails_open
    def _emit(self, decision: Decision) -> None:
        self._telemetry.logger.emit(
            LogRecord(
                timestamp=time.time_ns(),
                context=trace.set_span_in_context(self._decision, self._parent),
                severity_number=_SEVERITY[decision.verdict],
                body=f"{self._call.tool.name}: {decision.verdict}",
                event_name=DECISION_EVENT,
                attributes={CALL_ID: self._call.id, CALL_NAME: self._call.tool.name, **self._shown},
            )
        )

    def _fail(self, span: Span, error_type: str) -> None:
        span.set_status(Status(StatusCode.ERROR))
        span.set_attribute(ERROR_TYPE, error_type)

    def _end_all(self) -> None:
        execution, self._execution = self._execution, None
        root, self._root = self._root, None
        _end(execution)
        _end(root)


def trace_of(
    telemetry: Telemetry, call: Call, policy: PolicyRef, session_name: str
) -> CallTrace | Unseen:
    """Return what shows *call*: without a provider, and outside any trace, nothing."""
    try:
        around = context.get_current()
        # An empty context, which programs that trace nothing have, holds no span.
        if telemetry.is_heard or (
            around and trace.get_current_span(around).get_span_context().is_valid
        ):
            return CallTrace(telemetry, call, policy, session_name, around)
    except Exception:
        log.exception("telemetry failed before it began; decisions are unaffected")
    return Unseen(call)


def _used(finished: CallFinished) -> dict[str, AttributeValue]:
    """What a model call took, as far as it is known."""
    usage = finished.usage or Usage()
    found = {
        INPUT_TOKENS: usage.input_tokens,
        OUTPUT_TOKENS: usage.output_tokens,
        CACHE_READ_TOKENS: usage.cache_read_tokens,
        CACHE_WRITE_TOKENS: usage.cache_write_tokens,
        REASONING_TOKENS: usage.reasoning_tokens,
        COST: None if finished.cost_usd is None else float(finished.cost_usd),
    }
    return {name: value for name, value in found.items() if value is not None}


def _reviewed(finished: CallFinished) -> dict[str, AttributeValue]:
    """Who kept the result from the caller, or put another in its place; nothing of either."""
    against = [one for one in finished.reviews if one.verdict is not Verdict.ALLOW]
    withheld = tuple(one.author for one in against if finished.withheld and not one.observed)
    found = {WITHHELD_BY: withheld, REDACTED_BY: finished.redacted_by}
    return {name: authors for name, authors in found.items() if authors}


@fails_open
def _end(span: Span | None) -> None:
    if span is not None:
        span.end()


@contextmanager
def _current(wanted: context.Context) -> Iterator[None]:
    token = context.attach(wanted)
    try:
        yield
    finally:
        context.detach(token)
