"""The other process of the suite for adapters: `python -m` this runs what it reads, and prints what came of it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from interlock._governor import Governor
from interlock.testing._site import Order, Report, Site, Told, harness_at
from interlock.testing.harness import told_of


class _Elsewhere(Site):
    """The site of a test in another process, with the effects of that one."""

    def __init__(self, order: Order) -> None:
        super().__init__(harness_at(order.file, order.harness))
        self.url = order.url
        self._effects = Path(order.effects)


def work(order: Order) -> Report:
    """Do what *order* says."""
    with _Elsewhere(order) as site, _spans(order) as spans:
        with Governor(order.url, policy=order.policy) as governor:
            site.governor = governor
            runs = tuple(_run(site, order) for _ in range(order.times))
        return Report(runs=runs, spans=tuple(spans()))


def _run(site: Site, order: Order) -> Told:
    governor = site.governor
    if order.session is None:
        session = governor.session("suite", agent="suite")
    else:
        session = governor.resume_session(order.session)
    with session:
        site.session = session
        ran = site.run([site.pay()], *order.turns, resumed=order.resumed)
        if order.session is not None:
            session.pause()
    return Told(
        told=ran.told,
        error=None if ran.error is None else f"{type(ran.error).__name__}: {told_of(ran.error)}",
        is_paused=ran.paused is not None,
        effects=tuple(site.effects()),
    )


@contextmanager
def _spans(order: Order) -> Iterator[Any]:
    """Have all spans of this process kept, with one of the host's around the run."""
    if not order.is_traced:
        yield list
        return
    from opentelemetry import trace  # noqa: PLC0415 - the SDK is no dependency
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor  # noqa: PLC0415
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import (  # noqa: PLC0415
        InMemorySpanExporter,
    )

    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    with trace.get_tracer("host").start_as_current_span("host") as host:

        def ended() -> list[dict[str, Any]]:
            host.end()
            return [_shown(span) for span in exporter.get_finished_spans()]

        yield ended


def _shown(span: Any) -> dict[str, Any]:
    return {
        "name": span.name,
        "id": span.context.span_id,
        "parent": None if span.parent is None else span.parent.span_id,
        "trace": f"{span.context.trace_id:x}",
        "attributes": {key: str(value) for key, value in span.attributes.items()},
    }


if __name__ == "__main__":
    report = work(msgspec.json.decode(sys.stdin.buffer.read(), type=Order))
    sys.stdout.write(f"\n{msgspec.json.encode(report).decode()}\n")
