"""What a session adds up to is exact at every moment: for its holder, for an operator, and for who verifies it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from interlock import (
    Denied,
    Governor,
    Session,
    Usage,
    Verdict,
    governed,
    report_usage,
)
from interlock._state import SessionState, SessionStatus, Tokens
from interlock._story import Story
from interlock.events import Outcome
from interlock.store import sessions
from interlock.store.events import whole_history
from interlock.store.verify import verify
from interlock.testing import ManualClock
from tests import eventful
from tests.commands import cli_of, lines

Make = Callable[..., Governor]

POLICY: dict[str, Any] = {
    "version": 1,
    "name": "desk",
    "default": "deny",
    "rules": [{"id": "think", "tools": ["think", "fail"], "verdict": "allow"}],
}


@governed(kind="model", model="model")
def think(model: str, usage: Usage) -> None:
    """Use a model as much as that."""
    report_usage(usage)


@governed
def fail() -> None:
    """Fail."""
    raise ConnectionError


@governed
def wire() -> None:
    """Never run."""


@pytest.fixture
def database(either: str) -> str:
    """Run every test here on both databases."""
    return either


def told(made: Governor, session: Session) -> SessionState:
    """What the session adds up to, once for all who can ask: they must agree."""
    state = session.state()
    assert state == made.read(verify, session.id).state
    assert state == made.read(sessions.state, session.id)
    return state


def test_totals_are_exact_at_every_moment(governor: Make, clock: ManualClock) -> None:
    """Broken if a call, a token, a dollar or a second is missing from what a session says of itself, or twice in it."""
    made = governor(POLICY, clock=clock)
    with made.session("s", agent="bot") as session:
        assert (0, Tokens(), 0, 0) == (
            (state := told(made, session)).calls,
            state.tokens,
            state.duration_us,
            state.cost_usd,
        )
        clock.advance(timedelta(seconds=2))
        think("gpt-5-mini", Usage(input_tokens=10, output_tokens=5, cost_usd=Decimal("0.10")))
        assert Tokens(input=10, output=5) == told(made, session).tokens
        with pytest.raises(ConnectionError):
            fail()
        with pytest.raises(Denied):
            wire()
        clock.advance(timedelta(seconds=1))
        think(
            "nobody-knows-it",
            Usage(
                input_tokens=100,
                output_tokens=50,
                cache_read_tokens=40,
                cache_write_tokens=20,
                reasoning_tokens=30,
            ),
        )
        made.record_usage(model="m", input_tokens=1, output_tokens=None, cost_usd="0.005")
        state = told(made, session)
        assert state.verdicts == {Verdict.ALLOW: 3, Verdict.DENY: 1}
        assert state.outcomes == {Outcome.RETURNED: 2, Outcome.RAISED: 1}
        assert Tokens(input=111, output=55, cache_read=40, cache_write=20, reasoning=30) == (
            state.tokens
        )
        assert (Decimal("0.105"), 1, 4) == (state.cost_usd, state.unpriced, state.calls)
        assert (state.duration_us, state.state) == (3_000_000, SessionStatus.OPEN)
        clock.advance(timedelta(seconds=4))
    ended = told(made, session)
    assert (ended.duration_us, ended.state) == (7_000_000, SessionStatus.COMPLETED)


def test_an_operator_sees_the_same(governor: Make, database: str) -> None:
    """Broken if `interlock sessions show` tells another number than the session itself."""
    made, cli = governor(POLICY), cli_of(database)
    with suppress(ConnectionError), made.session("s", agent="bot", org="acme") as session:
        think("m", Usage(input_tokens=10, output_tokens=5, cost_usd=Decimal("1.5")))
        fail()
    [shown] = lines(cli("sessions", "show", session.id, "--json"))
    state = told(made, session)
    assert (shown["state"], shown["status"], shown["name"]) == ("aborted", "aborted", "s")
    assert {
        "events": state.head,
        "calls": 2,
        "verdicts": {"allow": 2},
        "outcomes": {"returned": 1, "raised": 1},
        "running": [],
        "cost_usd": "1.5",
        "unpriced": 0,
        "tokens": {
            "input": 10,
            "output": 5,
            "cache_read": 0,
            "cache_write": 0,
            "reasoning": 0,
        },
        "duration_us": state.duration_us,
        "error_type": "ConnectionError",
        "reason": None,
        "by": None,
    } == shown["totals"]
    told_to_people = " ".join(cli("sessions", "show", session.id).stdout.split())
    for expected in (
        "status aborted",
        "aborted the session was ended by ConnectionError",
        "calls 2: 2 allow",
        "ended 1 returned, 1 raised",
        "cost $1.5",
        "tokens 10 input, 5 output",
    ):
        assert expected in told_to_people
    missing = cli("sessions", "show", "nowhere")
    assert (missing.returncode, "there is no session nowhere" in missing.stderr) == (2, True)


def test_a_story_adds_up_to_the_same(database: str, clock: ManualClock) -> None:
    """Broken if `interlock replay` and `interlock sessions show` tell different sums of one session."""
    session_id = eventful.live(database, clock)
    story = Story()
    with Governor(database) as governor:
        state = governor.read(sessions.state, session_id)
        for recorded in governor.read(lambda found: list(whole_history(found, session_id))):
            list(story.hear(recorded))
    totals = story.totals
    assert totals.calls > 10
    assert totals.tokens > 0
    assert (totals.verdicts, totals.outcomes) == (state.verdicts, state.outcomes)
    assert (totals.cost_usd, totals.unpriced) == (state.cost_usd, state.unpriced)
    assert (totals.events, totals.took_us) == (state.head, state.duration_us)
    assert totals.tokens == state.tokens.input + state.tokens.output


def test_a_halt_shows_as_long_as_it_stands(governor: Make, database: str) -> None:
    """Broken if a halted session looks as if it could go on, or a released or ended one as if it could not."""
    made, cli = governor(POLICY), cli_of(database)

    def states() -> set[str]:
        listed = [one["state"] for one in lines(cli("sessions", "--json"))]
        [shown] = lines(cli("sessions", "show", session.id, "--json"))
        row = made.read(sessions.get, session.id)
        return {*listed, shown["state"], str(row.state), str(told(made, session).state)}

    with made.session("s", agent="bot") as session:
        assert {"open"} == states()
        halt = session.halt(reason="drill", by="ann").halt
        assert {"halted"} == states()
        made.release(halt.id, reason="over", by="ann")
        assert {"open"} == states()
        session.halt(reason="again", by="ann")
        session.pause()
        assert {"halted"} == states()
    with made.resume_session(session.id):
        pass
    assert {"completed"} == states()
    assert [report.problem for report in made.verify()] == [None]
