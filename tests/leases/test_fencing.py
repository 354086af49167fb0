"""Fencing: a call knows its token, and what it writes after it has lost its lease is refused, on both databases."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, create_engine, text

from interlock import Call, Governor, LeaseLost, Misuse, Refused, current_call, governed
from interlock.store import leases
from interlock.testing import ManualClock
from tests.leases._desk import adeploy, deploy, finished, outcome, policy, restart, sound

pytestmark = [pytest.mark.anyio, pytest.mark.promise(3)]

Make = Callable[..., Governor]
TERM = timedelta(seconds=30)


@pytest.fixture
def database(either: str) -> str:
    """Run every test here on both databases."""
    return either


@pytest.fixture
def made(governor: Make, clock: ManualClock) -> Governor:
    """A governor with one lease, and a table of the host's that is written under it."""
    one = governor(policy(), clock=clock)
    one.write(lambda connection: connection.execute(text("CREATE TABLE written (what TEXT)")))
    return one


def put(connection: Connection, call: Call | None, what: str, lease: str | None = None) -> None:
    """Write something, as the holder or not at all; the check last, so that it has to undo the rest."""
    connection.execute(text("INSERT INTO written VALUES (:what)"), {"what": what})
    leases.check(connection, call, lease=lease)


def written(made: Governor) -> list[str]:
    """What was written."""
    return made.read(
        lambda connection: list(connection.execute(text("SELECT what FROM written")).scalars())
    )


def held_call() -> Call:
    """The call that runs here."""
    call = current_call()
    assert call is not None
    return call


def test_a_call_knows_its_tokens(governor: Make, clock: ManualClock) -> None:
    """Broken if a tool is not told its token, is told another's, or keeps it in mind when the call is over."""
    made = governor(policy({}, {"name": "two", "expires": "1h"}), clock=clock)

    def inside() -> list[Any]:
        seen: list[Any] = [dict(held_call().leases), held_call().leases_lost]
        clock.advance(TERM)
        return [*seen, dict(held_call().leases), held_call().leases_lost]

    with made.session("s", agent="bot"):
        assert deploy("api", inside) == [{"one": 1, "two": 1}, (), {"one": 1, "two": 1}, ("one",)]
        assert deploy("api", inside) == [{"one": 2, "two": 2}, (), {"one": 2, "two": 2}, ("one",)]
        assert restart("api", lambda: dict(held_call().leases)) == {}
    assert current_call() is None


def test_the_holder_writes(made: Governor) -> None:
    """Broken if a holder is refused, whether one lease is meant or all."""

    def inside() -> None:
        made.write(put, held_call(), "all")
        made.write(put, held_call(), "named", "one")

    with made.session("s", agent="bot"):
        deploy("api", inside)
    assert written(made) == ["all", "named"]


def test_after_the_term_nothing_is_written(made: Governor, clock: ManualClock) -> None:
    """Broken if a holder whose term has passed writes, whether or not anybody has taken its slot."""

    def inside() -> LeaseLost:
        clock.advance(TERM)
        with pytest.raises(LeaseLost, match="it was not renewed") as lost:
            made.write(put, held_call(), "late")
        return lost.value

    with made.session("s", agent="bot") as session:
        lost = deploy("api", inside)
        assert (lost.lease, lost.ran, lost.call.session_id) == ("one", True, session.id)
        assert isinstance(lost, Refused)
    assert written(made) == []
    assert [end.leases_lost for end in finished(made, session.id)] == [("one",)]


def test_who_was_overtaken_writes_nothing(made: Governor, clock: ManualClock) -> None:
    """Broken if a stale holder writes over what the next has written, or keeps the next from writing."""

    def stale() -> None:
        mine = held_call()
        clock.advance(TERM)

        def fresh() -> None:
            made.write(put, held_call(), "fresh")
            with pytest.raises(LeaseLost, match="is another's"):
                made.write(put, mine, "stale")
            made.write(put, held_call(), "fresh again")

        deploy("api", fresh)

    with made.session("s", agent="bot"):
        deploy("api", stale)
    assert written(made) == ["fresh", "fresh again"]
    assert sound(made)


