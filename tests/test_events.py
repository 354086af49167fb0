"""Events: what is written can be read back for ever, and no stored field can change unseen."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from decimal import Decimal
from typing import Any, get_args

import msgspec
import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from interlock import Identity, Opinion, Risk, Usage, Verdict, events
from interlock._budget import Amounts, WindowKey
from interlock._call import Recovery
from interlock._ticket import TicketState
from interlock.events import GENESIS, Outcome, Recorded, TraceIds
from tests.samples import EVENTS, any_event, chained, moments, traces

AT = dt.datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=dt.UTC)
KINDS = list(EVENTS)


def linked(event: events.Event, **fields: Any) -> Recorded:
    """Put one event into its place."""
    known: dict[str, Any] = {
        "id": "e-1",
        "session_id": "s-1",
        "seq": 1,
        "at": AT,
        "trace": None,
        "previous_hash": GENESIS,
    }
    return events.link(event, **{**known, **fields})


def test_every_kind_is_generated() -> None:
    """Broken if a new kind of event is not covered by the tests below."""
    assert set(get_args(events.Event)) == set(KINDS)
    assert {events.kind_of(example) for example in GOLDEN} == {
        str(kind.__struct_config__.tag) for kind in KINDS
    }


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@given(st.data())
def test_every_event_survives_being_stored(kind: type[events.Event], data: st.DataObject) -> None:
    """Broken if reading an event gives anything but what was written, in value or in type."""
    event = data.draw(EVENTS[kind])
    recorded = linked(event)
    assert event == recorded.event
    assert repr(event) == repr(recorded.event)
    assert (events.kind_of(event), 1) == (recorded.kind, recorded.version)
    assert json.loads(recorded.body)["kind"] == recorded.kind


@given(any_event)
def test_bodies_are_canonical(event: events.Event) -> None:
    """Broken if two writers of one event can write two texts, and so two hashes."""
    body = events.body_of(event)
    data = json.loads(body)
    try:
        assert rfc8785.dumps(data).decode() == body
    except rfc8785.IntegerDomainError:  # beyond 2**53, where RFC 8785 stops and sums do not
        plain = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        assert plain == body


DECIDED = events.CallDecided(
    call_id="c-1",
    tool="refund",
    tool_kind="tool",
    risk=Risk.HIGH,
    arguments='{"amount":{"$decimal":"20.00"}}',
    digest="d" * 64,
    resource="o-1",
    cost_usd=Decimal("20.00"),
    verdict=Verdict.ASK,
    admitted=True,
    reason="é",
    opinions=(
        Opinion(
            verdict=Verdict.ASK,
            reason="é",
            author="policy:p",
            rule="r",
            approvers=("ops",),
            expires=dt.timedelta(hours=1),
        ),
    ),
    policy="p" * 64,
    ticket_id="t-1",
    approved_by="ann",
)
GOLDEN: dict[events.Event, str] = {
    events.SessionOpened(name="case", agent="bot", org="acme"): (
        '{"agent":"bot","kind":"session_opened","name":"case","org":"acme"}'
    ),
    DECIDED: (
        '{"admitted":true,"approved_by":"ann","arguments":"{\\"amount\\":{\\"$decimal\\":\\"20.00\\"}}",'
        '"call_id":"c-1","cost_usd":"20.00","digest":"'
        + "d"
        * 64
        + '","kind":"call_decided","opinions":'
        '[{"approvers":["ops"],"author":"policy:p","expires":"PT3600S","reason":"é","rule":"r","verdict":"ask"}],'
        '"policy":"' + "p" * 64 + '","reason":"é","resource":"o-1","risk":"high","ticket_id":"t-1",'
        '"tool":"refund","tool_kind":"tool","verdict":"ask"}'
    ),
    events.TicketOpened(
        ticket_id="t-1", call_id="c-1", tool="refund", digest="d", approvers=("ops",), expires_at=AT
    ): (
        '{"approvers":["ops"],"call_id":"c-1","digest":"d","expires_at":"2026-01-02T03:04:05.000006Z",'
        '"kind":"ticket_opened","ticket_id":"t-1","tool":"refund"}'
    ),
    events.TicketApproved(ticket_id="t-1", by="ann", missing=1): (
        '{"by":"ann","kind":"ticket_approved","missing":1,"ticket_id":"t-1"}'
    ),
    events.GrantGiven(
        grant_id="t-1",
        tool="refund",
        policy="p",
        asked=("policy:p/r",),
        resources=None,
        calls=2,
        cost=0,
        expires_at=AT,
        by="ann",
    ): (
        '{"asked":["policy:p/r"],"by":"ann","calls":2,"cost":0,"expires_at":"2026-01-02T03:04:05.000006Z",'
        '"grant_id":"t-1","kind":"grant_given","policy":"p","resources":null,"tool":"refund"}'
    ),
    events.TicketResolved(
        ticket_id="t-1", state=TicketState.DENIED, by="ann", comment="no", waited_us=1_500_000
    ): (
        '{"by":"ann","comment":"no","kind":"ticket_resolved","state":"denied","ticket_id":"t-1",'
        '"waited_us":1500000}'
    ),
    events.HaltOrdered(
        halt_id="h-1", target="session:s-1", rule="budget:day", reason="it is spent", by="policy:p"
    ): (
        '{"by":"policy:p","halt_id":"h-1","kind":"halt_ordered","reason":"it is spent","rule":"budget:day",'
        '"target":"session:s-1"}'
    ),
    events.CallFinished(
        call_id="c-1", tool="refund", outcome=Outcome.RAISED, duration_us=7, error_type="ValueError"
    ): (
        '{"call_id":"c-1","duration_us":7,"error_type":"ValueError","kind":"call_finished",'
        '"outcome":"raised","tool":"refund"}'
    ),
    events.CallFinished(
        call_id="c-1",
        tool="chat",
        outcome=Outcome.RETURNED,
        duration_us=7,
        cost_usd=Decimal("0.002"),
        charged=Amounts(cost=2_000_000, tokens=30, calls=1),
        usage=Usage(input_tokens=10, output_tokens=20),
        usage_id="u-1",
        provider="p",
        priced_by="caller",
    ): (
        '{"call_id":"c-1","charged":{"calls":1,"cost":2000000,"tokens":30},"cost_usd":"0.002","duration_us":7,'
        '"kind":"call_finished","outcome":"returned","priced_by":"caller","provider":"p","tool":"chat",'
        '"usage":{"input_tokens":10,"output_tokens":20},"usage_id":"u-1"}'
    ),
    events.UsageRecorded(
        usage_id="u-1",
        identity=Identity(agent="bot"),
        model="m",
        usage=Usage(cost_usd=Decimal("0.5")),
        cost_usd=Decimal("0.5"),
        priced_by="caller",
        windows=(WindowKey("b", '["acme"]', 5),),
        charged=Amounts(cost=500_000_000, calls=1),
    ): (
        '{"charged":{"calls":1,"cost":500000000},"cost_usd":"0.5",'
        '"identity":{"agent":"bot","org":null,"team":null,"user":null},"kind":"usage_recorded","model":"m",'
        '"priced_by":"caller","usage":{"cost_usd":"0.5"},"usage_id":"u-1","windows":[["b","[\\"acme\\"]",5]]}'
    ),
    events.SessionHalted(halt_id="h-1", reason="drill", by="ann"): (
        '{"by":"ann","halt_id":"h-1","kind":"session_halted","reason":"drill"}'
    ),
    events.SessionReleased(halt_id="h-1", reason="over", by="bea"): (
        '{"by":"bea","halt_id":"h-1","kind":"session_released","reason":"over"}'
    ),
    events.CallDoubted(call_id="c-1", tool="refund", owner="o-1"): (
        '{"call_id":"c-1","kind":"call_doubted","owner":"o-1","tool":"refund"}'
    ),
    events.CallRecovered(
        call_id="c-1",
        tool="refund",
        happened=None,
        by="interlock",
        rule=Recovery.RETRY,
        charged=Amounts(),
    ): (
        '{"by":"interlock","call_id":"c-1","charged":{},"happened":null,"kind":"call_recovered","rule":"retry",'
        '"tool":"refund"}'
    ),
    events.CallRecovered(call_id="c-1", tool="refund", happened=True, by="ann", comment="seen"): (
        '{"by":"ann","call_id":"c-1","comment":"seen","happened":true,"kind":"call_recovered","tool":"refund"}'
    ),
    events.CallStuck(call_id="c-1", tool="refund", since=AT): (
        '{"call_id":"c-1","kind":"call_stuck","since":"2026-01-02T03:04:05.000006Z","tool":"refund"}'
    ),
    events.SessionStuck(since=AT): (
        '{"kind":"session_stuck","since":"2026-01-02T03:04:05.000006Z"}'
    ),
    events.SessionPaused(): '{"kind":"session_paused"}',
    events.SessionPaused(reason="gone"): '{"kind":"session_paused","reason":"gone"}',
    events.SessionResumed(): '{"kind":"session_resumed"}',
    events.SessionClosed(): '{"kind":"session_closed"}',
    events.AppNoted(name="loop_started", data='{"round":1}'): (
        '{"data":"{\\"round\\":1}","kind":"app_noted","name":"loop_started"}'
    ),
}
"""What version 1 of every event looks like in a database."""


@pytest.mark.parametrize("event", GOLDEN)
def test_what_is_stored_stays_as_it_is(event: events.Event) -> None:
    """Broken if the text of a stored event changes: databases that exist would no longer verify."""
    assert GOLDEN[event] == events.body_of(event)
    assert event == linked(event).event


def test_the_hash_stays_as_it_is() -> None:
    """Broken if the hash of a stored event changes: chains that exist would no longer verify."""
    head = (
        '["interlock.event.v1","' + "0" * 64 + '","s-1",1,"e-1","2026-01-02T03:04:05.000006+00:00",'
    )
    body = '"session_closed",1,"{\\"kind\\":\\"session_closed\\"}",'
    traced = TraceIds("a" * 32, "b" * 16, 1)
    for trace, tail in (None, "null,null,null]"), (traced, f'"{"a" * 32}","{"b" * 16}",1]'):
        sealed = hashlib.sha256((head + body + tail).encode()).hexdigest()
        assert sealed == linked(events.SessionClosed(), trace=trace).hash


def test_a_newer_field_is_passed_over() -> None:
    """Broken if a store that a newer version has written to cannot be read."""
    newer = msgspec.structs.replace(
        linked(events.SessionClosed()), body='{"kind":"session_closed","mood":"good"}'
    )
    assert events.SessionClosed() == newer.event


@pytest.mark.parametrize("body", ["", "{}", '{"kind":"session_opened"}', '{"kind":"x"}', "[]"])
def test_what_is_no_event_is_said_to_be_none(body: str) -> None:
    """Broken if a body that cannot be read comes out as some event."""
    broken = msgspec.structs.replace(linked(events.SessionClosed()), body=body)
    with pytest.raises(msgspec.DecodeError):
        _ = broken.event


CHANGES: dict[str, list[Any]] = {
    "id": ["e-2", ""],
    "session_id": ["s-2"],
    "seq": [2, 0, -1],
    "at": [AT + dt.timedelta(microseconds=1), AT - dt.timedelta(microseconds=1)],
    "kind": ["session_opened", "session_close", ""],
    "version": [2, 0],
    "body": ['{"kind":"session_closed" }', '{"error_type":"X","kind":"session_closed"}', ""],
    "trace": [
        None,
        TraceIds("b" * 32, "b" * 16, 1),
        TraceIds("a" * 32, "c" * 16, 1),
        TraceIds("a" * 32, "b" * 16, 0),
        TraceIds(None, "b" * 16, 1),  # type: ignore[arg-type]
        TraceIds("a" * 32, None, 1),  # type: ignore[arg-type]
        TraceIds("a" * 32, "b" * 16, None),  # type: ignore[arg-type]
    ],
    "previous_hash": ["1" * 64, ""],
}


@pytest.mark.promise(7)
def test_every_field_is_under_the_seal() -> None:
    """Broken if a stored field can be changed and the hash still fits."""
    recorded = linked(events.SessionClosed(), trace=TraceIds("a" * 32, "b" * 16, 1))
    assert events.seal(recorded) == recorded.hash
    assert set(CHANGES) == set(Recorded.__struct_fields__) - {"hash"}
    for field, others in CHANGES.items():
        for other in others:
            changed = msgspec.structs.replace(recorded, **{field: other})
            assert events.seal(changed) != recorded.hash, (field, other)


@pytest.mark.promise(7)
@given(any_event, any_event, moments, traces)
def test_two_events_have_two_hashes(
    one: events.Event, other: events.Event, at: dt.datetime, trace: TraceIds | None
) -> None:
    """Broken if one event can be put in the place of another."""
    first, second = linked(one, at=at, trace=trace), linked(other, at=at, trace=trace)
    assert (one == other) == (first.hash == second.hash)


@pytest.mark.promise(7)
@given(st.lists(st.tuples(any_event, moments, traces), min_size=2, max_size=5), st.data())
def test_a_change_anywhere_breaks_the_chain(history: list[Any], data: st.DataObject) -> None:
    """Broken if an event in the middle can be rewritten and the head of the chain stays what it was."""
    place = data.draw(st.integers(0, len(history) - 1))
    changed = list(history)
    event, at, trace = changed[place]
    changed[place] = (event, at + dt.timedelta(microseconds=1), trace)
    assert chained(history)[-1].hash != chained(changed)[-1].hash
