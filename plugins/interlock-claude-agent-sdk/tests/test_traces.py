"""Spans: the host's, and below it one decision and one `execute_tool` for each call, with the tool's own within."""

from __future__ import annotations

from typing import Any

import pytest
from claude_agent_sdk import create_sdk_mcp_server
from claude_agent_sdk import tool as sdk_tool
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from interlock import governed
from interlock_claude_agent_sdk import Script, say, use

DONE = [say("done")]


@pytest.fixture
def spans() -> InMemorySpanExporter:
    """Give where the spans of the test are."""
    return InMemorySpanExporter()


@pytest.fixture
def provider(spans: InMemorySpanExporter) -> TracerProvider:
    """Give a provider that keeps spans in memory."""
    made = TracerProvider()
    made.add_span_processor(SimpleSpanProcessor(spans))
    return made


async def test_parentage(desk: Any, spans: InMemorySpanExporter, provider: TracerProvider) -> None:
    """Broken if a call is in another trace than its host, has two spans, or its tool's spans are elsewhere."""
    tracer = provider.get_tracer("host")

    @governed
    def pay(amount: int) -> str:
        with tracer.start_as_current_span("inside"):
            return f"paid {amount}"

    @sdk_tool("pay", "Pay.", {"amount": int})
    async def tool(arguments: dict[str, Any]) -> dict[str, Any]:
        return {"content": [{"type": "text", "text": pay(**arguments)}]}

    uses = [desk.touch("A"), use("mcp__bank__pay", amount=5)]
    servers = {"bank": create_sdk_mcp_server("bank", tools=[tool])}
    with (
        desk.open(default="allow", tracer_provider=provider),
        tracer.start_as_current_span("host"),
        Script(uses, DONE) as script,
    ):
        await desk.run(script, mcp_servers=servers, governed={"tools": [pay]})
    found = spans.get_finished_spans()
    by_id = {span.context.span_id: span for span in found if span.context is not None}
    assert len({span.context.trace_id for span in found if span.context is not None}) == 1
    assert sorted(chain(span, by_id) for span in found) == [
        "chat claude-sonnet-4-5 < host",
        "execute_tool Bash < host",
        "execute_tool pay < host",
        "govern Bash < host",
        "govern chat < host",
        "govern pay < host",
        "host",
        "inside < execute_tool pay < host",
    ]


def chain(span: ReadableSpan, by_id: dict[int, ReadableSpan]) -> str:
    """Return the names of a span and of those above it."""
    if span.parent is None:
        return span.name
    above = by_id.get(span.parent.span_id)
    return f"{span.name} < {chain(above, by_id) if above is not None else '?'}"
