"""Commands: an operation that is sent again is not done again, and is answered as it was."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Connection, create_engine, text

from interlock import ApprovalNeeded, Governor, Grant, Identity, Misuse, governed
from interlock.errors import BudgetExceeded, Conflict
from interlock.store import commands, halts, tickets, usage
from interlock.store.commands import Command, once
from interlock.testing import ManualClock

Make = Callable[..., Governor]

ASK = {"version": 1, "name": "ask", "default": "ask"}


@governed
def act(number: int) -> int:
    """Do something."""
    return number


def asked(governor: Governor, number: int = 1) -> str:
    """The id of a new ticket."""
    with governor.session("s", agent="bot", org="acme") as session:
        with pytest.raises(ApprovalNeeded) as caught:
            act(number)
        session.pause()
    return caught.value.ticket.id


def count(connection: Connection) -> int:
    """How many commands are kept."""
    return int(connection.execute(text("SELECT COUNT(*) FROM commands")).scalar_one())


def add(connection: Connection, amount: int) -> int:
    """Write a row, so that it can be seen how often this was done."""
    connection.execute(text("INSERT INTO done (amount) VALUES (:amount)"), {"amount": amount})
    return amount * 2


def sums(connection: Connection) -> list[int]:
    """What `add` has written."""
    return list(connection.execute(text("SELECT amount FROM done ORDER BY amount")).scalars())


@pytest.fixture
def one(governor: Make, either: str) -> Governor:
    """A governor over a store with a table of the test's own."""
    made = governor(ASK, url=either)
    made.write(
        lambda connection: connection.execute(text("CREATE TABLE done (amount INT)")) and None
    )
    return made


def test_the_first_answer_is_given_again(one: Governor) -> None:
    """Broken if a command that is sent again is done again, or answered otherwise."""
    ticket = asked(one)
    first = one.write(once, "c-1", tickets.approve, ticket, by="ann", comment="ok")
    assert one.write(once, "c-1", tickets.approve, ticket, by="ann", comment="ok") == first
    with pytest.raises(Conflict, match="already approved"):
        one.write(tickets.approve, ticket, by="ann", comment="ok")
    assert first.event.state == "approved"  # type: ignore[union-attr]
    [report] = one.verify()
    assert report.problem is None


@pytest.mark.anyio
async def test_also_awaited_and_in_the_hosts_transaction(one: Governor, either: str) -> None:
    """Broken if one of the three ways to run an operation does it twice, or does not roll back with the host."""
    assert [await one.awrite(once, "c-1", add, 1) for _ in range(2)] == [2, 2]
    engine = create_engine(either.replace("postgresql:", "postgresql+psycopg:"))
    with engine.connect() as connection:
        with connection.begin():
            assert [one.join(connection, once, "c-2", add, 2) for _ in range(2)] == [4, 4]
        with connection.begin() as transaction:
            assert one.join(connection, once, "c-3", add, 3) == 6
            transaction.rollback()
    engine.dispose()
    assert one.read(sums) == [1, 2]
    assert one.write(once, "c-3", add, 3) == 6
    assert one.read(sums) == [1, 2, 3]


def test_another_payload_is_a_conflict(one: Governor) -> None:
    """Broken if a command's id is good for something else than it was sent for."""
    one.write(once, "c-1", add, 1)
    for other in (2, True, 1.0, "1"):
        with pytest.raises(Conflict, match="other arguments"):
            one.write(once, "c-1", add, other)
    with pytest.raises(Conflict, match="other arguments"):
        one.write(once, "c-1", add, amount=1)
    assert one.read(sums) == [1]


def test_tenants_and_operations_have_ids_of_their_own(one: Governor) -> None:
    """Broken if one tenant's command keeps another's from being done, or shows what came of it."""

    def other(connection: Connection, amount: int) -> int:
        return add(connection, amount)

    for command in (Command("c"), Command("c", "acme"), Command("c", "umbra"), Command("c", "")):
        one.write(once, command, add, 1)
        one.write(once, command, add, 1)
    one.write(once, "c", other, 1)
    assert one.read(sums) == [1] * 5


