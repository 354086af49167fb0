"""Where checkpoints are kept: behind a URL as in a file, by one who goes on with them and by several."""

from __future__ import annotations

import os
import runpy
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from interlock import Governor, governed
from interlock._checkpoint import Overtaken
from interlock._checkpoints import Place, place_of
from interlock.errors import Conflict, Misuse
from tests.commands import cli_of
from tests.conftest import ALLOW_ALL

pytestmark = pytest.mark.promise(7)

EXAMPLE = runpy.run_path(str(Path(__file__).parents[1] / "examples" / "checkpoint_collector.py"))
TOKEN: str = EXAMPLE["BEARER"]
KEY = b"a secret of the auditors"


@governed
def lookup(order: str) -> str:
    """Look an order up."""
    return order


def work(governor: Governor, name: str = "s") -> str:
    """Run a session; return its id."""
    with governor.session(name, agent="bot") as session:
        lookup("o-1")
    return session.id


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where the lines end up."""
    return tmp_path / "lines.jsonl"


@pytest.fixture
def url(file: Path) -> Iterator[str]:
    """Where a collector listens that keeps its lines in the file."""
    collecting: Callable[[Path], AbstractContextManager[Any]] = EXAMPLE["collecting"]
    with collecting(file) as collector:
        yield collector.url


@pytest.fixture
def governor(either: str) -> Iterator[Governor]:
    """A governor on a store of its own."""
    with Governor(either, policy=ALLOW_ALL) as governor:
        yield governor


@pytest.fixture(params=["file", "url"])
def place(request: pytest.FixtureRequest, file: Path) -> Place:
    """An empty place for lines, a file and a URL."""
    if request.param == "file":
        return place_of(file)
    return place_of(request.getfixturevalue("url"), TOKEN)


def kept(governor: Governor, place: Place) -> Any:
    """The checkpoints in a place."""
    is_file = not place.name.startswith("http")
    return governor.checkpoints(place.name, key=KEY, token=None if is_file else TOKEN)


def test_they_are_gone_on_with(governor: Governor, place: Place, file: Path) -> None:
    """Broken if one who goes on, or another after him, loses a line, or does not see what is gone."""
    work(governor)
    ours = kept(governor, place)
    made = [ours.append(), ours.append()]
    session_id = work(governor)
    made += [ours.append(), kept(governor, place).append(), ours.append()]
    assert [one.number for one in made] == [1, 2, 3, 4, 5]
    assert [len(one.changed) for one in made] == [1, 0, 1, 0, 0]
    assert [one.sessions for one in made] == [1, 1, 2, 2, 2]
    assert ours.compare().problems == []
    assert ours.compare().last == made[-1]
    assert len(file.read_bytes().splitlines()) == 5
    witness = kept(governor, place)
    head = file.read_bytes().splitlines()[2]
    assert session_id.encode() in head
    file.write_bytes(file.read_bytes().replace(b'"events":8', b'"events":9'))
    assert "line 3 of the checkpoints was altered" in witness.compare().problems[0]
    with pytest.raises(Conflict, match="line 3 of the checkpoints was altered"):
        witness.append()


def test_what_was_read_is_not_read_again(governor: Governor, file: Path) -> None:
    """Broken if the thousandth checkpoint reads the lines of all before it: he who goes on has read them."""
    ours = governor.checkpoints(file, key=KEY)
    ours.append()
    ours.append()
    first, second = file.read_bytes().splitlines()
    file.write_bytes(b"?" * len(first) + b"\n" + second + b"\n")
    assert ours.append().number == 3
    assert governor.checkpoints(file, key=KEY).compare().problems != []


@pytest.mark.parametrize("left", [0, 1])
def test_lines_that_are_taken_out(governor: Governor, place: Place, file: Path, left: int) -> None:
    """Broken if he who goes on does not notice that lines were taken out, and goes on as if they were there."""
    ours = kept(governor, place)
    ours.append()
    ours.append()
    file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:left]))
    before = file.read_bytes()
    with pytest.raises(Conflict, match="lines were taken out"):
        ours.append()
    assert file.read_bytes() == before


def test_another_file_begins_anew(governor: Governor, file: Path) -> None:
    """Broken if a file that was put away for another is gone on with in that."""
    work(governor)
    ours = governor.checkpoints(file, key=KEY)
    ours.append()
    ours.append()
    file.rename(file.with_suffix(".old"))
    first = ours.append()
    assert (first.number, len(first.changed)) == (1, 1)
    assert governor.checkpoints(file, key=KEY).compare().problems == []


def test_a_store_that_was_put_back_is_not_gone_on_with(
    place: Place, file: Path, tmp_path: Path
) -> None:
    """Broken if checkpoints go on beside a restored store as if nothing were gone, and nobody is told until later."""
    database = tmp_path / "i.db"
    with Governor(f"sqlite:///{database}", policy=ALLOW_ALL) as governor:
        work(governor)
    old = shutil.copy(database, tmp_path / "old.db")
    with Governor(f"sqlite:///{database}", policy=ALLOW_ALL) as governor:
        work(governor)
        kept(governor, place).append()
    shutil.copy(old, database)
    before = file.read_bytes()
    with (
        Governor(f"sqlite:///{database}", policy=ALLOW_ALL) as governor,
        pytest.raises(Conflict, match="the store ends before checkpoint 1 of "),
    ):
        kept(governor, place).append()
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    ("url", "token", "said"),
    [
        ("http://[bad", None, "no URL"),
        ("http:///lines", None, "names no machine"),
        ("http://127.0.0.1:port/x", None, "no URL"),
        ("https://audit.example/x", "é", "no header can have"),
        ("https://audit.example/x", "a\nb", "no header can have"),
        ("http://ann:hunter2@audit.example/x", None, "not sent in clear"),
    ],
)
def test_a_place_that_cannot_be_used_is_named(
    governor: Governor, url: str, token: str | None, said: str
) -> None:
    """Broken if a mistyped URL or token ends in a traceback, or a password in a URL is sent in clear, or shown."""
    with pytest.raises(Misuse, match=said) as raised:
        governor.checkpoints(url, key=KEY, token=token)
    assert "hunter2" not in str(raised.value)


def test_of_two_one_is_told(url: str) -> None:
    """Broken if of two who have read the same lines both append to them."""
    place = place_of(url, TOKEN)
    with place.held(0) as one, place.held(0) as other:
        assert (one.rest(), other.rest()) == (b"", b"")
        other.append(b"first\n")
        with pytest.raises(Overtaken):
            one.append(b"also first\n")
    with place.held(0) as one, place.held(0) as other:
        other.append(b"second\n")
        with pytest.raises(Overtaken):
            one.append(b"also second\n")
    assert place.read() == b"first\nsecond\n"


def test_several_at_once(governor: Governor, place: Place) -> None:
    """Broken if four who append at once leave lines that do not follow from each other, or fail for it."""
    work(governor)
    ready = Barrier(4)

    def append(_: int) -> list[int]:
        ours = kept(governor, place)
        ready.wait()
        numbers: list[int] = []
        while len(numbers) < 3:
            try:
                numbers.append(ours.append().number)
            except Overtaken:  # five times in a row; it says to try again
                continue
        return numbers

    with ThreadPoolExecutor(4) as pool:
        numbers = sorted(number for some in pool.map(append, range(4)) for number in some)
    assert numbers == list(range(1, 13))
    assert kept(governor, place).compare().problems == []


def test_who_may_not_is_told(governor: Governor, url: str) -> None:
    """Broken if a collector's refusal looks like a line that was written, or like no lines at all."""
    stranger = governor.checkpoints(url, key=KEY, token="a stranger's")
    with pytest.raises(OSError, match="answers 401"):
        stranger.append()
    with pytest.raises(OSError, match="answers 401"):
        stranger.compare()
    nobody = governor.checkpoints(url, key=KEY, token=TOKEN).compare()
    assert nobody.problems == [f"{url} holds no checkpoint"]


