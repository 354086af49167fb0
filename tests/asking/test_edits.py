"""Edit-and-approve: a human says yes to other arguments, and these run: judged from the start, once, and no others."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from interlock import (
    ApprovalNeeded,
    Denied,
    Governor,
    Grant,
    Opinion,
    Steered,
    Ticket,
    Tool,
    Verdict,
    current_call,
    events,
    governed,
    hookimpl,
    wait,
)
from interlock._call import MAX_MONEY
from interlock._kinds import MAX_BYTES
from interlock._ticket import TicketState
from interlock.errors import BudgetExceeded, Conflict, HaltedError
from interlock.store import tickets
from interlock.testing import ManualClock
from tests.callers import history

Make = Callable[..., Governor]
RULES: list[dict[str, Any]] = [
    {"id": "never", "tools": ["refund"], "when": {"argument": "amount", "at_least": 10_000}, "verdict": "deny"},
    {
        "id": "finance",
        "tools": ["refund"],
        "when": {"argument": "amount", "at_least": 5_000},
        "verdict": "steer",
        "guidance": "Ask Finance.",
    },
    {
        "id": "two",
        "tools": ["refund"],
        "when": {"argument": "amount", "at_least": 1_000},
        "verdict": "ask",
        "approvers": ["chiefs"],
        "quorum": 2,
    },
    {"id": "others", "tools": ["send", "arefund", "rows", "arows", "keep"], "verdict": "ask"},
    {
        "id": "one",
        "tools": ["refund"],
        "when": {"not": {"argument": "amount", "at_most": 10}},
        "verdict": "ask",
        "approvers": ["ops"],
    },
    {"id": "small", "tools": ["*"], "verdict": "allow"},
]  # fmt: skip
POLICY: dict[str, Any] = {
    "version": 1,
    "name": "p",
    "rules": RULES,
    "budgets": [{"name": "run", "per": "session", "cost_usd": 30_000}],
}
RAN: list[Any] = []


@governed(resource="order", cost="amount", secrets=["card"])
def refund(order: str, amount: int | Decimal = 900, *, card: str = "4111", note: Any = None) -> str:
    """Pay money back."""
    RAN.append((order, amount, card, note))
    return f"{order}: {amount}"


@pytest.fixture
def database(either: str) -> str:
    """Run every test here on both databases."""
    return either


class Desk:
    """A session in which refunds are asked about, and the humans who answer."""

    def __init__(self, governor: Governor, session: Any) -> None:
        self.governor = governor
        self.session = session

    def asked(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Ticket:
        """Make a call that is asked about, and return its ticket."""
        with pytest.raises(ApprovalNeeded) as refused:
            call(*args, **kwargs)
        return refused.value.ticket

    def approve(self, ticket: Ticket, by: str = "ann", **more: Any) -> events.Recorded:
        """Say yes."""
        return self.governor.write(tickets.approve, ticket.id, by=by, **more)

    def ticket(self, ticket: Ticket) -> Ticket:
        """The ticket as it stands."""
        return self.governor.read(tickets.get, ticket.id)

    def decisions(self) -> list[events.CallDecided]:
        """What was decided, in order."""
        found = history(self.governor, self.session.id)
        return [one for one in found if isinstance(one, events.CallDecided)]

    def check(self) -> None:
        """Fail where the rows do not follow from the events, or a decision does not when it is made again."""
        assert [report.problem for report in self.governor.verify()] == [None]
        assert self.governor.replay(self.session.id).differing == ()
        assert self.governor.verify_books() == {}


@pytest.fixture
def desk(governor: Make) -> Iterator[Desk]:
    """A desk; afterwards its books are verified."""
    RAN.clear()
    made = governor(POLICY, clock=ManualClock())
    with made.session("case-7", agent="Bot", user="u-17", org="acme") as session:
        desk = Desk(made, session)
        yield desk
    desk.check()


@pytest.mark.promise(5)
def test_what_the_human_wrote_runs_once(desk: Desk) -> None:
    """Broken if the caller's own arguments run after an edit, the edited ones twice, or none."""
    ticket = desk.asked(refund, "o-1", 900, note={"a": [1]})
    desk.approve(ticket, arguments={"amount": 50, "note": {"a": [2]}}, comment="half")
    assert refund("o-1", 900, note={"a": [1]}) == "o-1: 50"
    assert RAN == [("o-1", 50, "4111", {"a": [2]})]
    assert desk.ticket(ticket).state is TicketState.CLAIMED
    again = desk.asked(refund, "o-1", 900, note={"a": [1]})
    assert again.id != ticket.id
    assert len(RAN) == 1


