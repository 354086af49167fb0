"""Asking a human: the SDK's pause, Interlock's ticket, and that only the ticket counts."""

from __future__ import annotations

import json
from decimal import Decimal
from itertools import count
from typing import Any

import pytest
from agents import Runner, RunState, function_tool

from interlock.events import TicketOpened
from interlock_openai_agents import apply_answers, govern

ASK = [{"tools": ["pay"], "verdict": "ask", "approvers": ["payments-oncall"], "reason": "large"}]


@pytest.mark.promise(5)
async def test_approved_call_runs_once(desk: Any) -> None:
    """Broken if a paused call runs before the yes, not after it, or one yes is enough for two calls."""
    turn = [("pay", {"amount": 900})]
    agent = govern(desk.agent([desk.pay()], turn, turn))
    with desk.open("deny", ASK) as (governor, _):
        result = await Runner.run(agent, "go")
        assert ([item.name for item in result.interruptions], desk.paid) == (["pay"], [])
        state = result.to_state()
        (ticket,) = await apply_answers(state)
        governor.write(desk.approve, ticket.id, by="ann")
        assert (await apply_answers(state), desk.paid) == ([], [])
        result = await Runner.run(agent, state)
        assert desk.paid == [900]
        (second,) = await apply_answers(result.to_state())
    assert ticket.approvers == ("payments-oncall",)
    assert ticket.id != second.id
    assert desk.booked() == [("pay", "ask"), ("pay", "ask"), ("pay", "returned"), ("pay", "ask")]


@pytest.mark.promise(5)
async def test_denied_call_tells_the_model_what_the_human_said(desk: Any) -> None:
    """Broken if a no runs the call, stops the run, or keeps the human's words from the model."""
    turn = [("pay", {"amount": 900})]
    agent = govern(desk.agent([desk.pay()], turn, turn))
    with desk.open("deny", ASK) as (governor, _):
        result = await Runner.run(agent, "go")
        state = result.to_state()
        (ticket,) = await apply_answers(state)
        governor.write(desk.deny, ticket.id, by="ann", comment="not this customer")
        assert await apply_answers(state) == []
        text = state.to_string()
        result = await Runner.run(agent, state)
    no = "pay is denied: ann said no: not this customer. Do not retry it."
    # The second time the SDK does not pause: the answer is known, and it is Interlock's own.
    assert (desk.told(result), desk.paid, result.final_output) == ([no, no], [], "done")
    # The SDK was told no, too: an ungoverned agent that goes on with the run does not make the call either.
    ungoverned = desk.agent([desk.pay()])
    result = await Runner.run(ungoverned, await RunState.from_string(ungoverned, text))
    assert (desk.told(result), desk.paid) == ([no], [])


@pytest.mark.promise(5)
@pytest.mark.parametrize("always", [False, True])
async def test_approval_without_a_ticket_runs_nothing(desk: Any, always: bool) -> None:
    """Broken if whoever holds the state of a run can approve its calls."""
    turn = [("pay", {"amount": 900})]
    agent = govern(desk.agent([desk.pay()], turn))
    with desk.open("deny", ASK):
        state = (await Runner.run(agent, "go")).to_state()
        for item in state.get_interruptions():
            state.approve(item, always_approve=always)
        result = await Runner.run(agent, state)
    assert desk.paid == []
    assert "pay needs approval by payments-oncall: large. It did not run" in desk.told(result)[0]


@pytest.mark.promise(5)
async def test_yes_is_for_the_very_call(desk: Any) -> None:
    """Broken if a yes for one call lets another one run that the SDK knows by the same id."""
    with desk.open("deny", ASK) as (governor, _):
        agents, states, asked = [], [], []
        for amount in (900, 901):
            turn = [("pay", {"amount": amount})]
            agents.append(govern(desk.agent([desk.pay()], turn, numbers=count(1))))
            states.append((await Runner.run(agents[-1], "go")).to_state())
            asked += await apply_answers(states[-1])
        governor.write(desk.approve, asked[0].id, by="ann")
        ids = {item.call_id for state in states for item in state.get_interruptions()}
        for item in states[1].get_interruptions():
            states[1].approve(item)
        result = await Runner.run(agents[1], states[1])
    assert [ticket.arguments for ticket in asked] == ['{"amount":900}', '{"amount":901}']
    assert (ids, desk.paid) == ({"call-1"}, [])
    assert "pay needs approval" in desk.told(result)[0]