def test_the_error_reaches_the_caller_as_the_tools_own(made: Governor, clock: ManualClock) -> None:
    """Broken if what refuses a stale write is hidden from who made the call, or the call is booked as returned."""

    def inside() -> None:
        clock.advance(TERM)
        made.write(put, held_call(), "late")

    with made.session("s", agent="bot") as session, pytest.raises(LeaseLost):
        deploy("api", inside)
    [end] = finished(made, session.id)
    assert (str(end.outcome), end.error_type, end.leases_lost) == ("raised", "LeaseLost", ("one",))


def test_a_call_that_is_over_writes_nothing(made: Governor) -> None:
    """Broken if a call that was kept after its end still passes for the holder."""
    with made.session("s", agent="bot"):
        kept = deploy("api", held_call)
        with pytest.raises(LeaseLost, match="has ended"):
            made.write(put, kept, "after")
    assert written(made) == []


def test_what_was_never_taken_does_not_pass(made: Governor) -> None:
    """Broken if a tool that counts on a lease writes without one: no policy names it, or another name is meant."""

    def inside() -> None:
        with pytest.raises(LeaseLost, match="does not hold lease two"):
            made.write(put, held_call(), "other", "two")

    with made.session("s", agent="bot"):
        deploy("api", inside)
        with pytest.raises(LeaseLost, match="does not hold a lease"):
            restart("api", lambda: made.write(put, held_call(), "none"))
    with pytest.raises(Misuse, match="give current_call"):
        made.write(put, current_call(), "nobody")
    assert written(made) == []


async def test_from_a_coroutine(made: Governor, clock: ManualClock) -> None:
    """Broken if an async tool does not know its token, or cannot check it."""

    async def inside() -> None:
        call = held_call()
        assert dict(call.leases) == {"one": 1}
        await made.awrite(put, call, "in time")
        clock.advance(TERM)
        with pytest.raises(LeaseLost):
            await made.awrite(put, call, "late")

    async with made.session("s", agent="bot"):
        await adeploy("api", inside)
    assert written(made) == ["in time"]


def test_from_a_stream(made: Governor) -> None:
    """Broken if a stream does not know its token at each of its steps."""

    @governed(name="deploy")
    def stream() -> Iterator[dict[str, int]]:
        yield dict(held_call().leases)
        yield dict(held_call().leases)

    with made.session("s", agent="bot"):
        assert list(stream()) == [{"one": 1}, {"one": 1}]


def test_in_the_hosts_own_transaction(made: Governor, clock: ManualClock, database: str) -> None:
    """Broken if a stale holder's write in a transaction of the host's is committed with it."""
    engine = create_engine(database.replace("postgresql://", "postgresql+psycopg://"))

    def inside() -> None:
        with engine.begin() as connection:
            made.join(connection, put, held_call(), "in time")
        clock.advance(TERM)
        with pytest.raises(LeaseLost), engine.begin() as connection:
            made.join(connection, put, held_call(), "late")

    with made.session("s", agent="bot"):
        deploy("api", inside)
    assert written(made) == ["in time"]
    engine.dispose()


def test_nobody_takes_it_between_check_and_commit(
    governor: Make, clock: ManualClock, postgres: str
) -> None:
    """Broken if a lease can be taken by another after it was checked, before what was written is committed."""
    made = governor(policy(), clock=clock, url=postgres)
    made.write(lambda connection: connection.execute(text("CREATE TABLE written (what TEXT)")))
    engine = create_engine(postgres.replace("postgresql://", "postgresql+psycopg://"))
    heard: list[Any] = []

    def taking() -> None:
        with made.session("t", agent="bot"):
            heard.append(outcome(deploy, "api", lambda: written(made)))

    def inside() -> None:
        taker = threading.Thread(target=taking)
        with engine.begin() as connection:
            made.join(connection, put, held_call(), "before")
            clock.advance(TERM)
            taker.start()
            waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
            with engine.connect() as other:  # the taker has come to the row, and waits there
                while not other.execute(waiting).scalar():
                    other.rollback()
            assert heard == []
        taker.join()

    with made.session("s", agent="bot"):
        deploy("api", inside)
    assert heard == ["['before']"]
    engine.dispose()
