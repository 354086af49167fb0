"""Replay: the flow of each recorded call, driven once more by what was recorded, comes to the same decision."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from interlock import ApprovalNeeded, Governor, HaltedError, Policy, Refused, Tool, Usage, events
from interlock._again import Again, Replay, again
from interlock._verdict import Mode, Opinion, Verdict
from interlock.errors import Conflict
from interlock.store import policies, tickets
from interlock.store.events import history
from interlock.testing import ManualClock
from tests import eventful

Doctor = Any


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str, list[events.Recorded]]:
    """The eventful session: its store, its id, and its events."""
    url = f"sqlite:///{tmp_path_factory.mktemp('replay') / 'interlock.db'}"
    session_id = eventful.live(url, ManualClock())
    with Governor(url) as governor:
        return url, session_id, governor.read(partial(history, limit=10_000), session_id)


def replayed(lived: Any, recorded: Iterable[events.Recorded]) -> Replay:
    """Go through *recorded* again, with the policies of the store."""
    url, session_id, _ = lived
    known = list(recorded)
    with Governor(url) as governor:
        return again(
            session_id,
            lambda: known,
            lambda digest: Policy.parse(governor.read(policies.document, digest)),
        )


def doctored(lived: Any, number: int, **fields: Any) -> Replay:
    """Go through the session again with another record of its call *number*, from 1."""
    changed: list[events.Recorded] = []
    seen = 0
    for one in lived[2]:
        event = one.event
        if isinstance(event, events.CallDecided):
            seen += 1
            if seen == number:
                body = events.body_of(msgspec.structs.replace(event, **fields))
                changed.append(msgspec.structs.replace(one, body=body))
                continue
        changed.append(one)
    return replayed(lived, changed)


def number_of(lived: Any, tool: str, verdict: Verdict, *, approved: bool = False) -> int:
    """Return the number of the first such call."""
    decided = [one.event for one in lived[2] if isinstance(one.event, events.CallDecided)]
    return next(
        number
        for number, one in enumerate(decided, 1)
        if one.tool == tool and one.verdict is verdict and bool(one.approved_by) is approved
    )


def test_every_decision_comes_out_again(either: str) -> None:
    """Broken if a decision cannot be made again from what rules, evaluators, budgets, people and halts said."""
    session_id = eventful.live(either, ManualClock())
    with Governor(either) as governor:
        found = governor.replay(session_id)
    assert found.differing == ()
    assert found.unknown == ()
    assert found.decisions == 32


@pytest.mark.parametrize("mode", ["observe", "dry_run"])
def test_other_modes_come_out_again(governor: Any, mode: str) -> None:
    """Broken if what was only observed, or simulated, is decided otherwise when it is made again."""
    one = governor({"version": 1, "name": "p", "mode": mode, "default": "deny"})
    with one.session("s", agent="a") as session:
        if mode == "observe":
            eventful.look("x")
        else:
            with pytest.raises(Exception, match="denied"):
                eventful.look("x")
    found = one.replay(session.id)
    assert (found.decisions, found.differing, found.unknown) == (1, (), ())


def test_a_halt_binds_again_where_a_policy_only_observes(governor: Any) -> None:
    """Broken if what a halt refused, in a mode in which nothing else refuses, comes out as let through."""
    one = governor({"version": 1, "name": "p", "mode": "observe", "default": "allow"})
    with one.session("s", agent="a") as session:
        one.halt(agent="a", reason="enough", by="ann")
        with pytest.raises(HaltedError):
            eventful.look("x")
    found = one.replay(session.id)
    assert (found.decisions, found.differing, found.unknown) == (1, (), ())


def test_the_newest_ticket_answers_again(governor: Any, clock: ManualClock) -> None:
    """Broken if a call that was asked about twice is held to the ticket that has expired."""
    one = governor({"version": 1, "name": "p", "default": "ask"}, clock=clock)
    with one.session("s", agent="a") as session:
        with pytest.raises(ApprovalNeeded):
            eventful.look("x")
        clock.advance(timedelta(hours=2))
        with pytest.raises(ApprovalNeeded) as needed:
            eventful.look("x")
        one.write(tickets.approve, needed.value.ticket.id, by="ann")
        eventful.look("x")
    found = one.replay(session.id)
    assert (found.decisions, found.differing, found.unknown) == (3, (), ())


LIE = Opinion(verdict=Verdict.DENY, reason="a lie", author="policy:support", rule="refunds")


@pytest.mark.parametrize(
    ("tool", "verdict", "fields", "differs"),
    [
        ("look", Verdict.ALLOW, {"verdict": Verdict.ASK}, "verdict"),
        ("unknown", Verdict.DENY, {"admitted": True}, "admitted"),
        ("look", Verdict.ALLOW, {"reason": "because"}, "reason"),
        ("look", Verdict.ALLOW, {"opinions": (LIE,)}, "opinions"),
        ("look", Verdict.ALLOW, {"opinions": ()}, "opinions"),
        ("look", Verdict.ALLOW, {"approved_by": "eve"}, "approved_by"),
        ("look", Verdict.ALLOW, {"grant_id": "g"}, "grant_id"),
        ("look", Verdict.ALLOW, {"labels": ()}, "verdict"),
        ("refund", Verdict.ASK, {"ticket_id": None, "approved_by": "ann"}, "approved_by"),
        ("search", Verdict.DENY, {"answers": ()}, "reason"),
        ("wire", Verdict.DENY, {"verdict": Verdict.STEER}, "verdict"),
        ("look", Verdict.ALLOW, {"mode": Mode.DRY_RUN}, "mode"),
    ],
)
def test_another_decision_is_found_and_named(
    lived: Any, tool: str, verdict: Verdict, fields: dict[str, Any], differs: str
) -> None:
    """Broken if a record that does not follow from what was said passes, or is not named by call and field."""
    number = number_of(lived, tool, verdict)
    [found] = doctored(lived, number, **fields).differing
    assert tool == found.tool
    assert differs in [one.field for one in found.differences]
    decided = [one for one in lived[2] if isinstance(one.event, events.CallDecided)]
    assert decided[number - 1].seq == found.seq


def test_what_budgets_said_is_computed_again(lived: Any) -> None:
    """Broken if a refusal for want of room is believed though there was room, or the other way round."""
    denied = [
        number
        for number, one in enumerate(
            (e.event for e in lived[2] if isinstance(e.event, events.CallDecided)), 1
        )
        if any(o.author == "budget:wires" for o in one.opinions)
    ]
    [emptied] = doctored(lived, denied[0], taken=(events.Amounts(), events.Amounts())).differing
    assert ("verdict", "deny", "ask") in [
        (one.field, one.recorded, one.again) for one in emptied.differences
    ]
    [filled] = doctored(lived, 2, taken=(events.Amounts(), events.Amounts(cost=10**15))).differing
    assert ("verdict", "allow", "deny") in [
        (one.field, one.recorded, one.again) for one in filled.differences
    ]


def test_a_yes_that_nobody_gave_is_found(lived: Any) -> None:
    """Broken if an approved call passes though its ticket was never approved."""
    recorded = lived[2]
    unanswered = [
        one
        for one in recorded
        if not isinstance(one.event, (events.TicketApproved, events.TicketResolved))
    ]
    found = replayed(lived, unanswered)
    assert {"refund", "mail"} <= {one.tool for one in found.differing}
    fields = [f.field for one in found.differing for f in one.differences]
    assert "admitted" in fields


def test_a_result_that_should_have_been_withheld_is_found(lived: Any) -> None:
    """Broken if a result that a reviewer objected to may be recorded as given, and nobody notices."""
    objects = Opinion(verdict=Verdict.DENY, reason="no", author="evaluator:x")
    changed: list[events.Recorded] = []
    for one in lived[2]:
        event = one.event
        if isinstance(event, events.CallFinished) and event.tool == "look":
            body = events.body_of(msgspec.structs.replace(event, reviews=(objects,)))
            changed.append(msgspec.structs.replace(one, body=body))
        else:
            changed.append(one)
    found = replayed(lived, changed)
    assert {"withheld"} == {f.field for one in found.differing for f in one.differences}


def test_masked_arguments_are_said_to_be_unknown(governor: Any) -> None:
    """Broken if replay claims to know what a policy says of arguments that were kept out of the record."""
    one = governor(
        {
            "version": 1,
            "name": "p",
            "rules": [
                {
                    "id": "cards",
                    "tools": ["mail"],
                    "when": {"argument": "card", "equals": "4111-secret"},
                    "verdict": "allow",
                }
            ],
        }
    )
    with one.session("s", agent="a") as session:
        eventful.mail("ann@example.com")
    found = one.replay(session.id)
    assert found.differing == ()
    [unknown] = found.unknown
    assert unknown.unknown == ("what its policy says: its arguments are masked in the record",)


def test_another_policy_says_what_would_differ(lived: Any) -> None:
    """Broken if a what-if names other calls than those that differ, or claims to know what people would say."""
    url, session_id, _ = lived
    other = Policy.build({"version": 1, "name": "other", "default": "allow", "rules": [
        {"id": "wires", "tools": ["wire"], "verdict": "ask"},
    ]})  # fmt: skip
    with Governor(url, evaluators=eventful.EVALUATORS) as governor:
        found = governor.replay(session_id, policy=other)
    by_tool: dict[str, set[tuple[str, str]]] = {}
    for one in found.differing:
        for field in one.differences:
            if field.field == "verdict":
                by_tool.setdefault(one.tool, set()).add((field.recorded, field.again))
    assert {("deny", "allow")} == by_tool["unknown"]
    assert {("steer", "ask"), ("deny", "ask")} == by_tool["wire"]
    assert {("ask", "allow"), ("deny", "allow")} == by_tool["refund"]
    assert not {"request_payment", "flaky"} & set(by_tool)
    wires = [one for one in found.differing if one.tool == "wire"]
    assert all("whether somebody would have said yes" in one.unknown for one in wires)


def test_another_policys_own_budgets_are_not_known(lived: Any) -> None:
    """Broken if a what-if pretends to know what was spent of a budget that did not exist."""
    url, session_id, _ = lived
    budget = {"name": "another", "per": "user", "calls": 1}
    other = Policy.build({"version": 1, "name": "o", "default": "allow", "budgets": [budget]})
    with Governor(url) as governor:
        found: list[Again] = [*governor.replay(session_id, policy=other).unknown]
    said = "what budget another says: what was taken of it is not recorded"
    assert found
    assert all(said in one.unknown for one in found)


def test_a_session_that_is_not_there_is_told(lived: Any) -> None:
    """Broken if replaying nothing looks like replaying something."""
    with Governor(lived[0]) as governor, pytest.raises(Conflict, match="no session nope"):
        governor.replay("nope")


def test_a_policy_file_can_be_given(lived: Any, tmp_path: Path) -> None:
    """Broken if the path of a policy is not taken for one."""
    path = tmp_path / "other.yaml"
    path.write_text("version: 1\nname: other\ndefault: deny\n", encoding="utf-8")
    with Governor(lived[0]) as governor:
        found = governor.replay(lived[1], policy=path)
    assert {"deny"} == {
        f.again for o in found.differing for f in o.differences if f.field == "verdict"
    }


def test_what_tokens_and_leases_said_comes_out_again(governor: Any) -> None:
    """Broken if a call that was refused for its tokens, or since others held the lease, is let through again."""
    one = governor(
        {
            "version": 1,
            "name": "p",
            "default": "allow",
            "budgets": [{"name": "few", "per": "session", "tokens": 100, "tools": ["model.call"]}],
            "leases": [{"name": "one", "tools": ["look"], "max_concurrent": 1}],
        }
    )
    with one.session("s", agent="a") as session:
        for tokens in (60, 50, 40):
            with (
                suppress(Refused),
                session.model_call(
                    model="m",
                    name="model.call",
                    estimate=Usage(input_tokens=tokens, output_tokens=0),
                ) as call,
            ):
                call.record(Usage(input_tokens=tokens, output_tokens=0))

        def nested(_: dict[str, Any]) -> None:
            with pytest.raises(Refused):
                session.call(Tool(name="look"), {"n": 2}, lambda _: None)

        session.call(Tool(name="look"), {"n": 1}, nested)
    found = one.replay(session.id)
    assert (found.decisions, found.differing, found.unknown) == (5, (), ())
