"""The door by which adapters make calls in a session: judged once, refused alike, and tickets ahead of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from interlock import (
    BudgetExceeded,
    Denied,
    Governor,
    Opinion,
    Session,
    Tool,
    Usage,
    Verdict,
    current_call,
    governed,
    hookimpl,
    report_usage,
    tool_of,
)
from interlock._ticket import TicketState
from interlock.errors import ApprovalNeeded
from interlock.events import (
    Outcome,
    TicketOpened,
)
from interlock.store import tickets
from interlock.testing import Recorder
from tests.books import judged

MakeGovernor = Callable[..., Governor]

POLICY: dict[str, Any] = {
    "version": 1,
    "name": "desk",
    "default": "deny",
    "rules": [
        {"id": "look", "tools": ["look", "search"], "verdict": "allow"},
        {"id": "refund", "tools": ["refund"], "verdict": "ask", "approvers": ["payments-oncall"]},
    ],
}
LOOK = Tool(name="look")
REFUND = Tool(name="refund", resource="order")
WIRE = Tool(name="wire")


class Ended(Exception):
    """What a tool raises here."""


@governed
def look(order: str) -> str:
    """Look an order up."""
    return f"{order} is shipped"


@pytest.fixture
def database(either: str) -> str:
    """Run every test here on both databases."""
    return either


@pytest.fixture(params=["sync", "asyncio", "trio"])
def call(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Make a call as adapters do: `call(session, tool, arguments, run)`."""

    def acall(
        session: Session, tool: Tool, arguments: Any, run: Callable[..., Any], **options: Any
    ) -> Any:
        async def arun(arguments: dict[str, Any]) -> Any:
            await anyio.lowlevel.checkpoint()
            return run(arguments)

        async def main() -> Any:
            return await session.acall(tool, arguments, arun, **options)

        return anyio.run(main, backend=request.param)

    if request.param == "sync":
        return lambda session, *given, **options: session.call(*given, **options)
    return acall


