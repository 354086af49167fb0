"""Sessions: opened and closed once, recorded as what they were."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from interlock import (
    Denied,
    Governor,
    Identity,
    Misuse,
    Session,
    Tool,
    Verdict,
    current_session,
    governed,
)
from interlock._state import SessionStatus
from interlock.errors import StoreUnavailable
from interlock.events import (
    SessionClosed,
    SessionOpened,
)
from interlock.store import sessions
from interlock.testing import Recorder

MakeGovernor = Callable[..., Governor]

POLICY: dict[str, Any] = {
    "version": 1,
    "name": "desk",
    "default": "deny",
    "rules": [
        {"id": "look", "tools": ["look", "search"], "verdict": "allow"},
        {"id": "refund", "tools": ["refund"], "verdict": "ask", "approvers": ["payments-oncall"]},
    ],
}
LOOK = Tool(name="look")


class Ended(Exception):
    """What ends a session here."""


@governed
def look(order: str) -> str:
    """Look an order up."""
    return f"{order} is shipped"


@pytest.fixture
def database(either: str) -> str:
    """Run every test here on both databases."""
    return either


@pytest.fixture(params=["sync", "async"])
def within(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Run a function in a session, opened by `with` or by `async with`."""

    def run(session: Session, function: Callable[[], Any]) -> Any:
        with session:
            return function()

    async def arun(session: Session, function: Callable[[], Any]) -> Any:
        async with session:
            return function()

    if request.param == "sync":
        return run
    return lambda session, function: anyio.run(arun, session, function)


@pytest.fixture
def books(governor: MakeGovernor, recorder: Recorder) -> Governor:
    """A governor with `POLICY`."""
    return governor(POLICY, plugins=[recorder])


def kinds(recorder: Recorder) -> list[str]:
    """The kinds of all events, in order."""
    return [recorded.kind for recorded in recorder.recorded]


@pytest.mark.parametrize("text", ["a\0", "\ud800", "\udfffz", 5, None])
@pytest.mark.parametrize("part", ["name", "agent", "user", "team", "org"])
def test_what_no_store_can_hold_is_refused_when_it_is_made(
    books: Governor, recorder: Recorder, part: str, text: Any
) -> None:
    """Broken if the same name is a session on one database and a failure, far from its cause, on the other."""
    given = {"name": "s", "agent": "bot", "user": "u", "team": "t", "org": "o", part: text}
    if text is None and part not in {"name", "agent"}:
        books.session(**given)
        return
    with pytest.raises(Misuse, match=f"^{part} of a session must be text that can be stored"):
        books.session(**given)
    assert recorder.events == []


def test_unusual_text_is_stored_as_it_is(books: Governor, recorder: Recorder) -> None:
    """Broken if the check refuses what every store can hold, or changes it."""
    with books.session("é\x01\U0010ffff", agent="ﬁ\n", user="") as session:
        assert session.state().status is SessionStatus.OPEN
    opened = recorder.events[0]
    assert (opened.name, opened.agent, opened.user) == ("é\x01\U0010ffff", "ﬁ\n", "")


def test_it_is_recorded_from_opening_to_close(
    within: Callable[..., Any], books: Governor, recorder: Recorder
) -> None:
    """Broken if the books do not say who ran what under which policy, from when to when."""
    session = books.session("ticket-4711", agent="bot", user="u-17", team="desk", org="acme")

    assert within(session, lambda: look("o-1")) == "o-1 is shipped"

    assert kinds(recorder) == ["session_opened", "call_decided", "call_finished", "session_closed"]
    assert recorder.events[0] == SessionOpened(
        name="ticket-4711",
        agent="bot",
        user="u-17",
        team="desk",
        org="acme",
        policy=books.policy.digest,
    )
    assert recorder.events[-1] == SessionClosed(error_type=None)
    state = session.state()
    assert (state.status, state.head) == (SessionStatus.COMPLETED, 4)
    row = books.read(sessions.get, session.id)
    assert (
        row.identity
        == session.identity
        == Identity(agent="bot", user="u-17", team="desk", org="acme")
    )
    assert (row.name, row.status) == ("ticket-4711", SessionStatus.COMPLETED)
    assert (row.opened_at, row.closed_at) == (state.opened_at, state.closed_at)


