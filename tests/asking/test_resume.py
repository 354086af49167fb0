"""Resume: the call that a ticket stands for runs once, in any process, days later, and only as it was approved."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from interlock import (
    ApprovalNeeded,
    Denied,
    Governor,
    Misuse,
    Opinion,
    Ticket,
    Verdict,
    current_call,
    events,
    governed,
    hookimpl,
)
from interlock._ticket import TicketState
from interlock.errors import Conflict, HaltedError
from interlock.store import tickets
from interlock.testing import ManualClock
from tests.asking import _later as later
from tests.callers import history

Make = Callable[..., Governor]
ROOT = Path(__file__).parents[2]
ASK: dict[str, Any] = {
    "version": 1,
    "name": "p",
    "rules": [
        {"id": "free", "tools": ["look"], "verdict": "allow"},
        {
            "id": "big",
            "tools": ["pay"],
            "when": {"argument": "amount", "at_least": 1_000},
            "verdict": "ask",
            "approvers": ["chiefs"],
            "expires": "96h",
        },
        {"id": "all", "tools": ["*"], "verdict": "ask", "approvers": ["ops"], "expires": "96h"},
    ],
}
RAN: list[Any] = []


@governed
def look(what: str) -> str:
    """Be called by another tool."""
    return what


@governed
def pay(to: str, amount: int = 900) -> str:
    """Pay somebody."""
    RAN.append((to, amount))
    return f"{look(to)}: {amount}"


@governed(name="pay")
async def apay(to: str, amount: int = 900) -> str:
    """Pay somebody, awaiting."""
    await asyncio.sleep(0)
    RAN.append((to, amount))
    return f"{to}: {amount}"


@pytest.fixture
def database(either: str) -> str:
    """Run every test here on both databases."""
    RAN.clear()
    return either


def asked(governor: Governor, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Ticket:
    """Make a call in a session of its own that needs a yes, and leave the session paused; return the ticket."""
    with pytest.raises(ApprovalNeeded) as needed, governor.session("s", agent="bot", user="u"):
        call(*args, **kwargs)
    return needed.value.ticket


def approved(governor: Governor, *args: Any, **more: Any) -> Ticket:
    """Do as `asked` does, for `pay`, and have ann say yes."""
    ticket = asked(governor, pay, *args)
    governor.write(tickets.approve, ticket.id, by="ann", **more)
    return ticket


def check(governor: Governor) -> None:
    """Fail where the rows do not follow from the events, or a decision does not when it is made again."""
    reports = [*governor.verify()]
    assert {report.problem for report in reports} == {None}
    for report in reports:
        assert governor.replay(report.session_id).differing == ()


@pytest.mark.promise(5)
def test_resumed_once(governor: Make) -> None:
    """Broken if an approved call cannot be run by its ticket alone, or runs twice by it."""
    made = governor(ASK)
    ticket = approved(made, "acme")
    assert made.resume(ticket, tool=pay) == "acme: 900"
    for again in (ticket, ticket.id):
        with pytest.raises(Conflict, match="is claimed, so nothing was run"):
            made.resume(again, tool=pay)
    assert RAN == [("acme", 900)]
    decided = [
        one
        for one in history(made, ticket.session_id)
        if isinstance(one, events.CallDecided) and one.tool == "pay"
    ]
    assert [(one.admitted, one.approved_by, one.ticket_id) for one in decided] == [
        (False, None, ticket.id),
        (True, "ann", ticket.id),
    ]
    check(made)


@pytest.mark.promise(5)
@pytest.mark.parametrize("hours", [0, 72])
def test_resumed_in_another_process(
    hours: int, governor: Make, database: str, tmp_path: Path
) -> None:
    """Broken if an approval does not outlast its process, its policy and three days, or is good for two runs then."""
    begun = datetime(2026, 1, 1, tzinfo=UTC)
    made = governor(ASK, clock=ManualClock(begun))
    key = UUID(int=7)
    ticket = asked(
        made, later.refund, "o-1", Decimal("20.50"), 1, 2, card="4242", key=key, why=[b"x", 0.5]
    )
    made.write(tickets.approve, ticket.id, by="ann")
    made.close()
    effects = tmp_path / "effects"
    at = (begun + timedelta(hours=hours)).isoformat()
    order = [sys.executable, "-W", "error", "-m", "tests.asking._later", database, ticket.id, at]
    said = [
        subprocess.run(
            [*order, str(effects)], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.strip()
        for _ in range(2)
    ]
    assert said[0] == "o-1: 20.50"
    assert said[1].startswith("Conflict ticket")
    ran = f"o-1 Decimal('20.50') (1, 2) {key!r} {{'why': [b'x', 0.5]}} 4242"
    assert effects.read_text().splitlines() == [ran]


@pytest.mark.promise(5)
def test_resumed_before_it_expires(governor: Make) -> None:
    """Broken if a ticket is good at the instant of its expiry, or not good just before."""
    clock = ManualClock()
    made = governor(ASK, clock=clock)
    one, other = approved(made, "a"), approved(made, "b")
    clock.advance(timedelta(hours=96) - timedelta(microseconds=1))
    made.resume(one, tool=pay)
    clock.advance(timedelta(microseconds=1))
    with pytest.raises(Conflict, match="is expired, so nothing was run"):
        made.resume(other, tool=pay)
    assert RAN == [("a", 900)]


@pytest.mark.promise(3, 5)
def test_resumed_in_parallel(governor: Make) -> None:
    """Broken if of callers that resume a ticket at once, from two governors, two run the call, or none."""
    both = [governor(ASK), governor(ASK)]
    heard: Counter[str] = Counter()
    for number in range(5):
        ticket = approved(both[0], f"to-{number}")
        gate = threading.Barrier(8)

        def body(place: int, ticket: Ticket = ticket, gate: Any = gate) -> None:
            gate.wait()
            try:
                heard[both[place % 2].resume(ticket, tool=pay)] += 1
            except Exception as error:  # noqa: BLE001 - any other error is what the race is looking for
                heard[type(error).__name__] += 1

        threads = [threading.Thread(target=body, args=(place,)) for place in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert heard == {**{f"to-{number}: 900": 1 for number in range(5)}, "Conflict": 35}
    assert sorted(RAN) == [(f"to-{number}", 900) for number in range(5)]
    check(both[0])


async def test_resumed_async(governor: Make) -> None:
    """Broken if a coroutine function cannot be resumed, a plain one blocks, or tasks resume one ticket twice."""
    made = governor(ASK)
    one, other = approved(made, "a"), approved(made, "b")
    with pytest.raises(Misuse, match="aresume"):
        made.resume(one, tool=apay)
    heard = await asyncio.gather(
        *(made.aresume(one, tool=apay) for _ in range(8)),
        *(made.aresume(other, tool=pay) for _ in range(2)),
        return_exceptions=True,
    )
    said = Counter(one if isinstance(one, str) else type(one).__name__ for one in heard)
    assert said == {"a: 900": 1, "b: 900": 1, "Conflict": 8}
    assert sorted(RAN) == [("a", 900), ("b", 900)]


async def test_streams_and_methods_are_resumed(governor: Make) -> None:
    """Broken if a stream, an async stream or a method cannot be resumed."""

    class Shop:
        @governed(name="move")
        def sell(self, count: int) -> int:
            return count

    @governed(name="move")
    def rows(count: int) -> Iterator[int]:
        yield from range(count)

    @governed(name="move")
    async def arows(count: int) -> Any:
        for number in range(count):
            yield number

    async def drain() -> None:
        [one async for one in arows(3)]

    made = governor(ASK)
    shop = Shop()
    first, second = asked(made, shop.sell, 3), asked(made, lambda: list(rows(3)))
    with pytest.raises(ApprovalNeeded) as needed:
        async with made.session("s", agent="bot", user="u"):
            await drain()
    third = needed.value.ticket
    for ticket in (first, second, third):
        made.write(tickets.approve, ticket.id, by="ann")
    assert made.resume(first, tool=shop.sell) == 3
    assert list(made.resume(second, tool=rows)) == [0, 1, 2]
    stream = await made.aresume(third, tool=arows)
    assert [one async for one in stream] == [0, 1, 2]
    check(made)


@pytest.mark.promise(5)
def test_resumed_as_it_was_edited(governor: Make) -> None:
    """Broken if a resumed call runs with the caller's arguments where a human has changed them, or skips the policy."""
    made = governor(ASK)
    ticket = approved(made, "acme", arguments={"amount": 50})
    assert made.resume(ticket, tool=pay) == "acme: 50"
    with pytest.raises(Conflict, match="is claimed"):
        made.resume(ticket, tool=pay)
    more = approved(made, "acme", arguments={"amount": 1_000})
    with pytest.raises(ApprovalNeeded, match="needs approval by chiefs") as needed:
        made.resume(more, tool=pay)
    made.write(tickets.approve, needed.value.ticket.id, by="cleo")
    assert made.resume(more, tool=pay) == "acme: 1000"
    assert RAN == [("acme", 50), ("acme", 1_000)]
    check(made)


