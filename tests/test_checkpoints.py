"""Checkpoints: what is taken out of a store or rewritten in it behind its back is named, and nothing else is."""
# ruff: noqa: S608 - no statement here is made of anything but these tests' own words

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from threading import Barrier, Event

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine, make_url

from interlock import Governor, governed
from interlock._checkpoint import FIRST
from interlock.errors import Conflict, Misuse
from interlock.testing import ManualClock
from tests.commands import cli_of
from tests.conftest import ALLOW_ALL
from tests.forging import problems, rewrite, run

pytestmark = pytest.mark.promise(7)

KEY = b"a secret of the auditors"
Tamper = Callable[[str], None]


@governed
def lookup(order: str) -> str:
    """Look an order up."""
    return order


def work(governor: Governor, name: str, calls: int = 2) -> str:
    """Run a session; return its id."""
    with governor.session(name, agent="bot") as session:
        for number in range(calls):
            lookup(f"o-{number}")
    return session.id


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where the checkpoints are."""
    return tmp_path / "checkpoints.jsonl"


@pytest.fixture
def witnessed(either: str, file: Path) -> str:
    """A store of two sessions and a halt, with two checkpoints."""
    with Governor(either, policy=ALLOW_ALL) as governor:
        work(governor, "a")
        governor.checkpoints(file, key=KEY).append()
        work(governor, "b")
        halt = governor.halt(reason="drill", by="ann", tool="wire").halt
        governor.release(halt.id, reason="over", by="ann")
        governor.checkpoints(file, key=KEY).append()
    return either


def found(store: str, file: Path, key: bytes = KEY) -> list[str]:
    """What the comparison finds."""
    with Governor(store) as governor:
        return governor.checkpoints(file, key=key).compare().problems


def id_of(store: str, name: str) -> str:
    """The id of a session."""
    session_id: str = run(store, f"SELECT id FROM sessions WHERE name = '{name}'")[0][0]
    return session_id


def cut(store: str, name: str, keep: int) -> None:
    """Take the last events of a session away, and edit its row to match."""
    session_id = id_of(store, name)
    run(
        store,
        f"DELETE FROM events WHERE session_id = '{session_id}' AND seq > {keep}",
        f"UPDATE sessions SET head = {keep}, head_hash = (SELECT hash FROM events "
        f"WHERE session_id = '{session_id}' AND seq = {keep}) WHERE id = '{session_id}'",
    )


def drop(store: str, name: str) -> None:
    """Take a session away with all its rows."""
    session_id = id_of(store, name)
    run(
        store,
        f"DELETE FROM events WHERE session_id = '{session_id}'",
        f"DELETE FROM sessions WHERE id = '{session_id}'",
        "DELETE FROM counters",
    )


def recounted(sentences: list[str]) -> list[str]:
    """What verification alone finds, but for the counters, which a forger counts down as well."""
    return [one for one in sentences if "counter" not in one]


def test_an_untouched_store_agrees(witnessed: str, file: Path) -> None:
    """Broken if there is an alarm where nothing was done, also after more has happened."""
    assert found(witnessed, file) == []
    with Governor(witnessed, policy=ALLOW_ALL) as governor:
        work(governor, "c")
        assert governor.checkpoints(file, key=KEY).compare().problems == []


def test_a_dropped_session_is_named(witnessed: str, file: Path) -> None:
    """Broken if a session can vanish with all its rows, which the store itself cannot tell."""
    session_id = id_of(witnessed, "a")
    drop(witnessed, "a")
    assert recounted(problems(witnessed)) == []
    (problem,) = found(witnessed, file)
    assert problem.startswith(f"session {session_id} is gone: at ")


def test_a_cut_tail_is_named(either: str, file: Path) -> None:
    """Broken if the last events can vanish when the row is edited to match, which the store itself cannot tell."""
    with Governor(either, policy=ALLOW_ALL) as governor:
        session_id = work(governor, "a", calls=1)
        work(governor, "b")
        governor.checkpoints(file, key=KEY).append()
    run(either, f"UPDATE sessions SET status = 'open', closed_at = NULL WHERE id = '{session_id}'")
    run(either, f"UPDATE sessions SET owned_at = opened_at WHERE id = '{session_id}'")
    cut(either, "a", 3)
    assert recounted(problems(either)) == []
    (problem,) = found(either, file)
    assert problem.startswith(f"session {session_id} was cut off: event 4, its last at ")


def test_a_rewritten_suffix_is_named(witnessed: str, file: Path) -> None:
    """Broken if events can be written anew with recomputed hashes, which the store itself cannot tell."""
    session_id = id_of(witnessed, "b")
    rewrite(witnessed, "b", '"bot"', '"rob"')
    run(witnessed, "UPDATE sessions SET agent = 'rob' WHERE name = 'b'")
    assert recounted(problems(witnessed)) == []
    (problem,) = found(witnessed, file)
    assert problem.startswith(f"session {session_id} was rewritten from one of events 1 to 6 on: ")


def test_it_is_said_up_to_where_a_session_is_sound(either: str, file: Path) -> None:
    """Broken if a checkpoint of an earlier event does not narrow down where the rewriting begins."""
    with Governor(either, policy=ALLOW_ALL) as governor:
        with governor.session("s", agent="bot"):
            lookup("o-1")
            governor.checkpoints(file, key=KEY).append()
            lookup("o-2")
        governor.checkpoints(file, key=KEY).append()
    rewrite(either, "s", "o-2", "o-3")
    (problem,) = found(either, file)
    assert "was rewritten from one of events 4 to 6 on: " in problem


def test_an_edited_event_is_found_by_both(witnessed: str, file: Path) -> None:
    """Broken if the hash that a checkpoint has seen may be edited."""
    session_id = id_of(witnessed, "b")
    run(
        witnessed,
        f"UPDATE events SET hash = '{FIRST}' WHERE session_id = '{session_id}' AND seq = 6",
    )
    assert len(recounted(problems(witnessed))) == 1
    assert len(found(witnessed, file)) == 1


def test_a_restored_snapshot_is_named(witnessed: str, file: Path) -> None:
    """Broken if what came after the snapshot can be undone, which the store itself cannot tell."""
    session_id = id_of(witnessed, "b")
    drop(witnessed, "b")
    run(witnessed, "DELETE FROM halt_log", "DELETE FROM halts")
    assert recounted(problems(witnessed)) == []
    problem, *others = found(witnessed, file)
    assert problem.startswith("the store ends before checkpoint 2 of ")
    assert sorted(one.split(": at ")[0].split(", its last")[0] for one in others) == [
        f"session {session_id} is gone",
        "the log of halts was cut off: row 2",
    ]


def test_a_copied_back_file_is_named(database: str, file: Path, tmp_path: Path) -> None:
    """Broken if an old copy of the file can take the store's place, which the store itself cannot tell."""
    with Governor(database, policy=ALLOW_ALL) as governor:
        work(governor, "a")
    path = Path(database.removeprefix("sqlite:///"))
    old = shutil.copy(path, tmp_path / "old.db")
    with Governor(database, policy=ALLOW_ALL) as governor:
        session_id = work(governor, "b")
        governor.checkpoints(file, key=KEY).append()
    shutil.copy(old, path)
    assert problems(database) == []
    problem, other = found(database, file)
    assert problem.startswith("the store ends before checkpoint 1 of ")
    assert other.startswith(f"session {session_id} is gone: ")


