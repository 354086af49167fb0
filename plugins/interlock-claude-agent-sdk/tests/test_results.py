"""Results that evaluators review: what the model is given of them, and that it is given nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from claude_agent_sdk import HookMatcher
from pydantic import BaseModel

from interlock import Call, Opinion, Verdict
from interlock.evaluators import Redacted
from interlock_claude_agent_sdk import Script, Ungoverned, say, use

DONE = [say("done")]
SECRET = "4111-planted"


class Config(BaseModel):
    """What is done with a secret."""

    do: str = "withhold"


class Reviewer:
    """Does with a result that holds the secret what it is told to."""

    Config = Config
    stage = "after"

    def __init__(self, config: Config) -> None:
        """Remember what is to be done."""
        self.do = config.do

    async def review(self, call: Call, result: object) -> Opinion | Redacted | None:
        """Look for the secret."""
        if SECRET not in repr(result):
            return None
        if self.do == "withhold":
            return Opinion(verdict=Verdict.DENY, reason="a card number", author="me")
        if self.do == "replace":
            return Redacted(result="gone", reason="1 card number")
        return Redacted(result=masked(result, everything=self.do == "mask all"), reason="1 number")


def masked(value: Any, *, everything: bool) -> Any:
    """Return *value* with the secret masked in all texts; or with all texts masked."""
    if isinstance(value, Mapping):
        return {key: masked(part, everything=everything) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [masked(part, everything=everything) for part in value]
    if isinstance(value, str):
        return "****" if everything else value.replace(SECRET, "****")
    return value


def reviewed(desk: Any, do: str) -> Any:
    """Open a governor that allows everything, and reviews what comes of it."""
    reviewer = {"use": "cards", "with": {"do": do}, "tools": ["Bash", "Read", "Write", "bank.*"]}
    return desk.open(
        default="allow", policy={"evaluators": [reviewer]}, evaluators={"cards": Reviewer}
    )


def show(desk: Any, tool: str) -> dict[str, Any]:
    """Return a use of *tool* whose result has the secret in its second line."""
    (desk.work / "card").write_text(f"a card\nits number is {SECRET}\n", "utf-8")
    if tool == "Bash":
        return use("Bash", command="cat card", description="d")
    return use("Read", file_path=str(desk.work / "card"))


@pytest.mark.parametrize("tool", ["Bash", "Read"])
@pytest.mark.promise(9)
async def test_withheld(desk: Any, tool: str) -> None:
    """Broken if the model reads what is withheld, or is not told that the tool has run, or the books do not say so."""
    with reviewed(desk, "withhold"), Script([show(desk, tool)], DONE) as script:
        (told,) = await desk.run(script, tools=[tool])
    assert SECRET not in str(script.requests)
    assert f"{tool} ran and was booked, but its result is withheld: a card number" in told
    assert (tool, "returned") in desk.booked()


@pytest.mark.parametrize("tool", ["Bash", "Read"])
async def test_redacted(desk: Any, tool: str) -> None:
    """Broken if the model reads what a review has taken out, or not what it has left."""
    with reviewed(desk, "mask"), Script([show(desk, tool)], DONE) as script:
        (told,) = await desk.run(script, tools=[tool])
    assert SECRET not in str(script.requests)
    assert ("a card" in told, "its number is ****" in told) == (True, True)


async def test_of_a_tool_of_this_process(desk: Any) -> None:
    """Broken if the result of a server's tool is given to the model as it is."""
    desk.bank_says = f"the number is {SECRET}"
    with reviewed(desk, "mask"), Script([use("mcp__bank__pay", amount=5)], DONE) as script:
        (told,) = await desk.run(script, mcp_servers={"bank": desk.bank()})
    assert f"paid 5 {desk.bank_says.replace(SECRET, '****')}" == told
    assert SECRET not in str(script.requests)


async def test_another_shape(desk: Any) -> None:
    """Broken if what a review leaves, and the tool cannot have, has its own result given instead."""
    with reviewed(desk, "replace"), Script([show(desk, "Bash")], DONE) as script:
        (told,) = await desk.run(script)
    assert "Bash ran, and its review left no result that it can have. Do not run it again." in told
    assert SECRET not in str(script.requests)


async def test_what_is_not_taken_stops_the_run(desk: Any) -> None:
    """Broken if the model is asked on with a result that a review has changed and Claude Code has kept as it was."""
    with (
        reviewed(desk, "mask all"),
        Script([show(desk, "Read")], DONE) as script,
        pytest.raises(Ungoverned, match="Read takes no other result"),
    ):
        await desk.run(script, tools=["Read"])
    assert SECRET not in str(script.requests)
    assert len(script.requests) == 1


@pytest.mark.parametrize("do", ["mask", "withhold"])
async def test_the_hosts_hooks_see_what_is_left(desk: Any, do: str) -> None:
    """Broken if a host's hook is given what a review has taken out, or puts its own result in the place of that."""
    seen: list[Any] = []

    async def after(given: Any, _: Any, __: Any) -> Any:
        seen.append(given["tool_response"])
        own = {**given["tool_response"], "stdout": f"it was {SECRET}"}
        return {"hookSpecificOutput": {"hookEventName": "PostToolUse", "updatedToolOutput": own}}

    hooks = {"PostToolUse": [HookMatcher(matcher="Bash", hooks=[after])]}
    with reviewed(desk, do), Script([show(desk, "Bash")], DONE) as script:
        await desk.run(script, hooks=hooks)
    assert len(seen) == 1
    assert SECRET not in str(seen)
    assert SECRET not in str(script.requests)


async def test_the_hosts_hooks_change_what_nobody_reviews(desk: Any) -> None:
    """Broken if a host's own hook of results has no effect where no review has changed them."""

    async def after(given: Any, _: Any, __: Any) -> Any:
        own = {**given["tool_response"], "stdout": "as the host says"}
        return {"hookSpecificOutput": {"hookEventName": "PostToolUse", "updatedToolOutput": own}}

    hooks = {"PostToolUse": [HookMatcher(hooks=[after])]}
    with desk.open(default="allow"), Script([show(desk, "Bash")], DONE) as script:
        told = await desk.run(script, hooks=hooks)
    assert told == ["as the host says"]


async def test_of_an_answer(desk: Any) -> None:
    """Broken if what a review leaves of the model's answer is not what the host is given as the result."""
    reviewer = {"use": "cards", "with": {"do": "mask"}, "tools": ["chat"]}
    with (
        desk.open(policy={"evaluators": [reviewer]}, evaluators={"cards": Reviewer}),
        Script([say(f"it is {SECRET}")]) as script,
    ):
        await desk.run(script)
    assert desk.messages[-1].result == "it is ****"
