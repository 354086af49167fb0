"""Waiting for an answer: a call stands still until a human has spoken, and is then judged again from the start."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import anyio
import psycopg
import pytest

import interlock
from interlock import (
    ApprovalNeeded,
    BudgetExceeded,
    Denied,
    Governor,
    Opinion,
    Verdict,
    errors,
    hookimpl,
    tool_of,
)
from interlock._ticket import TicketState
from interlock.events import CallDecided
from interlock.store import tickets, watch
from interlock.testing import ManualClock
from tests.asking._desk import ASK, RAN, SHAPES, Caller, acall, apay, call, pay, quiet, waiting
from tests.callers import history
from tests.races._crew import Crew

Make = Callable[..., Governor]
NEVER = 10.0**6
"""Seconds after which nobody looks by itself, so that only being told wakes anybody."""


@pytest.fixture
def database(either: str) -> str:
    """Run every test here on both databases."""
    return either


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    RAN.clear()


@pytest.mark.promise(5)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_yes_wakes_the_call_at_once(
    shape: str, governor: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Broken if a call of some shape does not run once it is approved, runs before, or is found only by looking."""
    monkeypatch.setattr(watch, "POLL_S", NEVER)
    monkeypatch.setattr(watch, "RELIEF_S", NEVER)
    one = governor(ASK, on_ask=interlock.wait())
    with one.session("s", agent="bot") as session, quiet(one):
        caller = Caller(partial(call, shape, session, "x"))
        [ticket] = waiting(one)
        assert RAN == []
        one.write(tickets.approve, ticket.id, by="ann", comment="fine")
        assert (caller.end(), RAN) == ("paid x", ["x"])
    decided = [e for e in history(one, session.id) if isinstance(e, CallDecided)]
    assert [(e.admitted, e.approved_by) for e in decided] == [(False, None), (True, "ann")]
    assert len({e.call_id for e in decided}) == 2
    assert one.read(tickets.get, ticket.id).state is TicketState.CLAIMED
    assert [report.problem for report in one.verify()] == [None]


@pytest.mark.promise(5)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_no_ends_the_wait(shape: str, governor: Make) -> None:
    """Broken if a call of some shape runs though a human said no, or is not told why."""
    one = governor(ASK, on_ask=interlock.wait())
    with one.session("s", agent="bot") as session, quiet(one):
        caller = Caller(partial(call, shape, session, "x"))
        [ticket] = waiting(one)
        one.write(tickets.deny, ticket.id, by="ann", comment="too much")
        came = caller.end()
        assert isinstance(came, Denied)
        assert "ann said no: too much" in str(came)
        assert RAN == []


@pytest.mark.parametrize("shape", SHAPES)
def test_no_answer_in_time_is_a_no_for_now(shape: str, governor: Make) -> None:
    """Broken if a call runs, or waits for ever, though nobody answers; or if the ticket is gone then."""
    one = governor(ASK, on_ask=interlock.wait(timedelta(milliseconds=30)))
    with one.session("s", agent="bot") as session, quiet(one):
        came = Caller(partial(call, shape, session, "x")).end()
        assert isinstance(came, ApprovalNeeded)
        assert RAN == []
        assert one.read(tickets.pending) == [came.ticket]
        one.write(tickets.approve, came.ticket.id, by="ann")
        assert Caller(partial(call, shape, session, "x")).end() == "paid x"


def test_an_expired_ticket_ends_the_wait(governor: Make, clock: ManualClock) -> None:
    """Broken if a call waits for a ticket that nobody can answer any more, or opens another one for nobody."""
    one = governor(ASK, on_ask=interlock.wait(), clock=clock)
    with one.session("s", agent="bot") as session, quiet(one):
        caller = Caller(partial(call, "sync", session, "x"))
        [ticket] = waiting(one)
        clock.advance(tickets.LIFETIME)
        came = caller.end()
        assert isinstance(came, ApprovalNeeded)
        assert (came.ticket.id, RAN) == (ticket.id, [])
        assert one.read(tickets.pending) == []


