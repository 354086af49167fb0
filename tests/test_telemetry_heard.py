"""Whether anybody hears the telemetry: a host may set a provider at any time, and of one kind alone."""

from __future__ import annotations

import subprocess
import sys

import pytest

SET = {
    "spans": """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
trace.set_tracer_provider(TracerProvider())
""",
    "logs": """
from opentelemetry._logs import set_logger_provider
from opentelemetry.sdk._logs import LoggerProvider
set_logger_provider(LoggerProvider())
""",
    "metrics": """
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
metrics.set_meter_provider(MeterProvider())
""",
}


@pytest.mark.parametrize("what", SET)
def test_a_provider_that_comes_late_is_heard_of(what: str) -> None:
    """Broken if a host that sets one kind of provider after the governor was built gets nothing of that kind."""
    script = (
        "from interlock._telemetry import Telemetry\n"
        "telemetry = Telemetry()\n"
        "print(telemetry.is_heard)\n"
        f"{SET[what]}"
        "print(telemetry.is_heard, telemetry.is_heard, Telemetry().is_heard)\n"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["False", "True", "True", "True"]


def test_a_release_that_keeps_providers_elsewhere_is_asked() -> None:
    """Broken if another release of OpenTelemetry, whose inside is unlike this one's, would silence every span."""
    script = (
        "from interlock import _telemetry\n"
        "_telemetry._TRACING = {}\n"
        f"{SET['spans']}"
        "print(_telemetry.Telemetry().is_heard)\n"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["True"]