def test_an_inserted_session_is_named(either: str, file: Path) -> None:
    """Broken if a session can be added to a past that has been witnessed."""
    clock = ManualClock()
    with Governor(either, policy=ALLOW_ALL, clock=clock) as governor:
        work(governor, "a")
        clock.advance(timedelta(hours=1))
        governor.checkpoints(file, key=KEY).append()
        clock.advance(timedelta(hours=1))
        work(governor, "after")
        assert governor.checkpoints(file, key=KEY).compare().problems == []
    past = ManualClock()
    with Governor(either, policy=ALLOW_ALL, clock=past) as forger:
        session_id = work(forger, "invented")
    assert recounted(problems(either)) == []
    (problem,) = found(either, file)
    assert problem.startswith(f"session {session_id} was inserted: ")
    with Governor(either, policy=ALLOW_ALL, clock=clock) as governor:  # also once it is listed
        governor.checkpoints(file, key=KEY).append()
    assert found(either, file) == [problem]


def test_a_changed_log_of_halts_is_named(witnessed: str, file: Path) -> None:
    """Broken if the last rows of the log of halts can vanish."""
    run(witnessed, "DELETE FROM halt_log WHERE seq = 2")
    (problem,) = found(witnessed, file)
    assert problem.startswith("the log of halts was cut off: row 2, its last at ")


