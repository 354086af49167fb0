"""Running: together, nested, cut short, cancelled, and as spans."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import pytest
from agents import Runner, function_tool
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from interlock import governed, hookimpl
from interlock.events import Recorded
from interlock_openai_agents import govern

GENERIC = "An error occurred while running the tool. Please try again."


async def test_parallel_calls_are_each_recorded_once(desk: Any) -> None:
    """Broken if calls that run at the same time share a decision, lose one, or wait for each other."""
    arrived: list[int] = []
    everybody = anyio.Event()

    @function_tool
    async def meet(number: int) -> str:
        """Meet."""
        arrived.append(number)
        if len(arrived) == 8:
            everybody.set()
        await everybody.wait()  # for ever, unless all eight are in here at once
        return f"met {number}"

    turn = [("meet", {"number": number}) for number in range(8)]
    agent = govern(desk.agent([meet], turn))
    with desk.open("allow") as (governor, session):
        result = await Runner.run(agent, "go")
        (report,) = governor.verify()
        state = session.state()
    assert desk.told(result) == [f"met {number}" for number in range(8)]
    assert sorted(desk.booked()) == [("meet", "allow")] * 8 + [("meet", "returned")] * 8
    assert (report.problem, report.in_doubt, dict(state.running)) == (None, (), {})


async def test_governed_call_inside_a_tool_is_judged_by_itself(desk: Any) -> None:
    """Broken if being inside of an allowed tool allows, or the model is told to try again what was refused."""

    @governed
    async def wire(amount: int) -> str:
        desk.paid.append(amount)
        return "wired"

    @function_tool
    async def settle(amount: int) -> str:
        """Settle."""
        return await wire(amount)

    agent = govern(desk.agent([settle], [("settle", {"amount": 1})], [("settle", {"amount": 9})]))
    rules = [
        {
            "tools": ["wire"],
            "when": {"argument": "amount", "at_least": 5},
            "verdict": "deny",
            "reason": "too much",
        }
    ]
    with desk.open("allow", rules):
        result = await Runner.run(agent, "go")
    assert desk.told(result) == ["wired", "wire is denied: too much. Do not retry it."]
    assert desk.paid == [1]
    assert desk.booked() == [
        ("settle", "allow"),
        ("wire", "allow"),
        ("wire", "returned"),
        ("settle", "returned"),
        ("settle", "allow"),
        ("wire", "deny"),
        ("settle", "raised", "Denied"),
    ]


async def test_host_that_words_failures_itself_is_left_to_it(desk: Any) -> None:
    """Broken if a refusal from inside of a tool overrides the host's own words for failures."""

    @governed
    def wire() -> str:
        return "wired"

    @function_tool(failure_error_function=lambda _context, _error: "no luck")
    def settle() -> str:
        """Settle."""
        return wire()

    agent = govern(desk.agent([settle], [("settle", {})]))
    with desk.open("allow", [{"tools": ["wire"], "verdict": "deny"}]):
        result = await Runner.run(agent, "go")
    assert desk.told(result) == ["no luck"]


async def test_timeout_of_the_sdk_is_recorded_as_a_cancellation(desk: Any) -> None:
    """Broken if a tool that the SDK cuts off stays open in the books, or the SDK's words for it change."""

    @function_tool(timeout=0.3)
    async def sleep() -> str:
        """Sleep."""
        await anyio.sleep_forever()
        return "never"

    agent = govern(desk.agent([sleep], [("sleep", {})]))
    with desk.open("allow") as (_, session):
        result = await Runner.run(agent, "go")
        state = session.state()
    assert desk.told(result) == ["Tool 'sleep' timed out after 0.3 seconds."]
    assert desk.booked() == [("sleep", "allow"), ("sleep", "cancelled", "CancelledError")]
    assert dict(state.running) == {}


@pytest.mark.promise(6)
async def test_cancelled_run_leaves_nothing_in_doubt(desk: Any) -> None:
    """Broken if cancelling a run loses the outcome of the call that was under way."""
    started, finished = asyncio.Event(), asyncio.Event()

    class Watcher:
        @hookimpl
        def interlock_recorded(self, recorded: Recorded) -> None:
            if getattr(recorded.event, "outcome", None) == "cancelled":
                finished.set()

    @function_tool
    async def wait() -> str:
        """Wait."""
        started.set()
        await anyio.sleep_forever()
        return "never"

    agent = govern(desk.agent([wait], [("wait", {})]))
    with desk.open("allow", plugins=[Watcher()]) as (governor, _):
        run = asyncio.create_task(Runner.run(agent, "go"))
        await started.wait()
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        await finished.wait()  # the SDK does not wait for the tools that it cancels
        (report,) = governor.verify()
    assert desk.booked() == [("wait", "allow"), ("wait", "cancelled", "CancelledError")]
    assert (report.problem, report.in_doubt) == (None, ())


async def test_failure_of_one_call_settles_its_siblings(desk: Any) -> None:
    """Broken if calls that the SDK cancels because another one failed stay open in the books."""
    started = anyio.Event()

    @function_tool
    async def wait() -> str:
        """Wait."""
        started.set()
        await anyio.sleep_forever()
        return "never"

    @function_tool(failure_error_function=None)
    async def fail() -> str:
        """Fail."""
        await started.wait()
        raise LookupError

    agent = govern(desk.agent([wait, fail], [("wait", {}), ("fail", {})]))
    with desk.open("allow") as (_, session):
        with pytest.raises(Exception, match="Error running tool fail"):
            await Runner.run(agent, "go")
        state = session.state()
    assert sorted(desk.booked()) == [
        ("fail", "allow"),
        ("fail", "raised", "LookupError"),
        ("wait", "allow"),
        ("wait", "cancelled", "CancelledError"),
    ]
    assert dict(state.running) == {}


async def test_spans_stand_where_the_run_stands(desk: Any) -> None:
    """Broken if the decision and the tool are not seen below the span that the host has around the run."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("host")

    @function_tool
    async def look() -> str:
        """Look."""
        with tracer.start_as_current_span("inside"):
            return "seen"

    agent = govern(desk.agent([look], [("look", {})]))
    with desk.open("allow", tracer_provider=provider), tracer.start_as_current_span("host"):
        await Runner.run(agent, "go")
    shown = [span for span in exporter.get_finished_spans() if "chat" not in span.name]
    spans = {span.name: span for span in shown}
    parents = {
        name: next(
            (
                n
                for n, s in spans.items()
                if span.parent and s.context and s.context.span_id == span.parent.span_id
            ),
            None,
        )
        for name, span in spans.items()
    }
    assert parents == {
        "host": None,
        "govern look": "host",
        "execute_tool look": "host",
        "inside": "execute_tool look",
    }
