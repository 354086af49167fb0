"""
A program that makes governed calls and prints the spans of each, for tests of telemetry.

It is a process of its own: the protocol's package traces to the process's provider, which other tests must not have.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import anyio
from bank import Effects, bank
from mcp import Client
from mcp.shared.memory import create_client_server_memory_streams
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from interlock import Governor
from interlock_mcp import Proxy, canary

EXPORTER = InMemorySpanExporter()
HEARD: list[str] = []


def taken() -> list[dict[str, Any]]:
    """Return the spans that ended since the last time."""
    found = [
        {
            "name": span.name,
            "kind": span.kind.name,
            "id": f"{span.context.span_id:016x}",
            "parent": span.parent and f"{span.parent.span_id:016x}",
            "trace": f"{span.context.trace_id:032x}",
            "attributes": dict(span.attributes or {}),
        }
        for span in EXPORTER.get_finished_spans()
    ]
    EXPORTER.clear()
    return found


async def run(url: str) -> dict[str, Any]:
    """Make the calls."""
    found: dict[str, Any] = {}
    canary()
    found["canary"] = taken()
    server = bank(Effects())

    async def look(context: Any, call_next: Any) -> Any:
        if context.method == "tools/call":
            HEARD.append((context.params.get("_meta") or {}).get("traceparent"))
        return await call_next(context)

    server.middleware.insert(0, look)
    rules = [{"id": "pay", "tools": ["bank.pay"], "verdict": "allow"}]
    policy = {"version": 1, "name": "test", "default": "deny", "rules": rules}
    low = server._lowlevel_server
    async with (
        Governor(url, policy=policy) as governor,
        governor.session("case", agent="desk") as session,
        create_client_server_memory_streams() as (streams, (read, write)),
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(low.run, read, write, low.create_initialization_options())

        class Connected:
            async def __aenter__(self) -> Any:
                return streams

            async def __aexit__(self, *_: object) -> None:
                pass

        proxy = Proxy(Connected, session, name="bank")
        async with Client(proxy.server, mode="legacy") as client:
            await client.list_tools()
            await client.call_tool("pay", {"amount": 1})
            for name in ("pay", "look"):
                taken()
                with trace.get_tracer("host").start_as_current_span("host"):
                    await client.call_tool(name, {"amount": 5, "order": "o-1"})
                found[name] = taken()
        tasks.cancel_scope.cancel()
    found["heard"] = HEARD[-1:]
    return found


if __name__ == "__main__":
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(EXPORTER))
    trace.set_tracer_provider(provider)
    url = f"sqlite:///{Path(sys.argv[1]) / 'interlock.db'}"
    sys.stdout.write(json.dumps(anyio.run(run, url)))