def lines_of(file: Path) -> list[bytes]:
    """The lines, each with its end."""
    return file.read_bytes().splitlines(keepends=True)


@pytest.mark.parametrize(
    ("forge", "said"),
    [
        (lambda lines: [lines[0], lines[2]], "checkpoint 2 is missing"),
        (lambda lines: [lines[1], lines[2]], "checkpoint 1 is missing"),
        (lambda lines: [lines[0], lines[2], lines[1]], "checkpoint 2 is missing"),
        (lambda lines: [lines[0], lines[0], *lines[1:]], "comes after checkpoint 1"),
        (
            lambda lines: [lines[0], lines[1].replace(b'"events":6', b'"events":7'), lines[2]],
            "altered",
        ),
        (lambda lines: [lines[0], lines[1][:-9] + b"\n", lines[2]], "checkpoint 2 is missing"),
        (lambda lines: [lines[0].replace(b"{", b"{ ", 1), *lines[1:]], "altered"),
    ],
    ids=["missing", "first", "reordered", "repeated", "altered", "destroyed", "spaced"],
)
def test_forged_lines(
    database: str, file: Path, forge: Callable[[list[bytes]], list[bytes]], said: str
) -> None:
    """Broken if a line can be taken out, moved or changed; or if the file is gone on with after that."""
    with Governor(database, policy=ALLOW_ALL) as governor:
        work(governor, "a")
        for _ in range(3):
            governor.checkpoints(file, key=KEY).append()
        assert governor.checkpoints(file, key=KEY).compare().problems == []
        forged = forge(lines_of(file))
        assert forged != lines_of(file)
        file.write_bytes(b"".join(forged))
        assert said in governor.checkpoints(file, key=KEY).compare().problems[0]
        with pytest.raises(Conflict, match=said):
            governor.checkpoints(file, key=KEY).append()


def test_a_line_of_another_file(database: str, file: Path, tmp_path: Path) -> None:
    """Broken if a line that the same key has signed, with the number that is due, fits into another file."""
    other = tmp_path / "other.jsonl"
    with Governor(database, policy=ALLOW_ALL) as governor:
        for _ in range(2):
            work(governor, "a")
            governor.checkpoints(file, key=KEY).append()
            governor.checkpoints(other, key=KEY).append()
        file.write_bytes(lines_of(file)[0] + lines_of(other)[1])
        assert governor.checkpoints(file, key=KEY).compare().problems == [
            "line 2 of the checkpoints does not follow from the line before it"
        ]


def test_another_key(database: str, file: Path) -> None:
    """Broken if what another key has signed is believed, or a file is gone on with under another key."""
    with Governor(database, policy=ALLOW_ALL) as governor:
        work(governor, "a")
        governor.checkpoints(file, key=KEY).append()
        other = b"a secret of somebody else"
        assert "another key" in governor.checkpoints(file, key=other).compare().problems[0]
        with pytest.raises(Conflict, match="another key"):
            governor.checkpoints(file, key=other).append()
        with pytest.raises(Misuse, match="at least 16 bytes"):
            governor.checkpoints(file, key=b"short").append()


def test_a_public_key_verifies_and_does_not_sign(database: str, file: Path) -> None:
    """Broken if an auditor needs the private key, or a public key, or another one, is enough to sign."""
    private, stranger = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    pem = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    form = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    public = private.public_key().public_bytes(*form)
    with Governor(database, policy=ALLOW_ALL) as governor:
        work(governor, "a")
        assert governor.checkpoints(file, key=pem).append().algorithm == "ed25519"
        assert governor.checkpoints(file, key=public).compare().problems == []
        theirs = governor.checkpoints(file, key=stranger.public_key().public_bytes(*form)).compare()
        assert "another key" in theirs.problems[0]
        with pytest.raises(Misuse, match="public key"):
            governor.checkpoints(file, key=public).append()
        file.write_bytes(file.read_bytes().replace(b'"sessions":1', b'"sessions":2'))
        assert "altered" in governor.checkpoints(file, key=public).compare().problems[0]


