"""Spans: one trace from the client to the server, with the decision in it and one `execute_tool` for each process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parent / "traced.py"


@pytest.fixture(scope="module")
def spans(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Give the spans of one run of the program, by what it did."""
    command = [sys.executable, str(SCRIPT), str(tmp_path_factory.mktemp("traces"))]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (ran.returncode, ran.stderr) == (0, "")
    found: dict[str, Any] = json.loads(ran.stdout)
    return found


def test_parentage(spans: dict[str, Any]) -> None:
    """Broken if a decision is in another trace than the call, or hangs on another span."""
    found = spans["pay"]
    by_id = {span["id"]: span for span in found}
    chains = {
        " < ".join(_names(span, by_id)) for span in found if span["kind"] in {"SERVER", "INTERNAL"}
    }
    assert len({span["trace"] for span in found}) == 1
    sent = "MCP send tools/call pay"
    assert {
        "host",
        f"tools/call pay < {sent} < host",
        f"govern bank.pay < tools/call pay < {sent} < host",
        f"tools/call pay < {sent} < tools/call pay < {sent} < host",
    } == chains


def test_no_second_execution(spans: dict[str, Any]) -> None:
    """Broken if a call is shown as executed more often than there are servers that were asked for it."""
    executed = [
        span
        for span in spans["pay"]
        if span["attributes"].get("gen_ai.operation.name") == "execute_tool"
    ]
    assert [(span["name"], span["kind"]) for span in executed] == [
        ("tools/call pay", "SERVER"),
        ("tools/call pay", "SERVER"),
    ]
    # The proxy's own has the decision on it; the other one is the server's, in another process as a rule.
    assert ["interlock.call.id" in span["attributes"] for span in executed] == [False, True]
    assert [span["attributes"]["gen_ai.tool.name"] for span in executed] == ["pay", "bank.pay"]


def test_refusal_is_shown(spans: dict[str, Any]) -> None:
    """Broken if a refusal leaves no span, or one of an execution at the server."""
    names = [span["name"] for span in spans["look"]]
    assert names.count("govern bank.look [deny]") == 1
    assert names.count("tools/call look") == 1


def test_trace_crosses_the_proxy(spans: dict[str, Any]) -> None:
    """Broken if a server in another process cannot join the trace of its client."""
    assert [spans["pay"][0]["trace"]] == [one.split("-")[1] for one in spans["heard"]]


def test_canary_is_not_seen(spans: dict[str, Any]) -> None:
    """Broken if a host's traces show calls that are nobody's."""
    assert spans["canary"] == []


def _names(span: dict[str, Any] | None, by_id: dict[str, Any]) -> list[str]:
    names = []
    while span is not None:
        names.append(span["name"])
        span = by_id.get(span["parent"])
    return names
