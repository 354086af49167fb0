"""Exclusive sessions: one at a time, however many want it, wherever they are, and whatever became of the last."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from interlock import Governor, Identity, Misuse
from interlock._state import SessionStatus
from interlock.errors import Conflict, SessionTaken
from interlock.events import SessionClosed, SessionOpened
from interlock.store import sessions
from tests.commands import cli_of

Make = Callable[..., Governor]

ROOT = Path(__file__).parents[2]


@pytest.fixture
def database(either: str) -> str:
    """Run every test here on both databases."""
    return either


def test_a_second_is_told_who_has_it(governor: Make) -> None:
    """Broken if two cycles of one agent run at once, or the second is not told what is in its way and what to do."""
    made, other = governor("observe"), governor("observe")
    with made.session("nightly", agent="bot", org="acme", exclusive=True) as first:
        with pytest.raises(SessionTaken) as refused:
            other.session("nightly", agent="bot", org="acme", exclusive=True).__enter__()
        assert (refused.value.session_id, refused.value.status) == (first.id, "open")
        assert f"interlock sessions abort {first.id} --reason" in str(refused.value)
        assert f"governor.resume_session('{first.id}')" in str(refused.value)
        assert isinstance(refused.value, Conflict)
        copy = pickle.loads(pickle.dumps(refused.value))  # noqa: S301 - our own
        assert (str(copy), copy.session_id) == (str(refused.value), first.id)
        assert made.read(sessions.count) == 1, "a refused one was recorded"
    with other.session("nightly", agent="bot", org="acme", exclusive=True):
        pass
    assert [report.problem for report in made.verify()] == [None, None]


@pytest.mark.parametrize(
    ("one", "another"),
    [
        ({"exclusive": True}, {}),
        ({"exclusive": True}, {"name": "weekly", "exclusive": True}),
        ({"exclusive": True}, {"org": "other", "exclusive": True}),
        ({"exclusive": True}, {"org": None, "exclusive": True}),
        ({"exclusive": True}, {"exclusive": "desk"}),
        ({"exclusive": ""}, {}),
    ],
)
def test_others_are_not_kept_out(one: Any, another: Any, governor: Make) -> None:
    """Broken if a session waits for one that has nothing to do with it."""
    made = governor("observe")
    common = {"name": "nightly", "agent": "bot", "org": "acme"}
    with made.session(**{**common, **one}), made.session(**{**common, **another}):
        pass


@pytest.mark.parametrize("org", ["acme", None])
def test_a_key_says_what_goes_together(org: str | None, governor: Make) -> None:
    """Broken if runs of different names, or without an organisation, cannot be kept apart."""
    made = governor("observe")
    with (
        made.session("a", agent="x", org=org, exclusive="desk"),
        pytest.raises(SessionTaken, match="with the key 'desk'"),
    ):
        made.session("b", agent="y", org=org, exclusive="desk").__enter__()


@pytest.mark.parametrize("key", ["a\0", "\ud800", None, 1])
def test_a_key_is_text(key: Any, governor: Make) -> None:
    """Broken if a key that cannot be stored is found out when the session is opened, or means that there is none."""
    with pytest.raises(Misuse, match="exclusive of a session must be text"):
        governor("observe").session("s", agent="a", exclusive=key)


def test_what_waits_or_was_left_behind_has_it(governor: Make, database: str) -> None:
    """Broken if a run begins beside one that is paused, or if nothing but a restart frees what a dead process has."""
    made, cli = governor("observe"), cli_of(database)

    def again() -> Any:
        return made.session("nightly", agent="bot", exclusive=True)

    with again() as first:
        first.pause()
    with pytest.raises(SessionTaken) as refused:
        again().__enter__()
    assert (refused.value.session_id, refused.value.status) == (first.id, "paused")
    with made.resume_session(first.id), pytest.raises(SessionTaken):
        again().__enter__()
    with again() as second:
        second.pause()
    done = cli("sessions", "abort", second.id, "--reason", "its worker is gone", "--as", "ann")
    assert (done.returncode, done.stderr) == (0, "")
    with again():
        pass
    assert made.read(sessions.get, second.id).status is SessionStatus.ABORTED


def test_a_refusal_spoils_nothing_around_it(governor: Make) -> None:
    """Broken if a refusal undoes, or fails, what a host writes in the same transaction."""
    made = governor("observe")
    holder = made.session("s", agent="bot", exclusive=True)
    holder.__enter__()

    def business(connection: Connection) -> str:
        with pytest.raises(SessionTaken):
            sessions.open_session(
                connection, "s", Identity(agent="bot"), policy=None, exclusive="s"
            )
        return sessions.open_session(connection, "t", Identity(agent="bot"), policy=None).session_id

    session_id = made.write(business)
    assert made.read(sessions.get, session_id).name == "t"
    holder.__exit__(None, None, None)


def test_rivals_of_several_processes_take_turns(governor: Make, database: str) -> None:
    """Broken if two processes that look at the same moment both find nobody there."""
    made, times, size = governor("observe"), 12, 4
    rivals = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "tests.lifecycle._rival", database, str(times)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(size)
    ]
    for rival in rivals:
        assert rival.stdout is not None
        assert rival.stdout.readline() == "ready\n"
    answers = []
    for rival in rivals:
        assert rival.stdin is not None
        rival.stdin.write("go\n")
        rival.stdin.flush()
    for rival in rivals:
        said, _ = rival.communicate(timeout=60)
        answers.append(int(said))
    inside: str | None = None
    order: list[str] = []
    for recorded in made.feed():
        match recorded.event:
            case SessionOpened():
                assert inside is None, f"{recorded.session_id} was opened beside {inside}"
                inside = recorded.session_id
                order.append(inside)
            case SessionClosed():
                assert recorded.session_id == inside
                inside = None
            case _:
                assert recorded.session_id == inside
    assert len(order) == times * size
    assert sum(answers) > 0, "nobody was in anybody's way"
    assert [report.problem for report in made.verify()] == [None] * (times * size)
