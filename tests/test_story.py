"""The story of a session: every event has its telling, calls are put together, and long histories take little room."""

from __future__ import annotations

import io
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, get_args

import msgspec
import pytest
from rich.console import Console

from interlock import ApprovalNeeded, Governor, events, governed
from interlock._story import CallTold, EventTold, Line, Story
from interlock._ticket import TicketState
from interlock._verdict import Opinion, Verdict
from interlock.cli import wording
from interlock.cli.telling import Telling
from interlock.store import sessions, tickets
from interlock.store.events import history
from interlock.testing import ManualClock
from tests import eventful

START = datetime(2026, 1, 1, tzinfo=UTC)
HIDDEN = {"\x1b", "\u202e"}


def told(recorded: list[events.Recorded], patience: int = 256) -> tuple[list[Line], Story]:
    """Tell a whole story."""
    story = Story(patience)
    lines = [line for one in recorded for line in story.hear(one)]
    return [*lines, *story.end()], story


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> tuple[sessions.SessionRow, list[Any]]:
    """The eventful session: its row, and its events."""
    url = f"sqlite:///{tmp_path_factory.mktemp('story') / 'interlock.db'}"
    session_id = eventful.live(url, ManualClock())
    with Governor(url) as governor:
        row = governor.read(sessions.get, session_id)
        return row, governor.read(partial(history, limit=10_000), session_id)


def test_every_kind_of_event_is_told(lived: Any) -> None:
    """Broken if there is a kind of event that a session's story leaves out, or tells in no words."""
    _, recorded = lived
    kinds = {type(one.event) for one in recorded}
    assert set(get_args(events.Event)) == kinds
    lines, _ = told(recorded)
    seen: set[type] = set()
    for line in lines:
        if isinstance(line, CallTold):
            seen |= {type(line.decided), type(line.ended)} - {type(None)}
            assert all(fact.label and fact.text for fact in wording.facts(line))
            assert next(iter(wording.facts(line))).text.startswith(line.decided.reason)
        else:
            seen.add(type(line.event))
            assert all(wording.happened(line))
    assert kinds == seen


def test_every_event_is_in_exactly_one_line(lived: Any) -> None:
    """Broken if a story loses an event, or tells it twice."""
    _, recorded = lived
    lines, story = told(recorded)
    found: list[events.Event] = []
    for line in lines:
        if isinstance(line, CallTold):
            found += [line.decided, *([line.ended] if line.ended else [])]
        else:
            found.append(line.event)
    bodies = sorted(map(events.body_of, found))
    assert sorted(one.body for one in recorded) == bodies
    assert story.totals.events == len(recorded)
    assert [line.seq for line in lines] == sorted(line.seq for line in lines)


def test_totals_are_what_the_state_says(lived: Any) -> None:
    """Broken if the totals of a story are not those that the events fold to."""
    from interlock._state import fold  # noqa: PLC0415

    _, recorded = lived
    state, totals = fold(recorded), told(recorded)[1].totals
    assert dict(state.verdicts) == totals.verdicts
    assert dict(state.outcomes) == totals.outcomes
    assert state.cost_usd == totals.cost_usd
    assert tuple(state.running) == totals.running
    assert (totals.asked, totals.approved, totals.denied, totals.lapsed) == (6, 2, 1, 3)
    assert totals.longest_wait_us == 254_000_000


def test_a_yes_that_nobody_used_is_told_as_that(database: str) -> None:
    """Broken if a question that a person answered is said to have had no answer, or is counted as both."""

    @governed
    def pay(amount: int) -> int:
        return amount

    policy = {"version": 1, "name": "p", "rules": [{"id": "r", "tools": ["pay"], "verdict": "ask"}]}
    with Governor(database, policy=policy) as governor:
        with governor.session("s", agent="bot") as session:
            for amount in (1, 2):
                with pytest.raises(ApprovalNeeded) as asked:
                    pay(amount)
            governor.write(tickets.approve, asked.value.ticket.id, by="ann")
            governor.record_usage(model="m", input_tokens=7, cost_usd=1)
        recorded = governor.read(lambda c: list(history(c, session.id)))
    lines, story = told(recorded)
    said = [wording.happened(one)[1] for one in lines if isinstance(one, EventTold)]
    assert "the question about call 1 was not answered" in said
    assert "the yes to call 2 was not used" in said
    assert "m: 7 tokens in, $1" in said
    totals = story.totals
    assert (totals.asked, totals.approved, totals.denied, totals.lapsed) == (2, 1, 0, 1)


def test_an_approval_says_who_and_after_how_long(lived: Any) -> None:
    """Broken if the call that was approved does not say by whom, when, and how long it took."""
    lines, _ = told(lived[1])
    [approved] = [one for one in lines if isinstance(one, CallTold) and len(one.approvals) == 2]
    assert [one.by for one in approved.approvals] == ["ann", "bob"]
    assert approved.waited_us == 254_000_000
    said = {fact.label: fact.text for fact in wording.facts(approved)}
    assert said["approved"] == "by ann, bob, 4 min 14 s after it was asked"
    assert said["comment"] == "ann: photos seen"


def test_a_call_that_takes_a_hint_names_the_steered_one(lived: Any) -> None:
    """Broken if nobody can see that an agent did what it was steered to."""
    calls = [one for one in told(lived[1])[0] if isinstance(one, CallTold)]
    steered = [one for one in calls if one.steered]
    assert [one.steered for one in steered] == [1, 2]
    [hinted] = [one for one in calls if one.follows]
    assert ("request_payment", steered[-1].number) == (hinted.decided.tool, hinted.follows)


