"""Aborting: a session ends before its time, and its books say why, without the content of anybody's exception."""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from interlock import ApprovalNeeded, Denied, Governor, Misuse, governed, hookimpl
from interlock._state import SessionStatus
from interlock._ticket import TicketState
from interlock.errors import Conflict
from interlock.events import SessionClosed
from interlock.store import sessions, tickets
from interlock.testing import Recorder
from tests.commands import cli_of, lines

Make = Callable[..., Governor]

POLICY: dict[str, Any] = {
    "version": 1,
    "name": "desk",
    "default": "deny",
    "rules": [
        {"id": "look", "tools": ["look"], "verdict": "allow"},
        {"id": "refund", "tools": ["refund"], "verdict": "ask"},
    ],
}


@governed
def look() -> str:
    """Look."""
    return "seen"


@governed
def refund() -> None:
    """Pay money back."""


@governed
def wire() -> None:
    """Never run."""


@pytest.fixture
def database(either: str) -> str:
    """Run every test here on both databases."""
    return either


def status(made: Governor, session: Any) -> SessionStatus:
    """The session's status, of which its row and its events must say the same."""
    found = made.read(sessions.get, session.id).status
    assert found is session.state().status
    return found


@pytest.mark.parametrize("how", ["sync", "async"])
def test_a_run_aborts_itself(how: str, governor: Make, recorder: Recorder) -> None:
    """Broken if a run that gives up leaves no reason, goes on making calls, or leaves somebody asked in vain."""
    made = governor(POLICY, plugins=[recorder])
    with made.session("s", agent="bot") as session:
        with pytest.raises(ApprovalNeeded) as refused:
            refund()
        if how == "sync":
            session.abort(reason="the plan makes no sense")
        else:

            async def aborting() -> None:
                await session.aabort(reason="the plan makes no sense")

            anyio.run(aborting)
        with pytest.raises(Denied, match="the session is aborted"):
            look()
        head = session.state().head
    closed = SessionClosed(reason="the plan makes no sense")
    assert SessionStatus.ABORTED is status(made, session)
    assert (closed, head) == (session.state().closed, session.state().head)
    assert [closed] == [event for event in recorder.events if isinstance(event, SessionClosed)]
    assert TicketState.CANCELLED is made.read(tickets.get, refused.value.ticket.id).state
    with pytest.raises(Conflict, match="is aborted"):
        session.abort(reason="again")


def test_our_own_exceptions_say_why(governor: Make, recorder: Recorder) -> None:
    """Broken if an aborted session does not say which refusal ended it."""
    made = governor(POLICY, plugins=[recorder])
    with pytest.raises(Denied) as refused, made.session("s", agent="bot"):
        wire()
    assert SessionClosed(error_type="Denied", reason=str(refused.value)) == recorder.events[-1]


def test_a_reason_is_bounded_and_redacted(governor: Make, recorder: Recorder) -> None:
    """Broken if a reason fills the books, or brings into them what a plugin keeps out of everything else."""

    def redact(content: Any) -> str:
        return str(content.text).replace("4711", "****")

    plugin = SimpleNamespace(interlock_redact=hookimpl(redact))
    made = governor(POLICY, plugins=[recorder, plugin])
    for reason in ("card 4711 is stolen", "a" * 501, "a" * 500):
        with made.session("s", agent="bot") as session:
            session.abort(reason=reason)
    reasons = [event.reason for event in recorder.events if isinstance(event, SessionClosed)]
    assert reasons == ["card **** is stolen", "a" * 499 + "…", "a" * 500]


@pytest.mark.parametrize("reason", ["", " ", "a\0", "\ud800", None, 5])
def test_a_reason_is_a_sentence(reason: Any, governor: Make) -> None:
    """Broken if a session ends by mistake, or for no reason that anybody can read."""
    made = governor(POLICY)
    with made.session("s", agent="bot") as session:
        with pytest.raises(Misuse, match="reason="):
            session.abort(reason=reason)
        with pytest.raises(Misuse, match="reason="):
            made.write(sessions.abort_session, session.id, reason=reason, by="ann")
        with pytest.raises(Misuse, match="by="):
            made.write(sessions.abort_session, session.id, reason="x", by=" ")
        assert look() == "seen"


def test_an_operator_aborts_what_runs(
    governor: Make, database: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Broken if a run that was ended from outside goes on, fails where it ends by itself, or is not said who did it."""
    made, cli = governor(POLICY), cli_of(database)
    with caplog.at_level(logging.WARNING, "interlock"), made.session("s", agent="bot") as session:
        look()
        done = cli("sessions", "abort", session.id, "--reason", "it loops", "--as", "ann")
        assert (0, f"session {session.id} is aborted, by ann\n") == (done.returncode, done.stdout)
        with pytest.raises(Denied, match="the session is aborted"):
            look()
    assert "was aborted before its block was left" in caplog.text
    assert SessionStatus.ABORTED is status(made, session)
    [shown] = lines(cli("sessions", "show", session.id, "--json"))
    totals = shown["totals"]
    assert (totals["reason"], totals["by"], totals["error_type"]) == ("it loops", "ann", None)
    told = " ".join(cli("sessions", "show", session.id).stdout.split())
    assert "the session was ended by ann: it loops" in told
    assert "ended by ann: it loops" in " ".join(cli("events", session.id).stdout.split())
    again = cli("sessions", "abort", session.id, "--reason", "x", "--as", "ann")
    assert (again.returncode, "is aborted" in again.stderr) == (2, True)
    assert [report.problem for report in made.verify()] == [None]


def test_what_waits_can_be_aborted(governor: Make) -> None:
    """Broken if a session that nobody will resume cannot be ended, or leaving an ended one hides its exception."""
    made = governor(POLICY)
    with pytest.raises(ApprovalNeeded) as refused, made.session("s", agent="bot") as session:
        refund()
    made.write(sessions.abort_session, session.id, reason="nobody answers", by="ann")
    assert SessionStatus.ABORTED is status(made, session)
    with pytest.raises(Conflict, match="is aborted"), made.resume_session(session.id):
        pass
    other = made.session("s", agent="bot")

    def work() -> None:
        with other:
            made.write(sessions.abort_session, other.id, reason="nobody answers", by="ann")
            raise refused.value

    with pytest.raises(ApprovalNeeded):
        work()
    assert SessionStatus.ABORTED is status(made, other)


def test_what_another_process_has_completed_is_said(governor: Make) -> None:
    """Broken if a run whose session somebody else has closed as well done learns nothing of it."""
    made = governor(POLICY)
    session = made.session("s", agent="bot")
    session.__enter__()
    with made.resume_session(session.id):
        pass
    with pytest.raises(Conflict, match="is completed"):
        session.__exit__(None, None, None)