@pytest.mark.parametrize("kept", [1, 40, -2])
def test_a_line_that_was_not_written_to_its_end(database: str, file: Path, kept: int) -> None:
    """Broken if a crash in the middle of a write spoils the file, truncates it, or is not told of."""
    with Governor(database, policy=ALLOW_ALL) as governor:
        work(governor, "a")
        governor.checkpoints(file, key=KEY).append()
        good = file.read_bytes()
        governor.checkpoints(file, key=KEY).append()
        torn = good + lines_of(file)[1][:kept]
        file.write_bytes(torn)
        assert governor.checkpoints(file, key=KEY).append().number == 2
        assert file.read_bytes().startswith(torn + b"\n")
        comparison = governor.checkpoints(file, key=KEY).compare()
    assert comparison.problems == []
    assert comparison.notes == [
        "line 2 of the checkpoints was not written to its end, or was destroyed"
    ]


def test_idle(either: str, file: Path) -> None:
    """Broken if a store in which nothing happens leaves no sign of life, or lists its sessions again."""
    clock = ManualClock()
    with Governor(either, policy=ALLOW_ALL, clock=clock) as governor:
        work(governor, "a")
        first = governor.checkpoints(file, key=KEY).append()
        clock.advance(timedelta(minutes=1))
        second = governor.checkpoints(file, key=KEY).append()
    assert (len(first.changed), second.changed) == (1, [])
    assert (first.root, first.sessions, first.events) == (second.root, 1, 6)
    assert second.at - first.at == timedelta(minutes=1)


@settings(max_examples=25)
@given(
    steps=st.lists(st.sampled_from(["checkpoint", "session", "note", "halt", "usage"]), max_size=12)
)
def test_no_false_alarm(tmp_path_factory: pytest.TempPathFactory, steps: list[str]) -> None:
    """Broken if what legitimately happens after a checkpoint disagrees with it, in any order."""
    place = tmp_path_factory.mktemp("history")
    file = place / "checkpoints.jsonl"
    with Governor(f"sqlite:///{place / 'i.db'}", policy=ALLOW_ALL) as governor:
        governor.checkpoints(file, key=KEY).append()
        with governor.session("long", agent="bot") as session:
            for step in steps:
                if step == "checkpoint":
                    governor.checkpoints(file, key=KEY).append()
                elif step == "session":
                    work(governor, "short", calls=1)
                elif step == "note":
                    session.record("noted", {"n": 1})
                elif step == "usage":
                    governor.record_usage(model="m", cost_usd="0.001")
                else:
                    halt = governor.halt(reason="drill", by="ann", tool="wire").halt
                    governor.release(halt.id, reason="over", by="ann")
        assert governor.checkpoints(file, key=KEY).compare().problems == []


def test_beside_writers(either: str, file: Path) -> None:
    """Broken if a checkpoint that is taken while four threads write claims what it has not seen."""
    over, ready = Event(), Barrier(5)

    def write(governor: Governor, number: int) -> int:
        ready.wait()
        runs = 0
        while not over.is_set():
            work(governor, f"s-{number}")
            governor.record_usage(model="m", cost_usd="0.001")
            runs += 1
        return runs

    with Governor(either, policy=ALLOW_ALL) as governor, ThreadPoolExecutor(4) as pool:
        writers = [pool.submit(write, governor, number) for number in range(4)]
        ready.wait()
        try:
            made = [governor.checkpoints(file, key=KEY).append() for _ in range(8)]
        finally:
            over.set()
        assert min(writer.result() for writer in writers) > 0
        assert governor.checkpoints(file, key=KEY).compare().problems == []
    assert made[0].events < made[-1].events  # they wrote meanwhile