@pytest.fixture(params=["sync", "asyncio", "trio"])
def ticket(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Ask for a ticket as adapters do: `ticket(session, tool, arguments)`."""

    def aticket(session: Session, tool: Tool, arguments: Any) -> Any:
        async def main() -> Any:
            return await session.aticket(tool, arguments)

        return anyio.run(main, backend=request.param)

    if request.param == "sync":
        return lambda session, tool, arguments: session.ticket(tool, arguments)
    return aticket


@pytest.fixture
def books(governor: MakeGovernor, recorder: Recorder) -> Governor:
    """A governor with `POLICY`."""
    return governor(POLICY, plugins=[recorder])


@pytest.fixture
def session(books: Governor) -> Iterator[Session]:
    """An open session under `POLICY`."""
    with books.session("s", agent="bot", user="u-17") as session:
        yield session


def kinds(recorder: Recorder) -> list[str]:
    """The kinds of all events, in order."""
    return [recorded.kind for recorded in recorder.recorded]


def test_a_call_of_an_adapter(call: Callable[..., Any], session: Session) -> None:
    """Broken if an adapter's call is not judged, run and booked as a governed function's."""
    given: list[dict[str, Any]] = []

    def run(arguments: dict[str, Any]) -> str:
        given.append(arguments)
        assert current_call() is not None
        return "found"

    order = {"lines": [1]}
    assert call(session, LOOK, {"order": order}, run) == "found"

    assert given == [{"order": {"lines": [1]}}]
    assert given[0]["order"] is not order
    state = session.state()
    assert (state.verdicts, state.outcomes) == ({Verdict.ALLOW: 1}, {Outcome.RETURNED: 1})


@pytest.mark.promise(1)
def test_a_call_of_an_adapter_that_is_refused(call: Callable[..., Any], session: Session) -> None:
    """Broken if an adapter's tool runs in spite of a refusal."""
    ran: list[Any] = []

    with pytest.raises(Denied):
        call(session, WIRE, {"amount": 1}, ran.append)
    with pytest.raises(ApprovalNeeded):
        call(session, REFUND, {"order": "o-1"}, ran.append)

    assert ran == []


@pytest.mark.promise(8)
def test_a_call_of_an_adapter_that_fails(call: Callable[..., Any], session: Session) -> None:
    """Broken if an adapter does not get its tool's own exception."""
    error = Ended()

    def run(arguments: dict[str, Any]) -> None:
        raise error

    with pytest.raises(Ended) as caught:
        call(session, LOOK, {}, run)

    assert caught.value is error
    assert session.state().outcomes == {Outcome.RAISED: 1}


def test_a_governed_function_behind_an_adapter_is_judged_once(
    call: Callable[..., Any], session: Session, recorder: Recorder
) -> None:
    """Broken if a governed function that a framework calls is judged, booked and charged twice."""
    tool = tool_of(look)
    assert tool is not None

    assert call(session, tool, {"order": "o-1"}, lambda args: look(**args)) == "o-1 is shipped"

    assert session.state().outcomes == {Outcome.RETURNED: 1}


@pytest.mark.promise(1)
def test_other_governed_functions_behind_an_adapter_are_judged(
    call: Callable[..., Any], session: Session, recorder: Recorder
) -> None:
    """Broken if the admission of one call is a licence for others: the second of the same tool, or another tool."""
    tool = tool_of(look)
    search = governed(name="search")(lambda order: order)
    wire = governed(name="wire")(lambda: ran.append(1))
    ran: list[int] = []

    def run(arguments: dict[str, Any]) -> None:
        search("o-0")
        look(**arguments)
        look("o-2")
        with pytest.raises(Denied):
            wire()

    call(session, tool, {"order": "o-1"}, run)
    with pytest.raises(Denied):
        call(session, tool, {"order": "o-3"}, lambda _: wire())

    assert ran == []
    assert judged(recorder) == [
        ("look", '{"order":"o-1"}'),
        ("search", '{"order":"o-0"}'),
        ("look", '{"order":"o-2"}'),
        ("wire", "{}"),
        ("look", '{"order":"o-3"}'),
        ("wire", "{}"),
    ]


@pytest.mark.promise(1)
def test_an_admission_ends_with_its_call(call: Callable[..., Any], session: Session) -> None:
    """Broken if what an adapter admitted and did not use stays admitted for later."""
    tool = tool_of(look)
    look_again = governed(look.__wrapped__)
    assert tool_of(look_again) == tool

    call(session, tool, {"order": "o-1"}, lambda _: None)
    look("o-2")
    look_again("o-3")

    assert session.state().verdicts == {Verdict.ALLOW: 3}


def test_an_adapters_session_need_not_be_the_current_one(
    call: Callable[..., Any], books: Governor, session: Session
) -> None:
    """Broken if a call that an adapter makes in a session of its own is booked in the current one."""
    with books.session("other", agent="bot") as other:
        call(session, Tool(name="search"), {}, lambda _: look("o-1"))
        assert other.state().verdicts == {}

    assert session.state().outcomes == {Outcome.RETURNED: 2}


@pytest.mark.promise(5)
def test_a_ticket_ahead_of_its_call(
    ticket: Callable[..., Any], session: Session, books: Governor, recorder: Recorder
) -> None:
    """Broken if asking ahead opens two tickets, uses an approval up, or is not for the very call that follows."""
    first = ticket(session, REFUND, {"order": "o-1"})
    again = ticket(session, REFUND, {"order": "o-1"})
    other = ticket(session, REFUND, {"order": "o-2"})

    assert (first.state, first.tool, first.requested_by) == (
        TicketState.PENDING,
        "refund",
        ("bot", "u-17"),
    )
    assert first == again
    assert first.id != other.id
    assert [event.ticket_id for event in recorder.events if isinstance(event, TicketOpened)] == [
        first.id,
        other.id,
    ]

    books.write(tickets.approve, first.id, by="ann")
    assert ticket(session, REFUND, {"order": "o-1"}).state is TicketState.APPROVED
    assert ticket(session, REFUND, {"order": "o-1"}).decided_by == "ann"
    assert session.call(REFUND, {"order": "o-1"}, lambda _: "done") == "done"
    with pytest.raises(ApprovalNeeded) as needed:
        session.call(REFUND, {"order": "o-2"}, lambda _: "done")
    assert needed.value.ticket.id == other.id
    assert ticket(session, REFUND, {"order": "o-1"}).id != first.id


def test_no_ticket_for_what_needs_none(
    ticket: Callable[..., Any], session: Session, recorder: Recorder
) -> None:
    """Broken if asking ahead about a call that is allowed or denied leaves a trace."""
    assert ticket(session, LOOK, {"order": "o-1"}) is None
    assert ticket(session, WIRE, {}) is None
    cyclic: list[Any] = []
    cyclic.append(cyclic)
    assert ticket(session, REFUND, {"order": cyclic}) is None

    assert kinds(recorder) == ["session_opened"]


@pytest.mark.promise(2)
def test_no_ticket_for_what_a_plugin_denies(
    ticket: Callable[..., Any], governor: MakeGovernor
) -> None:
    """Broken if people are asked about a call that would be refused after their yes."""

    class Denies:
        @hookimpl
        def interlock_opinion(self) -> Opinion:
            return Opinion(verdict=Verdict.DENY, reason="no", author="me")

    with governor(POLICY, plugins=[Denies()]).session("s", agent="bot") as session:
        assert ticket(session, REFUND, {"order": "o-1"}) is None


def test_a_models_call_is_held_at_its_estimate(
    call: Callable[..., Any], governor: MakeGovernor
) -> None:
    """Broken if a model's call by an adapter reserves less than it may use, or is not charged what it has used."""
    budgets = [{"name": "run", "per": "session", "tokens": 1_000}]
    policy = {"version": 1, "name": "desk", "default": "allow", "budgets": budgets}
    chat = Tool(name="chat", kind="model", model="model")
    most = Usage(input_tokens=100, output_tokens=50)
    stood: list[int] = []

    def run(_: dict[str, Any]) -> str:
        stood.extend(account.reserved.tokens for account in session.budgets())
        report_usage(Usage(input_tokens=80, output_tokens=20))
        return "done"

    with governor(policy).session("s", agent="bot") as session:
        assert call(session, chat, {"model": "m-1"}, run, estimate=most) == "done"
        with pytest.raises(BudgetExceeded):
            call(session, chat, {"model": "m-1"}, run)
        (account,) = session.budgets()
    assert stood == [150]
    assert (account.spent.tokens, account.reserved.tokens) == (100, 0)
