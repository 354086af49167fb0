"""Renewing: a running call keeps what it holds, whatever kind it is and however long it takes; nobody else does."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from interlock import Governor, current_call, governed
from interlock._lease import Slot
from interlock.store import leases
from interlock.store.leases import Renewal
from interlock.store.statements import now
from interlock.testing import ManualClock
from tests.leases._desk import adeploy, decided, deploy, finished, held, outcome, policy, sound

pytestmark = [pytest.mark.anyio, pytest.mark.promise(3)]

Make = Callable[..., Governor]
TERM = timedelta(seconds=30)
SHORT = policy({"expires": "1s"})
"""With a lease that is over before a test is, unless it is renewed, and not before a busy machine comes to renew it."""


@pytest.fixture
def database(either: str) -> str:
    """Run every test here on both databases."""
    return either


def until(made: Governor) -> datetime:
    """Until when the one holder that there is holds it."""
    [holder] = made.leases()[0].holders
    return holder.expires_at


def outlive(made: Governor) -> None:
    """Return once the lease that is held would be over twice, had it not been renewed."""
    first = until(made)
    while made.read(now) < first + timedelta(seconds=1):
        time.sleep(0.02)


def still_held(made: Governor) -> tuple[bool, str, tuple[str, ...]]:
    """Whether the call that runs here may write, what another hears, and what this one has lost."""
    call = current_call()
    made.write(leases.check, call)
    assert call is not None
    return sound(made), outcome(deploy), call.leases_lost


HELD = (True, "LeaseTaken", ())


def test_a_long_tool_keeps_it(governor: Make) -> None:
    """Broken if a tool that takes longer than its lease lasts loses it, or two run at once."""
    made = governor(SHORT)

    def inside() -> Any:
        outlive(made)
        return still_held(made)

    with made.session("s", agent="bot") as session:
        assert deploy("api", inside) == HELD
        assert held(made) == []
        [ended] = finished(made, session.id)
        assert ended.leases_lost == ()
        assert deploy() == "done"


async def test_a_long_coroutine_keeps_it(governor: Make) -> None:
    """Broken if an async tool loses its lease, whether it awaits or keeps the event loop to itself."""
    made = governor(SHORT)

    async def inside() -> Any:
        await asyncio.to_thread(outlive, made)
        outlive(made)
        return still_held(made)

    async with made.session("s", agent="bot"):
        assert await adeploy("api", inside) == HELD
        assert held(made) == []


def test_a_long_stream_keeps_it(governor: Make) -> None:
    """Broken if a stream loses its lease while its consumer takes its time."""
    made = governor(SHORT)

    @governed(name="deploy", resource="service")
    def stream(service: str) -> Iterator[Any]:
        yield "begun"
        yield still_held(made)

    with made.session("s", agent="bot"):
        items = stream("api")
        assert next(items) == "begun"
        outlive(made)
        assert list(items) == [HELD]
        assert held(made) == []


def test_renewed_by_its_own_holder_only(governor: Make, clock: ManualClock) -> None:
    """Broken if a lease that was lost is renewed, by which a stale holder would put out who holds it now."""
    made = governor(policy(), clock=clock)

    def slot_of(number: int) -> Slot:
        return [one for event in decided(made, session.id) for one in event.leases][number]

    def renewed(slot: Slot) -> list[Slot]:
        return made.write(leases.renew, [Renewal(slot, TERM)])

    def inside() -> None:
        first = slot_of(0)
        clock.advance(TERM - timedelta(microseconds=1))
        assert renewed(first) == []
        assert until(made) == clock.now() + TERM
        clock.advance(TERM)
        assert renewed(first) == [first]
        assert until(made) == clock.now()
        deploy("api", lambda: overtaken(first))
        assert renewed(first) == [first]

    def overtaken(first: Slot) -> None:
        second = slot_of(1)
        before = until(made)
        clock.advance(timedelta(seconds=1))
        assert renewed(first) == [first]
        assert until(made) == before
        assert renewed(second) == []
        assert until(made) == clock.now() + TERM

    with made.session("s", agent="bot") as session:
        deploy("api", inside)
    assert sound(made)


@pytest.mark.parametrize("either", ["sqlite"], indirect=True)  # whose trigger makes it fail
def test_a_store_that_fails_for_a_while(governor: Make, caplog: pytest.LogCaptureFixture) -> None:
    """Broken if one renewal that fails is the last one, or goes unsaid."""
    made = governor(policy({"expires": "3s"}))

    def inside() -> Any:
        before = until(made)
        made.write(
            lambda c: c.execute(
                text(
                    "CREATE TRIGGER broken BEFORE UPDATE ON leases BEGIN SELECT RAISE(ABORT, 'no'); END"
                )
            )
        )
        while "leases could not be renewed" not in caplog.text:
            time.sleep(0.01)
        assert until(made) == before
        made.write(lambda c: c.execute(text("DROP TRIGGER broken")))
        outlive(made)
        return still_held(made)

    with caplog.at_level(logging.WARNING, "interlock"), made.session("s", agent="bot"):
        assert deploy("api", inside) == HELD


def test_one_that_was_lost_is_said_at_once(
    governor: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """Broken if a call whose slot was taken from its row goes on as its holder, and nobody is told."""
    made = governor(SHORT)

    def inside() -> tuple[str, ...]:
        made.write(lambda c: c.execute(text("UPDATE leases SET holders = NULL")))
        while "lease one was lost while its call ran" not in caplog.text:
            time.sleep(0.01)
        call = current_call()
        assert call is not None
        return call.leases_lost

    with caplog.at_level(logging.ERROR, "interlock"), made.session("s", agent="bot") as session:
        assert deploy("api", inside) == ("one",)
    [ended] = finished(made, session.id)
    assert ended.leases_lost == ("one",)
    assert "ended after it had lost: one" in caplog.text


def test_nothing_stays_behind(governor: Make) -> None:
    """Broken if a governor that is closed leaves its thread, or one without leases has it."""
    before = {thread.ident for thread in threading.enumerate()}

    def renewing() -> list[str]:
        return [
            thread.name
            for thread in threading.enumerate()
            if thread.ident not in before and thread.name == "interlock-leases"
        ]

    plain = governor({"version": 1, "name": "none", "default": "allow"})
    with plain.session("s", agent="bot"):
        assert deploy("api", renewing) == []
    made = governor(policy())
    with made.session("s", agent="bot"):
        assert deploy("api", renewing) == ["interlock-leases"]
    made.close()
    assert renewing() == []
