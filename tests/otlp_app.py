"""
A host that traces: calls of every ending, each with secrets in it, exported over OTLP to a receiver.

Run as `python otlp_app.py URL DATABASE sync|async`; prints how many secrets it planted. Every secret begins with
`planted-`. The governor exists, and makes one call, before the host sets its providers.
"""

from __future__ import annotations

import contextlib
import itertools
import sys
from decimal import Decimal
from typing import Any

import anyio
import anyio.lowlevel
from opentelemetry import metrics, trace
from opentelemetry._logs import set_logger_provider
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from pydantic import BaseModel

from interlock import Call, Governor, Opinion, Verdict, governed
from interlock.errors import InterlockError
from interlock.store import tickets

POLICY: dict[str, Any] = {
    "version": 1,
    "name": "desk",
    "default": "deny",
    "rules": [
        {
            "id": "small",
            "tools": ["look", "fail", "early", "stream"],
            "when": {"argument": "order.lines.0.note", "starts_with": "planted-"},
            "verdict": "allow",
        },
        {"id": "early", "tools": ["early"], "verdict": "allow"},
        {"id": "judged", "tools": ["judged"], "verdict": "allow"},
        {"id": "refund", "tools": ["refund"], "verdict": "ask", "approvers": ["payments-oncall"]},
        {
            "id": "wire",
            "tools": ["wire"],
            "verdict": "steer",
            "guidance": "Use refund.",
            "suggest": ["refund"],
        },
    ],
    "evaluators": [{"use": "breaks", "tools": ["judged"]}],
}

planted = itertools.count()


def secret(kind: str = "argument") -> str:
    """Return a text that must not be seen outside of this process and, if it is an argument, its database."""
    return f"planted-{kind}-{next(planted):04d}-4111111111111111"


def order() -> dict[str, Any]:
    """Return an argument with secrets at every depth, in keys too."""
    return {"id": secret(), "lines": [{"note": secret(), secret(): {secret()}}, (secret(),)]}


class Config(BaseModel):
    """The configuration of `Breaks`: none."""


class Breaks:
    """An evaluator that fails with a secret."""

    Config = Config

    def __init__(self, config: Config) -> None:
        """Take no configuration."""

    def evaluate(self, call: Call) -> Opinion | None:
        """Fail."""
        raise ValueError(secret("error"), call.arguments)


class ToolFailed(Exception):
    """An exception that says too much."""

    def __init__(self, text: str) -> None:
        """Say it in every way that an exception can."""
        super().__init__(text, secret("error"))
        self.card = secret("error")
        self.add_note(secret("error"))


@governed(resource="place", cost="amount", secrets=["card"], labels=["read"], risk="low")
def look(order: Any, place: str, amount: Decimal, *, card: str, note: str = "") -> Any:
    """Find an order."""
    return {"found": secret("result"), "order": order}


@governed
def fail(order: Any) -> None:
    """Fail."""
    raise ToolFailed(secret("error")) from ValueError(secret("error"))


@governed
def stream(order: Any) -> Any:
    """Give items."""
    yield secret("result")
    yield secret("result")


@governed(name="look", resource="place", cost="amount", secrets=["card"])
async def alook(order: Any, place: str, amount: Decimal, *, card: str, note: str = "") -> Any:
    """Find an order, having waited."""
    await anyio.lowlevel.checkpoint()
    return {"found": secret("result"), "order": order}


@governed(name="fail")
async def afail(order: Any) -> None:
    """Fail, having waited."""
    await anyio.lowlevel.checkpoint()
    raise ToolFailed(secret("error"))


@governed(name="stream")
async def astream(order: Any) -> Any:
    """Give items, having waited."""
    await anyio.lowlevel.checkpoint()
    yield secret("result")
    yield secret("result")


@governed
def refund(order: Any) -> str:
    """Refund."""
    return secret("result")


@governed
def wire(order: Any) -> None:
    """Wire."""


@governed
def close(order: Any) -> None:
    """Close."""


@governed
def judged(order: Any) -> None:
    """Be judged."""


@governed
def early(order: Any) -> None:
    """Be called before anything traces."""


def provide(url: str) -> list[Any]:
    """Set the process's providers, as a host does at some time after its imports."""
    resource = Resource({"service.name": "app"})
    tracing = TracerProvider(resource=resource)
    tracing.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{url}/v1/traces")))
    trace.set_tracer_provider(tracing)
    logging = LoggerProvider(resource=resource)
    logging.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter(f"{url}/v1/logs")))
    set_logger_provider(logging)
    reader = PeriodicExportingMetricReader(OTLPMetricExporter(f"{url}/v1/metrics"))
    metering = MeterProvider([reader], resource=resource)
    metrics.set_meter_provider(metering)
    return [tracing, logging, metering]


def call_all(governor: Governor) -> None:
    """Make a call of every ending."""
    for _ in range(4):
        look(order(), secret(), Decimal("41111111.11"), card=secret("card"), note=secret())
    for tool in (wire, close, judged, fail):
        with contextlib.suppress(InterlockError, ToolFailed):
            tool(order())
    for item in stream(order()):
        assert item.startswith("planted-")
        break
    wanted = order()
    try:
        refund(wanted)
    except InterlockError as needed:
        ticket: Any = vars(needed)["ticket"]
        governor.write(tickets.approve, ticket.id, by=secret(), comment=secret())
    refund(wanted)


async def acall_all(governor: Governor) -> None:
    """Make a call of every ending, awaiting."""
    for _ in range(4):
        await alook(order(), secret(), Decimal("41111111.11"), card=secret("card"), note=secret())
    with contextlib.suppress(ToolFailed):
        await afail(order())
    async for item in astream(order()):
        assert item.startswith("planted-")
    with contextlib.suppress(InterlockError):
        wire(order())


def main(url: str, database: str, mode: str) -> None:
    """Run."""
    with Governor(database, policy=POLICY, evaluators={"breaks": Breaks}) as governor:
        session = governor.session(
            f"session-{mode}", agent="bot", user=secret(), team=secret(), org=secret()
        )
        with contextlib.suppress(ToolFailed), session:
            early(order())
            providers = provide(url)
            with trace.get_tracer("app").start_as_current_span("turn") as turn:
                turn.set_attribute("app.control", "control-marker")
                if mode == "sync":
                    call_all(governor)
                else:
                    anyio.run(acall_all, governor)
            raise ToolFailed(secret("error"))
        for provider in providers:
            provider.shutdown()
    assert Verdict.ALLOW < Verdict.DENY
    print(next(planted))  # noqa: T201 - the answer


if __name__ == "__main__":
    main(*sys.argv[1:])
