"""Cut the wire to the server that keeps the books, at a commit: before it, after it, and for good; then audit."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

from interlock import Governor, Identity, governed
from interlock.errors import StoreUnavailable
from tests.crash import _server
from tests.crash._server import Server, Wire
from tests.crash._spending import BUDGETS, POLICY, WHO, assert_books, upgrade
from tests.ledger._rows import Rows


@pytest.fixture(scope="module")
def lasting_server() -> Iterator[Server]:
    """A server that is not killed."""
    with _server.server() as one:
        upgrade(one.admin)
        yield one


@pytest.fixture
def wire(lasting_server: Server) -> Iterator[Wire]:
    """A wire to a server, whose database is empty."""
    one = Wire(str(Path(str(make_url(lasting_server.admin).query["host"])) / ".s.PGSQL.5432"))
    with Rows(lasting_server.admin) as rows:
        rows.clear()
    yield one
    one.close()


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
        assert governor.verify_books() == {}


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


@pytest.mark.promise(3, 6)
def test_usage_is_not_called_unwritten(wire: Wire, lasting_server: Server) -> None:
    """Broken if the caller is told that nothing was written, or it is written again once the server is back."""
    who = Identity(**WHO)
    with Governor(_through(wire), budgets=BUDGETS) as governor:
        governor.record_usage(model="m", cost_usd=Decimal("0.25"), identity=who)  # connects
        wire.cut = "for good"
        with pytest.raises(StoreUnavailable, match="cannot be found out whether this was written"):
            governor.record_usage(model="m", cost_usd=Decimal("0.25"), identity=who)
        assert wire.cuts == 1
        wire.is_dead = False
        governor.record_usage(model="m", cost_usd=Decimal("0.25"), identity=who)
        with Rows(lasting_server.admin) as rows:
            spent = {window[0]: row[2] for window, row in rows.windows().items()}
        assert spent["month"]["calls"] == 3
        assert governor.verify_books() == {}


@pytest.mark.promise(3, 6)
def test_a_call_whose_admission_is_unknown_does_not_run(wire: Wire, lasting_server: Server) -> None:
    """Broken if a tool runs although nobody knows that its intent is durable, or that is not listed as in doubt."""
    happened: list[str] = []

    @governed(name="act")
    def act(key: str) -> str:
        happened.append(key)
        return key

    with Governor(_through(wire), policy=POLICY) as governor, governor.session("s", **WHO):
        wire.cut = "for good"
        with pytest.raises(StoreUnavailable, match="cannot be found out whether this was written"):
            act("k-1")
        assert (wire.cuts, happened) == (1, [])
        wire.is_dead = False
        assert act("k-2") == "k-2"
    books = assert_books(lasting_server.admin)
    assert (happened, len(books.finished), len(books.in_doubt)) == (["k-2"], 1, 1)


@pytest.mark.promise(3, 6)
def test_a_call_whose_settling_is_unknown_keeps_its_result(
    wire: Wire, lasting_server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """Broken if the result of a tool that ran is lost, or nobody is told that its outcome may not be in the books."""

    @governed(name="act")
    def act(key: str) -> str:
        wire.cut = "for good"
        return key

    with Governor(_through(wire), policy=POLICY) as governor, governor.session("s", **WHO):
        with caplog.at_level(logging.ERROR, logger="interlock"):
            assert act("k-1") == "k-1"
        assert wire.cuts == 1
        assert any("in doubt" in record.getMessage() for record in caplog.records)
        wire.is_dead = False
    books = assert_books(lasting_server.admin)
    assert (len(books.finished), books.in_doubt) == (1, set())