@governed(name="pay")
def renamed(payee: str, amount: int = 900) -> None:
    """Take other names."""
    RAN.append((payee, amount))


@governed(name="pay")
def retyped(to: str, amount: float = 900) -> None:
    """Take another type."""
    RAN.append((to, amount))


@governed(name="pay")
def keyword(to: str, *, amount: int = 900) -> None:
    """Take it in another way."""
    RAN.append((to, amount))


def plain(to: str, amount: int = 900) -> None:
    """Be governed by nobody."""
    RAN.append((to, amount))


@pytest.mark.promise(5)
@pytest.mark.parametrize(
    ("tool", "kind", "text"),
    [
        (renamed, Conflict, "its call has the arguments amount, to; the tool takes payee, amount"),
        (retyped, Conflict, "the parameters of the tool are not those that they were"),
        (keyword, Conflict, "the parameters of the tool are not those that they were"),
        (plain, Misuse, "takes the governed function"),
        (governed(name="pay2")(plain), Conflict, "is for pay, not for pay2"),
    ],
    ids=["renamed", "retyped", "keyword", "plain", "other"],
)
def test_another_tool_is_not_resumed(tool: Any, kind: Any, text: str, governor: Make) -> None:
    """Broken if a tool that is not the one that was asked about runs on its ticket."""
    made = governor(ASK)
    ticket = approved(made, "acme")
    with pytest.raises(kind, match=text):
        made.resume(ticket, tool=tool)
    assert RAN == []
    assert made.resume(ticket, tool=pay) == "acme: 900"


