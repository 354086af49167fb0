"""`interlock events`: all or some, as they were or as they come, for people and for programs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from interlock import Governor, Session, governed
from tests.conftest import ALLOW_ALL

Cli = Callable[..., subprocess.CompletedProcess[str]]


@governed
def act(number: int) -> int:
    """Return the number."""
    return number


def command(database: str, *arguments: str) -> tuple[list[str], dict[str, str]]:
    """Return how `interlock events` is started on a store."""
    environment = {**os.environ, "INTERLOCK_DB": database, "COLUMNS": "100"}
    return [sys.executable, "-m", "interlock", "events", *arguments], environment


@pytest.fixture
def cli(either: str) -> Cli:
    """Run `interlock events` on this test's store."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        said, environment = command(either, *arguments)
        return subprocess.run(said, env=environment, capture_output=True, text=True, check=False)

    return run


@pytest.fixture
def governor(either: str) -> Iterator[Governor]:
    """A governor over a fresh store."""
    with Governor(either, policy=ALLOW_ALL) as one:
        yield one


def filled(governor: Governor) -> list[Session]:
    """Make two sessions with a call and a note."""
    made = []
    for name in ("first", "second"):
        with governor.session(name, agent="bot") as session:
            act(1)
            session.record("loop_started", {"round": 1})
        made.append(session)
    return made


def lines(text: str) -> list[dict[str, object]]:
    """The JSON objects that were printed."""
    return [json.loads(line) for line in text.splitlines()]


def test_all_events_or_those_of_a_session_or_of_a_kind(cli: Cli, governor: Governor) -> None:
    """Broken if an event is left out or shown where it was not asked for, or people cannot read it."""
    first, second = filled(governor)
    everything = lines(cli("--json").stdout)
    assert [recorded.id for recorded in governor.feed()] == [one["id"] for one in everything]
    for arguments in ((first.id,), ("--session", first.id)):
        own = lines(cli(*arguments, "--json").stdout)
        assert [one for one in everything if one["session_id"] == first.id] == [
            {**one, "cursor": whole["cursor"]} for one, whole in zip(own, everything, strict=False)
        ]
    noted = lines(cli("--kind", "app_noted", "--kind", "session_closed", "--json").stdout)
    assert [one["kind"] for one in noted] == ["app_noted", "session_closed"] * 2
    shown = cli().stdout
    assert shown.count("loop_started {round: 1}") == 2
    assert shown.index(first.id) < shown.index(second.id)
    assert cli(first.id).stdout.count("loop_started {round: 1}") == 1


def test_a_program_goes_on_where_it_was(cli: Cli, governor: Governor) -> None:
    """Broken if what --json prints as a cursor cannot be given back, or leaves out or repeats an event."""
    filled(governor)
    everything = lines(cli("--json").stdout)
    for number in (0, 3, len(everything) - 1):
        rest = lines(cli("--json", "--after", str(everything[number]["cursor"])).stdout)
        assert [one["id"] for one in everything[number + 1 :]] == [one["id"] for one in rest]
    wrong = cli("--after", "yesterday")
    assert (wrong.returncode, "no cursor" in wrong.stderr) == (2, True)


def test_what_is_not_there_is_said(cli: Cli, governor: Governor) -> None:
    """Broken if a mistyped session looks like one without events."""
    filled(governor)
    for arguments in (("nobody",), ("nobody", "--json"), ("nobody", "--follow")):
        said = cli(*arguments)
        assert (said.returncode, "there is no session nobody" in said.stderr) == (2, True)


@pytest.mark.parametrize("json_lines", [True, False])
@pytest.mark.parametrize("of", ["all", "one"])
def test_what_comes_is_printed_until_interrupted(
    either: str, governor: Governor, of: str, *, json_lines: bool
) -> None:
    """Broken if a follower is silent until it ends, shows what was before, or does not end well at Ctrl-C."""
    filled(governor)
    with governor.session("third", agent="bot") as session:
        chosen = [session.id] if of == "one" else ["--after", "now"]
        said, environment = command(either, "--follow", *chosen, *["--json"] * json_lines)
        process = subprocess.Popen(
            said, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        seen = []
        if of == "one":  # so it is certain that it follows
            seen.append(process.stdout.readline())
            if not json_lines:
                seen.append(process.stdout.readline())
        else:
            session.record("begun")
            seen.append(_until_heard(process, session))
        session.record("while_followed")
        while "while_followed" not in seen[-1]:
            seen.append(process.stdout.readline())
            assert seen[-1], "it ended"
        process.send_signal(signal.SIGINT)
        rest, complaints = process.communicate(timeout=30)
    assert (process.returncode, complaints) == (0, "")
    text = "".join(seen)
    assert "first" not in text
    assert "loop_started" not in text + rest


def _until_heard(process: subprocess.Popen[str], session: Session) -> str:
    """Note something again and again until the follower, which begins at any moment, shows the first of it."""
    import select  # noqa: PLC0415

    assert process.stdout is not None
    while not select.select([process.stdout], [], [], 0.2)[0]:
        session.record("begun")
    return process.stdout.readline()


def test_a_broken_pipe_is_no_error(either: str, governor: Governor) -> None:
    """Broken if `interlock events | head` complains."""
    filled(governor)
    said, environment = command(either, "--json")
    process = subprocess.Popen(
        said, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.stderr.close()
    process.wait(30)


def test_nothing_is_made_where_there_is_no_store(tmp_path: Path) -> None:
    """Broken if looking creates."""
    said, environment = command(f"sqlite:///{tmp_path / 'none.db'}")
    done = subprocess.run(said, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, list(tmp_path.iterdir())) == (2, [])
