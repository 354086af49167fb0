"""Spans in memory: a provider that keeps them, and reading them by name, for the tests of telemetry."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Sampler
from opentelemetry.trace import SpanKind, StatusCode

from interlock.testing import Recorder

Spans = dict[str, ReadableSpan]

POLICY: dict[str, Any] = {
    "version": 1,
    "name": "desk",
    "default": "deny",
    "rules": [
        {"id": "look", "tools": ["look*", "outer", "stream"], "verdict": "allow"},
        {"id": "refund", "tools": ["refund"], "verdict": "ask"},
        {"id": "wire", "tools": ["wire"], "verdict": "steer", "guidance": "Do not."},
        {"id": "close", "tools": ["close"], "verdict": "deny"},
    ],
}
"""One tool for each verdict."""


class Traces:
    """What a provider of its own has exported."""

    def __init__(self, sampler: Sampler = ALWAYS_ON) -> None:
        """Begin with nothing."""
        self.provider = TracerProvider(sampler=sampler)
        self._exporter = InMemorySpanExporter()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    @property
    def finished(self) -> list[ReadableSpan]:
        """All spans that have ended, in the order of their ends."""
        return list(self._exporter.get_finished_spans())

    @property
    def names(self) -> list[str]:
        """Their names, sorted."""
        return sorted(span.name for span in self.finished)

    @property
    def spans(self) -> Spans:
        """The spans by name; no name may have come twice."""
        assert len(set(self.names)) == len(self.names)
        return {span.name: span for span in self.finished}

    def spans_of(self, name: str) -> list[ReadableSpan]:
        """All spans of one name, in the order of their ends."""
        return [span for span in self.finished if span.name == name]

    @contextmanager
    def ambient(self, name: str, **attributes: Any) -> Iterator[ReadableSpan]:
        """Make a span of the application or of its framework current."""
        tracer = self.provider.get_tracer("app")
        with tracer.start_as_current_span(name, attributes=attributes) as span:
            assert isinstance(span, ReadableSpan)
            yield span


def attributes(span: ReadableSpan) -> dict[str, Any]:
    """The attributes of *span*."""
    return dict(span.attributes or {})


def parent(span: ReadableSpan) -> int | None:
    """The span id of the parent of *span*."""
    return None if span.parent is None else span.parent.span_id


def own(span: ReadableSpan) -> int:
    """The span id of *span*."""
    return span.get_span_context().span_id


def status(span: ReadableSpan) -> tuple[StatusCode, str | None, int, SpanKind]:
    """Status and its text, how many events, and the kind: what must hold no text of an exception."""
    return span.status.status_code, span.status.description, len(span.events), span.kind


UNSET = (StatusCode.UNSET, None, 0, SpanKind.INTERNAL)
ERROR = (StatusCode.ERROR, None, 0, SpanKind.INTERNAL)


def recorded(recorder: Recorder, kind: type) -> Any:
    """The only event of one kind, in its place."""
    (found,) = [one for one in recorder.recorded if isinstance(one.event, kind)]
    return found