@pytest.mark.promise(5)
@pytest.mark.parametrize(
    "given",
    [
        {"amount": 901},
        {"amount": 900.0},
        {"amount": "900"},
        {"to": "eve"},
        {"nobody": 1},
        {"amount": True},
    ],
    ids=repr,
)
def test_other_arguments_are_not_resumed(given: Any, governor: Make) -> None:
    """Broken if whoever resumes a call can have it run with other arguments."""
    made = governor(ASK)
    ticket = approved(made, "acme")
    with pytest.raises(Conflict):
        made.resume(ticket, tool=pay, arguments=given)
    assert RAN == []
    assert made.resume(ticket, tool=pay, arguments={"amount": 900}) == "acme: 900"


@governed(name="move", secrets=["card"])
def charge(card: str, item: Any) -> None:
    """Take what is not on record."""
    RAN.append((card, item))


@pytest.mark.promise(5, 9)
def test_what_is_not_on_record_has_to_be_given(governor: Make) -> None:
    """Broken if a secret is on record, or a call is resumed without one, or with another."""
    made = governor(ASK)
    thing = object()
    ticket = asked(made, charge, "4111", thing)
    made.write(tickets.approve, ticket.id, by="ann")
    for given in ({}, {"card": "4111"}, {"item": thing}):
        with pytest.raises(Conflict, match=r"not all is there.*give it: resume\(…, arguments="):
            made.resume(ticket, tool=charge, arguments=given)
    with pytest.raises(Conflict, match="an argument is not the one that was asked about"):
        made.resume(ticket, tool=charge, arguments={"card": "4112", "item": thing})
    made.resume(ticket, tool=charge, arguments={"card": "4111", "item": thing})
    assert [("4111", thing)] == RAN


@pytest.mark.promise(5)
@pytest.mark.parametrize("state", ["pending", "denied", "cancelled", "unknown"])
def test_what_is_not_approved_is_not_resumed(state: str, governor: Make) -> None:
    """Broken if a call runs on a ticket to which nobody, or not everybody, has said yes."""
    made = governor(ASK)
    ticket = asked(made, pay, "acme")
    if state == "denied":
        made.write(tickets.deny, ticket.id, by="ann")
    if state == "cancelled":
        made.write(tickets.approve, ticket.id, by="ann")
        with made.resume_session(ticket.session_id):
            pass
    ticket_id = "x" if state == "unknown" else ticket.id
    with pytest.raises(Conflict, match="there is no ticket x" if state == "unknown" else state):
        made.resume(ticket_id, tool=pay)
    assert RAN == []


