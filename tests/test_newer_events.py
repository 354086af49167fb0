"""Events of other releases: older ones come in their present shape, newer ones can be read and are never guessed at."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, get_args

import msgspec
import pytest
from sqlalchemy import Connection, insert, update

from interlock import Governor, Session, Undecided, errors, events, governed
from interlock.events import GENESIS, NewerEvent, Recorded
from interlock.store.events import history, lock
from interlock.store.statements import now, tables_of
from interlock.store.tables import to_microseconds
from interlock.testing import Recorder
from tests.commands import cli_of
from tests.conftest import ALLOW_ALL
from tests.forging import run

NEWER = ("lease_taken", 1, '{"kind":"lease_taken","tool":"refund"}')
NEWER_VERSION = ("call_decided", 99, '{"kind":"call_decided","verdicts":["allow"]}')
INERT = ("weather_noted", 3, '{"kind":"weather_noted","sky":"blue"}')


def write_newer(connection: Connection, session_id: str, kind: str, version: int, body: str) -> str:
    """Append an event as a newer release would; return its id."""
    chain, tables, at = lock(connection, session_id), tables_of(connection), now(connection)
    recorded = Recorded(
        id=f"newer-{chain.seq}",
        session_id=session_id,
        seq=chain.seq + 1,
        at=at,
        kind=kind,
        version=version,
        body=body,
        trace=None,
        previous_hash=chain.hash,
        hash="",
    )
    sealed = events.seal(recorded)
    row = {**msgspec.structs.asdict(recorded), "hash": sealed, "at": at}
    del row["trace"]
    connection.execute(insert(tables.events).values(**row))
    connection.execute(
        update(tables.sessions)
        .where(tables.sessions.c.id == session_id)
        .values(head=recorded.seq, head_hash=sealed)
    )
    assert to_microseconds(at)
    return recorded.id


@pytest.fixture
def open_session(either: str) -> Iterator[tuple[Governor, Session]]:
    """An open session, to which a newer release may write."""
    with (
        Governor(either, policy=ALLOW_ALL) as governor,
        governor.session("s", agent="bot") as session,
    ):
        yield governor, session


def recorded_as(kind: str, version: int, body: str) -> Recorded:
    """An event in its place, however it is written."""
    return Recorded(
        id="e-1",
        session_id="s-1",
        seq=1,
        at=None,  # type: ignore[arg-type] - not looked at
        kind=kind,
        version=version,
        body=body,
        trace=None,
        previous_hash=GENESIS,
        hash="",
    )


@pytest.mark.parametrize("newer", [NEWER, NEWER_VERSION, INERT], ids=lambda newer: newer[0])
def test_a_newer_event_can_be_read(newer: tuple[str, int, str]) -> None:
    """Broken if an event of a newer release raises where it is only shown, or is taken for one that is known."""
    kind, version, body = newer
    assert NewerEvent(kind=kind, version=version, body=body) == recorded_as(*newer).event


def test_older_events_come_in_their_present_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    """Broken if an event of an older version is read as if it were of this one, or only its last step is taken."""
    upcasts = {
        ("session_closed", -1): lambda old: {"kind": old["kind"], "because": old["why"]},
        ("session_closed", 0): lambda old: {"kind": old["kind"], "error_type": old["because"]},
    }
    monkeypatch.setattr(events, "UPCASTS", upcasts)
    closed = events.SessionClosed(error_type="ValueError")
    oldest = recorded_as("session_closed", -1, '{"kind":"session_closed","why":"ValueError"}')
    older = recorded_as("session_closed", 0, '{"because":"ValueError","kind":"session_closed"}')
    assert [closed, closed] == [oldest.event, older.event]


def test_a_version_that_never_was_is_refused() -> None:
    """Broken if an event of a version that nobody has written is read as something."""
    with pytest.raises(msgspec.DecodeError, match="never been a version 0 of session_closed"):
        _ = recorded_as("session_closed", 0, '{"kind":"session_closed"}').event


def test_every_older_version_has_its_upcast() -> None:
    """Broken if the version of an event is raised and those that are stored cannot be read any more."""
    needed = {
        (str(kind.__struct_config__.tag), version)
        for kind in get_args(events.Event)
        for version in range(1, kind.version)
    }
    assert needed == set(events.UPCASTS)


@pytest.mark.parametrize("newer", [NEWER, NEWER_VERSION, INERT], ids=lambda newer: newer[0])
def test_the_feed_and_the_history_give_newer_events(
    open_session: tuple[Governor, Session], newer: tuple[str, int, str]
) -> None:
    """Broken if one event of a newer release ends a projection, or is left out of it."""
    governor, session = open_session
    written = governor.write(write_newer, session.id, *newer)
    session.record("after")
    assert [None, written, None] == [
        recorded.id if isinstance(recorded.event, NewerEvent) else None
        for recorded in governor.feed()
    ]
    assert len(governor.read(history, session.id)) == 3


@pytest.mark.parametrize("newer", [NEWER, NEWER_VERSION], ids=lambda newer: newer[0])
def test_state_is_not_guessed(
    open_session: tuple[Governor, Session], newer: tuple[str, int, str]
) -> None:
    """Broken if what a newer release has recorded is left out of a sum in silence."""
    governor, session = open_session
    governor.write(write_newer, session.id, *newer)
    with pytest.raises(errors.NewerRelease, match="upgrade interlock") as raised:
        session.state()
    assert newer[:2] == (raised.value.kind, raised.value.version)


def test_what_bears_no_state_is_passed_over(open_session: tuple[Governor, Session]) -> None:
    """Broken if a newer release's note makes a session unusable for an older one."""
    governor, session = open_session
    governor.write(write_newer, session.id, *INERT)
    assert session.state().head == 2
    [report] = governor.verify()
    assert (report.problem, report.newer) == (None, None)


