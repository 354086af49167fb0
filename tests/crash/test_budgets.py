"""Kill whoever makes budgeted calls, kill the server that keeps the books; then audit."""

from __future__ import annotations

import json
import random
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from interlock import Governor, InterlockError, governed
from tests.crash import _server
from tests.crash._lives import Kill, Nursery, effects
from tests.crash._server import Server
from tests.crash._spending import POLICY, WHO, assert_books, upgrade
from tests.races._audit import Books
from tests.races._worker import in_threads

MODES = ["call_alone", "call_streams", "call_in_threads", "call_in_tasks"]


def keys_of(books: Books) -> dict[str, str]:
    """Return the id of the call that was decided for each key."""
    return {
        json.loads(f.body["arguments"])["key"]: f.body["call_id"]
        for f in books.of_kind("call_decided")
    }


def kill_many(nursery: Nursery, url: str, tmp_path: Path, mode: str, kills: int) -> None:
    """Kill that many children that spend, and audit after every few."""
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    side_file = tmp_path / "effects"
    returned: set[str] = set()
    moments: Counter[str] = Counter()
    for number in range(1, kills + 1):
        after = chance.randrange(1, 12) if chance.random() < 0.8 else None
        kill = Kill(chance.uniform(0, 0.012 if after else 0.02), calls=after)
        order = {"do": "live", "url": url, "mode": mode, "policy": POLICY}
        life = nursery.life(**order, side_file=str(side_file), kill=kill)
        assert life.status == -signal.SIGKILL, f"seed {seed}: the child ended by itself"
        returned.update(life.acknowledged)
        moments["killed while opening"] += not life.opened
        moments["returned"] += bool(life.acknowledged)
        if number % 5 == 0 or number == kills:
            books = assert_books(url)
            decided = keys_of(books)
            happened = [key for key, _ in effects(side_file)]
            finished = {key for key, call in decided.items() if call in books.finished}
            assert returned <= finished, f"seed {seed}: an acknowledged call was lost"
            assert set(happened) <= set(decided), f"seed {seed}: an effect without an intent"
            assert len(happened) == len(set(happened)), f"seed {seed}: an effect twice"
            open_keys = {key for key, call in decided.items() if call in books.in_doubt}
            moments["in doubt"] += bool(open_keys)
            moments["effect without outcome"] += bool(open_keys & set(happened))
    for moment in ("killed while opening", "returned", "in doubt", "effect without outcome"):
        assert moments[moment] > 0, f"seed {seed}: {moments}"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.promise(3, 6)
def test_kills(nursery: Nursery, either: str, tmp_path: Path, mode: str) -> None:
    """Broken if a kill loses a charge, leaves a reservation that no open call explains, or hides an effect."""
    kill_many(nursery, either, tmp_path, mode, 50)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.promise(3, 6)
def test_very_many_kills(nursery: Nursery, either: str, tmp_path: Path, mode: str) -> None:
    """Broken as above, if more rarely."""
    kill_many(nursery, either, tmp_path, mode, 250)


@pytest.fixture
def server() -> Iterator[Server]:
    """A Postgres server of the test's own, with our tables in its first database."""
    with _server.server() as one:
        upgrade(one.admin)
        yield one


def kill_server(server: Server, kills: int, caplog: pytest.LogCaptureFixture) -> None:
    """Kill *server* while four threads spend, start it again, and audit, that many times."""
    happened: list[str] = []

    @governed(name="act")
    def act(key: str) -> str:
        happened.append(key)
        return key

    returned: list[str] = []
    told: dict[str, str] = {}
    over = threading.Event()
    with (
        Governor(server.admin, policy=POLICY) as governor,
        governor.session("calls", **WHO) as session,
    ):

        def body(number: int) -> None:
            with session.attach():
                for n in range(1_000_000):
                    if over.is_set():
                        return
                    key = f"{number}-{n}"
                    try:
                        returned.append(act(key))
                    except InterlockError as error:
                        told[key] = f"{type(error).__name__}: {error}"
                        over.wait(0.01)

        def killer(_: int) -> None:
            try:
                for _kill in range(kills):
                    _reach(returned, len(returned) + 40)
                    before = len(told)
                    server.kill()
                    _reach(told, before + 4)
                    server.start()
                _reach(returned, len(returned) + 40)
            finally:
                over.set()

        in_threads(5, lambda number: killer(number) if number == 4 else body(number))
    books = assert_books(server.admin)
    decided = keys_of(books)
    assert {text.partition(":")[0] for text in told.values()} == {"StoreUnavailable"}
    assert set(happened) <= set(decided), "an effect without an intent"
    assert len(happened) == len(set(happened)) == len(returned)
    left = {key for key in returned if decided[key] not in books.finished}
    assert {decided[key] for key in left} <= books.in_doubt
    said = sum("could not be recorded" in record.getMessage() for record in caplog.records)
    assert said >= len(left), "an outcome was lost without a word"
    lied = {key for key, text in told.items() if "Nothing was written" in text} & set(decided)
    assert lied == set(), "who is told that nothing was written must not find it written"
    assert len(told) >= 4 * kills, "nobody was calling when the server was killed"


def _reach(sized: Any, size: int) -> None:
    while len(sized) < size:
        threading.Event().wait(0.005)


@pytest.mark.promise(3, 6)
def test_the_server_is_killed(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    """Broken if a server that dies takes an acknowledged event with it, or a governor does not recover by itself."""
    kill_server(server, 5, caplog)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.promise(3, 6)
def test_the_server_is_killed_often(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    """Broken as above, if more rarely."""
    kill_server(server, 50, caplog)