def test_an_edit_is_on_record(
    desk: Desk,
) -> None:
    """Broken if it cannot be told later what was asked, what was approved instead, by whom, and what ran."""
    ticket = desk.asked(refund, "o-1")
    desk.approve(ticket, arguments={"amount": 50}, comment="half")
    refund("o-1")
    found = desk.ticket(ticket)
    assert json.loads(found.arguments)["amount"] == 900
    assert json.loads(found.edited or "") == {**json.loads(found.arguments), "amount": 50}
    assert (found.edited_by, found.decided_by, found.comment) == ("ann", "ann", "half")
    resolved = [
        one
        for one in history(desk.governor, desk.session.id)
        if isinstance(one, events.TicketResolved)
    ]
    assert [(one.arguments, one.by) for one in resolved] == [(found.edited, "ann")]
    first, made, ran = desk.decisions()
    assert [one.admitted for one in (first, made, ran)] == [False, False, True]
    assert first.digest == made.digest == found.digest != ran.digest
    assert (ran.arguments, ran.ticket_id, ran.approved_by) == (found.edited, ticket.id, "ann")
    assert (made.edited_by, ran.edited_by, ran.cost_usd) == (None, "ann", 50)


def test_the_tool_and_the_host_see_the_edit(governor: Make) -> None:
    """Broken if a call that a human has changed looks to its tool like the one that was made."""
    seen: list[Any] = []

    @governed(name="send")
    def send(to: str, amount: int) -> None:
        call = current_call()
        seen.append(call and call.edit)

    made = governor(POLICY)
    with made.session("s", agent="bot") as session:
        desk = Desk(made, session)
        ticket = desk.asked(send, "ann", 90)
        desk.approve(ticket, by="ben", arguments={"to": "eve", "amount": 80}, comment="wrong one")
        send("ann", 90)
        desk.approve(desk.asked(send, "ann", 5))
        send("ann", 5)
    [edit, none] = seen
    assert none is None
    assert (edit.by, edit.comment, edit.changed) == ("ben", "wrong one", ("amount", "to"))
    assert edit.tickets == (ticket.id,)


@pytest.mark.promise(5)
@pytest.mark.parametrize(
    ("amount", "kind", "text"),
    [
        (10_000, Denied, "refund, of which ann has changed amount \\(more\\), is denied: .*never"),
        (5_000, Steered, "refund, of which ann has changed amount .* Ask Finance"),
        (1_000, ApprovalNeeded, "refund, of which ann has changed amount .* needs approval by chiefs"),
        (MAX_MONEY, Denied, "not an amount of money"),
    ],
)  # fmt: skip
def test_an_edit_is_judged_from_the_start(amount: int, kind: Any, text: str, desk: Desk) -> None:
    """Broken if a human's edit gets past a rule that was not asked about the call as it was made."""
    ticket = desk.asked(refund, "o-1")
    desk.approve(ticket, arguments={"amount": amount}, comment="more")
    for _ in range(2):
        with pytest.raises(kind, match=text):
            refund("o-1")
    assert (RAN, desk.ticket(ticket).state) == ([], TicketState.APPROVED)


