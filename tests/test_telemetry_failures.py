"""Telemetry fails open: whatever breaks in it is logged, and changes no decision, no result and no row."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any

import anyio
import pytest
from opentelemetry import context
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    SimpleSpanProcessor,
    SpanExporter,
    SpanExportResult,
)
from opentelemetry.sdk.trace.sampling import Sampler
from opentelemetry.trace import (
    INVALID_SPAN_CONTEXT,
    NonRecordingSpan,
    SpanContext,
    set_span_in_context,
)
from pydantic import BaseModel

from interlock import Call, Denied, Governor, Opinion, Verdict, governed
from interlock.errors import StoreUnavailable
from interlock.events import Outcome
from interlock.testing import Recorder
from tests.shapes import BASIC, Shape
from tests.tracing import ERROR, Traces, attributes, status

MakeGovernor = Callable[..., Governor]

POLICY: dict[str, Any] = {
    "version": 1,
    "name": "desk",
    "default": "deny",
    "rules": [{"id": "look", "tools": ["look", "fail"], "verdict": "allow"}],
}


class ToolFailed(Exception):
    """What a tool raises here."""


class Broken(Exception):
    """What telemetry raises here."""


class RaisesAtStart(SpanProcessor):
    """A processor that fails when a span starts."""

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        """Fail."""
        raise Broken


class RaisesAtEnd(SpanProcessor):
    """A processor that fails when a span ends."""

    def on_end(self, span: ReadableSpan) -> None:
        """Fail."""
        raise Broken


class RaisesAtExport(SpanExporter):
    """An exporter that fails."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Fail."""
        raise Broken


class RaisesAtSampling(Sampler):
    """A sampler that fails."""

    def should_sample(self, *args: Any, **kwargs: Any) -> Any:
        """Fail."""
        raise Broken

    def get_description(self) -> str:
        """Say what it does."""
        return "raises"


class Unusable:
    """A span, tracer and provider of which nothing works once it is built."""

    def get_tracer(self, *args: Any, **kwargs: Any) -> Any:
        """Return something that is no tracer."""
        return self

    def start_span(self, *args: Any, **kwargs: Any) -> Any:
        """Return something that is no span."""
        return self

    def __getattr__(self, name: str) -> Any:
        raise Broken(name)


class Unidentified:
    """A provider whose spans of decisions cannot say which they are."""

    class _Span(NonRecordingSpan):
        def get_span_context(self) -> SpanContext:
            raise Broken

    def get_tracer(self, *args: Any, **kwargs: Any) -> Any:
        """Return itself."""
        return self

    def start_span(self, name: str, **kwargs: Any) -> Any:
        """Return a span that fails if it is a decision's."""
        kind = self._Span if name.startswith("govern ") else NonRecordingSpan
        return kind(INVALID_SPAN_CONTEXT)


def processing(processor: SpanProcessor) -> TracerProvider:
    """A provider with one processor."""
    provider = TracerProvider()
    provider.add_span_processor(processor)
    return provider


BREAKAGES: dict[str, Callable[[], Any]] = {
    "at start": lambda: processing(RaisesAtStart()),
    "at end": lambda: processing(RaisesAtEnd()),
    "at export": lambda: processing(SimpleSpanProcessor(RaisesAtExport())),
    "at sampling": lambda: TracerProvider(sampler=RaisesAtSampling()),
    "at ids": Unidentified,
    "everywhere": Unusable,
}


