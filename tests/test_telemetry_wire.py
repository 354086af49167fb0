"""What goes over the wire: real OTLP from two processes, decoded and as bytes, joined with the rows of the database."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Table

from interlock import Governor
from interlock.events import CallDecided, CallFinished, Outcome, Recorded
from interlock.store.events import whole_history
from interlock.store.tables import DEFAULT
from tests.otlp_receiver import Received, attributes, receiving

APP = Path(__file__).with_name("otlp_app.py")

# Per process: its calls and the verdict on each, without the one that was made before anything traced.
SYNC = Counter(
    {
        ("look", "allow"): 4,
        ("wire", "steer"): 1,
        ("close", "deny"): 1,
        ("judged", "deny"): 1,
        ("fail", "allow"): 1,
        ("stream", "allow"): 1,
        ("refund", "ask"): 2,
    }
)
ASYNC = Counter(
    {("look", "allow"): 4, ("fail", "allow"): 1, ("stream", "allow"): 1, ("wire", "steer"): 1}
)


class Wire:
    """What two processes sent, and what they recorded."""

    def __init__(
        self, received: Received, history: list[Recorded], *, stored: str, planted: int
    ) -> None:
        """Keep it."""
        self.received = received
        self.history = history
        self.stored = stored
        self.planted = planted

    @property
    def decided(self) -> list[Recorded]:
        """The decisions that were traced."""
        traced = [recorded for recorded in self.history if recorded.trace is not None]
        return [recorded for recorded in traced if isinstance(recorded.event, CallDecided)]

    @property
    def decisions(self) -> dict[str, Any]:
        """The spans of decisions, by id."""
        spans = self.received.spans()
        return {span.span_id.hex(): span for span in spans if span.name.startswith("govern ")}


@pytest.fixture(scope="module")
def wire(tmp_path_factory: pytest.TempPathFactory) -> Wire:
    """Two processes, one sync and one async, on one database, sending to one receiver."""
    database = f"sqlite:///{tmp_path_factory.mktemp('wire') / 'interlock.db'}"
    with receiving() as received:
        running = [
            subprocess.Popen(
                [sys.executable, APP, received.url, database, mode],
                env={**os.environ, "OTEL_EXPORTER_OTLP_COMPRESSION": compression},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for mode, compression in (("sync", "gzip"), ("async", "none"))
        ]
        outputs = [process.communicate(timeout=50) for process in running]
    assert [process.returncode for process in running] == [0, 0], outputs
    with Governor(database) as books:
        history = [
            recorded
            for report in books.verify()
            for recorded in books.read(
                lambda c, id_: list(whole_history(c, id_)), report.session_id
            )
        ]
        assert [report.problem for report in books.verify()] == [None, None]
        stored = "\n".join(
            str(tuple(row))
            for table in DEFAULT.metadata.sorted_tables
            for row in books.read(_everything, table)
        )
    return Wire(received, history, stored=stored, planted=sum(int(out) for out, _ in outputs))


def _everything(connection: Connection, table: Table) -> list[Any]:
    return list(connection.execute(table.select()))


@pytest.mark.promise(9)
def test_no_secret_is_on_the_wire(wire: Wire) -> None:
    """Broken if an argument, a result, an exception, a person or a digest of them leaves the process."""
    raw = b"".join(wire.received.raw)
    secrets = [b"planted-", b"4111111111111111", b"41111111.11", b"planted-".hex().encode()]
    for recorded in wire.history:
        if isinstance(recorded.event, CallDecided):
            secrets.append(recorded.event.digest.encode())
        if isinstance(recorded.event, CallFinished) and recorded.event.result_digest:
            secrets.append(recorded.event.result_digest.encode())

    assert wire.planted >= 100
    assert len(secrets) > 20
    assert raw.count(b"control-marker") == 2, "what the application itself sends is found"
    assert [secret for secret in secrets if secret in raw] == []


@pytest.mark.promise(9)
def test_the_books_keep_arguments_and_no_more(wire: Wire) -> None:
    """Broken if a declared secret, a result or the text of an exception is kept, or nothing was planted at all."""
    looks = [r.event.arguments for r in wire.decided if r.event.tool == "look"]
    fails = [r.event for r in wire.history if isinstance(r.event, CallFinished)]

    assert len(looks) == 8
    assert all('"card":{"$secret":true}' in arguments for arguments in looks)
    assert wire.stored.count("planted-argument-") > 100
    for kind in ("card", "result", "error"):
        assert f"planted-{kind}-" not in wire.stored
    assert {finished.error_type for finished in fails} == {None, "ToolFailed", "GeneratorExit"}


def test_every_decision_is_a_span(wire: Wire) -> None:
    """Broken if a decision is not sent, sent twice, sent as an error, or not part of the application's trace."""
    turns = {span.span_id: span for span in wire.received.spans("app")}
    told = Counter(
        (attributes(span)["interlock.call.name"], attributes(span)["interlock.decision.verdict"])
        for span in wire.decisions.values()
    )
    names = {span.name for span in wire.decisions.values()}
    executions = [s for s in wire.received.spans() if s.name.startswith("execute_tool ")]

    assert told == SYNC + ASYNC
    assert names == {
        "govern look",
        "govern wire [steer]",
        "govern close [deny]",
        "govern judged [deny]",
        "govern fail",
        "govern stream",
        "govern refund [ask]",
        "govern refund",
    }
    assert len(turns) == 2
    assert {span.parent_span_id for span in wire.received.spans()} == set(turns)
    assert Counter(span.name for span in executions) == {
        "execute_tool look": 8,
        "execute_tool fail": 2,
        "execute_tool stream": 2,
        "execute_tool refund": 1,
    }
    failed = {span.name for span in wire.received.spans() if span.status.code == 2}
    assert failed == {"govern judged [deny]", "execute_tool fail"}
    assert all(not span.status.message for span in wire.received.spans())
    assert all(not span.events for span in wire.received.spans())
    outcomes = {attributes(span)["interlock.call.outcome"] for span in executions}
    assert outcomes == {"returned", "raised", "abandoned"}