def test_a_token_stays_out_of_the_clear(governor: Governor, file: Path) -> None:
    """Broken if a token goes over a network that anybody can listen to, or into a message."""
    with pytest.raises(Misuse, match=r"is not sent in clear to audit\.example"):
        governor.checkpoints("http://audit.example/lines", key=KEY, token=TOKEN)
    with pytest.raises(Misuse, match="behind http or https"):
        governor.checkpoints("s3://bucket/lines", key=KEY)
    with pytest.raises(Misuse, match="this is a file"):
        governor.checkpoints(file, key=KEY, token=TOKEN)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        port = deaf.getsockname()[1]
    with pytest.raises(OSError, match="does not answer") as raised:
        governor.checkpoints(f"http://me:secret@127.0.0.1:{port}/lines", key=KEY).append()
    assert "secret" not in str(raised.value)


def test_the_command_goes_on_when_the_collector_comes_back(
    database: str, file: Path, unused: int
) -> None:
    """Broken if `--every` gives up where the collector is away for a while, or does not say so."""
    with Governor(database, policy=ALLOW_ALL) as governor:
        work(governor)
    url = f"http://127.0.0.1:{unused}/checkpoints"
    command = [sys.executable, "-m", "interlock", "checkpoint", "--to", url, "--every", "1s"]
    environment = {
        **os.environ,
        "INTERLOCK_DB": database,
        "INTERLOCK_CHECKPOINT_KEY": KEY.decode(),
        "INTERLOCK_CHECKPOINT_TOKEN": TOKEN,
        "COLUMNS": "250",
    }
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        told = process.stderr.readline()
        with EXAMPLE["collecting"](file, port=unused):
            line = process.stdout.readline()
            process.send_signal(2)
            assert process.wait(timeout=30) == 0
    assert "it is tried again" in told
    assert "does not answer" in told
    assert line.startswith(f"checkpoint 1 in {url}: 1 sessions")


@pytest.fixture
def unused() -> int:
    """A port of the loopback on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


def test_the_commands(database: str, url: str, file: Path) -> None:
    """Broken if an operator cannot keep checkpoints on another machine, and compare with them."""
    keys = {"INTERLOCK_CHECKPOINT_KEY": KEY.decode(), "INTERLOCK_CHECKPOINT_TOKEN": TOKEN}
    cli = cli_of(database, columns=250, **keys)

    with Governor(database, policy=ALLOW_ALL) as governor:
        work(governor)
    made = cli("checkpoint", "--to", url)
    assert (made.returncode, "1 sessions, 4 events" in made.stdout) == (0, True)
    assert cli("verify", "--checkpoint", url).returncode == 0
    file.unlink()
    forgotten = cli("verify", "--checkpoint", url)
    assert (forgotten.returncode, "holds no checkpoint" in forgotten.stdout) == (1, True)
    for arguments in (["checkpoint", "--to"], ["verify", "--checkpoint"]):
        secret = cli(*arguments, url.replace("//", "//ann:hunter2@").replace("/checkpoints", "x"))
        assert secret.returncode == 2
        assert "hunter2" not in secret.stdout + secret.stderr
