# pyright: strict, reportUnnecessaryTypeIgnoreComment=true
"""
Checked, never run: the types of governor, session, tickets, evaluators, plugins and errors, as hosts use them.

Each `type: ignore` stands for an error that both checkers must find: both complain of one that is not needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, assert_type

from pydantic import BaseModel
from sqlalchemy import Connection
from sqlalchemy.orm import Session as OrmSession

import interlock
from interlock import (
    ApprovalNeeded,
    Call,
    Decision,
    Denied,
    Evaluator,
    Feed,
    Governor,
    InterlockError,
    Misuse,
    Opinion,
    Policy,
    Refused,
    Session,
    Steered,
    Ticket,
    Tool,
    Undecided,
    Verdict,
    configure,
    current_call,
    governed,
    hookimpl,
    tool_of,
)
from interlock.errors import EvaluatorFailed, PluginError, PolicyError, StoreUnavailable
from interlock.events import CallDecided, CallFinished, NewerEvent, Recorded
from interlock.store import tickets
from interlock.testing import ManualClock, Recorder


@governed
def refund(order: str) -> Decimal:
    return Decimal(1)


def operation(connection: Connection, first: int, *, second: str = "") -> list[Decimal]:
    return []


def governors(policy: Policy) -> None:
    recorder = Recorder()
    with Governor(
        "sqlite://", policy="policy.yaml", plugins=[recorder], clock=ManualClock()
    ) as made:
        assert_type(made, Governor)
        assert_type(made.policy, Policy | None)
        assert_type(made.session("s", agent="bot", user="u"), Session)
        assert_type(made.write(operation, 1, second="x"), list[Decimal])
        assert_type(made.read(operation, 1), list[Decimal])
        assert_type(made.write(tickets.approve, "t-1", by="ann"), Recorded)
        made.write(operation, "x")  # type: ignore[arg-type]
        made.write(operation)  # type: ignore[call-arg]
        made.read(operation, 1, third=2)  # type: ignore[call-arg]
        made.write(tickets.approve, "t-1")  # type: ignore[call-arg]
        made.session("s")  # type: ignore[call-arg]
        made.session("s", "bot")  # type: ignore[call-arg]
    Governor("sqlite://", policy=policy)
    Governor("sqlite://", policy={"version": 1, "name": "p"})
    Governor("sqlite://", policy=3)  # type: ignore[arg-type]
    Governor("sqlite://", polcy=policy)  # type: ignore[call-arg]
    configure(made)
    configure(None)
    assert_type(interlock.session("s", agent="bot"), Session)


def feeds(made: Governor, session: Session, connection: Connection) -> None:
    feed = made.feed(after=None, session="s", kinds=["call_decided"], follow=True, page=10)
    assert_type(feed, Feed)
    assert_type(feed.cursor, str)
    for recorded in feed:
        assert_type(recorded, Recorded)
        assert_type(session.record("loop_started", recorded, within=connection), Recorded)
        if isinstance(recorded.event, NewerEvent):
            assert_type(recorded.event.body, str)
    made.feed("cursor")  # type: ignore[call-arg]
    made.feed(after=3)  # type: ignore[arg-type]


async def afeeds(made: Governor, session: Session) -> None:
    async for recorded in made.feed():
        assert_type(recorded, Recorded)
        assert_type(await session.arecord("loop_started", {}), Recorded)


def joining(made: Governor, connection: Connection, session: OrmSession) -> None:
    assert_type(made.join(connection, operation, 1, second="x"), list[Decimal])
    assert_type(made.join(session, operation, 1, second="x"), list[Decimal])
    made.join(connection, operation, "x")  # type: ignore[arg-type]
    made.join(session, operation, 1, third=2)  # type: ignore[call-arg]
    made.join(None, operation, 1)  # type: ignore[arg-type]


async def agovernors() -> None:
    async with Governor("sqlite://") as made:
        assert_type(made, Governor)
        assert_type(await made.awrite(operation, 1, second="x"), list[Decimal])
        await made.awrite(operation, "x")  # type: ignore[arg-type]
        async with made.session("s", agent="bot") as session:
            assert_type(session, Session)


def run(arguments: dict[str, Any]) -> Decimal:
    return Decimal(1)


async def arun(arguments: dict[str, Any]) -> Decimal:
    return Decimal(1)


async def sessions(session: Session) -> None:
    tool = Tool(name="refund")
    with session as entered:
        assert_type(entered, Session)
    with session.attach() as attached:
        assert_type(attached, Session)
    assert_type(session.id, str)
    assert_type(session.call(tool, {"order": "o-1"}, run), Decimal)
    assert_type(await session.acall(tool, {"order": "o-1"}, arun), Decimal)
    assert_type(session.ticket(tool, {}), Ticket | None)
    assert_type(await session.aticket(tool, {}), Ticket | None)
    await session.acall(tool, {}, run)  # type: ignore[arg-type]
    session.call("refund", {}, run)  # type: ignore[arg-type]
    assert_type(tool_of(refund), Tool | None)
    assert_type(current_call(), Call | None)


def calls(call: Call, decision: Decision) -> None:
    assert_type(call.arguments, Mapping[str, Any])
    assert_type(call.cost, Decimal | None)
    assert_type(decision.verdict, Verdict)
    assert_type(decision.opinions, tuple[Opinion, ...])
    assert_type(Verdict.ALLOW < Verdict.DENY, bool)
    call.digest = "x"  # type: ignore[misc]
    decision.verdict = Verdict.ALLOW  # type: ignore[misc]
    Opinion(verdict="allow", reason="r", author="a")  # type: ignore[arg-type]
    Opinion(reason="r", author="a")  # type: ignore[call-arg]


def refusals(error: InterlockError) -> None:
    match error:
        case ApprovalNeeded():
            assert_type(error.ticket, Ticket)
        case Steered():
            assert_type(error.guidance, str | None)
            assert_type(error.suggestions, tuple[str, ...])
        case Denied():
            assert_type(error.decision, Decision)
        case EvaluatorFailed():
            assert_type(error.call, Call)
        case PolicyError():
            assert_type(error.line, int | None)
        case PluginError():
            assert_type(error.distribution, str | None)
        case _:
            pass
    kinds: list[type[InterlockError]] = [Refused, Undecided, Misuse, StoreUnavailable]
    assert_type(kinds[0](), InterlockError)


class Limits(BaseModel):
    limit: int = 1


class SyncEvaluator:
    Config = Limits

    def __init__(self, config: Limits) -> None:
        self.limit = config.limit

    def evaluate(self, call: Call) -> Opinion | None:
        return None


class AsyncEvaluator:
    class Config(BaseModel):
        limit: int = 1

    def __init__(self, config: Config) -> None:
        self.limit = config.limit

    async def evaluate(self, call: Call) -> Opinion | None:
        return None


class WrongEvaluator:
    Config = Limits

    def evaluate(self, call: Call) -> bool:
        return True


class NoEvaluator:
    def evaluate(self, call: Call) -> Opinion | None:
        return None


evaluators: list[Evaluator] = [SyncEvaluator(Limits()), AsyncEvaluator(AsyncEvaluator.Config())]
wrong_evaluator: Evaluator = WrongEvaluator()  # type: ignore[assignment]
no_evaluator: Evaluator = NoEvaluator()  # type: ignore[assignment]


class Plugin:
    @hookimpl
    def interlock_opinion(self, call: Call) -> Opinion | None:
        return None

    @hookimpl
    def interlock_recorded(self, recorded: Recorded) -> None:
        match recorded.event:
            case CallDecided(verdict=verdict):
                assert_type(verdict, Verdict)
            case CallFinished(error_type=error_type):
                assert_type(error_type, str | None)
            case _:
                pass


def plugins(plugin: Plugin, call: Call) -> None:
    assert_type(plugin.interlock_opinion(call), Opinion | None)
    plugin.interlock_opinion(1)  # type: ignore[arg-type]
