"""Telemetry of a call: which spans there are, what they say, and how rows and spans join."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from pydantic import BaseModel

from interlock import Call, Governor, Opinion, Refused, Tool, governed
from interlock.errors import EvaluatorFailed
from interlock.events import CallDecided, CallFinished, SessionOpened, TicketOpened, TraceIds
from interlock.testing import Recorder
from tests.shapes import BASIC, Shape
from tests.tracing import ERROR, POLICY, UNSET, Traces, attributes, own, parent, recorded, status

MakeGovernor = Callable[..., Governor]


class ToolFailed(Exception):
    """What a tool raises here."""


class Config(BaseModel):
    """The configuration of `Raises`: none."""


class Raises:
    """An evaluator that fails."""

    Config = Config

    def __init__(self, config: Config) -> None:
        """Take no configuration."""

    def evaluate(self, call: Call) -> Opinion | None:
        """Fail."""
        raise ToolFailed("card-of-ann")


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


def ids(span: Any) -> TraceIds:
    """Where *span* is, as rows say it."""
    found = span.get_span_context()
    return TraceIds(f"{found.trace_id:032x}", f"{found.span_id:016x}", int(found.trace_flags))


def test_an_allowed_call(shape: Shape, books: Governor, traces: Traces, recorder: Recorder) -> None:
    """Broken if an allowed call is not one trace of root, decision and execution, or they say something else."""
    tool = shape.make(lambda order, amount: "secret result", name="look")

    with books.session("ticket-4711", agent="bot", user="u-17", org="acme") as session:
        shape.run(tool, "secret order")

    decided, finished = recorded(recorder, CallDecided), recorded(recorder, CallFinished)
    root = traces.spans["governed_call look"]
    decision, execution = traces.spans["govern look"], traces.spans["execute_tool look"]
    assert traces.names == ["execute_tool look", "govern look", "governed_call look"]
    assert (parent(root), parent(decision), parent(execution)) == (None, own(root), own(root))
    assert [status(span) for span in (root, decision, execution)] == [UNSET] * 3
    whose = {"gen_ai.agent.name": "bot", "gen_ai.conversation.id": "ticket-4711"}
    verdict = {
        "interlock.decision.verdict": "allow",
        "interlock.decision.admitted": True,
        "interlock.decision.authors": ("policy:desk",),
        "interlock.policy.rule.id": "look",
    }
    assert attributes(root) == {"openinference.span.kind": "CHAIN", **whose}
    assert attributes(decision) == {
        "openinference.span.kind": "GUARDRAIL",
        "interlock.call.id": decided.event.call_id,
        "interlock.call.name": "look",
        "interlock.call.kind": "tool",
        "interlock.session.id": session.id,
        "interlock.policy.name": "desk",
        "interlock.policy.digest": decided.event.policy,
        "interlock.event.id": decided.id,
        "interlock.event.seq": decided.seq,
        "interlock.chain.head": decided.hash,
        **whose,
        **verdict,
    }
    assert attributes(execution) == {
        "openinference.span.kind": "TOOL",
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "look",
        "gen_ai.tool.type": "function",
        "interlock.call.id": decided.event.call_id,
        "interlock.call.outcome": "returned",
        "interlock.event.id": finished.id,
        "interlock.event.seq": finished.seq,
        "interlock.chain.head": finished.hash,
        **whose,
        **verdict,
    }


@pytest.mark.parametrize("refused", ["refund ask", "wire steer", "close deny", "other deny"])
def test_a_refused_call(
    refused: str, shape: Shape, books: Governor, traces: Traces, recorder: Recorder
) -> None:
    """Broken if a refusal cannot be seen in its span's name, is shown as an error, or as an execution."""
    name, verdict = refused.split()
    tool = shape.make(lambda order, amount: None, name=name)

    with books.session("s", agent="bot"), pytest.raises(Refused):
        shape.run(tool, "o-1")

    decided = recorded(recorder, CallDecided)
    assert traces.names == [f"govern {name} [{verdict}]", f"governed_call {name}"]
    assert [status(span) for span in traces.finished] == [UNSET] * 2
    told = attributes(traces.spans[f"govern {name} [{verdict}]"])
    assert (told["interlock.decision.verdict"], told["interlock.decision.admitted"]) == (
        verdict,
        False,
    )
    assert told.get("interlock.policy.rule.id") == (None if name == "other" else name)
    assert told.get("interlock.ticket.id") == decided.event.ticket_id
    assert (decided.event.ticket_id is not None) == (verdict == "ask")
    assert told["interlock.chain.head"] == decided.hash