@pytest.mark.promise(1)
@pytest.mark.parametrize("breakage", BREAKAGES)
@pytest.mark.parametrize("shape", BASIC, ids=str)
def test_what_breaks_changes_nothing(
    breakage: str,
    shape: Shape,
    governor: MakeGovernor,
    recorder: Recorder,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Broken if a tracing backend's failure lets a call through, stops one, or silently costs the traces."""
    provider = BREAKAGES[breakage]()
    books = governor(POLICY, url="sqlite://", plugins=[recorder], tracer_provider=provider)
    ran: list[str] = []
    error, result = ToolFailed(), object()

    def fail(order: Any, amount: Any) -> None:
        raise error

    def look(order: Any, amount: Any) -> object:
        ran.append("look")
        return result

    with caplog.at_level(logging.ERROR), books.session("s", agent="bot") as session:
        assert shape.run(shape.make(look, name="look"), "o-1") is result
        with pytest.raises(ToolFailed) as caught:
            shape.run(shape.make(fail, name="fail"), "o-1")
        with pytest.raises(Denied):
            shape.run(shape.make(lambda order, amount: ran.append("close"), name="close"), "o-1")
        state = session.state()

    assert caught.value is error
    assert ran == ["look"]
    assert state.verdicts == {Verdict.ALLOW: 2, Verdict.DENY: 1}
    assert state.outcomes == {Outcome.RETURNED: 1, Outcome.RAISED: 1}
    assert [one.seq for one in recorder.recorded] == list(range(1, 8))
    (report,) = books.verify()
    assert report.problem is None
    assert "Broken" in caplog.text
    if breakage != "at export":  # which the SDK itself reports
        assert "decisions are unaffected" in caplog.text


@pytest.mark.promise(1)
@pytest.mark.parametrize("provider", [None, TracerProvider()], ids=["none", "sdk"])
def test_a_broken_span_around_a_call_changes_nothing(
    provider: TracerProvider | None, governor: MakeGovernor, caplog: pytest.LogCaptureFixture
) -> None:
    """Broken if a call is stopped by another's span that is current, and of which nothing can be told."""

    class Around(NonRecordingSpan):
        def get_span_context(self) -> SpanContext:
            raise Broken

    books = governor(POLICY, url="sqlite://", tracer_provider=provider)
    look = governed(name="look")(lambda order: order)
    with caplog.at_level(logging.ERROR), books.session("s", agent="bot") as session:
        token = context.attach(set_span_in_context(Around(INVALID_SPAN_CONTEXT)))
        try:
            assert look("o-1") == "o-1"
        finally:
            context.detach(token)
        assert session.state().outcomes == {Outcome.RETURNED: 1}
    assert "decisions are unaffected" in caplog.text


def test_an_exporter_that_hangs_holds_nobody_up(governor: MakeGovernor) -> None:
    """Broken if a call waits for the backend that is to show it."""
    released, exporting = threading.Event(), threading.Event()

    class Hangs(SpanExporter):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            exporting.set()
            released.wait(30)
            return SpanExportResult.SUCCESS

    processor = BatchSpanProcessor(Hangs(), schedule_delay_millis=1)
    books = governor(POLICY, url="sqlite://", tracer_provider=processing(processor))
    look = governed(name="look")(lambda order: order)
    try:
        with books.session("s", agent="bot") as session:
            look("o-1")
            assert exporting.wait(30)
            for number in range(50):
                look(f"o-{number}")
            assert session.state().outcomes == {Outcome.RETURNED: 51}
        assert not released.is_set()
    finally:
        released.set()
        processor.shutdown()


def test_one_broken_part_does_not_cost_the_others(
    governor: MakeGovernor, caplog: pytest.LogCaptureFixture
) -> None:
    """Broken if a failing metric or log takes the span of the decision with it."""
    traces = Traces()
    books = governor(POLICY, url="sqlite://", tracer_provider=traces.provider)
    instruments = books._machinery.telemetry
    instruments.duration = Unusable()
    instruments.logger = Unusable()

    with books.session("s", agent="bot"):
        governed(name="look")(lambda: None)()
        with pytest.raises(Denied):
            governed(name="close")(lambda: None)()

    assert traces.names == [
        "execute_tool look",
        "govern close [deny]",
        "govern look",
        "governed_call close",
        "governed_call look",
    ]
    assert caplog.text.count("decisions are unaffected") == 4


class Config(BaseModel):
    """The configuration of `Waits`: none."""


class Waits:
    """An evaluator that is cancelled while it judges."""

    Config = Config

    def __init__(self, config: Config) -> None:
        """Take no configuration."""

    async def evaluate(self, call: Call) -> Opinion | None:
        """Wait for ever."""
        await anyio.sleep_forever()


def test_spans_end_once(governor: MakeGovernor, caplog: pytest.LogCaptureFixture) -> None:
    """Broken if a call that is cancelled while it is judged ends its spans twice, of which the SDK complains."""
    traces = Traces()
    policy = {"version": 1, "name": "p", "default": "allow", "evaluators": [{"use": "waits"}]}
    books = governor(
        policy, url="sqlite://", evaluators={"waits": Waits}, tracer_provider=traces.provider
    )

    @governed(name="look")
    async def tool() -> None:
        pass

    async def main() -> None:
        with anyio.move_on_after(0.01):
            await tool()

    with books.session("s", agent="bot"):
        anyio.run(main)

    assert traces.names == ["govern look", "governed_call look"]
    assert caplog.text == ""


@pytest.mark.promise(1)
@pytest.mark.parametrize("shape", BASIC, ids=str)
def test_a_call_that_could_not_be_recorded(shape: Shape, governor: MakeGovernor) -> None:
    """Broken if the loss of the store cannot be seen in the traces."""
    traces = Traces()
    books = governor(POLICY, tracer_provider=traces.provider)
    session = books.session("s", agent="bot")
    session.__enter__()
    books.close()

    with pytest.raises(StoreUnavailable):
        shape.run(shape.make(lambda order, amount: None, name="look"), "o-1")
    with pytest.raises(StoreUnavailable):
        session.__exit__(None, None, None)

    assert traces.names == ["govern look", "governed_call look"]
    decision = traces.spans["govern look"]
    assert status(decision) == ERROR
    assert attributes(decision)["error.type"] == "StoreUnavailable"
    assert "interlock.event.id" not in attributes(decision)


@pytest.mark.promise(6)
@pytest.mark.parametrize("shape", BASIC, ids=str)
def test_an_outcome_that_could_not_be_recorded(
    shape: Shape, governor: MakeGovernor, caplog: pytest.LogCaptureFixture
) -> None:
    """Broken if the loss of the store while a tool runs costs its result, or cannot be seen."""
    traces = Traces()
    books = governor(POLICY, tracer_provider=traces.provider)
    result = object()

    def body(order: Any, amount: Any) -> object:
        books.close()
        return result

    session = books.session("s", agent="bot")
    session.__enter__()
    assert shape.run(shape.make(body, name="look"), "o-1") is result
    with pytest.raises(StoreUnavailable):
        session.__exit__(None, None, None)

    execution = traces.spans["execute_tool look"]
    assert traces.names == ["execute_tool look", "govern look", "governed_call look"]
    assert status(execution) == ERROR
    assert attributes(execution)["error.type"] == "StoreUnavailable"
    assert "look ran, but its outcome could not be recorded" in caplog.text
