"""Sessions in sessions: linked, reached by the halts of those around them, and otherwise on their own."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from interlock import (
    ApprovalNeeded,
    BudgetExceeded,
    Governor,
    HaltedError,
    Misuse,
    Session,
    governed,
)
from interlock._session import MAX_NESTED
from interlock._verdict import Mode
from interlock.events import SessionOpened
from interlock.store import lineage, sessions, tickets
from interlock.store.verify import verify
from tests.commands import cli_of

Make = Callable[..., Governor]

POLICY: dict[str, Any] = {
    "version": 1,
    "name": "desk",
    "default": "deny",
    "rules": [
        {"id": "look", "tools": ["look", "linger"], "verdict": "allow"},
        {"id": "refund", "tools": ["refund"], "verdict": "ask"},
    ],
    "budgets": [{"name": "per-run", "per": "session", "calls": 2}],
}


@governed
def look() -> str:
    """Look."""
    return "seen"


@governed
def refund() -> str:
    """Pay money back."""
    return "paid"


@governed
async def linger(begun: anyio.Event) -> None:
    """Run until it is cancelled."""
    begun.set()
    await anyio.sleep_forever()


@pytest.fixture
def database(either: str) -> str:
    """Run every test here on both databases."""
    return either


def three(made: Governor, stack: contextlib.ExitStack) -> list[Session]:
    """Three sessions, each opened in the one before."""
    return [
        stack.enter_context(made.session(name, agent=f"agent-{name}"))
        for name in ("outer", "middle", "inner")
    ]


def test_the_link_is_on_record(governor: Make, database: str) -> None:
    """Broken if it cannot be told in which run a run was begun, or the link is shown and not recorded, or forgeable."""
    made, cli = governor(POLICY), cli_of(database)
    with contextlib.ExitStack() as stack:
        outer, middle, inner = three(made, stack)
        assert (middle.id, outer.id) == inner.ancestors
    with made.session("next", agent="bot") as after:
        assert after.ancestors == ()
    for session, parent in ((outer, None), (middle, outer.id), (inner, middle.id), (after, None)):
        assert parent == made.read(sessions.get, session.id).parent
        opened = session.state().opened
        assert isinstance(opened, SessionOpened)
        assert parent == opened.parent
    assert (middle.id, outer.id) == made.read(lineage.ancestors, inner.id)
    for command in (("replay",), ("sessions", "show"), ("events",)):
        assert middle.id in cli(*command, inner.id).stdout
    assert [report.problem for report in made.verify()] == [None] * 4


def test_a_page_shows_the_link(governor: Make, database: str, tmp_path: Any) -> None:
    """Broken if who reads a page of a run cannot find the run that it was begun in."""
    made, cli = governor(POLICY), cli_of(database)
    with made.session("outer", agent="bot") as outer, made.session("inner", agent="bot") as inner:
        pass
    assert cli("replay", inner.id, "--html", str(tmp_path / "page.html")).returncode == 0
    head = (tmp_path / "page.html").read_text("utf-8").partition("</header>")[0]
    assert f"<code>{outer.id}</code>" in head


def test_another_governors_session_is_no_parent(governor: Make, tmp_path: Any) -> None:
    """Broken if a session is linked to one that is in another store, where nobody finds it."""
    made, other = governor(POLICY), governor(POLICY, url=f"sqlite:///{tmp_path / 'other.db'}")
    with made.session("ours", agent="bot"), other.session("theirs", agent="bot") as theirs:
        assert theirs.ancestors == ()
    assert other.read(sessions.get, theirs.id).parent is None


@pytest.mark.promise(4)
@pytest.mark.parametrize("halted", [0, 1, 2])
def test_a_halt_reaches_what_was_begun_in_it(halted: int, governor: Make) -> None:
    """Broken if an agent that was stopped goes on by way of those it has started, or a halt reaches those around it."""
    made = governor(POLICY)
    with contextlib.ExitStack() as stack:
        nested = three(made, stack)
        target = nested[halted]
        halt = target.halt(reason="drill", by="ann").halt
        for place, session in enumerate(nested):
            with session.attach():
                if place < halted:
                    assert look() == "seen"
                else:
                    with pytest.raises(HaltedError, match=f"session {target.id} is halted: drill"):
                        look()
        made.release(halt.id, reason="over", by="ann")
        assert look() == "seen"
    assert [report.problem for report in made.verify()] == [None] * 3


@pytest.mark.promise(4)
def test_a_halt_reaches_what_is_resumed(governor: Make) -> None:
    """Broken if a session that goes on in another process, or by a ticket, has forgotten who began it."""
    made, other = governor(POLICY), governor(POLICY)
    with (
        made.session("outer", agent="bot") as outer,
        pytest.raises(ApprovalNeeded) as refused,
        made.session("inner", agent="bot") as inner,
    ):
        refund()
    made.write(tickets.approve, refused.value.ticket.id, by="bob")
    halt = other.halt(session=outer.id, reason="drill", by="ann").halt
    with pytest.raises(HaltedError):
        other.resume(refused.value.ticket.id, tool=refund)
    with other.resume_session(inner.id) as again:
        assert (outer.id,) == again.ancestors
        with pytest.raises(HaltedError):
            look()
        other.release(halt.id, reason="over", by="ann")
        assert refund() == "paid"


@pytest.mark.anyio
@pytest.mark.promise(4)
@pytest.mark.parametrize("by", ["same", "other"])
async def test_a_halt_cancels_what_runs_in_it(by: str, governor: Make) -> None:
    """Broken if a call of an agent that was started by a stopped one runs on, or is not counted as running."""
    made, other = governor(POLICY), governor(POLICY)
    begun, ended = anyio.Event(), anyio.Event()

    async def work() -> None:
        async with made.session("inner", agent="bot"):
            with pytest.raises(HaltedError):
                await linger(begun)
            ended.set()

    async with made.session("outer", agent="bot") as outer, anyio.create_task_group() as tasks:
        tasks.start_soon(work)
        await begun.wait()
        halting = made if by == "same" else other
        done = await halting.ahalt(session=outer.id, reason="drill", by="ann")
        assert done.running == 1
        await ended.wait()


def test_a_budget_of_a_session_is_its_own(governor: Make) -> None:
    """Broken if a run has less left because of what it has begun, which `per: session` does not say."""
    made = governor(POLICY)
    with made.session("outer", agent="bot"):
        with made.session("inner", agent="bot"):
            look()
            look()
            with pytest.raises(BudgetExceeded):
                look()
        look()
        look()


def test_nothing_runs_for_real_within_a_rehearsal(governor: Make) -> None:
    """Broken if a dry run does something in the world by way of a session that a tool or a framework opens in it."""
    made, ran = governor(POLICY), []

    @governed(name="look")
    def act() -> None:
        ran.append(1)

    with made.session("outer", agent="bot", dry_run=True):
        with made.session("inner", agent="bot") as inner:
            act()
        assert (ran, inner.mode) == ([], Mode.DRY_RUN)
    opened = inner.state().opened
    assert opened is not None
    assert opened.mode is Mode.DRY_RUN
    with made.session("real", agent="bot"):
        act()
    assert ran == [1]


def test_a_circle_of_agents_ends(governor: Make) -> None:
    """Broken if agents that start each other in a circle fill the books before they fill the stack."""
    made = governor(POLICY)
    with contextlib.ExitStack() as stack:
        for _ in range(MAX_NESTED + 1):
            stack.enter_context(made.session("s", agent="bot"))
        with pytest.raises(Misuse, match="nested more than 64 deep"):
            made.session("s", agent="bot").__enter__()
    assert made.read(sessions.count) == MAX_NESTED + 1


def test_siblings_are_not_nested(governor: Make) -> None:
    """Broken if a session that a task opens is taken for one that its sibling has opened."""
    made = governor(POLICY)
    found: list[Session] = []

    async def work() -> None:
        async with made.session("child", agent="bot") as session:
            found.append(session)
            await anyio.lowlevel.checkpoint()

    async def both() -> str:
        async with made.session("outer", agent="bot") as outer, anyio.create_task_group() as tasks:
            tasks.start_soon(work)
            tasks.start_soon(work)
        return outer.id

    outer_id = anyio.run(both)
    assert [(outer_id,)] * 2 == [session.ancestors for session in found]
    assert made.read(verify, found[0].id).problem is None