def test_the_verdict_may_be_kept_out_of_names(governor: MakeGovernor, traces: Traces) -> None:
    """Broken if the setting for backends that group by name does nothing."""
    books = governor(
        POLICY, url="sqlite://", tracer_provider=traces.provider, verdict_in_span_name=False
    )

    with books.session("s", agent="bot"), pytest.raises(Refused):
        governed(name="close")(lambda: None)()

    assert traces.names == ["govern close", "governed_call close"]


@pytest.mark.promise(7)
@pytest.mark.parametrize("tool", ["look", "refund", "close"])
def test_rows_and_spans_join_both_ways(
    tool: str, shape: Shape, books: Governor, traces: Traces, recorder: Recorder
) -> None:
    """Broken if one cannot get from a row to its span, from a span to its row, or check the chain by the spans."""
    made = shape.make(lambda order, amount: None, name=tool)

    with books.session("s", agent="bot") as session:
        try:
            shape.run(made, "o-1")
        except Refused:
            assert tool != "look"

    (decision,) = [span for span in traces.finished if span.name.startswith("govern ")]
    by_kind = {one.kind: one for one in recorder.recorded}
    expected = {"session_opened", "session_closed", "call_decided"}
    asked = {"ticket_opened", "ticket_resolved"}  # cancelled with the session
    expected |= {"look": {"call_finished"}, "refund": asked}.get(tool, set())
    assert set(by_kind) == expected
    for kind, one in by_kind.items():
        untraced = kind.startswith("session") or kind == "ticket_resolved"
        assert one.trace == (None if untraced else ids(decision))
    assert attributes(decision)["interlock.event.id"] == by_kind["call_decided"].id
    (report,) = books.verify()
    assert (report.session_id, report.problem) == (session.id, None)


def test_a_failing_tool(shape: Shape, books: Governor, traces: Traces) -> None:
    """Broken if the text of an exception, which holds what the tool was given, is on a span."""

    def body(order: Any, amount: Any) -> None:
        raise ToolFailed(f"no such card: {order}")

    tool = shape.make(body, name="look")

    with books.session("s", agent="bot"), pytest.raises(ToolFailed):
        shape.run(tool, "card-of-ann")

    execution = traces.spans["execute_tool look"]
    assert status(execution) == ERROR
    assert attributes(execution)["error.type"] == "ToolFailed"
    assert attributes(execution)["interlock.call.outcome"] == "raised"
    assert status(traces.spans["govern look"]) == UNSET
    assert "card-of-ann" not in "".join(span.to_json() for span in traces.finished)


@pytest.mark.parametrize("outcome", ["abandoned", "cancelled"])
def test_other_endings_are_no_errors(
    outcome: str, books: Governor, traces: Traces, caplog: pytest.LogCaptureFixture
) -> None:
    """Broken if a stream that is left early, or a tool that is cancelled, looks like a failure."""

    @governed(name="look")
    async def stream() -> AsyncGenerator[int]:
        yield 1
        await anyio.sleep_forever()

    async def main() -> None:
        with anyio.CancelScope() as scope:
            items = stream()
            await anext(items)
            if outcome == "abandoned":
                await items.aclose()
            scope.cancel()
            await anext(items, None)

    with books.session("s", agent="bot"):
        anyio.run(main)

    execution = traces.spans["execute_tool look"]
    assert status(execution) == UNSET
    assert attributes(execution)["interlock.call.outcome"] == outcome
    assert caplog.text == ""