@pytest.mark.parametrize("width", [40, 80, 160])
def test_the_terminal_shows_every_call_and_nothing_acts(lived: Any, width: int) -> None:
    """Broken if a line is wider than the terminal, a call is left out, or text from outside acts in it."""
    row, recorded = lived
    file = io.StringIO()
    telling = Telling(Console(file=file, width=width, highlight=False), "https://t/{trace_id}")
    lines, story = told(recorded)
    telling.opening(row)
    for line in lines:
        telling.line(line)
    telling.closing(story.totals)
    shown = file.getvalue()
    assert not HIDDEN & set(shown)
    assert width >= max(map(len, shown.splitlines()))
    numbers = [one.number for one in lines if isinstance(one, CallTold)]
    assert [number for number in numbers if f" {number}. " in shown] == numbers


def recorded_calls(count: int, *, first_ends: bool = True) -> Iterator[events.Recorded]:
    """Yield the events of so many calls, one after the other; the first may go on for ever."""
    opened = events.SessionOpened(name="long", agent="a")
    seq = 1
    yield _at(opened, seq)
    for number in range(count):
        seq += 1
        yield _at(_decided(str(number)), seq)
        if number or first_ends:
            seq += 1
            ended = events.CallFinished(
                call_id=str(number), tool="t", outcome=events.Outcome.RETURNED, duration_us=1
            )
            yield _at(ended, seq)


def _decided(call_id: str, **fields: Any) -> events.CallDecided:
    allowing = Opinion(verdict=Verdict.ALLOW, reason="it may", author="policy:p")
    decided = events.CallDecided(
        call_id=call_id,
        tool="t",
        tool_kind="tool",
        risk="low",  # type: ignore[arg-type]
        arguments='{"text":"' + "x" * 500 + '"}',
        digest="d",
        resource=None,
        cost_usd=None,
        verdict=Verdict.ALLOW,
        admitted=True,
        reason="it may",
        opinions=(allowing,),
        policy="p",
    )
    return msgspec.structs.replace(decided, **fields)


def _at(event: events.Event, seq: int) -> events.Recorded:
    return events.Recorded(
        id="",
        session_id="s",
        seq=seq,
        at=START + timedelta(seconds=seq),
        kind=events.kind_of(event),
        version=1,
        body=events.body_of(event),
        trace=None,
        previous_hash="",
        hash="",
    )


@pytest.mark.parametrize("first_ends", [True, False])
def test_ten_thousand_calls_take_little_memory(*, first_ends: bool) -> None:
    """Broken if a story holds what it has told, or waits without end for a call that does not end."""
    story = Story()
    tracemalloc.start()
    calls = sum(
        isinstance(line, CallTold)
        for recorded in recorded_calls(10_000, first_ends=first_ends)
        for line in story.hear(recorded)
    )
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    calls += sum(isinstance(line, CallTold) for line in story.end())
    assert calls == 10_000
    assert peak < 4_000_000  # the history itself is 20 million bytes


def recorded_questions(count: int) -> Iterator[events.Recorded]:
    """Yield the events of so many calls that a human is asked about, and that run after the yes."""
    yield _at(events.SessionOpened(name="long", agent="a"), 1)
    for number in range(count):
        seq, ticket = 2 + 4 * number, str(number)
        asking = {"verdict": Verdict.ASK, "ticket_id": ticket}
        yield _at(_decided(f"{number} asked", **asking, admitted=False), seq)
        opened = events.TicketOpened(
            ticket_id=ticket, call_id="", tool="t", digest="d", approvers=(), expires_at=START
        )
        yield _at(opened, seq + 1)
        yes = events.TicketResolved(
            ticket_id=ticket, state=TicketState.APPROVED, by="ann", comment="x" * 1_000, waited_us=0
        )
        yield _at(yes, seq + 2)
        yield _at(_decided(f"{number}", **asking, approved_by="ann"), seq + 3)
        ended = events.CallFinished(
            call_id=f"{number}", tool="t", outcome=events.Outcome.RETURNED, duration_us=1
        )
        yield _at(ended, seq + 3)


def test_questions_that_are_over_take_no_memory() -> None:
    """Broken if a story remembers each ticket for ever."""
    story = Story()
    tracemalloc.start()
    lines = sum(len([*story.hear(recorded)]) for recorded in recorded_questions(4_000))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert lines == 4 * 4_000 + 1
    assert held < 1_000_000  # the comments alone are 4 million bytes


def test_an_end_that_comes_too_late_has_its_own_line() -> None:
    """Broken if the end of a call that was told as running is lost, or does not say of which call it is."""
    late = events.CallFinished(
        call_id="0", tool="t", outcome=events.Outcome.CANCELLED, duration_us=5
    )
    lines, story = told([*recorded_calls(9, first_ends=False), _at(late, 99)], patience=4)
    assert isinstance(lines[1], CallTold)
    assert lines[1].ended is None
    assert isinstance(lines[-1], EventTold)
    assert (late, 1) == (lines[-1].event, lines[-1].number)
    assert story.totals.running == ()


@pytest.mark.parametrize(
    ("us", "clock", "span"),
    [
        (999, "+0.000s", "999 µs"),
        (12_345_678, "+12.345s", "12.34 s"),
        (64_500_000, "+1:04.5", "1 min 4 s"),
        (3_723_000_000, "+1:02:03", "1 h 2 min"),
        (183_900_000_000, "+2d 03:05", "2 d 3 h"),
    ],
)
def test_times_are_said_as_people_say_them(us: int, clock: str, span: str) -> None:
    """Broken if a time is shown in a unit that nobody can read at a glance, or wrongly."""
    assert (clock, span) == (wording.clock(us), wording.span(us))