@pytest.mark.parametrize(
    "error", [Ended("secret text"), KeyboardInterrupt()], ids=["error", "ctrl-c"]
)
def test_it_is_aborted_by_an_exception(
    error: BaseException, within: Callable[..., Any], books: Governor, recorder: Recorder
) -> None:
    """Broken if an exception is swallowed or changed by the session it ends, or its text is kept."""
    session = books.session("s", agent="bot")

    def fail() -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        within(session, fail)

    assert caught.value is error
    assert session.state().status is SessionStatus.ABORTED
    assert recorder.events[-1] == SessionClosed(error_type=type(error).__name__)
    assert "secret text" not in recorder.recorded[-1].body


@pytest.mark.promise(1)
def test_nothing_runs_after_its_end(within: Callable[..., Any], books: Governor) -> None:
    """Broken if what still holds on to a session can act in it when it is over."""
    ran: list[int] = []
    tool = governed(name="look")(lambda: ran.append(1))
    session = books.session("s", agent="bot")
    within(session, lambda: None)

    with session.attach(), pytest.raises(Denied, match="the session is completed"):
        tool()

    assert ran == []
    assert session.state().verdicts == {Verdict.DENY: 1}


def test_it_is_opened_once(within: Callable[..., Any], books: Governor) -> None:
    """Broken if a session can be opened again, and its second run lands in the history of the first."""
    session = books.session("s", agent="bot")
    within(session, lambda: None)
    before = session.state()

    with pytest.raises(Misuse, match="was opened before; make another"):
        within(session, lambda: None)

    assert session.state() == before


@pytest.mark.parametrize("use", ["id", "attach", "state", "call"])
def test_before_it_is_open(use: str, books: Governor) -> None:
    """Broken if a session that was never opened looks as if it were."""
    session = books.session("s", agent="bot")
    uses: dict[str, Callable[[], object]] = {
        "id": lambda: session.id,
        "attach": lambda: session.attach().__enter__(),
        "state": session.state,
        "call": lambda: session.call(LOOK, {}, lambda _: None),
    }

    with pytest.raises(Misuse, match="is not open; use `with"):
        uses[use]()


def test_names_need_not_be_unique(within: Callable[..., Any], books: Governor) -> None:
    """Broken if two runs of the same name are one session."""
    first, second = (books.session("same", agent="bot") for _ in range(2))
    within(first, lambda: look("o-1"))
    within(second, lambda: None)

    assert first.id != second.id
    assert (first.state().head, second.state().head) == (4, 2)


def test_store_lost_before_the_end(
    within: Callable[..., Any], governor: MakeGovernor, caplog: pytest.LogCaptureFixture
) -> None:
    """Broken if a session that cannot be closed says nothing, or hides the exception that ended it."""
    books = governor(POLICY)

    with pytest.raises(StoreUnavailable, match="closed"):
        within(books.session("s", agent="bot"), books.close)

    books = governor(POLICY)
    error = Ended()

    def fail() -> None:
        books.close()
        raise error

    with caplog.at_level(logging.ERROR, "interlock"), pytest.raises(Ended) as caught:
        within(books.session("s", agent="bot"), fail)
    assert caught.value is error
    assert "ended with Ended and could not be closed" in caplog.text


def test_a_session_dropped_unclosed_takes_no_other_with_it(governor: MakeGovernor) -> None:
    """Broken if the collector leaves a forgotten session, and with it the one that was entered since."""
    one = governor()
    with one.session("outer", agent="bot"):
        forgotten = one.session("forgotten", agent="bot")
        forgotten.__enter__()
        with one.session("inner", agent="bot") as inner:
            del forgotten
            gc.collect()
            assert current_session("tool") is inner
