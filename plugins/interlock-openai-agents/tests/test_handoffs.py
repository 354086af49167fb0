"""Handoffs: each is a call of its own, which can be refused like any other."""

from __future__ import annotations

from typing import Any

import pytest
from agents import Runner, handoff
from agents.testing import assistant_message
from pydantic import BaseModel

from interlock import Denied, governed
from interlock.events import CallDecided
from interlock_openai_agents import govern


class Note(BaseModel):
    """What goes with a handoff."""

    why: str


def _two(desk: Any, given: Any = None, **options: Any) -> Any:
    till = desk.agent([desk.pay()], [("pay", {"amount": 5})], name="till")
    front = desk.agent([], [("transfer_to_till", given or {})], name="front")
    front.handoffs = [handoff(till, **options) if options else till]
    return front


@pytest.mark.parametrize("streamed", [False, True])
async def test_allowed_handoff_is_recorded_and_made(desk: Any, streamed: bool) -> None:
    """Broken if a handoff is not judged, not recorded, or does not lead where it should."""
    agent = govern(_two(desk))
    with desk.open("deny", [{"tools": ["transfer_*", "pay"], "verdict": "allow"}]):
        if streamed:
            result: Any = Runner.run_streamed(agent, "go")
            async for _ in result.stream_events():
                pass
        else:
            result = await Runner.run(agent, "go")
    assert (result.last_agent.name, desk.paid) == ("till", [5])
    assert desk.booked()[:2] == [("transfer_to_till", "allow"), ("transfer_to_till", "returned")]
    decided = [one for one in desk.recorder.events if isinstance(one, CallDecided)]
    (found,) = [one for one in decided if one.tool == "transfer_to_till"]
    assert (found.tool_kind, found.arguments) == ("handoff", '{"input":{},"to":"till"}')


@pytest.mark.promise(1)
async def test_refused_handoff_stays_where_it_is_and_the_model_is_told(desk: Any) -> None:
    """Broken if a refused handoff is made, ends the run, or runs the host's callback of it."""
    called: list[str] = []
    front = _two(desk, on_handoff=lambda _: called.append("called"))
    rules = [{"tools": ["transfer_to_till"], "verdict": "deny", "reason": "the till is closed"}]
    with desk.open("allow", rules):
        result = await Runner.run(govern(front), "go")
    told = [one.raw_item["output"] for one in result.new_items if one.type == "handoff_output_item"]
    assert told == ["transfer_to_till is denied: the till is closed. Do not retry it."]
    assert (result.last_agent.name, result.final_output) == ("front", "done")
    assert (called, desk.paid, desk.booked()) == ([], [], [("transfer_to_till", "deny")])


@pytest.mark.promise(5)
async def test_handoff_that_was_asked_about_is_made_once_a_human_has_said_yes(desk: Any) -> None:
    """Broken if a handoff cannot be approved: the model makes it again after the yes."""
    front = _two(desk)
    with desk.open("allow", [{"tools": ["transfer_to_till"], "verdict": "ask"}]) as (governor, _):
        agent = govern(front)
        result = await Runner.run(agent, "go")
        assert (result.last_agent.name, desk.paid) == ("front", [])
        (opened,) = [
            one for one in desk.recorder.events if one.__class__.__name__ == "TicketOpened"
        ]
        governor.write(desk.approve, opened.ticket_id, by="ann")
        again = _two(desk)
        result = await Runner.run(govern(again), "go")
    assert (result.last_agent.name, desk.paid) == ("till", [5])


async def test_what_goes_with_a_handoff_is_judged(desk: Any) -> None:
    """Broken if a policy cannot see what the model sends along, or the host's callback does not get it."""
    seen: list[Any] = []

    def takes(_: Any, note: Note) -> None:
        seen.append(note.why)

    front = _two(desk, {"why": "refund"}, on_handoff=takes, input_type=Note)
    rule = {
        "tools": ["transfer_to_till"],
        "when": {
            "all": [
                {"argument": "to", "equals": "till"},
                {"argument": "input.why", "equals": "refund"},
            ]
        },
        "verdict": "allow",
    }
    with desk.open("deny", [rule, {"tools": ["pay"], "verdict": "allow"}]):
        result = await Runner.run(govern(front), "go")
    assert (result.last_agent.name, seen) == ("till", ["refund"])


async def test_exception_of_a_handoff_is_its_own(desk: Any) -> None:
    """Broken if governing a handoff changes what its failure does to a run."""

    def fails(_: Any) -> None:
        raise OSError("line is dead")

    front = _two(desk, on_handoff=fails)
    with pytest.raises(OSError, match="line is dead"):
        await Runner.run(front, "go")
    front = _two(desk, on_handoff=fails)
    with desk.open("allow"), pytest.raises(OSError, match="line is dead"):
        await Runner.run(govern(front), "go")
    expected = [("transfer_to_till", "allow"), ("transfer_to_till", "raised", "OSError")]
    assert desk.booked() == expected


async def test_refusal_inside_of_a_handoff_is_not_its_own(desk: Any) -> None:
    """Broken if what the host's callback is refused is told to the model as a refusal of the handoff, which went on."""

    @governed
    def wire() -> None:
        raise AssertionError

    front = _two(desk, on_handoff=lambda _: wire())
    rules = [{"tools": ["wire"], "verdict": "deny", "reason": "no wires"}]
    with desk.open("allow", rules), pytest.raises(Denied, match="no wires"):
        await Runner.run(govern(front), "go")
    assert desk.booked()[1:] == [("wire", "deny"), ("transfer_to_till", "raised", "Denied")]


async def test_refused_handoff_of_a_clone_stays_with_the_clone(desk: Any) -> None:
    """Broken if a refusal throws a run back to the agent that its own was cloned from."""
    clone = govern(_two(desk)).clone(name="copy")
    rules = [{"tools": ["transfer_to_till"], "verdict": "deny"}]
    clone.model.enqueue([assistant_message("done")])
    with desk.open("allow", rules):
        result = await Runner.run(clone, "go")
    assert result.last_agent.name == "copy"
