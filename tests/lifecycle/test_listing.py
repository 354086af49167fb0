"""Finding sessions: by who, what, when and how they stand; a page at a time; by an index, however many there are."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, event, insert, text
from typer.testing import CliRunner

from interlock import Governor, Misuse
from interlock._clock import new_id
from interlock._session import MAX_NAME
from interlock._state import SessionStatus
from interlock.cli import app
from interlock.errors import Conflict
from interlock.events import GENESIS
from interlock.store import listing
from interlock.store.listing import Sought, find
from interlock.store.statements import now, tables_of
from interlock.testing import ManualClock
from tests.commands import Cli, cli_of

Make = Callable[..., Governor]

STATES = ("open", "paused", "halted", "completed", "aborted")


@pytest.fixture
def database(either: str) -> str:
    """Run every test here on both databases."""
    return either


@pytest.fixture
def cli(database: str) -> Cli:
    """Run `interlock` on this test's store."""
    return cli_of(database)


def ids_of(database: str, *options: str) -> list[str]:
    """The ids that `interlock sessions --json` prints with these options, run in this process."""
    done = CliRunner().invoke(app, ["sessions", "--json", *options], env={"INTERLOCK_DB": database})
    assert (done.exit_code, done.stderr) == (0, "")
    return [json.loads(line)["id"] for line in done.stdout.splitlines()]


def lived(made: Governor, clock: ManualClock) -> dict[str, str]:
    """Have sessions of all kinds, an hour apart; return the id of each by its name, in the order of their opening."""
    found: dict[str, str] = {}
    for number, state in enumerate(STATES):
        who = {"user": f"u-{number % 2}", "team": "desk" if number else None, "org": "acme"}
        session = made.session(state, agent=f"bot-{number % 2}", **who)
        session.__enter__()
        found[state] = session.id
        if state == "completed":
            with made.session("child", agent="other") as child:
                found["child"] = child.id
        match state:
            case "open":
                session._detach()
            case "paused":
                session.pause()
            case "halted":
                session.halt(reason="drill", by="ann")
                session._detach()
            case "aborted":
                session.abort(reason="enough")
        if state not in {"open", "halted"}:
            session.__exit__(None, None, None)
        clock.advance(timedelta(hours=1))
    return found


def test_each_filter_finds_what_it_says(
    governor: Make, clock: ManualClock, database: str, cli: Cli
) -> None:
    """Broken if a session is missing from a list that it belongs into, or is in one that it does not."""
    start = clock.now()
    made = governor("observe", clock=clock)
    ids = lived(made, clock)
    names = {session_id: name for name, session_id in ids.items()}
    newest = ["aborted", "child", "completed", "halted", "paused", "open"]

    def listed(*options: str) -> list[str]:
        return [names[found] for found in ids_of(database, *options)]

    assert listed() == newest
    for state in STATES:
        expected = [state] if state != "completed" else ["child", "completed"]
        assert listed("--state", state) == expected
    assert listed("--name", "paused") == ["paused"]
    assert listed("--agent", "bot-1") == ["completed", "paused"]
    assert listed("--user", "u-0") == ["aborted", "halted", "open"]
    assert listed("--team", "desk") == ["aborted", "completed", "halted", "paused"]
    assert listed("--org", "acme") == [name for name in newest if name != "child"]
    assert listed("--parent", ids["completed"]) == ["child"]
    since = (start + timedelta(hours=3)).isoformat()
    assert listed("--since", since) == ["aborted", "child", "completed"]
    assert listed("--since", since, "--user", "u-0") == ["aborted"]
    assert listed("--state", "aborted", "--user", "u-1") == []
    assert "There are no such sessions." in cli("sessions", "--org", "nobody").stdout


def test_pages_leave_nothing_out(governor: Make, clock: ManualClock, cli: Cli) -> None:
    """Broken if a session is on two pages or on none, as where several are of one time; or a page looks whole."""
    made = governor("observe", clock=clock)
    ids = []
    for number in range(10):
        with made.session("s", agent="a") as session:
            ids.append(session.id)
        if number % 4 == 3:
            clock.advance(timedelta(seconds=1))
    pages: list[str] = []
    before: list[str] = []
    while True:
        done = cli("sessions", "--agent", "a", "--limit", "3", "--json", *before)
        pages += re.findall(r'^\{"id":"([^"]+)"', done.stdout, re.MULTILINE)
        if not done.stderr:
            break
        assert done.stderr == f"interlock: there are more: --before {pages[-1]}\n"
        before = ["--before", pages[-1]]
    assert pages == ids[::-1]
    missing = cli("sessions", "--before", "nowhere")
    assert (missing.returncode, "there is no session nowhere" in missing.stderr) == (2, True)
    with pytest.raises(Conflict):
        made.read(find, before="nowhere")