def test_a_resumed_call_is_judged_again(governor: Make) -> None:
    """Broken if a ticket is a free pass past a halt or an evaluator, or is used up by a call that was refused."""
    words = {"use": "list", "tools": ["pay"], "with": {"argument": "to", "block": ["eve"]}}
    made = governor(ASK)
    ticket = approved(made, "acme")
    halt = made.halt(agent="bot", reason="stop", by="ben").halt
    with pytest.raises(HaltedError):
        made.resume(ticket, tool=pay)
    assert halt is not None
    made.release(halt.id, reason="go", by="ben")
    assert made.resume(ticket, tool=pay) == "acme: 900"
    blocking = governor({**ASK, "evaluators": [words]})
    other = approved(blocking, "acme2", arguments={"to": "eve"})
    with pytest.raises(Denied):
        blocking.resume(other, tool=pay)
    assert blocking.read(tickets.get, other.id).state is TicketState.APPROVED
    assert RAN == [("acme", 900)]


class Changing:
    """A plugin that asks until it is told not to."""

    verdict = Verdict.ASK

    @hookimpl
    def interlock_opinion(self, call: Any) -> Opinion:
        """Ask, or not."""
        return Opinion(verdict=self.verdict, reason="first", author="")


@pytest.mark.promise(5)
@pytest.mark.parametrize("edited", [False, True])
def test_a_resumed_call_uses_its_ticket_whatever_is_thought_of_it(
    edited: bool, governor: Make
) -> None:
    """Broken if a ticket is good for two runs, or for the caller's own arguments, once nobody asks any more."""
    plugin = Changing()
    made = governor({"version": 1, "name": "p", "default": "allow"}, plugins=[plugin])
    ticket = approved(made, "acme", arguments={"amount": 50} if edited else None)
    plugin.verdict = Verdict.ALLOW
    assert made.resume(ticket, tool=pay) == ("acme: 50" if edited else "acme: 900")
    with pytest.raises(Conflict, match="is claimed"):
        made.resume(ticket, tool=pay)
    assert len(RAN) == 1
    check(made)


def test_a_resumed_call_of_an_open_session(governor: Make) -> None:
    """Broken if a ticket can only be resumed once its session is paused, or resuming moves the session."""
    made = governor(ASK)
    with made.session("s", agent="bot") as session:
        with pytest.raises(ApprovalNeeded) as needed:
            pay("acme")
        made.write(tickets.approve, needed.value.ticket.id, by="ann")
        assert made.resume(needed.value.ticket, tool=pay) == "acme: 900"
        with pytest.raises(ApprovalNeeded):
            pay("acme")
        kinds = {events.kind_of(one) for one in history(made, session.id)}
    assert not kinds & {"session_paused", "session_resumed"}


def test_only_the_resumed_call_runs_in_a_paused_session(governor: Make) -> None:
    """Broken if a paused session admits calls that no ticket stands for."""
    made = governor(ASK)
    with made.session("s", agent="bot") as session, pytest.raises(ApprovalNeeded):
        pay("acme")
    with made.session("s", agent="bot") as session:
        session.pause()
        with pytest.raises(Denied, match="the session is paused"):
            look("x")


def test_a_tool_that_raises_uses_the_ticket_up(governor: Make) -> None:
    """Broken if a call that may have had its effect can be resumed again."""

    @governed(name="move")
    def fails(to: str) -> None:
        RAN.append(current_call())
        raise OSError("no")

    made = governor(ASK)
    ticket = asked(made, fails, "acme")
    made.write(tickets.approve, ticket.id, by="ann")
    with pytest.raises(OSError, match="no"):
        made.resume(ticket, tool=fails)
    with pytest.raises(Conflict, match="is claimed"):
        made.resume(ticket, tool=fails)
    assert len(RAN) == 1


def test_a_call_without_policy_is_not_resumed(governor: Make, database: str) -> None:
    """Broken if resuming needs the governor to have the policy at hand that the session was opened with."""
    ticket = approved(governor(ASK), "acme")
    bare = Governor(database)
    try:
        assert bare.resume(ticket, tool=pay) == "acme: 900"
    finally:
        bare.close()
