"""The page on telemetry tells what is on the wire: every span, attribute, event and metric that real calls make."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from interlock import _wire
from tests.docs.pages import DOCS, code, section

PAGE = DOCS / "reference" / "telemetry.md"
PLACES = {"governed_call", "govern", "execute_tool", "chat", "event", "metric"}


@pytest.fixture(scope="module")
def wire() -> dict[str, dict[str, Any]]:
    """What a process of its own sent, because the global providers of one can be set only once."""
    program = Path(__file__).with_name("wire.py")
    done = subprocess.run([sys.executable, program], capture_output=True, check=True)
    sent: dict[str, dict[str, Any]] = json.loads(done.stdout)
    return sent


def _told() -> dict[str, list[str]]:
    told: dict[str, list[str]] = defaultdict(list)
    for row in section(PAGE, "Attributes").rows:
        for place in row["on"].split(", "):
            told[place] += code(row["attribute"])
    return {place: sorted(names) for place, names in told.items()}


def test_attributes(wire: dict[str, dict[str, Any]]) -> None:
    """Broken if an attribute is sent that the page does not tell, or told and never sent, in any of the places."""
    assert set(wire["sent"]) == PLACES
    assert wire["sent"] == _told()


def test_names(wire: dict[str, dict[str, Any]]) -> None:
    """Broken if there is a span, event or metric that the page does not tell, or another unit, kind or severity."""
    spans = {code(row["span"])[0].split()[0]: [row["kind"]] for row in section(PAGE, "Spans").rows}
    (event,) = section(PAGE, "Log events").rows
    (metric,) = section(PAGE, "Metrics").rows
    (event_name,), (metric_name,) = code(event["event"]), code(metric["metric"])
    severities = [word for word in event["severity"].split() if word.isupper()]
    expected = spans | {event_name: severities, metric_name: [metric["unit"]]}
    assert expected == wire["kinds"]


def test_spans_name_their_event(wire: dict[str, dict[str, Any]]) -> None:
    """Broken if id, number and hash on one span are not those of one event, or of another than the page says."""
    joined = {
        "governed_call none": {True},
        "govern call_decided": {True},
        "execute_tool call_finished": {True},
        "chat call_finished": {True},
    }
    assert joined == {name: set(answers) for name, answers in wire["joined"].items()}


def test_constants() -> None:
    """Broken if a name that may go on the wire is defined in the code and not on the page."""
    text = PAGE.read_text("utf-8")
    names = {
        value
        for name, value in vars(_wire).items()
        if name.isupper() and not name.startswith("_") and isinstance(value, str)
    }
    assert sorted(name for name in names if f"`{name}`" not in text) == []
    assert {name for names in _told().values() for name in names} <= names


def test_nothing_is_named_twice() -> None:
    """Broken if two rows could tell two stories of one attribute."""
    names = [name for row in section(PAGE, "Attributes").rows for name in code(row["attribute"])]
    assert sorted(set(names)) == sorted(names)