async def test_what_waits_waits_and_the_rest_goes_on(desk: Any) -> None:
    """Broken if one unanswered call holds up the others of its turn, or is forgotten over them."""
    turn = [("pay", {"amount": 1}), ("pay", {"amount": 900}), ("pay", {"amount": 901})]
    agent = govern(desk.agent([desk.pay()], turn))
    small = {"tools": ["pay"], "when": {"argument": "amount", "at_most": 50}, "verdict": "allow"}
    with desk.open("deny", [small, *ASK]) as (governor, _):
        result = await Runner.run(agent, "go")
        assert desk.paid == [1]
        state = result.to_state()
        first, second = await apply_answers(state)
        governor.write(desk.approve, first.id, by="ann")
        assert [ticket.id for ticket in await apply_answers(state)] == [second.id]
        result = await Runner.run(agent, state)
        assert (desk.paid, len(result.interruptions)) == ([1, 900], 1)
        governor.write(desk.approve, second.id, by="ann")
        state = result.to_state()
        assert await apply_answers(state) == []
        result = await Runner.run(agent, state)
    assert (desk.paid, result.final_output) == ([1, 900, 901], "done")
    opened = [event for event in desk.recorder.events if isinstance(event, TicketOpened)]
    assert len(opened) == 2


def _asks(answer: bool) -> Any:
    async def asks(_context: Any, sent: dict[str, Any], call_id: str) -> bool:
        assert (sent, call_id[:5]) == ({"amount": 5}, "call-")
        return answer

    return asks


@pytest.mark.parametrize("verdict", ["allow", "ask"])
@pytest.mark.parametrize(
    ("own", "pauses"),
    [(True, True), (False, False), (_asks(answer=True), True), (_asks(answer=False), False)],
    ids=["always", "never", "says-yes", "says-no"],
)
async def test_approval_of_the_tool_itself_is_still_asked_for(
    desk: Any, verdict: str, own: Any, pauses: bool
) -> None:
    """Broken if Interlock's yes stands for the one that a tool asks of its host, or takes it away."""
    tool = desk.pay(needs_approval=own)
    plain = await Runner.run(desk.agent([tool], [("pay", {"amount": 5})]), "go")
    desk.paid.clear()
    agent = govern(desk.agent([tool], [("pay", {"amount": 5})]))
    with desk.open(verdict) as (governor, _):
        result = await Runner.run(agent, "go")
        paused, by_ticket, by_host = bool(result.interruptions), 0, 0
        while result.interruptions:
            state = result.to_state()
            for ticket in await apply_answers(state):
                governor.write(desk.approve, ticket.id, by="ann")
                by_ticket += 1
            assert await apply_answers(state) == []
            result = await Runner.run(agent, state)
            if result.interruptions:  # all of Interlock's are answered: these are the host's
                state = result.to_state()
                for item in state.get_interruptions():
                    state.approve(item)
                    by_host += 1
                result = await Runner.run(agent, state)
    asked = verdict == "ask"
    assert (bool(plain.interruptions), paused, by_ticket) == (pauses, pauses or asked, asked)
    # Where the tool may ask for itself, only the host says yes in the SDK.
    assert by_host == (pauses or (asked and own is not False))
    assert (desk.paid, result.final_output) == ([5], "done")