def test_a_call_that_could_not_be_judged(
    shape: Shape, governor: MakeGovernor, traces: Traces, recorder: Recorder
) -> None:
    """Broken if the failure of a judge looks like a refusal, or its text is on the span."""
    policy = {"version": 1, "name": "p", "default": "allow", "evaluators": [{"use": "raises"}]}
    books = governor(
        policy,
        url="sqlite://",
        evaluators={"raises": Raises},
        tracer_provider=traces.provider,
        plugins=[recorder],
    )
    tool = shape.make(lambda order, amount: None, name="look")

    with books.session("s", agent="bot"), pytest.raises(EvaluatorFailed):
        shape.run(tool, "o-1")

    decision = traces.spans["govern look [deny]"]
    assert status(decision) == ERROR
    assert attributes(decision)["error.type"] == "EvaluatorFailed"
    assert attributes(decision)["interlock.event.id"] == recorded(recorder, CallDecided).id
    assert "card-of-ann" not in "".join(span.to_json() for span in traces.finished)


def test_a_request_ahead_of_its_call(books: Governor, traces: Traces, recorder: Recorder) -> None:
    """Broken if a ticket that was opened ahead of a call cannot be found from its trace."""
    with books.session("s", agent="bot") as session:
        ticket = session.ticket(Tool(name="refund"), {})
        session.ticket(Tool(name="look"), {})

    assert ticket is not None
    decision = traces.spans["govern refund [ask]"]
    assert traces.names == ["govern refund [ask]", "governed_call refund"]
    assert attributes(decision)["interlock.ticket.id"] == ticket.id
    assert recorded(recorder, TicketOpened).trace == ids(decision)


def test_a_request_made_before(books: Governor, traces: Traces) -> None:
    """Broken if asking whether a ticket is answered makes a trace, with nothing in it, each time."""
    with books.session("s", agent="bot") as session:
        opened = session.ticket(Tool(name="refund"), {})
        again = session.ticket(Tool(name="refund"), {})

    assert opened is not None
    assert again == opened
    assert traces.names == ["govern refund [ask]", "governed_call refund"]


@pytest.mark.promise(7)
def test_sampled_out(shape: Shape, governor: MakeGovernor, recorder: Recorder) -> None:
    """Broken if a row of an unsampled trace has no ids, or claims that the trace was kept."""
    traces = Traces(ALWAYS_OFF)
    books = governor(POLICY, url="sqlite://", plugins=[recorder], tracer_provider=traces.provider)
    tool = shape.make(lambda order, amount: "result", name="look")

    with books.session("s", agent="bot"):
        assert shape.run(tool, "o-1") == "result"

    found = recorded(recorder, CallDecided).trace
    assert traces.finished == []
    assert found is not None
    assert (len(found.trace_id), len(found.span_id), found.flags & 1) == (32, 16, 0)
    assert int(found.trace_id, 16) != 0
    assert recorded(recorder, CallFinished).trace == found
    assert recorded(recorder, SessionOpened).trace is None


def test_nothing_traces(shape: Shape, governor: MakeGovernor, recorder: Recorder) -> None:
    """Broken if rows have ids of a trace that does not exist."""
    tool = shape.make(lambda order, amount: "result", name="look")

    with governor(POLICY, url="sqlite://", plugins=[recorder]).session("s", agent="bot"):
        assert shape.run(tool, "o-1") == "result"

    assert {one.trace for one in recorder.recorded} == {None}


@pytest.mark.promise(9)
def test_no_person_and_no_content(shape: Shape, books: Governor, traces: Traces) -> None:
    """Broken if a span holds who it is about, or what went in or came out."""
    tool = shape.make(
        lambda order, amount: {"reply": "secret-out"},
        name="look",
        resource="order",
        cost="amount",
        labels=["internal"],
    )

    with books.session("s", agent="bot", user="ann@x.org", team="t-9", org="o-9"):
        shape.run(tool, "secret-in", "1234.56")

    wire = "".join(span.to_json() for span in traces.finished)
    for secret in ("secret-in", "secret-out", "1234.56", "ann@x.org", "t-9", "o-9"):
        assert secret not in wire
