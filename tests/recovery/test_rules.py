"""What becomes of calls whose process is gone: what their tool declares, or what a human has found out."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from interlock import Governor, Interrupted, Misuse, current_call, governed
from interlock._call import Recovery
from interlock.errors import Conflict
from interlock.events import CallDoubted, CallRecovered, SessionPaused
from interlock.store import recovery
from interlock.testing import ManualClock, Recorder
from tests.recovery import _left
from tests.recovery._left import (
    POLICY,
    TERM,
    Process,
    again,
    ask,
    hold,
    kinds,
    reserved,
    rows,
    sound,
    spent,
    told,
)

pytestmark = pytest.mark.promise(6)

Make = Callable[..., Governor]


@pytest.fixture
def database(either: str) -> str:
    """Run every test here on both databases."""
    return either


@pytest.fixture
def left(governor: Make, clock: ManualClock) -> Process:
    """A process with a session, of which nothing was heard since."""
    _left.asked.clear()
    return Process(governor(POLICY, clock=clock))


@pytest.fixture
def other(governor: Make, clock: ManualClock) -> Governor:
    """Another process, which recovers."""
    return governor(POLICY, clock=clock)


def test_held(left: Process, other: Governor, clock: ManualClock) -> None:
    """Broken if a call of which nothing is known is not left to a human, or keeps others from its lease."""
    left.begin(hold)
    clock.advance(TERM)
    done = other.recover()
    [found] = done.doubted
    assert (found.tool, found.rule, found.doubted_at) == ("hold", Recovery.HOLD, clock.now())
    assert done.lost == (left.governor._store.owner.id,)
    assert other.leases() == []  # the slot is another's to take
    assert (reserved(other), spent(other)) == (1, 0)  # which must not be less than the truth
    [doubted] = told(other, left.session.id, CallDoubted)
    assert (doubted.call_id, doubted.owner) == (found.call_id, done.lost[0])
    [report] = other.verify()
    assert (report.in_doubt, report.state.in_doubt) == ((found.call_id,), {found.call_id: "hold"})
    assert report.state.running == {}
    health = other.health()
    assert (health.running, health.in_doubt, health.in_doubt_since) == (0, 1, clock.now())
    assert sound(other)


def test_made_again(left: Process, other: Governor, clock: ManualClock) -> None:
    """Broken if what may be made again still holds of budgets and leases, or is asked of a human."""
    left.begin(again)
    clock.advance(TERM)
    done = other.recover()
    assert [one.tool for one in done.retried] == ["again"]
    assert done.doubted == ()
    assert (reserved(other), spent(other), other.leases()) == (0, 0, [])
    [recovered] = told(other, left.session.id, CallRecovered)
    assert (recovered.happened, recovered.by, recovered.rule) == (None, "interlock", Recovery.RETRY)
    with other.resume_session(left.session.id):
        assert list(again()) == ["k"]
    assert spent(other) == 1
    assert sound(other)


@pytest.mark.parametrize(
    ("key", "happened", "left_reserved", "charged"),
    [("yes", True, 0, 1), ("no", False, 0, 0), ("unknown", None, 1, 0), ("broken", None, 1, 0)],
)
def test_asked(
    left: Process,
    other: Governor,
    clock: ManualClock,
    key: str,
    happened: bool | None,
    left_reserved: int,
    charged: int,
) -> None:
    """Broken if what a tool says of its call is not what the books say, or silence counts as an answer."""
    admitted_at = clock.now()
    left.begin(ask, key)
    clock.advance(TERM)
    done = other.recover(tools=[ask])
    [question] = _left.asked
    assert (question.tool, question.arguments, question.session_id) == (
        "ask",
        {"key": key},
        left.session.id,
    )
    assert question.admitted_at == admitted_at
    assert (len(done.happened), len(done.not_happened), len(done.doubted)) == (
        int(happened is True),
        int(happened is False),
        int(happened is None),
    )
    if happened is not None:
        [recovered] = told(other, left.session.id, CallRecovered)
        assert (recovered.happened, recovered.rule) == (happened, Recovery.PROBE)
    assert (reserved(other), spent(other)) == (left_reserved, charged)
    assert other.leases() == []
    assert sound(other)


def test_asked_later(left: Process, other: Governor, clock: ManualClock) -> None:
    """Broken if a call cannot be asked about once it is in doubt, or one run without its tool decides it."""
    left.begin(ask, "yes")
    clock.advance(TERM)
    assert len(other.recover().doubted) == 1
    assert _left.asked == []
    assert len(other.recover(tools=[ask]).happened) == 1
    assert (reserved(other), spent(other)) == (0, 1)
    assert kinds(other, left.session.id)[-3:] == [
        "call_doubted",
        "session_paused",
        "call_recovered",
    ]
    assert sound(other)


def test_asked_outside_of_transactions(
    governor: Make, left: Process, other: Governor, clock: ManualClock
) -> None:
    """Broken if a probe that looks into the same store, as it well may, keeps recovery from going on."""
    seen: list[str] = []

    def looks(call: Interrupted) -> bool:
        other.write(lambda _: None)
        seen.append(call.call_id)
        return True

    @governed(name="looks", probe=looks)
    def tool(key: str) -> Any:
        yield key

    left.begin(tool)
    clock.advance(TERM)
    assert [one.call_id for one in other.recover(tools=[tool]).happened] == seen


def test_a_secret_is_not_passed_on(left: Process, other: Governor, clock: ManualClock) -> None:
    """Broken if a probe is given what was never stored, or what can be told from the record is not what it was."""
    given: list[Interrupted] = []

    @governed(name="pay", secrets=["pin"], probe=given.append)
    def pay(key: str, pin: str = "1234", when: timedelta = timedelta(hours=1)) -> Any:
        yield key

    left.begin(pay)
    clock.advance(TERM)
    assert len(other.recover(tools=[pay]).doubted) == 1  # what is no answer is none
    assert given[0].arguments == {"key": "k", "pin": {"$secret": True}, "when": timedelta(hours=1)}


@pytest.mark.parametrize(("happened", "charged"), [(True, 1), (False, 0)])
def test_resolved(
    left: Process, other: Governor, clock: ManualClock, happened: bool, charged: int
) -> None:
    """Broken if what a human has found out is not what the books say, or can be said twice."""
    left.begin(hold)
    clock.advance(TERM)
    [found] = other.recover().doubted
    with pytest.raises(Misuse):
        other.write(recovery.resolve, found.call_id, happened=happened, by=" ")
    recorded = other.write(
        recovery.resolve, found.call_id, happened=happened, by="ann", comment="seen it"
    )
    assert isinstance(recorded.event, CallRecovered)
    assert (recorded.event.happened, recorded.event.by, recorded.event.comment) == (
        happened,
        "ann",
        "seen it",
    )
    assert (reserved(other), spent(other)) == (0, charged)
    assert other.health().in_doubt == 0
    assert other.read(recovery.in_doubt) == []
    with pytest.raises(Conflict):
        other.write(recovery.resolve, found.call_id, happened=happened, by="ann")
    assert sound(other)


def test_nobody_says_what_became_of_a_call_that_runs(left: Process, other: Governor) -> None:
    """Broken if a human can take a call from a process that lives."""
    left.begin(hold)
    [report] = other.verify()
    with pytest.raises(Conflict):
        other.write(recovery.resolve, report.in_doubt[0], happened=True, by="ann")
    assert kinds(other, left.session.id) == ["session_opened", "call_decided"]


def test_sessions_go_on_elsewhere(left: Process, other: Governor, clock: ManualClock) -> None:
    """Broken if the session of a dead process is not to be resumed, or is stopped without saying why."""
    clock.advance(TERM)
    assert other.recover().paused == (left.session.id,)
    [paused] = told(other, left.session.id, SessionPaused)
    assert paused.reason == recovery.GONE
    with other.resume_session(left.session.id):
        assert list(hold()) == ["k"]
    assert sound(other)


def test_a_second_run_changes_nothing(left: Process, other: Governor, clock: ManualClock) -> None:
    """Broken if recovery does something twice, or writes where there is nothing to do."""
    for tool in (hold, again, ask):
        left.begin(tool, "unknown")
    clock.advance(TERM)
    assert other.recover(tools=[ask]).changed
    before = rows(other)
    done = other.recover(tools=[ask])
    assert not done.changed
    assert rows(other) == before


def test_a_dry_run_says_what_would_be_done(
    left: Process, other: Governor, clock: ManualClock
) -> None:
    """Broken if it changes anything, asks a tool, or says anything else than is done afterwards."""
    for tool in (hold, again, ask):
        left.begin(tool)
    clock.advance(TERM)
    before = rows(other)
    would = other.recover(tools=[ask], dry_run=True)
    assert rows(other) == before
    assert _left.asked == []
    assert would.dry_run
    done = other.recover()
    for name in ("lost", "retried", "paused"):
        assert getattr(would, name) == getattr(done, name)
    assert [one.call_id for one in would.doubted] == [one.call_id for one in done.doubted]


def test_plugins_are_shown(governor: Make, left: Process, clock: ManualClock) -> None:
    """Broken if whoever projects events is not shown those of recovery."""
    recorder = Recorder()
    other = governor(POLICY, clock=clock, plugins=[recorder])
    left.begin(hold)
    clock.advance(TERM)
    other.recover()
    assert [type(one) for one in recorder.events] == [CallDoubted, SessionPaused]


def test_a_damaged_row_keeps_nobody_from_being_recovered(
    left: Process, other: Governor, clock: ManualClock
) -> None:
    """Broken if one call that was tampered with keeps all others in the dark."""
    left.begin(hold, "a")
    left.begin(hold, "b")
    [report] = other.verify()
    first = report.in_doubt[0]
    other.write(
        lambda c: c.execute(
            text("UPDATE intents SET reserved = 'no JSON' WHERE call_id = :id"), {"id": first}
        )
    )
    clock.advance(TERM)
    done = other.recover()
    assert done.unreadable == (first,)
    assert len(done.doubted) == 1


@pytest.mark.anyio
async def test_arecover(governor: Make, left: Process, clock: ManualClock) -> None:
    """Broken if recovery cannot be had from an event loop."""
    other = governor(POLICY, clock=clock)
    left.begin(ask, "yes")
    clock.advance(TERM)
    done = await other.arecover(tools=[ask])
    assert len(done.happened) == 1


@pytest.mark.parametrize(
    "options", [{"probe": 1}, {"probe": "x"}, {"idempotent": True, "probe": print}]
)
def test_senseless_declarations(options: dict[str, Any]) -> None:
    """Broken if a tool can declare what recovery cannot do."""
    with pytest.raises(Misuse):
        governed(name="x", **options)(lambda: None)


def test_an_async_probe_is_refused() -> None:
    """Broken if a probe can be given whose answer nobody awaits."""

    async def later(_: Interrupted) -> bool:
        return True

    with pytest.raises(Misuse):
        governed(name="x", probe=later)(lambda: None)  # type: ignore[arg-type]


def test_only_governed_tools_are_asked(other: Governor) -> None:
    """Broken if a function without a declaration is taken for a tool."""
    with pytest.raises(Misuse):
        other.recover(tools=[current_call])