@pytest.mark.promise(7)
@pytest.mark.parametrize("newer", [NEWER, NEWER_VERSION], ids=lambda newer: newer[0])
def test_a_newer_event_is_verified_as_far_as_can_be(
    open_session: tuple[Governor, Session], either: str, newer: tuple[str, int, str]
) -> None:
    """Broken if it is called a tampering, passes for verified, or hides that something was changed."""
    governor, session = open_session
    written = governor.write(write_newer, session.id, *newer)
    session.record("after")
    [report] = governor.verify()
    assert report.problem is None
    assert "upgrade interlock" in str(report.newer)
    for change in (
        f"UPDATE events SET body = replace(body, 'e', 'E') WHERE id = '{written}'",  # noqa: S608
        f"UPDATE events SET version = 1 WHERE id = '{written}'",  # noqa: S608
        f"UPDATE events SET kind = 'x_noted' WHERE id = '{written}'",  # noqa: S608
        "UPDATE events SET body = replace(body, 'after', 'other') WHERE kind = 'app_noted'",
    ):
        if newer is NEWER and "version = 1" in change:
            continue
        before = run(either, "SELECT id, kind, version, body FROM events")
        run(either, change)
        [changed] = governor.verify()
        assert "changed after it was written" in str(changed.problem), change
        for event_id, kind, version, body in before:
            run(
                either,
                f"UPDATE events SET kind = '{kind}', version = {version}, "  # noqa: S608
                f"body = '{body}' WHERE id = '{event_id}'",
            )
    run(either, "DELETE FROM events WHERE kind = 'app_noted'")
    [changed] = governor.verify()
    assert "event 3 of" in str(changed.problem)
    run(either, "UPDATE sessions SET head = 2")
    [changed] = governor.verify()
    assert "head is not what the events say" in str(changed.problem)


def test_budgets_are_not_summed_over_newer_events(open_session: tuple[Governor, Session]) -> None:
    """Broken if sums that leave something out are called right, or wrong."""
    governor, session = open_session
    governor.write(write_newer, session.id, *NEWER_VERSION)
    [problem] = governor.verify_books()["budgets"]
    assert "upgrade interlock" in problem


@pytest.mark.promise(1)
def test_a_call_that_depends_on_a_newer_decision_does_not_run(either: str) -> None:
    """Broken if a policy that looks back decides without a decision that it cannot read."""
    ran: list[int] = []

    @governed
    def act(number: int) -> None:
        ran.append(number)

    looks_back = {**ALLOW_ALL, "steering": {"retries": 3}}
    with Governor(either, policy=ALLOW_ALL) as governor:
        session = governor.session("s", agent="bot")
        session.__enter__()
        session._detach()
        governor.write(write_newer, session.id, *NEWER_VERSION)
    with Governor(either, policy=looks_back) as governor:
        other = governor.session("s", agent="bot")
        other._id = session.id
        with other.attach(), pytest.raises(Undecided, match="upgrade interlock"):
            act(1)
    assert ran == []


def test_the_command_line_shows_newer_events(
    open_session: tuple[Governor, Session], either: str
) -> None:
    """Broken if `events` fails over one, or `verify` exits as if all were verified."""
    governor, session = open_session
    governor.write(write_newer, session.id, *NEWER)

    def said(*arguments: str) -> tuple[int, str]:
        done = cli_of(either)(*arguments)
        return done.returncode, done.stdout

    code, shown = said("events", session.id)
    assert (code, "lease taken" in shown and "newer release" in shown) == (0, True)
    code, shown = said("verify")
    assert (code, "its chain is sound" in shown and "0 of 1 sessions" in shown) == (1, True)
    code, shown = said("verify", "--json")
    session_told, *books_told = map(json.loads, shown.splitlines())
    assert (code, "upgrade" in session_told["newer"]) == (1, True)
    assert [list(one) for one in books_told] == [["budgets"], ["leases"], ["counters"]]
    assert all("upgrade" in why for one in books_told for why in one.values())


def test_a_recorder_keeps_to_what_it_knows() -> None:
    """Broken if the recorder for tests gives its users what is no event of this release."""
    recorder = Recorder()
    recorder.interlock_recorded(recorded_as(*NEWER))
    recorder.interlock_recorded(recorded_as("session_closed", 1, '{"kind":"session_closed"}'))
    known: list[Any] = [events.SessionClosed()]
    assert known == recorder.events
