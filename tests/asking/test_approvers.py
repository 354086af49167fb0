"""Asking a human on the spot: what they say is an answer like every other, under the host's name for them."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

import interlock
from interlock import Answer, ApprovalNeeded, Denied, Governor, Ticket, events
from interlock._prompt import prompt
from interlock._ticket import TicketState
from interlock.store import tickets
from interlock.testing import Recorder
from tests.asking._desk import ASK, RAN, SHAPES, Caller, apay, call, pay_ops, pay_twice
from tests.callers import history

Make = Callable[..., Governor]
Sync = Callable[[Any], Callable[[Ticket], Any]]


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    RAN.clear()


def _sync(reply: Any) -> Callable[[Ticket], Any]:
    return lambda _: reply


def _async(reply: Any) -> Callable[[Ticket], Any]:
    async def approver(_: Ticket) -> Any:
        await asyncio.sleep(0)
        return reply

    return approver


class _Callable:
    """An approver that is an object."""

    def __init__(self, reply: Any) -> None:
        self.reply = reply

    async def __call__(self, ticket: Ticket) -> Any:
        return self.reply


KINDS: list[Any] = [_sync, _async, _Callable, lambda reply: partial(_async(reply))]


@pytest.mark.promise(5)
@pytest.mark.parametrize("kind", KINDS, ids=["sync", "async", "object", "partial"])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_yes_runs_the_call(shape: str, kind: Sync, governor: Make, recorder: Recorder) -> None:
    """Broken if a yes does not run the call, is not recorded under the host's name, or plugins do not see it."""
    way = interlock.ask(kind(Answer(yes=True, comment="fine")), by="ann")
    one = governor(ASK, on_ask=way, plugins=[recorder])
    with one.session("s", agent="bot") as session:
        assert Caller(partial(call, shape, session, "x")).end() == "paid x"
    assert RAN == ["x"]
    answers = [e for e in history(one, session.id) if isinstance(e, events.TicketResolved)]
    assert [(e.by, e.state, e.comment) for e in answers] == [("ann", "approved", "fine")]
    assert [e for e in recorder.events if isinstance(e, events.TicketResolved)] == answers


@pytest.mark.promise(5)
@pytest.mark.parametrize("kind", KINDS, ids=["sync", "async", "object", "partial"])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_no_is_told(shape: str, kind: Sync, governor: Make) -> None:
    """Broken if a call runs though the approver said no, or its reason does not reach the caller."""
    one = governor(ASK, on_ask=interlock.ask(kind(Answer(yes=False, comment="too much")), by="ann"))
    with one.session("s", agent="bot") as session:
        came = Caller(partial(call, shape, session, "x")).end()
    assert isinstance(came, Denied)
    assert "ann said no: too much" in str(came)
    assert RAN == []


@pytest.mark.promise(5)
@pytest.mark.parametrize("kind", [_sync, _async])
@pytest.mark.parametrize("reply", [None, 1, "yes", "y", [True], Answer("yes"), object()])  # type: ignore[arg-type]
@pytest.mark.parametrize("shape", ["sync", "async"])
def test_what_is_no_answer_is_a_no_for_now(
    shape: str, reply: Any, kind: Sync, governor: Make
) -> None:
    """Broken if silence, or something that merely looks like a yes, lets a call run, or answers the ticket."""
    one = governor(ASK, on_ask=interlock.ask(kind(reply), by="ann"))
    with one.session("s", agent="bot") as session:
        came = Caller(partial(call, shape, session, "x")).end()
        assert isinstance(came, ApprovalNeeded)
        assert one.read(tickets.pending) == [came.ticket]
    assert RAN == []


@pytest.mark.promise(1)
@pytest.mark.parametrize("shape", ["sync", "async"])
def test_an_approver_that_raises_says_nothing(shape: str, governor: Make) -> None:
    """Broken if a broken approver lets a call run, or its error takes the place of the refusal."""

    def broken(_: Ticket) -> bool:
        raise RuntimeError("4111-planted")

    one = governor(ASK, on_ask=interlock.ask(broken, by="ann"))
    with one.session("s", agent="bot") as session:
        came = Caller(partial(call, shape, session, "x")).end()
    assert isinstance(came, ApprovalNeeded)
    assert (RAN, "planted" in str(came)) == ([], False)


@pytest.mark.promise(5)
@pytest.mark.parametrize("by", ["bot", "u-17", "BOT", " bot "])
@pytest.mark.parametrize("shape", ["sync", "async"])
def test_a_requester_cannot_be_the_approver(shape: str, by: str, governor: Make) -> None:
    """Broken if an agent, or its user, approves its own call because it was asked on the spot."""
    one = governor(ASK, on_ask=interlock.ask(_sync(reply=True), by=by))
    with one.session("s", agent="bot", user="u-17") as session:
        came = Caller(partial(call, shape, session, "x")).end()
        assert isinstance(came, ApprovalNeeded)
        assert one.read(tickets.get, came.ticket.id).state is TicketState.PENDING
    assert RAN == []


@pytest.mark.promise(5)
def test_a_quorum_needs_the_others(governor: Make) -> None:
    """Broken if one person on the spot is enough where two are needed, or is asked the same twice."""
    seen: list[Ticket] = []
    one = governor(ASK, on_ask=interlock.ask(lambda t: seen.append(t) or True, by="ann"))
    with one.session("s", agent="bot"):
        with pytest.raises(ApprovalNeeded) as needed:
            pay_twice("x")
        assert [a.by for a in one.read(tickets.get, needed.value.ticket.id).approvals] == ["ann"]
        assert (len(seen), RAN) == (1, [])
        one.write(tickets.approve, needed.value.ticket.id, by="bob")
        assert (pay_twice("x"), len(seen)) == ("paid x", 1)