async def test_tool_whose_arguments_change_is_asked_about_as_ever(desk: Any) -> None:
    """Broken if the SDK's caution before a callable `needs_approval` is lost: it does not ask it about such calls."""
    asked: list[Any] = []

    async def never(_context: Any, sent: dict[str, Any], _call_id: str) -> bool:
        asked.append(sent)
        return False

    @function_tool(needs_approval=never)
    def pay(amount: Decimal) -> str:
        """Pay."""
        return f"paid {amount}"

    for agent in (
        desk.agent([pay], [("pay", {"amount": 5})]),
        govern(desk.agent([pay], [("pay", {"amount": 5})])),
    ):
        with desk.open("allow"):
            result = await Runner.run(agent, "go")
        assert ([item.name for item in result.interruptions], asked) == (["pay"], [])


async def test_interruptions_of_others_are_left_alone(desk: Any) -> None:
    """Broken if what Interlock does not govern is approved or rejected by it."""
    agent = desk.agent([desk.pay(needs_approval=True)], [("pay", {"amount": 5})])
    with desk.open("allow"):
        state = (await Runner.run(agent, "go")).to_state()
        before = json.loads(state.to_string())
        assert await apply_answers(state) == []
        assert json.loads(state.to_string()) == before
    assert agent.model.remaining_steps == 1


@pytest.mark.promise(5)
async def test_an_edited_call_runs_as_the_human_wrote_it_and_says_so(desk: Any) -> None:
    """Broken if a call that a human has changed runs as the model made it, or the model is not told what has run."""
    turn = [("pay", {"amount": 900})]
    agent = govern(desk.agent([desk.pay()], turn))
    with desk.open("deny", ASK) as (governor, _):
        state = (await Runner.run(agent, "go")).to_state()
        (ticket,) = await apply_answers(state)
        governor.write(desk.approve, ticket.id, by="ann", arguments={"amount": 50}, comment="half")
        assert await apply_answers(state) == []
        result = await Runner.run(agent, state)
    note = 'Note: ann has changed this call before it ran (half): {"amount":50}'
    assert (desk.told(result), desk.paid) == ([f"paid 50\n\n{note}"], [50])


@pytest.mark.promise(5)
async def test_an_edited_call_that_is_refused_tells_the_model_who_changed_it(desk: Any) -> None:
    """Broken if a human's change gets past the policy, or the model takes the refusal for one of its own call."""
    never = {
        "tools": ["pay"],
        "when": {"argument": "amount", "at_least": 5_000},
        "verdict": "deny",
        "reason": "never so much",
    }
    agent = govern(desk.agent([desk.pay()], [("pay", {"amount": 900})]))
    with desk.open("deny", [never, *ASK]) as (governor, _):
        state = (await Runner.run(agent, "go")).to_state()
        (ticket,) = await apply_answers(state)
        governor.write(desk.approve, ticket.id, by="ann", arguments={"amount": 5_000})
        await apply_answers(state)
        result = await Runner.run(agent, state)
    told = "pay, of which ann has changed amount, is denied: never so much. Do not retry it."
    assert (desk.told(result), desk.paid) == ([told], [])


@pytest.mark.promise(5)
async def test_a_yes_is_for_the_schema_that_the_tool_had(desk: Any) -> None:
    """Broken if a tool that takes other arguments by now runs on a yes that was given before."""

    def pay(kind: type) -> Any:
        async def pay(amount: Any) -> str:
            desk.paid.append(amount)
            return "paid"

        pay.__annotations__ = {"amount": kind, "return": str}
        return function_tool(pay)

    turn = [("pay", {"amount": 900})]
    with desk.open("deny", ASK) as (governor, _):
        state = (await Runner.run(govern(desk.agent([pay(int)], turn)), "go")).to_state()
        (ticket,) = await apply_answers(state)
        governor.write(desk.approve, ticket.id, by="ann")
        again = govern(desk.agent([pay(float)], turn))
        (other,) = await apply_answers((await Runner.run(again, "go")).to_state())
    assert (desk.paid, other.id == ticket.id) == ([], False)