@pytest.mark.parametrize("part", ["name", "agent", "user", "team", "org"])
def test_what_no_index_can_hold_is_refused(part: str, governor: Make) -> None:
    """Broken if a long name is a session on one database, and on the other a failure of the store."""
    made = governor("observe")
    given: dict[str, Any] = {"name": "s", "agent": "a"}
    with pytest.raises(Misuse, match=f"^{part} of a session must be text .* of at most 512 char"):
        made.session(**{**given, part: "\U0010ffff" * (MAX_NAME + 1)})
    longest = dict.fromkeys(("name", "agent", "user", "team", "org"), "\U0010ffff" * MAX_NAME)
    with made.session(**longest, exclusive=True):
        pass
    assert len(made.read(find, Sought(**{part: longest[part]}))) == 1


def fill(connection: Connection, count: int) -> None:
    """Write the rows of so many sessions, of which few are like any other in anything but their status."""
    table, at = tables_of(connection).sessions, now(connection)
    ids = [new_id() for _ in range(count)]
    connection.execute(
        insert(table),
        [
            {
                "id": session_id,
                "name": f"name-{number % 997}",
                "agent": f"agent-{number % 997}",
                "user": f"user-{number % 997}",
                "team": f"team-{number % 997}",
                "org": f"org-{number % 997}",
                "status": "open" if number % 997 == 0 else "completed",
                "head": 0,
                "head_hash": GENESIS,
                "opened_at": at + timedelta(seconds=number),
                "parent": ids[0] if 0 < number < 5 else None,
            }
            for number, session_id in enumerate(ids)
        ],
    )
    connection.execute(text("ANALYZE"))


SOUGHT: list[dict[str, Any]] = [
    {},
    {"name": "name-7"},
    {"agent": "agent-7"},
    {"user": "user-7"},
    {"team": "team-7"},
    {"org": "org-7"},
    {"parent": "0"},
    *({"state": state} for state in SessionStatus),
    {"since": timedelta(seconds=4_900)},
    {"agent": "agent-7", "since": timedelta(seconds=3_000)},
    {"org": "org-7", "state": SessionStatus.COMPLETED},
]


def test_no_filter_reads_them_all(governor: Make) -> None:
    """Broken if a list takes longer the more sessions there ever were."""
    made = governor("observe")
    made.write(fill, 5_000)
    database = made._machinery.store.database
    asked: list[tuple[str, Any]] = []
    event.listen(
        database.reading,
        "before_cursor_execute",
        lambda _c, _u, statement, parameters, *_: asked.append((statement, parameters)),
    )
    first = made.read(now)
    is_lite = made._machinery.store.url.get_backend_name() == "sqlite"
    some = made.read(find, limit=1)[0]
    for given in SOUGHT:
        since = given.get("since")
        sought = Sought(**{**given, **({"since": first + since} if since else {})})
        for before in (None, some.id):
            asked.clear()
            made.read(find, sought, before=before, limit=20)
            statement, parameters = next(
                one for one in reversed(asked) if "FROM sessions" in one[0]
            )
            plan = made.read(explained, statement, parameters, is_lite=is_lite)
            scanned = re.search(
                r"^SCAN sessions(?! USING INDEX ix_sessions_opened_at)"
                if is_lite
                else r"Seq Scan on sessions",
                plan,
                re.MULTILINE,
            )
            assert scanned is None, f"{given}: {plan}"
            if is_lite and given and "state" not in given:
                assert re.search(r"^SEARCH sessions USING INDEX", plan, re.MULTILINE), plan
                assert "TEMP B-TREE" not in plan, f"{given} is sorted: {plan}"


def explained(connection: Connection, statement: str, parameters: Any, *, is_lite: bool) -> str:
    """Return how the database goes about *statement*."""
    asked = f"EXPLAIN {'QUERY PLAN ' if is_lite else ''}{statement}"
    return "\n".join(str(row[-1]) for row in connection.exec_driver_sql(asked, parameters))


def test_every_filter_is_tried() -> None:
    """Broken if a filter is added of which nobody looked how it is found."""
    tried = {name for given in SOUGHT for name in given}
    assert tried == set(listing.Sought.__struct_fields__)