@pytest.mark.promise(5)
@pytest.mark.parametrize(
    ("by", "groups", "runs"),
    [("ann", None, True), ("eve", None, False), ("eve", ["ops"], True), ("eve", ["dev"], False)],
)
def test_only_who_is_asked_can_answer(
    by: str, groups: list[str] | None, runs: bool, governor: Make
) -> None:
    """Broken if somebody outside the groups that the rule asks lets a call run, or somebody inside cannot."""
    one = governor(ASK, on_ask=interlock.ask(_sync(reply=True), by=by, groups=groups))
    with one.session("s", agent="bot"):
        if runs:
            assert pay_ops("x") == "paid x"
        else:
            with pytest.raises(ApprovalNeeded):
                pay_ops("x")
    assert (["x"] if runs else []) == RAN


@pytest.mark.promise(5)
@pytest.mark.parametrize(("verb", "runs"), [("approve", True), ("deny", False)])
def test_another_answer_that_came_first_counts(verb: str, runs: bool, governor: Make) -> None:
    """Broken if an approver overrules what somebody else has answered while they were being asked."""

    def slow(ticket: Ticket) -> bool:
        one.write(getattr(tickets, verb), ticket.id, by="bob")
        return not runs

    one = governor(ASK, on_ask=interlock.ask(slow, by="ann"))
    with one.session("s", agent="bot") as session:
        came = Caller(partial(call, "sync", session, "x")).end()
    assert (came == "paid x", isinstance(came, Denied)) == (runs, not runs)
    answers = [e for e in history(one, session.id) if isinstance(e, events.TicketResolved)]
    assert [e.by for e in answers] == ["bob"]


async def test_a_slow_approver_does_not_block_the_loop(governor: Make) -> None:
    """Broken if other tasks stand still while a sync approver thinks: here one has to run before it answers."""
    others_run = threading.Event()
    one = governor(ASK, on_ask=interlock.ask(lambda _: others_run.wait(), by="ann"))

    async def other() -> None:
        others_run.set()

    async with one.session("s", agent="bot"):
        paid, _ = await asyncio.gather(apay("x"), other())
    assert paid == "paid x"


async def test_a_cancelled_question_answers_nothing(governor: Make) -> None:
    """Broken if what an approver says after its caller was cancelled is written down, or the call runs."""
    asked, may_answer = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def slow(_: Ticket) -> bool:
        loop.call_soon_threadsafe(asked.set)
        return may_answer.wait()

    one = governor(ASK, on_ask=interlock.ask(slow, by="ann"))
    async with one.session("s", agent="bot"):
        task = asyncio.create_task(apay("x"))
        await asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        may_answer.set()
        [ticket] = one.read(tickets.pending)
        assert (ticket.state, RAN) == (TicketState.PENDING, [])


@pytest.mark.parametrize("wrong", [{"by": ""}, {"by": "  "}, {"by": None}, {"by": 5}])
def test_whoever_answers_has_a_name(wrong: Any) -> None:
    """Broken if an answer can be given in nobody's name."""
    with pytest.raises(interlock.Misuse, match="name"):
        interlock.ask(lambda _: True, **wrong)
    with pytest.raises(interlock.Misuse, match="function"):
        interlock.ask("yes", by="ann")  # type: ignore[arg-type]


def test_without_a_terminal_there_is_no_answer(governor: Make) -> None:
    """Broken if a server that has no terminal waits for its input for ever, or takes the end of it for a yes."""
    assert (sys.stdin.isatty() and sys.stdout.isatty(), prompt.__module__) == (
        False,
        "interlock._prompt",
    )
    one = governor(ASK, on_ask=interlock.ask(by="ann"))
    with one.session("s", agent="bot") as session:
        assert isinstance(Caller(partial(call, "sync", session, "x")).end(), ApprovalNeeded)


PROGRAM = """
import interlock
from tests.asking._desk import ASK, pay
with interlock.Governor("sqlite://", policy=ASK, on_ask=interlock.ask(by="ann")) as governor:
    with governor.session("s", agent="bot"):
        try:
            print("CAME", pay("x\\x1b[2J\\u202e"))
        except interlock.Refused as refusal:
            print("CAME", type(refusal).__name__, str(refusal)[:60])
"""


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="there are no terminals here")
@pytest.mark.parametrize(
    ("typed", "came"),
    [
        ("y\nfine\n", "CAME paid"),
        ("yes\n\n", "CAME paid"),
        ("n\ntoo much\n", "CAME Denied pay is denied: ann said no: too much"),
        ("\n", "CAME ApprovalNeeded"),
        ("yep\n", "CAME ApprovalNeeded"),
        ("\x04", "CAME ApprovalNeeded"),
    ],
)
def test_a_terminal_is_asked(typed: str, came: str) -> None:
    """Broken if what is typed means something else, or what is shown is not what will run, or acts on the terminal."""
    ours, theirs = os.openpty()
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", PROGRAM], stdin=theirs, stdout=theirs, stderr=theirs
    ):
        os.close(theirs)
        shown = b""
        answers = [line + "\n" for line in typed.split("\n")[:-1]] or [typed]
        prompts = [b"[y/n]", b"Comment:"]
        try:
            while part := os.read(ours, 4096):
                shown += part
                if prompts and answers and prompts[0] in shown:
                    prompts.pop(0)
                    os.write(ours, answers.pop(0).encode())
        except OSError:  # the other end has gone
            pass
    os.close(ours)
    text = shown.decode()
    before, _, after = text.partition("CAME")
    assert ("CAME" + after).startswith(came)
    assert "x\\x1b[2J\\u202e" in before
    assert not {"\x1b[2J", "\u202e"} & {
        before[i : i + n] for i in range(len(before)) for n in (1, 4)
    }
