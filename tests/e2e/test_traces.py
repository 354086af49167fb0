"""
The demo's traces in a real Phoenix: found over its REST API, by the filter of the docs, and looked at in a browser.

Run by `make e2e-traces`, which has Phoenix installed first. It leaves the picture of the page in build/e2e-traces.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from interlock import Governor, Verdict
from interlock.events import CallDecided, Recorded
from interlock.store.events import whole_history
from interlock.store.sessions import newest
from tests.e2e import browser
from tests.e2e.phoenix import ROOT, Phoenix, running, without_settings

PICTURES = ROOT / "build/e2e-traces"
PAGE = ROOT / "docs/how-to/traces.md"
ARRIVAL_S = 30.0
"""How long spans may take from the exporter, which has sent them, to Phoenix's answers."""

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


class Demo:
    """The demo, run to its end: what it recorded, and the Phoenix that has its spans."""

    def __init__(self, phoenix: Phoenix, history: list[Recorded]) -> None:
        """Wait until all spans are there: of decisions, of what was admitted, and of the agent's two runs."""
        self.phoenix = phoenix
        self.decisions = [one for one in history if isinstance(one.event, CallDecided)]
        admitted = [one for one in self.decisions if one.event.admitted]
        until = time.monotonic() + ARRIVAL_S
        while time.monotonic() < until:
            if len(self.spans()) >= len(self.decisions) + len(admitted) + 2:
                return
            time.sleep(0.1)
        pytest.fail(f"after {ARRIVAL_S} seconds there are only: {self.spans()}")

    def spans(self, prefix: str = "", **wanted: str) -> list[dict[str, Any]]:
        """Return the spans whose names begin so."""
        return [span for span in self.phoenix.spans(**wanted) if span["name"].startswith(prefix)]

    def denied(self) -> dict[str, Any]:
        """Return the one span of a denial."""
        (span,) = self.phoenix.spans(attribute="interlock.decision.verdict:deny")
        return span


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Run the demo once, as the docs say, against a Phoenix that ends with these tests."""
    place = tmp_path_factory.mktemp("demo")
    url = f"sqlite:///{place / 'demo.db'}"
    with running(tmp_path_factory.mktemp("phoenix")) as phoenix:
        subprocess.run(
            [sys.executable, ROOT / "examples/support_desk.py", "--db", url],
            cwd=place,
            env=without_settings(os.environ) | phoenix.settings,
            stdout=subprocess.DEVNULL,
            check=True,
        )
        with Governor(url) as books:
            (session,) = books.read(newest)
            history = books.read(lambda connection: [*whole_history(connection, session.id)])
        yield Demo(phoenix, history)


def test_every_decision_arrives(demo: Demo) -> None:
    """Broken if a decision of the demo is not in Phoenix, or another verdict, kind or status than it has."""
    told = Counter(span["attributes"]["interlock.event.id"] for span in demo.spans("govern "))
    kinds = {span["name"].split()[0]: span["span_kind"] for span in demo.spans()}
    failed = [span["name"] for span in demo.spans() if span["status_code"] == "ERROR"]

    assert told == Counter(decided.id for decided in demo.decisions)
    assert kinds == {
        "invoke_agent": "AGENT",
        "govern": "GUARDRAIL",
        "execute_tool": "TOOL",
        "chat": "LLM",
    }
    assert failed == ["execute_tool send_receipt"]


def test_the_denied_call_is_found(demo: Demo) -> None:
    """Broken if who asks Phoenix for denials does not get the demo's, who said so, and where its event is."""
    span = demo.denied()
    (decided,) = [one for one in demo.decisions if one.event.verdict is Verdict.DENY]
    assert decided.trace is not None
    attributes = span["attributes"]

    assert (span["name"], span["span_kind"], span["status_code"]) == (
        "govern delete_customer [deny]",
        "GUARDRAIL",
        "UNSET",
    )
    assert span["context"] == {
        "trace_id": decided.trace.trace_id,
        "span_id": decided.trace.span_id,
    }
    assert attributes["interlock.decision.authors"] == ["policy:support-desk"]
    assert attributes["interlock.decision.admitted"] is False
    assert attributes["interlock.event.seq"] == decided.seq
    assert attributes["interlock.chain.head"] == decided.hash
    assert demo.spans("execute_tool delete_customer") == []


def test_an_approval_joins_two_traces(demo: Demo) -> None:
    """Broken if the trace that asked and the trace that ran cannot be found from each other."""
    (asked,) = demo.spans("govern refund [ask]")
    ticket = asked["attributes"]["interlock.ticket.id"]
    joined = demo.phoenix.spans(attribute=f"interlock.ticket.id:{ticket}")
    (session,) = demo.phoenix.sessions()

    assert Counter(span["name"] for span in joined) == {
        "govern refund [ask]": 1,
        "govern refund": 1,
        "execute_tool refund": 1,
    }
    traces = {span["context"]["trace_id"] for span in joined}
    assert len(traces) == 2
    assert session["session_id"] == "case-4711"
    assert {trace["trace_id"] for trace in session["traces"]} == traces


def test_the_filters_of_the_docs_work(demo: Demo) -> None:
    """Broken if a reader who types a filter of the page into Phoenix sees other spans than the page says."""
    rows = re.findall(r"^\| .* \| `(attributes\[.*)` \|$", PAGE.read_text("utf-8"), re.MULTILINE)
    (asked,) = demo.spans("govern refund [ask]")
    ticket = asked["attributes"]["interlock.ticket.id"]
    found = {
        row: demo.phoenix.filtered(re.sub(r"[0-9a-f-]{36}", ticket, row.replace("\\|", "|")))
        for row in rows
    }

    assert list(found.values()) == [
        ["govern delete_customer [deny]"],
        ["govern delete_customer [deny]", "govern refund [ask]", "govern wire_money [steer]"],
        ["govern wire_money [steer]"],
        ["execute_tool refund", "govern refund", "govern refund [ask]"],
    ]


def test_the_denial_is_seen_on_the_page(
    demo: Demo, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Broken if a person who opens the denied call in Phoenix does not see that it was denied, and by what."""
    if request.config.getoption("--no-browser", default=False):
        pytest.skip("--no-browser: the page was not looked at")
    program = browser.find() or pytest.fail(browser.MISSING, pytrace=False)
    PICTURES.mkdir(parents=True, exist_ok=True)
    url = f"{demo.phoenix.url}/redirects/spans/{demo.denied()['context']['span_id']}"

    seen = browser.look(program, url, profile=tmp_path, picture=PICTURES / "denied-call.png")

    assert "govern delete_customer [deny]" in seen
    assert "govern wire_money [steer]" in seen, "the rest of the trace is beside it"
    assert "execute_tool delete_customer" not in seen
    for row in (
        ("interlock.call.name", "delete_customer"),
        ("interlock.decision.verdict", "deny"),
        ("interlock.decision.admitted", "false"),
        ("interlock.decision.authors.0", "policy:support-desk"),
        ("interlock.policy.name", "support-desk"),
    ):
        assert row in seen.rows, seen.texts
