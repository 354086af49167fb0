"""Where the spans of a call hang: on the application's, with or without a framework's, and what hangs on them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from opentelemetry import trace
from pydantic import BaseModel

from interlock import Call, Governor, Opinion, Refused, governed
from interlock.events import CallDecided
from interlock.testing import Recorder
from tests.shapes import BASIC, SHAPES, Shape
from tests.tracing import POLICY, Traces, attributes, own, parent, recorded

MakeGovernor = Callable[..., Governor]


class Config(BaseModel):
    """The configuration of the evaluators here: none."""


class Traced:
    """An evaluator that makes a span, as one that asks a service would."""

    Config = Config
    provider: Any

    def __init__(self, config: Config) -> None:
        """Take no configuration."""

    def evaluate(self, call: Call) -> Opinion | None:
        """Make a span."""
        self.provider.get_tracer("judge").start_span("judge").end()
        return None


class TracedAsync(Traced):
    """The same, awaiting."""

    async def evaluate(self, call: Call) -> Opinion | None:
        """Make a span after a moment."""
        await anyio.lowlevel.checkpoint()
        return super().evaluate(call)


@pytest.fixture
def traces() -> Traces:
    """Where the spans of this test go."""
    return Traces()


@pytest.fixture
def books(governor: MakeGovernor, traces: Traces, recorder: Recorder) -> Governor:
    """A governor with `POLICY` that traces."""
    return governor(POLICY, url="sqlite://", plugins=[recorder], tracer_provider=traces.provider)


@pytest.fixture(params=BASIC, ids=str)
def shape(request: pytest.FixtureRequest) -> Shape:
    """The four bodies that a tool can have."""
    shape: Shape = request.param
    return shape


def test_calls_hang_on_the_current_span(shape: Shape, books: Governor, traces: Traces) -> None:
    """Broken if calls within a span of the application are not shown where they were made."""
    look = shape.make(lambda order, amount: None, name="look")
    close = shape.make(lambda order, amount: None, name="close")

    with books.session("s", agent="bot"), traces.ambient("agent") as agent:
        shape.run(look, "o-1")
        with pytest.raises(Refused):
            shape.run(close, "o-1")

    assert traces.names == ["agent", "execute_tool look", "govern close [deny]", "govern look"]
    assert {parent(span) for span in traces.finished if span is not agent} == {None, own(agent)}
    assert [parent(traces.spans[name]) for name in traces.names[1:]] == [own(agent)] * 3


@pytest.mark.parametrize("shape", [s for s in SHAPES if not s.is_stream], ids=str)
def test_what_a_tool_traces_is_within_its_execution(
    shape: Shape, books: Governor, traces: Traces
) -> None:
    """Broken if the spans of what a tool does hang beside its own."""
    seen: list[trace.Span] = []

    def body(order: Any, amount: Any) -> None:
        seen.append(trace.get_current_span())
        with traces.ambient("query"):
            pass

    tool = shape.make(body, name="look")
    with books.session("s", agent="bot"):
        shape.run(tool, "o-1")
        seen.append(trace.get_current_span())

    assert parent(traces.spans["query"]) == own(traces.spans["execute_tool look"])
    assert seen[0] is not trace.INVALID_SPAN
    assert seen[1] is trace.INVALID_SPAN


@pytest.mark.promise(8)
def test_a_stream_leaves_its_consumers_span_alone(books: Governor, traces: Traces) -> None:
    """Broken if what the consumer of a stream traces between its items hangs on the stream's span."""

    @governed
    def stream() -> Iterator[int]:
        yield 1
        yield 2

    with books.session("s", agent="bot"), traces.ambient("agent") as agent:
        for number in stream():
            with traces.ambient(f"step {number}"):
                pass

    assert parent(traces.spans["step 1"]) == parent(traces.spans["step 2"]) == own(agent)
    assert parent(traces.spans["execute_tool stream"]) == own(agent)


def framework_span(traces: Traces, tool: str) -> Any:
    """The span that a framework makes around a tool."""
    named = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": tool}
    return traces.ambient(f"execute_tool {tool}", **named)


def test_no_second_execution_span(
    shape: Shape, books: Governor, traces: Traces, recorder: Recorder
) -> None:
    """Broken if a tool that its framework traces is shown as executed twice."""
    tool = shape.make(lambda order, amount: None, name="look")

    with books.session("s", agent="bot"), framework_span(traces, "look"):
        shape.run(tool, "o-1")

    decided = recorded(recorder, CallDecided)
    assert traces.names == ["execute_tool look", "govern look"]
    execution, decision = traces.spans["execute_tool look"], traces.spans["govern look"]
    assert parent(decision) == own(execution)
    assert attributes(execution)["interlock.event.id"] == decided.id
    assert attributes(execution)["interlock.decision.verdict"] == "allow"


def test_a_refusal_is_on_the_frameworks_span(books: Governor, traces: Traces) -> None:
    """Broken if the span of a tool that was refused does not say why nothing ran."""
    tool = governed(name="refund")(lambda: None)

    with books.session("s", agent="bot"), framework_span(traces, "refund"):
        for _ in range(2):
            with pytest.raises(Refused):
                tool()

    execution = traces.spans_of("execute_tool refund")[0]
    assert traces.names == ["execute_tool refund", "govern refund [ask]", "govern refund [ask]"]
    assert attributes(execution)["interlock.decision.verdict"] == "ask"
    assert attributes(execution)["interlock.decision.admitted"] is False


def test_another_tools_span_is_not_taken(books: Governor, traces: Traces) -> None:
    """Broken if a tool within another tool's execution, or a call of its own name, is not shown as executed."""

    @governed(name="look")
    def look(depth: int) -> None:
        if depth:
            look(depth - 1)

    with books.session("s", agent="bot"), framework_span(traces, "outer"):
        look(1)

    executions = traces.spans_of("execute_tool look")
    calls = [attributes(span)["interlock.call.id"] for span in executions]
    assert len(set(calls)) == 2
    inner, outer = executions
    assert parent(inner) == own(outer)


@pytest.mark.parametrize("evaluator", [Traced, TracedAsync], ids=["sync", "async"])
def test_what_an_evaluator_traces_is_within_the_decision(
    evaluator: type[Traced], shape: Shape, governor: MakeGovernor, traces: Traces
) -> None:
    """Broken if the spans of what judges a call do not hang on its decision."""
    policy = {
        "version": 1,
        "name": "p",
        "default": "allow",
        "evaluators": [{"use": "traced"}],
    }
    judge = type("Judge", (evaluator,), {"provider": traces.provider})
    books = governor(
        policy, url="sqlite://", evaluators={"traced": judge}, tracer_provider=traces.provider
    )
    tool = shape.make(lambda order, amount: None, name="look")

    with books.session("s", agent="bot"):
        shape.run(tool, "o-1")
        assert trace.get_current_span() is trace.INVALID_SPAN

    assert parent(traces.spans["judge"]) == own(traces.spans["govern look"])


def test_an_awaited_result_is_within_its_execution(books: Governor, traces: Traces) -> None:
    """Broken if the execution of a function that returns a coroutine ends before the coroutine does."""

    async def later() -> None:
        with traces.ambient("query"):
            await anyio.lowlevel.checkpoint()

    @governed(name="look")
    def tool() -> Awaitable[None]:
        return later()

    async def main() -> None:
        await tool()

    with books.session("s", agent="bot"):
        anyio.run(main)

    execution, query = traces.spans["execute_tool look"], traces.spans["query"]
    assert parent(query) == own(execution)
    assert execution.end_time >= query.end_time