@pytest.mark.promise(3, 5)
def test_an_edit_is_within_budgets_and_halts(governor: Make) -> None:
    """Broken if a human can spend what no budget has, or let a halted call run."""
    RAN.clear()
    budget = {"name": "run", "per": "session", "cost_usd": 950}
    made = governor({**POLICY, "budgets": [budget]})
    with made.session("s", agent="bot") as session:
        desk = Desk(made, session)
        ticket = desk.asked(refund, "o-1", 900)
        desk.approve(ticket, arguments={"amount": 951})
        with pytest.raises(BudgetExceeded, match="of which ann has changed amount"):
            refund("o-1", 900)
        other = desk.asked(refund, "o-2", 900)
        desk.approve(other, arguments={"amount": 950})
        halt = made.halt(tool="refund", reason="stop", by="ben").halt
        with pytest.raises(HaltedError):
            refund("o-2", 900)
        assert RAN == []
        assert halt is not None
        made.release(halt.id, reason="go", by="ben")
        assert refund("o-2", 900) == "o-2: 950"
        desk.check()


@pytest.mark.promise(5)
def test_an_edit_that_asks_others_waits_for_them(desk: Desk) -> None:
    """Broken if one person's edit takes the place of a quorum that the edited call needs, or is lost over it."""
    first = desk.asked(refund, "o-1")
    desk.approve(first, arguments={"amount": 1_500})
    second = desk.asked(refund, "o-1")
    assert (second.quorum, second.approvers) == (2, ("chiefs",))
    assert json.loads(second.arguments)["amount"] == 1_500
    assert desk.asked(refund, "o-1") == second
    desk.approve(second, by="cleo")
    desk.approve(second, by="dana")
    assert refund("o-1") == "o-1: 1500"
    assert {desk.ticket(one).state for one in (first, second)} == {TicketState.CLAIMED}
    ran = desk.decisions()[-1]
    assert (ran.ticket_id, ran.uses, ran.approved_by) == (second.id, (first.id,), "cleo, dana")
    assert desk.asked(refund, "o-1").id not in {first.id, second.id}


class Asking:
    """A plugin that asks for more where more is paid."""

    def __init__(self, more: dict[str, Any]) -> None:
        self.more = more

    @hookimpl
    def interlock_opinion(self, call: Any) -> Opinion:
        """Ask."""
        common: dict[str, Any] = {"approvers": ("ops",), "quorum": 1}
        fields = common | (self.more if call.arguments["amount"] > 1_000 else {})
        return Opinion(verdict=Verdict.ASK, reason="much", author="", **fields)


@pytest.mark.promise(5)
@pytest.mark.parametrize(
    "more", [{"quorum": 2}, {"approvers": ("chiefs",)}, {"approvers": ("ops", "chiefs")}, {}]
)
def test_an_edit_needs_the_yes_that_its_judges_want(more: dict[str, Any], governor: Make) -> None:
    """Broken if, of one who asks, a wish for more people or for others is lost when a human changes the call."""
    made = governor({"version": 1, "name": "p", "default": "allow"}, plugins=[Asking(more)])
    RAN.clear()
    with made.session("s", agent="bot") as session:
        desk = Desk(made, session)
        ticket = desk.asked(refund, "o-1", 900)
        desk.approve(ticket, arguments={"amount": 1_100})
        if more:
            assert desk.asked(refund, "o-1", 900).id != ticket.id
        else:
            assert refund("o-1", 900) == "o-1: 1100"
    assert len(RAN) == (not more)


@pytest.mark.promise(5)
def test_an_edit_into_another_rule_asks_anew(governor: Make) -> None:
    """Broken if a yes to what one rule asks passes for a yes to what another asks of the same people."""
    rules = [
        {"id": name, "tools": ["refund"], "verdict": "ask", "approvers": ["ops"]}
        for name in ("large", "any")
    ]
    rules[0]["when"] = {"argument": "amount", "at_least": 1_000}  # type: ignore[assignment]
    made = governor({**POLICY, "rules": rules})
    RAN.clear()
    with made.session("s", agent="bot") as session:
        desk = Desk(made, session)
        ticket = desk.asked(refund, "o-1", 900)
        desk.approve(ticket, arguments={"amount": 1_100})
        assert desk.asked(refund, "o-1", 900).asked == ("policy:p/large",)
    assert RAN == []


