"""Kill whoever makes budgeted calls, kill the server that keeps the books, cut the wire at a commit; then audit."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

from interlock import Governor, Identity, InterlockError, governed
from interlock.store import schema
from interlock.store.engine import Store
from tests.crash import _server
from tests.crash._lives import Kill, Nursery, effects
from tests.crash._server import Server, Wire
from tests.ledger._rows import Rows
from tests.races._audit import Books, audit
from tests.races._worker import in_threads

BUDGETS = [
    {"name": "run", "per": "session", "calls": 1_000_000},
    {"name": "day", "per": "user", "window": "day", "calls": 1_000_000},
    {"name": "month", "per": "org", "window": "month", "calls": 1_000_000, "cost_usd": 1_000_000},
]
POLICY: dict[str, Any] = {"version": 1, "name": "crash", "default": "allow", "budgets": BUDGETS}
WHO = {"agent": "v", "user": "ann", "org": "acme"}
MODES = ["call_alone", "call_streams", "call_in_threads", "call_in_tasks"]


def assert_books(url: str) -> Books:
    """Every level has spent what finished calls were charged, and holds what open ones do."""
    with Governor(url, policy=POLICY) as governor, Rows(url) as rows:
        books = audit(governor)
        assert governor.verify_budgets() == []
        rows.assert_consistent()
        sums: dict[str, Counter[str]] = {str(budget["name"]): Counter() for budget in BUDGETS}
        for window, (_, reserved, spent) in rows.windows().items():
            sums[window[0]].update(reserved=reserved["calls"], spent=spent["calls"])
    expected = +Counter(reserved=len(books.in_doubt), spent=len(books.finished))
    for name, found in sums.items():
        assert expected == +found, f"budget {name}"
    return books


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
    kill_many(nursery, either, tmp_path, mode, 25)


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
        _upgrade(one.admin)
        yield one


@pytest.fixture(scope="module")
def lasting_server() -> Iterator[Server]:
    """A server that is not killed."""
    with _server.server() as one:
        _upgrade(one.admin)
        yield one


@pytest.fixture
def wire(lasting_server: Server) -> Iterator[Wire]:
    """A wire to a server, whose database is empty."""
    one = Wire(str(Path(str(make_url(lasting_server.admin).query["host"])) / ".s.PGSQL.5432"))
    with Rows(lasting_server.admin) as rows:
        rows.clear()
    yield one
    one.close()


def _upgrade(url: str) -> None:
    store = Store(url, clock=None, ensure=False)
    try:
        store.write(schema.upgrade)
    finally:
        store.close()


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


CUT = pytest.mark.parametrize("cut", ["before", "after"])


def _through(wire: Wire) -> str:
    return f"postgresql://postgres@127.0.0.1:{wire.port}/postgres"


@CUT
@pytest.mark.promise(3, 6)
def test_the_wire_is_cut_at_the_commit_of_usage(
    wire: Wire, lasting_server: Server, cut: str
) -> None:
    """Broken if usage is booked twice, or not at all, because nobody heard the server say that it was booked."""
    who = Identity(**WHO)
    with Governor(_through(wire), budgets=BUDGETS) as governor:
        for number in range(1, 4):
            governor.record_usage(model="m", cost_usd=Decimal("0.25"), identity=who)
            wire.cut = cut
            governor.record_usage(model="m", cost_usd=Decimal("0.25"), identity=who)
            assert number == wire.cuts
        with Rows(lasting_server.admin) as rows:
            spent = {window[0]: row[2] for window, row in rows.windows().items()}
        assert {name: one["calls"] for name, one in spent.items()} == {
            str(budget["name"]): 6 for budget in BUDGETS
        }
        assert spent["month"]["cost"] == 1_500_000_000
        assert governor.verify_budgets() == []


@CUT
@pytest.mark.parametrize("of", ["admission", "settlement"])
@pytest.mark.promise(3, 6)
def test_the_wire_is_cut_at_the_commit_of_a_call(
    wire: Wire, lasting_server: Server, cut: str, of: str
) -> None:
    """Broken if a call is entered twice, its caller is told a lie, or its reservation is left."""

    def make(cut_here: Callable[[str], None]) -> Any:
        @governed(name="act")
        def act(key: str) -> str:
            cut_here("settlement")
            return key

        return act

    def cut_here(place: str) -> None:
        if place == of:
            wire.cut = cut

    act = make(cut_here)
    with Governor(_through(wire), policy=POLICY) as governor, governor.session("s", **WHO):
        for number in range(1, 4):
            cut_here("admission")
            assert act(f"k-{number}") == f"k-{number}"
            assert number == wire.cuts
    books = assert_books(lasting_server.admin)
    assert len(books.finished) == 3
    assert books.in_doubt == set()


@CUT
@pytest.mark.promise(3, 6)
def test_the_wire_is_cut_at_the_commit_of_many(
    wire: Wire, lasting_server: Server, cut: str
) -> None:
    """Broken if calls that share a transaction are done again one by one although it was committed."""

    @governed(name="act")
    async def act(key: str) -> str:
        await asyncio.sleep(0)
        return key

    async def main() -> list[str]:
        wire.cut = cut
        return list(await asyncio.gather(*(act(f"k-{n}") for n in range(64))))

    with Governor(_through(wire), policy=POLICY) as governor, governor.session("s", **WHO):
        assert asyncio.run(main()) == [f"k-{n}" for n in range(64)]
        assert wire.cuts == 1
    books = assert_books(lasting_server.admin)
    assert len(books.finished) == 64
    assert books.in_doubt == set()
