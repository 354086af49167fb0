"""Results that evaluators review: what the model reads of them, and that it reads nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from agents import Runner, function_tool
from pydantic import BaseModel

from interlock import Call, Opinion, Verdict
from interlock.evaluators import Redacted
from interlock_openai_agents import govern

SECRET = "4111-planted"


class Config(BaseModel):
    """Nothing to configure."""


class Reviewer:
    """Takes the secret out where it can, and withholds what has it elsewhere."""

    Config = Config
    stage = "after"

    def __init__(self, config: Config) -> None:
        """Begin."""

    async def review(self, call: Call, result: object) -> Opinion | Redacted | None:
        """Look for the secret."""
        if isinstance(result, str) and SECRET in result:
            return Redacted(result=result.replace(SECRET, "****"), reason="1 card number")
        if SECRET in repr(result):
            return Opinion(verdict=Verdict.DENY, reason="a card number", author="me")
        return None


class Card(BaseModel):
    """A result with a schema."""

    number: str


@pytest.fixture
def ran() -> list[str]:
    """What the tools have done."""
    return []


@pytest.fixture
def tools(ran: list[str]) -> list[Any]:
    """Tools that give the secret as text, as structured data with a schema, and not at all."""

    @function_tool
    async def text() -> str:
        """Text."""
        ran.append("text")
        return f"the card is {SECRET}"

    @function_tool
    def plain() -> str:
        """Text, by a sync tool."""
        ran.append("plain")
        return f"the card is {SECRET}"

    @function_tool
    def card() -> dict[str, str]:
        """Card."""
        ran.append("card")
        return {"number": SECRET}

    @function_tool(output_type=Card)
    def typed() -> Card:
        """Card, with a schema."""
        ran.append("typed")
        return Card(number=SECRET)

    @function_tool
    def fine() -> str:
        """Nothing to find."""
        ran.append("fine")
        return "fine"

    return [text, plain, card, typed, fine]


@pytest.mark.promise(1)
@pytest.mark.parametrize("streamed", [False, True])
async def test_the_model_reads_what_the_review_has_left(
    desk: Any, tools: list[Any], ran: list[str], streamed: bool
) -> None:
    """Broken if a result reaches the model unreviewed, or it is not told that the tool has run."""
    names = [tool.name for tool in tools]
    agent = govern(desk.agent(tools, *[[(name, {})] for name in names]))
    evaluators = [{"use": "cards", "tools": ["*"]}]
    policy = {"version": 1, "name": "test", "default": "allow", "evaluators": evaluators}
    with desk.open(policy=policy, evaluators={"cards": Reviewer}):
        if streamed:
            result: Any = Runner.run_streamed(agent, "go")
            async for _ in result.stream_events():
                pass
        else:
            result = await Runner.run(agent, "go")
    withheld = [
        f"{name} ran and was booked, but its result is withheld: a card number. Do not run it again."
        for name in ("card", "typed")
    ]
    redacted = ["the card is ****"] * 2
    assert [*redacted, *withheld, "fine"] == desk.told(result)
    assert (ran, result.final_output) == (names, "done")
    assert [what for what in desk.booked() if what[1] == "returned"] == [
        (name, "returned") for name in names
    ]
    assert SECRET not in json.dumps(result.to_input_list(), default=str)
    assert SECRET not in "".join(item.body for item in desk.recorder.recorded)