def test_an_edit_of_an_edit(desk: Desk) -> None:
    """Broken if those who are asked about an edited call cannot change it again, or both tickets are not used up."""
    first = desk.asked(refund, "o-1")
    desk.approve(first, arguments={"amount": 1_500})
    second = desk.asked(refund, "o-1")
    desk.approve(second, by="cleo", arguments={"amount": 1_200, "order": "o-2"})
    desk.approve(second, by="dana", arguments={"amount": 1_200, "order": "o-2"})
    assert refund("o-1") == "o-2: 1200"
    assert {desk.ticket(one).state for one in (first, second)} == {TicketState.CLAIMED}
    assert RAN == [("o-2", 1_200, "4111", None)]


def test_an_edit_that_needs_nobody_uses_the_ticket_up(desk: Desk) -> None:
    """Broken if an edited call that the policy allows by itself leaves a yes for a second one."""
    ticket = desk.asked(refund, "o-1")
    desk.approve(ticket, arguments={"amount": 10})
    assert refund("o-1") == "o-1: 10"
    assert desk.ticket(ticket).state is TicketState.CLAIMED
    assert desk.decisions()[-1].uses == (ticket.id,)
    assert desk.asked(refund, "o-1").id != ticket.id


class Objecting:
    """A plugin that objects to orders of one name."""

    @hookimpl
    def interlock_opinion(self, call: Any) -> Opinion | None:
        """Say what there is to say."""
        if call.arguments["order"] != "o-bad":
            return None
        return Opinion(verdict=Verdict.DENY, reason="blocked", author="")


@pytest.mark.promise(2, 5)
def test_an_edit_meets_plugins_and_evaluators(governor: Make) -> None:
    """Broken if what a human has written is shown to no plugin, or to no evaluator."""
    RAN.clear()
    words = {"use": "list", "tools": ["refund"], "with": {"argument": "order", "block": ["o-9"]}}
    made = governor({**POLICY, "evaluators": [words]}, plugins=[Objecting()])
    with made.session("s", agent="bot") as session:
        desk = Desk(made, session)
        for number, order in enumerate(["o-9", "o-bad"]):
            desk.approve(desk.asked(refund, "o-1", 100 + number), arguments={"order": order})
            with pytest.raises(Denied):
                refund("o-1", 100 + number)
    assert RAN == []