@pytest.mark.promise(7)
def test_rows_and_spans_join(wire: Wire) -> None:
    """Broken if a row cannot be found from its span or the reverse, or the spans are no witness of the chain."""
    assert len(wire.decided) == len(wire.decisions) == (SYNC + ASYNC).total()
    for recorded in wire.decided:
        assert recorded.trace is not None
        span = wire.decisions[recorded.trace.span_id]
        assert span.trace_id.hex() == recorded.trace.trace_id
        assert recorded.trace.flags & 1 == 1
        told = attributes(span)
        assert told["interlock.event.id"] == recorded.id
        assert told["interlock.event.seq"] == recorded.seq
        assert told["interlock.chain.head"] == recorded.hash
        assert told["interlock.session.id"] == recorded.session_id

    finished = {r.id: r for r in wire.history if isinstance(r.event, CallFinished) and r.trace}
    executions = [s for s in wire.received.spans() if s.name.startswith("execute_tool ")]
    assert {attributes(span)["interlock.event.id"] for span in executions} == set(finished)
    for span in executions:
        assert (
            attributes(span)["interlock.chain.head"]
            == finished[attributes(span)["interlock.event.id"]].hash
        )


def test_what_came_before_the_providers_is_not_traced(wire: Wire) -> None:
    """Broken if a provider that a host sets after its imports is not found, or rows name traces that do not exist."""
    untraced = {recorded.kind for recorded in wire.history if recorded.trace is None}
    early = [recorded for recorded in wire.history if '"tool":"early"' in recorded.body]

    assert untraced >= {"session_opened", "session_closed"}
    assert [recorded.trace for recorded in early] == [None] * 4
    assert {recorded.event.outcome for recorded in early if recorded.kind == "call_finished"} == {
        Outcome.RETURNED
    }
    assert "govern early" not in {span.name for span in wire.received.spans()}


def test_every_decision_is_an_event(wire: Wire) -> None:
    """Broken if backends of logs do not see the decisions, or cannot get from one to its span."""
    records = wire.received.logs()
    rows = {recorded.id: recorded for recorded in wire.decided}

    assert {record.event_name for record in records} == {"interlock.decision"}
    assert len(records) == len(rows)
    for record in records:
        told = attributes(record)
        row = rows.pop(told["interlock.event.id"])
        name, verdict = told["interlock.call.name"], told["interlock.decision.verdict"]
        assert row.trace is not None
        assert (record.trace_id.hex(), record.span_id.hex()) == (
            row.trace.trace_id,
            row.trace.span_id,
        )
        assert record.body.string_value == f"{name}: {verdict}"
        assert record.severity_number == (13 if verdict in {"steer", "deny"} else 9)
        assert told == {
            "interlock.call.id": row.event.call_id,
            "interlock.call.name": row.event.tool,
            "interlock.decision.verdict": str(row.event.verdict),
            "interlock.decision.admitted": row.event.admitted,
            "interlock.decision.authors": told["interlock.decision.authors"],
            "interlock.event.id": row.id,
            "interlock.event.seq": row.seq,
            "interlock.chain.head": row.hash,
            **_present("interlock.policy.rule.id", told),
            **_present("interlock.ticket.id", told),
        }
        assert told.get("interlock.ticket.id") == row.event.ticket_id
    assert rows == {}


def _present(key: str, told: dict[str, Any]) -> dict[str, Any]:
    return {key: told[key]} if key in told else {}


def test_every_decision_is_counted(wire: Wire) -> None:
    """Broken if the rate and duration of decisions cannot be watched by verdict, or a label has no bound."""
    metrics = wire.received.metrics()
    points = [point for metric in metrics for point in metric.histogram.data_points]
    counted: Counter[tuple[str, str]] = Counter()
    for point in points:
        told = attributes(point)
        counted[told["interlock.call.name"], told["interlock.decision.verdict"]] += point.count

    assert {(metric.name, metric.unit) for metric in metrics} == {
        ("interlock.decision.duration", "s")
    }
    assert counted == SYNC + ASYNC
    assert {frozenset(attributes(point)) for point in points} == {
        frozenset(
            {
                "interlock.decision.verdict",
                "interlock.call.name",
                "interlock.call.kind",
                "interlock.policy.name",
                "gen_ai.agent.name",
            }
        )
    }
    assert {(point.explicit_bounds[0], point.explicit_bounds[-1]) for point in points} == {
        (0.0001, 10.0)
    }
    assert all(0 < point.sum < 60 * point.count for point in points)
    exemplars = [exemplar.span_id.hex() for point in points for exemplar in point.exemplars]
    assert exemplars
    assert set(exemplars) <= set(wire.decisions)
