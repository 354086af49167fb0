"""A program that makes a call of each kind and prints, as JSON, the names of all that was on the wire."""

from __future__ import annotations

import contextlib
import json
from collections import defaultdict
from decimal import Decimal
from typing import Any

from opentelemetry import _logs, metrics, trace
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pydantic import BaseModel

from interlock import Call, Governor, Opinion, Usage, Verdict, governed, hookimpl
from interlock.evaluators import Redacted
from interlock.store import tickets
from interlock.testing import Recorder

POLICY = {
    "version": 1,
    "name": "support",
    "rules": [
        {"id": "fine", "tools": ["fine", "breaks", "unjudged", "chat"], "verdict": "allow"},
        {"id": "ask", "tools": ["asked", "asked_chat"], "verdict": "ask"},
        {"id": "steer", "tools": ["steered"], "verdict": "steer", "suggest": ["fine"]},
        {"id": "reviewed", "tools": ["redacted*", "withheld*"], "verdict": "allow"},
    ],
    "evaluators": [{"use": "reviewer", "tools": ["redacted*", "withheld*"]}],
}


@governed
def fine() -> str:
    """Is allowed and returns."""
    return "well"


@governed
def breaks() -> None:
    """Is allowed and raises."""
    raise LookupError("nothing there")


@governed
def unjudged() -> None:
    """Meets a plugin that fails."""


@governed
def asked() -> None:
    """Needs a person's yes."""


@governed
def steered() -> None:
    """Is steered elsewhere."""


@governed
def denied() -> None:
    """Is named by no rule."""


@governed
def redacted() -> str:
    """Returns what a reviewer redacts."""
    return "redact"


@governed
def withheld() -> str:
    """Returns what a reviewer withholds."""
    return "withhold"


class Config(BaseModel):
    """Nothing to be told."""


class Reviewer:
    """An evaluator that does what results say."""

    Config = Config
    stage = "after"

    def __init__(self, config: Config) -> None:
        """Need nothing."""

    def review(self, call: Call, result: object) -> Opinion | Redacted:
        """Redact or withhold."""
        if result == "redact":
            return Redacted(result="", reason="all of it")
        return Opinion(verdict=Verdict.DENY, reason="it asks for it", author="")


class Failing:
    """A plugin that cannot judge one of the tools."""

    @hookimpl
    def interlock_opinion(self, call: Call) -> None:
        """Fail for one tool."""
        if call.tool.name == "unjudged":
            raise RuntimeError("out of order")


def main() -> None:
    """Call each tool with and without a span around it, and print what was sent."""
    spans, logs, reader = (
        InMemorySpanExporter(),
        InMemoryLogRecordExporter(),
        InMemoryMetricReader(),
    )
    tracing, logging = TracerProvider(), LoggerProvider()
    tracing.add_span_processor(SimpleSpanProcessor(spans))
    logging.add_log_record_processor(SimpleLogRecordProcessor(logs))
    trace.set_tracer_provider(tracing)
    _logs.set_logger_provider(logging)
    metrics.set_meter_provider(MeterProvider([reader]))
    recorder = Recorder()
    with (
        Governor(
            "sqlite://",
            policy=POLICY,
            plugins=[Failing(), recorder],
            evaluators={"reviewer": Reviewer},
        ) as governor,
        governor.session("wire", agent="tester"),
    ):
        for tool in (fine, breaks, unjudged, asked, steered, denied, redacted, withheld):
            _attempt(tool)
        _attempt(lambda: _ask_a_model(governor, name="asked_chat"))
        for ticket in governor.read(tickets.pending):
            governor.write(tickets.approve, ticket.id, by="ann")
        _attempt(asked)
        _attempt(lambda: _ask_a_model(governor, name="asked_chat"))
        _attempt(lambda: _ask_a_model(governor))
        _attempt(lambda: _ask_a_model(governor, fails=True))
        _attempt(lambda: _ask_a_model(governor, name="redacted_chat", answer="redact"))
        _attempt(lambda: _ask_a_model(governor, name="withheld_chat", answer="withhold"))
        with trace.get_tracer("framework").start_as_current_span("around"):
            _attempt(fine)
    observed = {"version": 1, "name": "support", "mode": "observe"}
    with (
        Governor("sqlite://", policy=observed, plugins=[recorder]) as governor,
        governor.session("wire", agent="tester"),
    ):
        _attempt(denied)
        _attempt(lambda: _ask_a_model(governor))
    sent: dict[str, set[str]] = defaultdict(set)
    kinds: dict[str, set[str]] = defaultdict(set)
    places = {item.id: (item.kind, item.seq, item.hash) for item in recorder.recorded}
    joined: dict[str, list[bool]] = defaultdict(list)
    for span in spans.get_finished_spans():
        if span.instrumentation_scope and span.instrumentation_scope.name == "interlock":
            sent[span.name.split()[0]].update(span.attributes or {})
            kinds[span.name.split()[0]].add(span.kind.name)
            kind, seq, head = places.get(_text(span, "interlock.event.id"), ("none", 0, ""))
            told = (span.attributes or {}).get("interlock.event.seq")
            joined[f"{span.name.split()[0]} {kind}"].append(
                (told or 0, _text(span, "interlock.chain.head")) == (seq, head)
            )
    for item in logs.get_finished_logs():
        record = item.log_record
        sent["event"].update(record.attributes or {})
        kinds[f"{record.event_name}"].add(str(record.severity_text or record.severity_number.name))
    for metric in _metrics(reader):
        for point in metric.data.data_points:
            sent["metric"].update(point.attributes)
        kinds[metric.name].add(metric.unit)
    shown = {"sent": sent, "kinds": kinds, "joined": joined}
    print(json.dumps(shown, default=sorted))  # noqa: T201 - its answer


def _ask_a_model(
    governor: Governor, name: str = "chat", *, fails: bool = False, answer: str = ""
) -> None:
    with governor.model_call(model="m", provider="p", name=name) as call:
        call.review(answer)
        call.record(
            Usage(
                input_tokens=9,
                output_tokens=8,
                cache_read_tokens=7,
                cache_write_tokens=2,
                reasoning_tokens=6,
                cost_usd=Decimal("0.1"),
            )
        )
        if fails:
            raise TimeoutError


def _attempt(tool: Any) -> None:
    with contextlib.suppress(Exception):  # what is refused or raises is shown, too
        tool()


def _text(span: ReadableSpan, name: str) -> str:
    return str((span.attributes or {}).get(name, ""))


def _metrics(reader: InMemoryMetricReader) -> list[Any]:
    data = reader.get_metrics_data()
    resources = data.resource_metrics if data else ()
    return [m for r in resources for scope in r.scope_metrics for m in scope.metrics]


if __name__ == "__main__":
    main()