BAD: dict[str, tuple[Any, str]] = {
    "unknown": ({"amonut": 5}, "there is no argument 'amonut'; it has: amount, card, note, order"),
    "secret": ({"card": "4112"}, "argument 'card' is a secret"),
    "object": ({"note": object()}, "argument 'note' cannot be changed"),
    "record": ({"note": Tool(name="x")}, "argument 'note' cannot be changed"),
    "large": ({"note": "x" * MAX_BYTES}, "larger than"),
    "deep": ({"note": json.loads("[" * 100 + "]" * 100)}, "nested deeper"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_senseless_edit_is_refused(name: str, desk: Desk) -> None:
    """Broken if an edit is approved that could never run, shows a secret, or is without bounds."""
    arguments, text = BAD[name]
    ticket = desk.asked(refund, "o-1")
    with pytest.raises(Conflict, match=text):
        desk.approve(ticket, arguments=arguments)
    assert desk.ticket(ticket) == ticket


@pytest.mark.promise(5)
@pytest.mark.parametrize("by", ["Bot", "u-17", "bot", " Bot "])
def test_the_requester_cannot_edit(by: str, desk: Desk) -> None:
    """Broken if the agent that asks can approve its own call by changing it."""
    ticket = desk.asked(refund, "o-1")
    with pytest.raises(Conflict, match="cannot approve it"):
        desk.approve(ticket, by=by, arguments={"amount": 1})
    assert desk.ticket(ticket) == ticket


MISFITS: dict[str, tuple[Any, str]] = {
    "text": ("fifty", "is not what the tool takes"),
    "float": (50.5, "is not what the tool takes"),
    "list": ([50], "is not what the tool takes"),
    "nothing": (None, "is not what the tool takes"),
    "yes": (True, "is not what the tool takes"),
}


@pytest.mark.parametrize("name", MISFITS)
def test_what_the_tool_does_not_take_does_not_run(name: str, governor: Make) -> None:
    """Broken if a tool is given what its parameters do not take, because a human wrote it."""
    ran: list[Any] = []

    @governed(name="keep")
    def keep(count: int) -> None:
        ran.append(count)

    value, text = MISFITS[name]
    made = governor(POLICY)
    with made.session("s", agent="bot") as session:
        desk = Desk(made, session)
        ticket = desk.asked(keep, 1)
        desk.approve(ticket, arguments={"count": value})
        with pytest.raises(Denied, match=text):
            keep(1)
        assert (ran, desk.ticket(ticket).state) == ([], TicketState.APPROVED)
        second = desk.asked(keep, 2)
        desk.approve(second, arguments={"count": 3})
        keep(2)
        assert ran == [3]


def test_every_place_of_an_argument_can_be_changed(governor: Make) -> None:
    """Broken if an edited argument does not arrive, wherever the caller had put it, or a default runs instead."""
    ran: list[Any] = []

    @governed(name="keep")
    def keep(a: Any, /, b: Any, *rest: Any, c: Any = 3, d: Any = 4, **others: Any) -> None:
        ran.append((a, b, rest, c, d, others))

    made = governor(POLICY)
    with made.session("s", agent="bot") as session:
        desk = Desk(made, session)
        changes: list[tuple[dict[str, Any], Any]] = [
            ({"a": 9}, (9, 2, (5, 6), 7, 4, {"e": 8})),
            ({"b": 9}, (1, 9, (5, 6), 7, 4, {"e": 8})),
            ({"rest": (6,)}, (1, 2, (6,), 7, 4, {"e": 8})),
            ({"c": 9}, (1, 2, (5, 6), 9, 4, {"e": 8})),
            ({"d": 9}, (1, 2, (5, 6), 7, 9, {"e": 8})),
            ({"others": {"f": 9}}, (1, 2, (5, 6), 7, 4, {"f": 9})),
        ]
        for change, expected in changes:
            desk.approve(desk.asked(keep, 1, 2, 5, 6, c=7, e=8), arguments=change)
            keep(1, 2, 5, 6, c=7, e=8)
            assert expected == ran[-1]
        bad: list[dict[str, Any]] = [{"rest": [6]}, {"others": {"c": 1}}, {"others": {1: 1}}]
        for number, change in enumerate(bad):
            desk.approve(desk.asked(keep, 1, number, e=1), arguments=change)
            with pytest.raises(Denied, match="cannot be run"):
                keep(1, number, e=1)
    assert len(ran) == len(changes)


class Shop:
    """Something with methods."""

    def __init__(self) -> None:
        self.ran: list[Any] = []

    @governed(name="keep")
    def keep(self, count: int) -> int:
        """Be a method."""
        self.ran.append(count)
        return count

    @governed(name="rows")
    def rows(self, count: int) -> Iterator[int]:
        """Be a stream."""
        yield from range(count)


async def test_every_kind_of_function_can_be_changed(governor: Make) -> None:
    """Broken if a coroutine, a stream or a method runs with the caller's arguments after an edit."""
    shop = Shop()

    @governed
    async def arefund(order: str) -> str:
        return order

    @governed
    async def arows(count: int) -> Any:
        for number in range(count):
            yield number

    made = governor(POLICY)
    async with made.session("s", agent="bot") as session:
        desk = Desk(made, session)
        desk.approve(desk.asked(shop.keep, 3), arguments={"count": 2})
        assert shop.keep(3) == 2
        desk.approve(desk.asked(lambda: list(shop.rows(3))), arguments={"count": 2})
        assert list(shop.rows(3)) == [0, 1]
        with pytest.raises(ApprovalNeeded) as asked:
            await arefund("o-1")
        desk.approve(asked.value.ticket, arguments={"order": "o-2"})
        assert await arefund("o-1") == "o-2"
        with pytest.raises(ApprovalNeeded) as asked:
            [one async for one in arows(3)]
        desk.approve(asked.value.ticket, arguments={"count": 1})
        assert [one async for one in arows(3)] == [0]
        tool = Tool(name="send")
        with pytest.raises(ApprovalNeeded) as asked:
            session.call(tool, {"to": "x"}, lambda given: given["to"])
        desk.approve(asked.value.ticket, arguments={"to": "y"})
        assert session.call(tool, {"to": "x"}, lambda given: given["to"]) == "y"


def test_a_block_cannot_be_given_other_arguments(governor: Make) -> None:
    """Broken if a model call made in a block goes on with its own arguments after a human changed them."""
    rules = [{"id": "chat", "tools": ["chat"], "verdict": "ask"}]
    made = governor({**POLICY, "budgets": [], "rules": rules})
    with made.session("s", agent="bot") as session:
        desk = Desk(made, session)
        ticket = desk.asked(lambda: session.model_call(model="m-1").__enter__())
        desk.approve(ticket, arguments={"model": "m-2"})
        with pytest.raises(Denied, match="cannot be given other arguments"):
            session.model_call(model="m-1").__enter__()


@pytest.mark.promise(5)
def test_what_is_left_alone_stays_the_callers(desk: Desk) -> None:
    """Broken if an edit loses a secret, or an object, that it does not touch."""
    thing = object()
    ticket = desk.asked(refund, "o-1", card="4242-secret", note=thing)
    assert "4242" not in ticket.arguments
    desk.approve(ticket, arguments={"amount": 50})
    refund("o-1", card="4242-secret", note=thing)
    assert [("o-1", 50, "4242-secret", thing)] == RAN
    assert "4242" not in str([one.arguments for one in desk.decisions()])


@pytest.mark.promise(5)
def test_an_edit_is_for_that_very_call(desk: Desk) -> None:
    """Broken if another call than the one that was asked about runs with the edited arguments."""
    desk.approve(desk.asked(refund, "o-1", card="4242"), arguments={"amount": 50})
    assert json.loads(desk.asked(refund, "o-1", card="4243").arguments)["amount"] == 900
    assert json.loads(desk.asked(refund, "o-1", 901, card="4242").arguments)["amount"] == 901
    assert RAN == []


def test_no_change_is_a_plain_yes(desk: Desk) -> None:
    """Broken if a yes with the very arguments of the call, or with none changed, passes for an edit."""
    for arguments in ({}, {"amount": 900}, {"order": "o-1", "amount": 900}):
        ticket = desk.asked(refund, "o-1")
        desk.approve(ticket, arguments=arguments)
        assert desk.ticket(ticket).edited is None
        assert refund("o-1") == "o-1: 900"
    assert desk.decisions()[-1].edited_by is None


@pytest.mark.promise(5)
@pytest.mark.parametrize("like", [True, 900.0, "900", Decimal(900), [900]], ids=repr)
def test_types_are_told_apart(like: Any, desk: Desk) -> None:
    """Broken if a value that equals another to Python is taken for no change."""
    equal = 1 if like is True else 900
    ticket = desk.asked(refund, "o-1", 900, note=equal)
    desk.approve(ticket, arguments={"note": like})
    assert desk.ticket(ticket).edited is not None
    refund("o-1", 900, note=equal)
    assert (type(like), like) == (type(RAN[-1][3]), RAN[-1][3])


@pytest.mark.promise(5)
def test_a_quorum_agrees_on_the_same_arguments(desk: Desk) -> None:
    """Broken if yeses to different arguments add up, or somebody approves what they have not read."""
    ticket = desk.asked(refund, "o-1", 1_100)
    desk.approve(ticket, by="ann")
    desk.approve(ticket, by="ben", arguments={"amount": 1_050})
    assert [one.by for one in desk.ticket(ticket).approvals] == ["ben"]
    with pytest.raises(Conflict, match="ben has changed the arguments"):
        desk.approve(ticket, by="ann")
    with pytest.raises(Conflict, match="ben has approved"):
        desk.approve(ticket, by="ben", arguments={"amount": 1_050})
    desk.approve(ticket, by="cleo", arguments={"amount": 1_060})
    assert [one.by for one in desk.ticket(ticket).approvals] == ["cleo"]
    assert desk.ticket(ticket).state is TicketState.PENDING
    desk.approve(ticket, by="ann", arguments={"amount": 1_060})
    assert desk.ticket(ticket).decided_by == "cleo, ann"
    assert refund("o-1", 1_100) == "o-1: 1060"


def test_a_quorum_can_go_back(desk: Desk) -> None:
    """Broken if what somebody has changed cannot be undone by those who are asked."""
    ticket = desk.asked(refund, "o-1", 1_100)
    desk.approve(ticket, by="ben", arguments={"amount": 1_050})
    desk.approve(ticket, by="ann", arguments={})
    found = desk.ticket(ticket)
    assert (found.edited, found.edited_by) == (None, None)
    desk.approve(ticket, by="cleo")
    assert refund("o-1", 1_100) == "o-1: 1100"


def test_a_changed_pending_ticket_can_be_denied(desk: Desk) -> None:
    """Broken if an edit that waits for a second yes keeps the others from saying no."""
    ticket = desk.asked(refund, "o-1", 1_100)
    desk.approve(ticket, by="ben", arguments={"amount": 1_050})
    desk.governor.write(tickets.deny, ticket.id, by="ann", comment="no")
    with pytest.raises(Denied, match="ann said no: no"):
        refund("o-1", 1_100)


@pytest.mark.promise(5)
def test_a_no_to_that_very_call_stands(desk: Desk) -> None:
    """Broken if a call that one person has denied runs because another has changed their call into it."""
    denied = desk.asked(refund, "o-1", 50)
    desk.governor.write(tickets.deny, denied.id, by="ben", comment="not even this")
    ticket = desk.asked(refund, "o-1", 900)
    desk.approve(ticket, arguments={"amount": 50})
    with pytest.raises(Denied, match="ben said no: not even this"):
        refund("o-1", 900)
    assert RAN == []


def test_no_grant_with_an_edit(desk: Desk) -> None:
    """Broken if a grant is given for calls like one that was not made."""
    ticket = desk.asked(refund, "o-1")
    with pytest.raises(Conflict, match="a grant goes with a yes to the call as it was made"):
        desk.approve(ticket, arguments={"amount": 5}, grant=Grant(calls=3))
    assert desk.ticket(ticket) == ticket


async def test_a_waiting_call_runs_as_it_was_edited(governor: Make) -> None:
    """Broken if a call that waits for its answer runs as it was made, though somebody has changed it."""

    @governed
    async def arefund(order: str) -> str:
        return order

    def answer() -> None:
        while not (waiting := made.read(tickets.pending)):
            time.sleep(0.01)
        made.write(tickets.approve, waiting[0].id, by="ann", arguments={"order": "o-2"})

    made = governor(POLICY, on_ask=wait(timedelta(minutes=1)))
    async with made.session("s", agent="bot"):
        for _ in range(2):
            desk = threading.Thread(target=answer)
            desk.start()
            assert await arefund("o-1") == "o-2"
            desk.join()


def test_an_edit_expires(governor: Make) -> None:
    """Broken if an edited call runs at or after the time at which its ticket expires."""
    RAN.clear()
    clock = ManualClock()
    made = governor(POLICY, clock=clock)
    with made.session("s", agent="bot") as session:
        desk = Desk(made, session)
        ticket = desk.asked(refund, "o-1")
        desk.approve(ticket, arguments={"amount": 50})
        clock.advance(ticket.expires_at - clock.now())
        assert desk.asked(refund, "o-1").id != ticket.id
        assert desk.ticket(ticket).state is TicketState.EXPIRED
    assert RAN == []
