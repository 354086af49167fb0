"""Policies that halt, tools that they refuse, and ways to call those and to keep a halt from being written."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, text

from interlock import ApprovalNeeded, Governor, HaltedError, Session, errors, governed, tool_of
from interlock._flow import Admit, Consult
from interlock._replies import Admission
from interlock.events import HaltOrdered
from interlock.store import tickets
from tests.callers import history
from tests.policies import document, rule

WHO: dict[str, str] = {"agent": "bot", "user": "u-1", "team": "desk", "org": "acme"}


def halting(*halts: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A policy that refuses `wire`, steers `pay`, asks about `ship`, and allows the rest."""
    return document(
        rule("no", "wire", verdict="deny"),
        rule("else", "pay", verdict="steer", guidance="Ask finance."),
        rule("human", "ship", verdict="ask"),
        rule("tried", "look", verdict="deny", mode="observe"),
        rule("rest", "*"),
        halts=list(halts),
        **more,
    )


THREE = {"after_refusals": 3, "halt": "session"}


def _tools(name: str) -> dict[str, Any]:
    @governed(name=name)
    def tool() -> str:
        return name

    @governed(name=name)
    async def atool() -> str:
        await asyncio.sleep(0)
        return name

    return {"sync": tool, "async": atool}


TOOLS = {name: _tools(name) for name in ("look", "wire", "pay", "ship", "other")}


def call(shape: str, session: Session, name: str) -> str:
    """Make one call, sync or async; return what came of it, or the name of what it raised."""
    tool: Callable[[], Any] = TOOLS[name][shape]
    try:
        with session.attach():
            found: str = tool() if shape == "sync" else asyncio.run(_awaited(tool))
    except errors.InterlockError as error:
        return type(error).__name__
    return found


async def _awaited(tool: Callable[[], Any]) -> str:
    found: str = await tool()
    return found


def refused(shape: str, session: Session, times: int = 3) -> None:
    """Have so many calls refused, each of which is told just that."""
    assert [call(shape, session, "wire") for _ in range(times)] == ["Denied"] * times


def approval(governor: Governor, session: Session, *, yes: bool) -> None:
    """Ask about a call, and answer."""
    try:
        with session.attach():
            TOOLS["ship"]["sync"]()
    except ApprovalNeeded as asked:
        answer = tickets.approve if yes else tickets.deny
        governor.write(answer, asked.ticket.id, by="ann")


def is_halted(session: Session) -> bool:
    """Whether a call that is allowed is stopped by a halt."""
    try:
        with session.attach():
            TOOLS["look"]["sync"]()
    except HaltedError:
        return True
    return False


def ordered(governor: Governor, session: Session) -> list[HaltOrdered]:
    """The halts of which a session was told that its calls had the policy engage them."""
    return [one for one in history(governor, session.id) if isinstance(one, HaltOrdered)]


def admitted_and_died(session: Session, name: str) -> Admission:
    """Make a call as a process does that dies when the decision is durable, before anything else."""
    tool = tool_of(TOOLS[name]["sync"])
    assert tool is not None
    performer, _ = session.performer(tool, {})
    counsel = performer.perform(Consult(performer.call))
    entry = performer._entry(Admit(performer.call, counsel, None))
    admission: Admission = session._machinery.store.post(entry)
    return admission


@contextmanager
def no_halt_is_written(governor: Governor) -> Iterator[None]:
    """Have the database refuse to write down halts, as a full disk does, and all else go on."""
    governor.write(_refuse)
    yield
    governor.write(_allow)


def _refuse(connection: Connection) -> None:
    if connection.dialect.name == "sqlite":
        connection.execute(
            text(
                "CREATE TRIGGER full BEFORE INSERT ON halts "
                "BEGIN SELECT RAISE(ABORT, 'no space left'); END"
            )
        )
        return
    connection.execute(
        text(
            "CREATE FUNCTION is_full() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'no space left'; END $$"
        )
    )
    connection.execute(
        text(
            "CREATE TRIGGER is_full BEFORE INSERT ON halts FOR EACH ROW EXECUTE FUNCTION is_full()"
        )
    )


def _allow(connection: Connection) -> None:
    if connection.dialect.name == "sqlite":
        connection.execute(text("DROP TRIGGER full"))
        return
    connection.execute(text("DROP TRIGGER is_full ON halts"))
