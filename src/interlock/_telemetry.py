"""
Telemetry: each decision as a span, a log event and a point of a histogram. Every name on the wire is in `_wire`.

It observes and fails open: what goes wrong here is logged and changes no call. Only OpenTelemetry's API is used, so
without an SDK everything below costs a few microseconds and shows nothing. No argument, result, exception text or
person is ever on the wire.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

from opentelemetry import metrics, trace
from opentelemetry._logs import get_logger, get_logger_provider
from opentelemetry.trace import TracerProvider
from opentelemetry.util.types import AttributeValue

from interlock._wire import (
    CHAIN_HEAD,
    DECISION_DURATION,
    EVENT_ID,
    EVENT_SEQ,
    NOTE,
    NOTE_NAME,
    SCOPE,
    SESSION_ID,
)
from interlock.events import AppNoted, Recorded, TraceIds

_P = ParamSpec("_P")

# From a decision in memory, by one commit to a disk, to an evaluator's timeout, in steps of about 2.5.
_BUCKETS_S = (
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1,
    2.5,
    5,
    10,
)


# Where the API keeps the providers that are set: asking it for each looks into the environment, three times in every
# call. A release that keeps them elsewhere is asked.
_UNKNOWN = object()
_TRACING = trace.get_tracer_provider.__globals__
_LOGGING = get_logger_provider.__globals__
_METERING = metrics.get_meter_provider.__globals__

log = logging.getLogger("interlock")


def fails_open(method: Callable[_P, None]) -> Callable[_P, None]:
    """Make *method* log what it raises instead of raising it."""

    @wraps(method)
    def guarded(*args: _P.args, **kwargs: _P.kwargs) -> None:
        try:
            method(*args, **kwargs)
        except Exception:
            log.exception("telemetry failed in %s; decisions are unaffected", method.__qualname__)

    return guarded


class Telemetry:
    """The instruments of one governor."""

    def __init__(
        self, *, tracer_provider: TracerProvider | None = None, verdict_in_name: bool = True
    ) -> None:
        """
        Get the instruments; those of the global providers follow when the host sets a provider later.

        Args:
            tracer_provider: Where spans go instead of the global provider.
            verdict_in_name: Whether a span's name shows a verdict other than allow, as in `govern refund [deny]`.
        """
        self.tracer = trace.get_tracer(SCOPE, tracer_provider=tracer_provider)
        self.logger = get_logger(SCOPE)
        self.duration = metrics.get_meter(SCOPE).create_histogram(
            DECISION_DURATION,
            unit="s",
            description="Time from a call's description to its recorded decision.",
            explicit_bucket_boundaries_advisory=_BUCKETS_S,
        )
        self.verdict_in_name = verdict_in_name
        self._heard = tracer_provider is not None

    @property
    def is_heard(self) -> bool:
        """Whether the host has set a provider of spans, logs or metrics, which happens once, if at all."""
        if not self._heard:
            if (
                _TRACING.get("_TRACER_PROVIDER", _UNKNOWN) is None
                and _LOGGING.get("_LOGGER_PROVIDER", _UNKNOWN) is None
                and _METERING.get("_METER_PROVIDER", _UNKNOWN) is None
            ):
                return False
            self._heard = not (
                _is_empty(trace.get_tracer_provider())
                and _is_empty(get_logger_provider())
                and _is_empty(metrics.get_meter_provider())
            )
        return self._heard


def current_ids() -> TraceIds | None:
    """Return where the span is that is current; None where nothing traces."""
    found = trace.get_current_span().get_span_context()
    if not found.is_valid:
        return None
    return TraceIds(f"{found.trace_id:032x}", f"{found.span_id:016x}", int(found.trace_flags))


@fails_open
def show_note(recorded: Recorded) -> None:
    """Show a note that was recorded as an event of the current span: its name, and nothing of its data."""
    span, noted = trace.get_current_span(), recorded.event
    if span.is_recording() and isinstance(noted, AppNoted):
        attributes: dict[str, AttributeValue] = {
            NOTE_NAME: noted.name,
            SESSION_ID: recorded.session_id,
            EVENT_ID: recorded.id,
            EVENT_SEQ: recorded.seq,
            CHAIN_HEAD: recorded.hash,
        }
        span.add_event(NOTE, attributes)


def _is_empty(provider: object) -> bool:
    """Whether *provider* is the API's own, which does nothing until the host sets another."""
    kind = type(provider)
    return kind.__module__.startswith("opentelemetry.") and "Proxy" in kind.__name__