def test_the_time_is_the_governors(governor: Make, clock: ManualClock) -> None:
    """Broken if how long is waited is read from another clock than the governor's."""
    one = governor(ASK, on_ask=interlock.wait(timedelta(minutes=5)), clock=clock)
    with one.session("s", agent="bot") as session, quiet(one):
        caller = Caller(partial(call, "sync", session, "x"))
        waiting(one)
        clock.advance(timedelta(minutes=5))
        assert isinstance(caller.end(), ApprovalNeeded)


def test_an_answer_of_another_process_is_heard(
    governor: Make, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Broken if what another process answers is not seen on SQLite, or not told by Postgres."""
    monkeypatch.setattr(watch, "RELIEF_S", NEVER)
    one = governor(ASK, on_ask=interlock.wait())
    with one.session("s", agent="bot") as session, Crew(1) as crew:
        caller = Caller(partial(call, "sync", session, "x"))
        [ticket] = waiting(one)
        order = {"url": database, "ids": [ticket.id], "by": "ann", "verb": "approve"}
        [answer] = crew.all("answer_tickets", **order)
        assert answer["returned"] == [ticket.id]
        assert caller.end() == "paid x"


async def test_an_answer_from_the_same_event_loop_is_heard(governor: Make) -> None:
    """Broken if waiting blocks the event loop: then whoever would answer there never gets to it."""
    one = governor(ASK, on_ask=interlock.wait())
    async with one.session("s", agent="bot"):
        task = asyncio.create_task(apay("x"))
        ids = {t.id for t in await asyncio.to_thread(waiting, one)}
        for ticket_id in ids:
            await one.awrite(tickets.approve, ticket_id, by="ann")
        assert await task == "paid x"


@pytest.mark.promise(1)
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("shape", ["async", "astream"])
def test_a_cancelled_wait_leaves_the_ticket(shape: str, backend: str, governor: Make) -> None:
    """Broken if a cancelled caller's call runs later, if the cancellation is swallowed, or the ticket is gone."""
    one = governor(ASK, on_ask=interlock.wait())

    async def main() -> None:
        async with one.session("s", agent="bot") as session, anyio.create_task_group() as group:
            group.start_soon(acall, shape, session, "x")
            [ticket] = await anyio.to_thread.run_sync(waiting, one)
            group.cancel_scope.cancel()
        assert group.cancel_scope.cancel_called
        decided = [e for e in history(one, session.id) if isinstance(e, CallDecided)]
        assert [(e.admitted, e.ticket_id) for e in decided] == [(False, ticket.id)]

    with quiet(one):
        anyio.run(main, backend=backend)
    assert RAN == []


async def test_a_cancelled_task_leaves_the_ticket(governor: Make) -> None:
    """Broken if asyncio's own way to cancel is swallowed while a call waits, or the ticket cannot be answered then."""
    one = governor(ASK, on_ask=interlock.wait())
    async with one.session("s", agent="bot"):
        task = asyncio.create_task(apay("x"))
        [ticket] = await asyncio.to_thread(waiting, one)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert one.read(tickets.pending) == [ticket]
        await one.awrite(tickets.approve, ticket.id, by="ann")
        assert RAN == []
        assert await apay("x") == "paid x"


async def test_a_caller_that_has_gone_does_not_wait(governor: Make) -> None:
    """Broken if a cancellation that came while the ticket was being written is forgotten during the wait."""
    one = governor(ASK, on_ask=interlock.wait())
    store = one._machinery.store
    apost = store.apost

    async def late(entry: Any) -> Any:
        reply, _ = await apost(entry)
        return reply, asyncio.CancelledError()

    async with one.session("s", agent="bot"):
        store.apost = late  # type: ignore[method-assign]
        with pytest.raises(asyncio.CancelledError):
            await apay("x")
        store.apost = apost  # type: ignore[method-assign]
        assert (len(one.read(tickets.pending)), RAN) == (1, [])


def test_closing_the_session_ends_the_wait(governor: Make) -> None:
    """Broken if a call waits on in a session that admits nothing any more."""
    one = governor(ASK, on_ask=interlock.wait())
    with one.session("s", agent="bot") as session:
        caller = Caller(partial(call, "sync", session, "x"))
        waiting(one)
    came = caller.end()
    assert isinstance(came, Denied)
    assert "session is completed" in str(came)
    assert RAN == []


@pytest.mark.promise(4)
@pytest.mark.parametrize("target", [{"agent": "bot"}, {"system": True}, {"tool": "pay"}])
def test_a_halt_ends_the_wait(target: dict[str, Any], governor: Make) -> None:
    """Broken if a halted call waits on, or runs once it is approved."""
    one = governor(ASK, on_ask=interlock.wait())
    with one.session("s", agent="bot") as session, quiet(one):
        caller = Caller(partial(call, "sync", session, "x"))
        waiting(one)
        one.halt(**target, reason="stop", by="ann")
        assert isinstance(caller.end(), errors.HaltedError)
        assert RAN == []


@pytest.mark.promise(1)
def test_closing_the_governor_ends_the_wait(governor: Make) -> None:
    """Broken if a call waits for ever once its governor is closed, or runs."""
    one = governor(ASK, on_ask=interlock.wait())
    session = one.session("s", agent="bot")
    with pytest.raises(errors.StoreUnavailable, match="closed"), session:  # noqa: PT012 - it cannot be closed any more
        callers = [Caller(partial(call, shape, session, shape)) for shape in ("sync", "async")]
        waiting(one, 2)
        one.close()
        came = [type(caller.end()) for caller in callers]
    assert (came, RAN) == ([errors.StoreUnavailable] * 2, [])


class Mood:
    """A plugin that can be made to object."""

    def __init__(self) -> None:
        self.says: Verdict | None = None

    @hookimpl
    def interlock_opinion(self, call: Any) -> Opinion | None:
        """Object, if it is in that mood."""
        return self.says and Opinion(verdict=self.says, reason="changed its mind", author="x")


@pytest.mark.promise(5)
def test_judges_are_asked_again_after_the_yes(governor: Make) -> None:
    """Broken if a yes that was waited for lets a call through to which somebody objects by then."""
    mood = Mood()
    one = governor(ASK, on_ask=interlock.wait(), plugins=[mood])
    with one.session("s", agent="bot") as session, quiet(one):
        caller = Caller(partial(call, "sync", session, "x"))
        [ticket] = waiting(one)
        mood.says = Verdict.DENY
        one.write(tickets.approve, ticket.id, by="ann")
        assert isinstance(caller.end(), Denied)
        assert (RAN, one.read(tickets.get, ticket.id).state) == ([], TicketState.APPROVED)


@pytest.mark.promise(3, 5)
def test_budgets_are_asked_again_after_the_yes(governor: Make) -> None:
    """Broken if a yes that was waited for lets a call through for which there is no room by then."""
    rules = [{"id": "free", "tools": ["free"], "verdict": "allow"}]
    policy = {**ASK, "rules": rules, "budgets": [{"name": "b", "per": "session", "calls": 1}]}
    one = governor(policy, on_ask=interlock.wait())
    free = interlock.Tool(name="free")
    with one.session("s", agent="bot") as session, quiet(one):
        caller = Caller(partial(call, "sync", session, "x"))
        [ticket] = waiting(one)
        session.call(free, {}, lambda _: None)
        one.write(tickets.approve, ticket.id, by="ann")
        assert isinstance(caller.end(), BudgetExceeded)
        assert RAN == []


@pytest.mark.promise(3, 5)
def test_many_wait_and_one_looks(governor: Make) -> None:
    """Broken if of 64 tasks and 8 threads one never wakes, one runs twice, or each has a reader of its own."""
    one = governor(ASK, on_ask=interlock.wait())
    names = [f"task-{n}" for n in range(64)] + [f"thread-{n}" for n in range(8)]

    async def tasks() -> list[str]:
        with session.attach():
            return list(await asyncio.gather(*(apay(name) for name in names[:64])))

    with one.session("s", agent="bot") as session, quiet(one):
        threads = [Caller(partial(call, "sync", session, name)) for name in names[64:]]
        loop = Caller(lambda: ",".join(asyncio.run(tasks())))
        found = waiting(one, 72)
        looking = [t for t in threading.enumerate() if t.name == "interlock-watch"]
        assert (len(found), looking) == (72, [one._machinery.store.watch._thread])
        for ticket in found:
            one.write(tickets.approve, ticket.id, by="ann")
        came = [*loop.end().split(","), *(caller.end() for caller in threads)]
    assert came == [f"paid {name}" for name in names]
    assert sorted(RAN) == sorted(names)


@pytest.mark.promise(3, 5)
def test_one_yes_lets_one_of_those_through_who_wait_for_it(governor: Make) -> None:
    """Broken if one yes, waited for by 8 callers of the same call, is good for two of them."""
    one = governor(ASK, on_ask=interlock.wait(timedelta(seconds=4)))
    with one.session("s", agent="bot") as session, quiet(one):
        callers = [Caller(partial(call, "sync", session, "x")) for _ in range(8)]
        watching = one._machinery.store.watch
        while len(watching._waiting) < 8:
            threading.Event().wait(0.005)
        [ticket] = waiting(one)
        one.write(tickets.approve, ticket.id, by="ann")
        came = [caller.end() for caller in callers]
    assert sorted(type(one).__name__ for one in came) == ["ApprovalNeeded"] * 7 + ["str"]
    assert RAN == ["x"]


def test_a_store_that_fails_for_a_while_loses_nobody(
    governor: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Broken if who waits is forgotten, or wakes, because the store did not answer once."""
    monkeypatch.setattr(watch, "POLL_S", 0.01)
    monkeypatch.setattr(watch, "RELIEF_S", 0.01)
    one = governor(ASK, on_ask=interlock.wait())
    watching = one._machinery.store.watch
    read, failed = watching._read, threading.Semaphore(0)
    faults = iter([errors.StoreUnavailable("down"), ValueError("odd")])

    def failing(*args: Any) -> Any:
        if (fault := next(faults, None)) is not None:
            failed.release()
            raise fault
        return read(*args)

    watching._read = failing
    with one.session("s", agent="bot") as session, quiet(one):
        caller = Caller(partial(call, "sync", session, "x"))
        failed.acquire()
        failed.acquire()
        [ticket] = waiting(one)
        one.write(tickets.approve, ticket.id, by="ann")
        assert caller.end() == "paid x"


def test_a_lost_connection_of_its_own_is_no_loss(
    governor: Make, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Broken if nobody wakes any more once the connection that hears of answers is cut."""
    if database.startswith("sqlite"):
        pytest.skip("nothing is heard there")
    monkeypatch.setattr(watch, "RELIEF_S", NEVER)
    one = governor(ASK, on_ask=interlock.wait())
    with (
        one.session("s", agent="bot") as session,
        psycopg.connect(database, autocommit=True) as host,
        quiet(one),
    ):
        caller = Caller(partial(call, "sync", session, "x"))
        [ticket] = waiting(one)
        cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'"
        while host.execute(cut).fetchall() == []:
            pass
        with Crew(1) as crew:
            order = {"url": database, "ids": [ticket.id], "by": "ann", "verb": "approve"}
            crew.all("answer_tickets", **order)
        assert caller.end() == "paid x"


def test_a_session_has_its_own_way(governor: Make) -> None:
    """Broken if what a session was given is overruled by its governor, or adapters pause a call that waits itself."""
    one = governor(ASK, on_ask=interlock.wait())
    tool = tool_of(pay)
    assert tool is not None
    zero = interlock.wait(timedelta(0))
    with one.session("s", agent="bot", on_ask=zero) as session:
        assert session.ticket(tool, {"to": "x"}) is None
        assert one.read(tickets.pending) == []
        with pytest.raises(ApprovalNeeded):
            pay("x")


@pytest.mark.parametrize("way", ["wait", 5, timedelta(1), lambda _: True, True])
def test_a_way_to_ask_is_one_of_ours(way: Any, governor: Make) -> None:
    """Broken if something else than a way to ask is taken for one, and calls suspend unexpectedly."""
    with pytest.raises(interlock.Misuse, match="on_ask="):
        governor(ASK, on_ask=way)
    with pytest.raises(interlock.Misuse, match="on_ask="):
        governor(ASK).session("s", agent="bot", on_ask=way)


@pytest.mark.parametrize("timeout", [timedelta(-1), 5, "1h"])
def test_a_wait_has_a_sensible_end(timeout: Any) -> None:
    """Broken if a number that might mean anything is taken for a time."""
    with pytest.raises(interlock.Misuse, match="timedelta"):
        interlock.wait(timeout)
