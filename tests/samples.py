"""Calls, opinions, values and events for the tests: plain ones, and strategies that make any."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

from interlock import Call, Identity, Opinion, Risk, Tool, Usage, Verdict, events
from interlock._budget import Amounts, WindowKey
from interlock._call import Recovery, describe
from interlock._ticket import Ticket, TicketState
from interlock.events import Outcome

IDENTITY = Identity(agent="bot", user="u-17", team="desk", org="acme")
NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def call_of(
    arguments: Mapping[str, object] | None = None, *, tool: Tool | None = None, **place: Any
) -> Call:
    """Describe one call of `refund` by the agent "bot" in the session "s-1", unless told otherwise."""
    place = {"call_id": "c-1", "session_id": "s-1", "identity": IDENTITY, **place}
    return describe(tool or Tool(name="refund"), arguments or {}, **place)[0]


def opinion(verdict: Verdict, reason: str = "because", **fields: Any) -> Opinion:
    """Give an opinion of the policy "p"."""
    return Opinion(verdict=verdict, reason=reason, **{"author": "policy:p", **fields})


def ticket_for(call: Call, state: TicketState = TicketState.PENDING, **fields: Any) -> Ticket:
    """Make the ticket for *call*, open for an hour from `NOW`; when it is not pending, "ann" has answered."""
    answered = state is not TicketState.PENDING
    known: dict[str, Any] = {
        "id": "t-1",
        "session_id": call.session_id,
        "call_id": call.id,
        "tool": call.tool.name,
        "digest": call.digest,
        "policy": "0" * 64,
        "arguments": call.recorded,
        "reason": "because",
        "approvers": (),
        "requested_by": ("bot",),
        "state": state,
        "opened_at": NOW,
        "expires_at": NOW + dt.timedelta(hours=1),
        "decided_by": "ann" if answered else None,
        "decided_at": NOW if answered else None,
    }
    return Ticket(**{**known, **fields})


names = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
texts = names
digests = st.text("0123456789abcdef", min_size=64, max_size=64)
moments = st.datetimes(
    min_value=dt.datetime(2000, 1, 1),  # noqa: DTZ001 - hypothesis wants the zone apart
    max_value=dt.datetime(2100, 1, 1),  # noqa: DTZ001
    timezones=st.just(dt.UTC),
).map(lambda moment: moment.replace(fold=0))
durations = st.timedeltas(dt.timedelta(seconds=1), dt.timedelta(days=9))
money = st.decimals(0, 10**9, places=4) | st.decimals(0, 1, allow_nan=False, allow_infinity=False)
some = st.lists(names, max_size=2).map(tuple)

opinions = st.builds(
    Opinion,
    verdict=st.sampled_from(Verdict),
    reason=st.sampled_from(["too much", "fine", "é"]),
    author=st.sampled_from(["policy:p", "evaluator:e", "plugin:q"]),
    version=st.none() | st.just("dist 1.0"),
    rule=st.none() | names,
    guidance=st.none() | st.sampled_from(["ask finance", "wait"]),
    suggestions=some,
    approvers=some,
    expires=st.none() | durations,
    fault=st.booleans(),
)

traces = st.none() | st.builds(
    events.TraceIds,
    st.text("0123456789abcdef", min_size=32, max_size=32),
    st.text("0123456789abcdef", min_size=16, max_size=16),
    st.integers(0, 255),
)

amounts = st.builds(Amounts, st.integers(0, 10**12), st.integers(0, 10**9), st.integers(0, 10**6))
windows = st.lists(
    st.builds(WindowKey, names, st.just('["acme"]'), st.integers(0, 10**15)), max_size=2
).map(tuple)
usages = st.builds(
    Usage,
    input_tokens=st.none() | st.integers(100, 10**9),
    output_tokens=st.none() | st.integers(100, 10**9),
    cache_read_tokens=st.none() | st.integers(0, 100),
    cost_usd=st.none() | st.decimals(0, 10**6, places=4),
)
identities = st.builds(Identity, agent=names, user=st.none() | names, org=st.none() | names)

EVENTS: dict[type[events.Event], st.SearchStrategy[Any]] = {
    events.SessionOpened: st.builds(
        events.SessionOpened,
        name=names,
        agent=names,
        user=st.none() | names,
        team=st.none() | names,
        org=st.none() | names,
        policy=st.none() | digests,
    ),
    events.CallDecided: st.builds(
        events.CallDecided,
        call_id=st.sampled_from(["c-1", "c-2", "c-3"]),
        tool=names,
        tool_kind=st.sampled_from(["tool", "model", "handoff"]),
        risk=st.sampled_from(Risk),
        arguments=st.dictionaries(names, names, max_size=2).map(json.dumps),
        digest=digests,
        resource=st.none() | names,
        cost_usd=st.none() | money,
        verdict=st.sampled_from(Verdict),
        admitted=st.booleans(),
        reason=texts,
        opinions=st.lists(opinions, max_size=2).map(tuple),
        policy=digests,
        ticket_id=st.none() | names,
        approved_by=st.none() | names,
        model=st.none() | names,
        windows=windows,
        reserved=st.none() | amounts,
    ),
    events.TicketOpened: st.builds(
        events.TicketOpened,
        ticket_id=names,
        call_id=names,
        tool=names,
        digest=digests,
        approvers=some,
        expires_at=moments,
    ),
    events.TicketApproved: st.builds(
        events.TicketApproved,
        ticket_id=names,
        by=names,
        comment=st.none() | texts,
        missing=st.integers(1, 100),
    ),
    events.GrantGiven: st.builds(
        events.GrantGiven,
        grant_id=names,
        tool=names,
        policy=names,
        asked=some,
        resources=st.none() | some,
        calls=st.integers(1, 10**6),
        cost=st.integers(0, 2**62),
        expires_at=moments,
        by=names,
    ),
    events.TicketResolved: st.builds(
        events.TicketResolved,
        ticket_id=names,
        state=st.sampled_from(
            [
                TicketState.APPROVED,
                TicketState.DENIED,
                TicketState.EXPIRED,
                TicketState.CANCELLED,
            ]
        ),
        by=names,
        comment=st.none() | texts,
    ),
    events.CallFinished: st.builds(
        events.CallFinished,
        call_id=st.sampled_from(["c-1", "c-2", "c-3"]),
        tool=names,
        outcome=st.sampled_from(Outcome),
        duration_us=st.integers(0, 10**12),
        cost_usd=st.none() | money,
        error_type=st.none() | names,
        result_digest=st.none() | digests,
        charged=st.none() | amounts,
        usage=st.none() | usages,
        usage_id=st.none() | names,
        provider=st.none() | names,
        priced_by=st.none() | names,
    ),
    events.UsageRecorded: st.builds(
        events.UsageRecorded,
        usage_id=names,
        identity=st.none() | identities,
        model=names,
        provider=st.none() | names,
        usage=usages,
        cost_usd=st.none() | money,
        priced_by=st.none() | names,
        windows=windows,
        charged=st.none() | amounts,
    ),
    events.SessionHalted: st.builds(events.SessionHalted, halt_id=names, reason=texts, by=names),
    events.HaltOrdered: st.builds(
        events.HaltOrdered, halt_id=names, target=names, rule=names, reason=texts, by=names
    ),
    events.SessionReleased: st.builds(
        events.SessionReleased, halt_id=names, reason=texts, by=names
    ),
    events.CallDoubted: st.builds(
        events.CallDoubted, call_id=st.sampled_from(["c-1", "c-2", "c-3"]), tool=names, owner=names
    ),
    events.CallRecovered: st.builds(
        events.CallRecovered,
        call_id=st.sampled_from(["c-1", "c-2", "c-3"]),
        tool=names,
        happened=st.none() | st.booleans(),
        by=names,
        rule=st.none() | st.sampled_from(Recovery),
        comment=st.none() | texts,
        charged=st.none() | amounts,
    ),
    events.CallStuck: st.builds(events.CallStuck, call_id=names, tool=names, since=moments),
    events.SessionStuck: st.builds(events.SessionStuck, since=moments),
    events.SessionPaused: st.builds(events.SessionPaused, reason=st.none() | texts),
    events.SessionResumed: st.builds(events.SessionResumed),
    events.SessionClosed: st.builds(
        events.SessionClosed,
        error_type=st.none() | names,
        reason=st.none() | names,
        by=st.none() | names,
    ),
    events.AppNoted: st.builds(
        events.AppNoted, name=names, data=st.dictionaries(names, names, max_size=2).map(json.dumps)
    ),
}
"""A strategy for each kind of event."""

any_event = st.one_of(*EVENTS.values())

histories = st.lists(st.tuples(any_event, moments, traces), max_size=8)


def chained(history: list[tuple[events.Event, dt.datetime, Any]]) -> list[events.Recorded]:
    """Put *history* into one session, numbered and chained as the store does."""
    recorded: list[events.Recorded] = []
    for number, (event, at, trace) in enumerate(history, start=1):
        recorded.append(
            events.link(
                event,
                id=f"e-{number}",
                session_id="s-1",
                seq=number,
                at=at,
                trace=trace,
                previous_hash=recorded[-1].hash if recorded else events.GENESIS,
            )
        )
    return recorded