@pytest.mark.parametrize(
    ("forge", "alone"),
    [
        ("DELETE FROM usage WHERE model = 'm-2'", None),
        ("UPDATE usage SET cost_nano = 1 WHERE model = 'm-2'", "its hash is another"),
        ("UPDATE usage SET position = position + 7 WHERE model = 'm-1'", None),
    ],
)
def test_changed_usage_is_named(either: str, file: Path, forge: str, alone: str | None) -> None:
    """Broken if what was recorded outside of sessions can be changed or vanish, which no session's chain shows."""
    with Governor(either, policy=ALLOW_ALL) as governor:
        kept = governor.checkpoints(file, key=KEY)
        for number in range(4):
            governor.record_usage(model=f"m-{number}", cost_usd="0.001")
            kept.append()
        before, until = (json.loads(line)["checkpoint"]["at"][:19] for line in lines_of(file)[1:3])
    run(either, forge)
    by_itself, compared = problems(either), found(either, file)
    if alone is not None:  # the row is there, with its hash: what it says is compared with that
        assert ([alone in one for one in by_itself], compared) == ([True], [])
        return
    assert (by_itself, len(compared)) == ([], 1)
    if "m-2" in forge:
        assert compared[0] == (
            "usage outside of sessions was changed: what was recorded from "
            f"{before.replace('T', ' ')}Z to {until.replace('T', ' ')}Z is another"
        )


def test_usage_of_a_host_that_has_not_committed(postgres: str, file: Path) -> None:
    """Broken if a checkpoint claims places that a transaction of a host still fills, and later calls that tampering."""
    engine = create_engine(make_url(postgres).set(drivername="postgresql+psycopg"))
    with Governor(postgres, policy=ALLOW_ALL) as governor:
        kept = governor.checkpoints(file, key=KEY)
        with engine.begin() as host:
            governor.record_usage(model="m-1", cost_usd="0.001", within=host)
            governor.record_usage(model="m-2", cost_usd="0.001")
            assert kept.append().changed == []
        assert kept.compare().problems == []
        assert [name for name, *_ in kept.append().changed] == ["usage"]
        assert kept.compare().problems == []
    engine.dispose()


def cli(store: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `interlock`, the key in the environment."""
    return cli_of(store, columns=250, INTERLOCK_CHECKPOINT_KEY=KEY.decode())(*arguments)


def test_the_commands(either: str, file: Path) -> None:
    """Broken if an operator cannot make checkpoints, is not told what is gone, or a program does not see the code."""
    with Governor(either, policy=ALLOW_ALL) as governor:
        work(governor, "a")
        session_id = work(governor, "b")
    made = cli(either, "checkpoint", "--to", str(file), "--json")
    assert (made.returncode, json.loads(made.stdout)["sessions"]) == (0, 2)
    sound = cli(either, "verify", "--checkpoint", str(file))
    assert sound.returncode == 0
    assert "is still there: 2 sessions, 12 events" in sound.stdout
    drop(either, "b")
    forged = cli(either, "verify", "--checkpoint", str(file))
    assert forged.returncode == 1
    assert f"session {session_id} is gone" in forged.stdout
    as_json = cli(either, "verify", "--checkpoint", str(file), "--json")
    assert f"session {session_id} is gone" in as_json.stdout


def test_commands_that_fail_say_so(database: str, file: Path, tmp_path: Path) -> None:
    """Broken if a checkpoint that was not written looks like one that was."""
    with Governor(database, policy=ALLOW_ALL) as governor:
        work(governor, "a")
    nowhere = cli(database, "checkpoint", "--to", str(tmp_path / "none" / "file"))
    assert (nowhere.returncode, nowhere.stdout) == (2, "")
    assert "cannot be written" in nowhere.stderr
    missing = cli(database, "verify", "--checkpoint", str(file))
    assert missing.returncode == 2
    empty = tmp_path / "empty"
    empty.touch()
    assert cli(database, "verify", "--checkpoint", str(empty)).returncode == 1
    keyless = cli(database, "checkpoint", "--to", str(file), "--key", str(tmp_path / "no.key"))
    assert keyless.returncode == 2
    assert "cannot be read" in keyless.stderr


def test_every_goes_on(database: str, file: Path) -> None:
    """Broken if `--every` ends by itself, or does not end by an interrupt without a fault."""
    with Governor(database, policy=ALLOW_ALL) as governor:
        work(governor, "a")
    command = [sys.executable, "-m", "interlock", "checkpoint", "--to", str(file), "--every", "1s"]
    environment = {**os.environ, "INTERLOCK_DB": database, "INTERLOCK_CHECKPOINT_KEY": KEY.decode()}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(2)]
        process.send_signal(2)
        assert process.wait(timeout=30) == 0
    assert [line.split(" in ")[0] for line in said] == ["checkpoint 1", "checkpoint 2"]
    assert found(database, file) == []