def test_what_raises_may_be_sent_again(one: Governor, either: str) -> None:
    """Broken if an operation that did nothing is taken for done."""
    tries: list[int] = []

    def fails_once(connection: Connection, amount: int) -> int:
        tries.append(amount)
        if len(tries) < 2:
            raise Conflict("not yet")
        return add(connection, amount)

    with pytest.raises(Conflict, match="not yet"):
        one.write(once, "c", fails_once, 1)
    assert one.read(count) == 0
    assert [one.write(once, "c", fails_once, 1) for _ in range(2)] == [2, 2]
    assert (tries, one.read(sums)) == ([1, 1], [1])
    # In the host's transaction, which goes on.
    tries.clear()
    engine = create_engine(either.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        with pytest.raises(Conflict, match="not yet"):
            one.join(connection, once, "d", fails_once, 5)
        assert one.join(connection, once, "d", fails_once, 5) == 10
    engine.dispose()
    assert one.read(sums) == [1, 5]


def test_many_at_once_do_it_once(one: Governor, governor: Make, either: str) -> None:
    """Broken if two workers that get the same command both do it, or one of them gets a driver's error."""
    workers = [one, *(governor(ASK, url=either) for _ in range(3))]
    gate = threading.Barrier(16)
    found: list[Any] = []

    def send(worker: Governor) -> None:
        gate.wait()
        for number in range(10):
            try:
                found.append((number, worker.write(once, f"c-{number}", add, number)))
            except Exception as error:  # noqa: BLE001 - any is a failure
                found.append(error)

    threads = [threading.Thread(target=send, args=(workers[n % 4],)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == sorted([(n, n * 2) for n in range(10)] * 16)
    assert one.read(sums) == list(range(10))


def test_operations_of_ours_come_back_as_they_were(one: Governor) -> None:
    """Broken if what an operation returns is not the same when it is read back."""
    done = one.halt(agent="bot", reason="drill", by="ann")
    release = [
        one.write(once, "r", halts.release, done.halt.id, reason="over", by="ann") for _ in range(2)
    ]
    assert release[0] == release[1]
    grant = Grant(calls=2)
    ticket = asked(one)
    yes = [one.write(once, "g", tickets.approve, ticket, by="ann", grant=grant) for _ in range(2)]
    assert yes[0] == yes[1]
    other = asked(one, 2)
    no = [one.write(once, "d", tickets.deny, other, by="ann") for _ in range(2)]
    assert no[0] == no[1]


@pytest.mark.anyio
async def test_usage_is_recorded_once(governor: Make, either: str) -> None:
    """Broken if usage that is reported again is booked again, or a report is taken for another."""
    budgets = [{"name": "all", "per": "org", "window": "total", "cost_usd": 1}]
    one = governor(None, url=either, budgets=budgets)
    said: Any = {
        "identity": Identity(agent="a", org="acme"),
        "model": "m",
        "cost_usd": Decimal("0.4"),
    }
    first = one.record_usage(command="u-1", **said)
    assert one.record_usage(command="u-1", **said) == first
    assert await one.arecord_usage(command="u-1", **said) == first
    with pytest.raises(Conflict, match="other arguments"):
        one.record_usage(command="u-1", **{**said, "cost_usd": Decimal("0.5")})
    said["cost_usd"] = Decimal("0.9")
    for _ in range(2):  # also what was over budget already is told so again
        with pytest.raises(BudgetExceeded):
            one.record_usage(command=Command("u-2", "acme"), **said)
    [total] = one.read(usage.summary, by=())
    assert (total.calls, total.cost_usd) == (2, Decimal("1.3"))


@pytest.mark.parametrize("command", ["", "a\0b", "\ud800", Command("x", "\0")])
def test_an_id_that_is_none_is_refused(governor: Make, command: Any) -> None:
    """Broken if a command without an id is done, and the next without one is taken for it."""
    with pytest.raises(Misuse, match="command"):
        governor(ASK).write(once, command, commands.forget, before=ManualClock().now())


def test_what_returns_no_data_is_refused(governor: Make) -> None:
    """Broken if an operation is done whose result cannot be given again."""
    with pytest.raises(Misuse, match="what data it returns"):
        governor(ASK).write(once, "c", lambda connection: 1)


def test_forgetting(governor: Make, clock: ManualClock) -> None:
    """Broken if old commands stay for ever, or young ones go."""
    one = governor(ASK, clock=clock)
    one.write(
        lambda connection: connection.execute(text("CREATE TABLE done (amount INT)")) and None
    )
    one.write(once, "old", add, 1)
    clock.advance(timedelta(days=2))
    one.write(once, "young", add, 2)
    assert one.write(commands.forget, before=clock.now() - timedelta(days=1)) == 1
    one.write(once, "young", add, 2)
    one.write(once, "old", add, 1)
    assert one.read(sums) == [1, 1, 2]


@pytest.mark.parametrize(
    "change",
    ["key = payload", "payload = key", "result = '7'", "at = 0", "hash = key", "result = ''"],
)
def test_a_changed_row_is_found(governor: Make, change: str) -> None:
    """Broken if somebody can have a sender told something else, unseen."""
    one = governor(ASK)
    one.write(
        lambda connection: connection.execute(text("CREATE TABLE done (amount INT)")) and None
    )
    one.write(once, "c", add, 1)
    assert one.verify_books() == {}
    one.write(lambda connection: connection.execute(text(f"UPDATE commands SET {change}")) and None)  # noqa: S608
    [problem] = one.verify_books()["commands"]
    assert "hash" in problem
