"""
Telemetry: each decision as a span, a log event and a point of a histogram. Every name on the wire is in this file.

It observes and fails open: what goes wrong here is logged and changes no call. Only OpenTelemetry's API is used, so
without an SDK everything below costs a few microseconds and shows nothing. No argument, result, exception text or
person is ever on the wire.

Source of the `gen_ai.*` names: OpenTelemetry semantic conventions for generative AI, status "development", read in
August 2026. `openinference.span.kind` is OpenInference's; Phoenix, MLflow and Langfuse draw their icons from it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import ParamSpec, Protocol

from opentelemetry import context, metrics, trace
from opentelemetry._logs import LogRecord, SeverityNumber, get_logger
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, TracerProvider
from opentelemetry.util.types import AttributeValue

from interlock._call import Call
from interlock._flow import Admission
from interlock._verdict import Decision, Verdict
from interlock.events import CallFinished, Outcome, Recorded, TraceIds

_P = ParamSpec("_P")

SCOPE = "interlock"

CALL_ID = "interlock.call.id"
CALL_NAME = "interlock.call.name"
CALL_KIND = "interlock.call.kind"
CALL_OUTCOME = "interlock.call.outcome"
SESSION_ID = "interlock.session.id"
VERDICT = "interlock.decision.verdict"
ADMITTED = "interlock.decision.admitted"
AUTHORS = "interlock.decision.authors"
RULE_ID = "interlock.policy.rule.id"
POLICY_NAME = "interlock.policy.name"
POLICY_DIGEST = "interlock.policy.digest"
EVENT_ID = "interlock.event.id"
EVENT_SEQ = "interlock.event.seq"
CHAIN_HEAD = "interlock.chain.head"
TICKET_ID = "interlock.ticket.id"
UNDECIDED = "undecided"

AGENT_NAME = "gen_ai.agent.name"
CONVERSATION_ID = "gen_ai.conversation.id"
OPERATION_NAME = "gen_ai.operation.name"
TOOL_NAME = "gen_ai.tool.name"
TOOL_TYPE = "gen_ai.tool.type"
ERROR_TYPE = "error.type"
OPENINFERENCE_KIND = "openinference.span.kind"

DECISION_EVENT = "interlock.decision"
DECISION_DURATION = "interlock.decision.duration"
# From a decision in memory, by one commit to a disk, to an evaluator's timeout, in steps of about 2.5.
_BUCKETS_S = (
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1,
    2.5,
    5,
    10,
)

_SEVERITY = {
    Verdict.ALLOW: SeverityNumber.INFO,
    Verdict.ASK: SeverityNumber.INFO,
    Verdict.STEER: SeverityNumber.WARN,
    Verdict.DENY: SeverityNumber.WARN,
}

log = logging.getLogger("interlock")


class PolicyRef(Protocol):
    """What telemetry says of a policy."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    digest: str


def fails_open(method: Callable[_P, None]) -> Callable[_P, None]:
    """Make *method* log what it raises instead of raising it."""

    @wraps(method)
    def guarded(*args: _P.args, **kwargs: _P.kwargs) -> None:
        try:
            method(*args, **kwargs)
        except Exception:
            log.exception("telemetry failed in %s; decisions are unaffected", method.__qualname__)

    return guarded


class Telemetry:
    """The instruments of one governor."""

    def __init__(
        self, *, tracer_provider: TracerProvider | None = None, verdict_in_name: bool = True
    ) -> None:
        """
        Get the instruments; those of the global providers follow when the host sets a provider later.

        Args:
            tracer_provider: Where spans go instead of the global provider.
            verdict_in_name: Whether a span's name shows a verdict other than allow, as in `govern refund [deny]`.
        """
        self.tracer = trace.get_tracer(SCOPE, tracer_provider=tracer_provider)
        self.logger = get_logger(SCOPE)
        self.duration = metrics.get_meter(SCOPE).create_histogram(
            DECISION_DURATION,
            unit="s",
            description="Time from a call's description to its recorded decision.",
            explicit_bucket_boundaries_advisory=_BUCKETS_S,
        )
        self.verdict_in_name = verdict_in_name

    def trace(self, call: Call, policy: PolicyRef, session_name: str) -> CallTrace:
        """Return what will show *call*."""
        return CallTrace(self, call, policy, session_name)


class CallTrace:
    """
    The spans of one call: `govern NAME`, then `execute_tool NAME` beside it unless the framework has made one.

    Where no span is current, both are children of a root `governed_call NAME`, so that they are in one trace.
    """

    def __init__(
        self, telemetry: Telemetry, call: Call, policy: PolicyRef, session_name: str
    ) -> None:
        """Begin nothing yet."""
        self._telemetry = telemetry
        self._call = call
        self._policy = policy
        self._session_name = session_name
        self._root: Span | None = None
        self._decision: Span = trace.INVALID_SPAN
        self._execution: Span | None = None
        self._parent = context.get_current()
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
                if finished.outcome is Outcome.RAISED and finished.error_type:
                    self._fail(span, finished.error_type)
        self._end_all()

    @fails_open
    def lost(self, error: BaseException) -> None:
        """Show that the outcome could not be recorded; the call is in doubt."""
        log.error(
            "%s ran, but its outcome could not be recorded (%s). Call %s of session %s is in doubt: "
            "`interlock verify` lists it.",
            self._call.tool.name,
            error,
            self._call.id,
            self._call.session_id,
        )
        if self._execution is not None:
            self._fail(self._execution, type(error).__qualname__)
        self._end_all()

    @fails_open
    def _open_execution(self) -> None:
        name = self._call.tool.name
        if (outer := self._outer()) is not None:
            outer.set_attributes({CALL_ID: self._call.id, **self._shown})
            return
        self._execution = self._start(
            "execute_tool",
            {
                OPENINFERENCE_KIND: "TOOL",
                OPERATION_NAME: "execute_tool",
                TOOL_NAME: name,
                TOOL_TYPE: "function",
                CALL_ID: self._call.id,
                AGENT_NAME: self._call.identity.agent,
                CONVERSATION_ID: self._session_name,
                **self._shown,
            },
        )

    def _outer(self) -> Span | None:
        """The current span, if a framework made it for this call: of this tool, and no other call's already."""
        current = trace.get_current_span()
        shown: Mapping[str, object] = getattr(current, "attributes", None) or {}
        is_execution = shown.get(OPERATION_NAME) == "execute_tool"
        is_this = shown.get(TOOL_NAME) == self._call.tool.name and CALL_ID not in shown
        return current if is_execution and is_this else None

    def _start(self, verb: str, attributes: dict[str, AttributeValue]) -> Span:
        return self._telemetry.tracer.start_span(
            f"{verb} {self._call.tool.name}",
            context=self._parent,
            kind=SpanKind.INTERNAL,
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
