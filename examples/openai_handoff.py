"""
Two agents of the OpenAI Agents SDK: one handoff is refused, one is made, and a run waits for a human as a file.

The process that began the run is gone when the human answers; another one goes on with it. Agents, runner and handoffs
are those of the SDK; only the models are scripted.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agents import Agent, Runner, RunResult, RunState, function_tool, set_tracing_disabled
from agents.testing import ScriptedModel, assistant_message, function_call

from interlock import Governor, governed
from interlock.store import tickets
from interlock_openai_agents import apply_answers, govern

POLICY = {
    "version": 1,
    "name": "desk",
    "rules": [
        {"id": "models", "tools": ["chat"], "verdict": "allow"},
        {"id": "billing", "tools": ["transfer_to_billing"], "verdict": "allow"},
        {
            "id": "legal",
            "tools": ["transfer_to_legal"],
            "verdict": "deny",
            "reason": "lawyers are called by people",
        },
        {"id": "refunds", "tools": ["refund"], "verdict": "ask", "approvers": ["payments-oncall"]},
    ],
}


@function_tool
@governed(resource="order_id", cost="amount")
def refund(order_id: str, amount: int) -> str:
    """Pay back, in dollars."""
    return f"{amount} dollars of {order_id} paid back"


def front_desk(*, gone_on: bool) -> Agent[None]:
    """Return the governed agent, and behind it the agents that it may hand over to."""

    def scripted(*turns: Sequence[Any]) -> ScriptedModel:
        return ScriptedModel(list(turns))

    asking = function_call("refund", {"order_id": "o-1", "amount": 900}, call_id="refund")
    done = [assistant_message("Your money is on its way.")]
    billing = Agent(
        name="billing", tools=[refund], model=scripted(done) if gone_on else scripted([asking])
    )
    legal = Agent(name="legal", model=scripted())
    wanted = ("transfer_to_legal", "transfer_to_billing")
    model = scripted(*([function_call(name, {}, call_id=name)] for name in wanted))
    return govern(Agent(name="front-desk", handoffs=[billing, legal], model=model))


def show(result: RunResult, kind: str) -> None:
    """Print what agents were told by handoffs or by tools, and who has the conversation."""
    for item in result.new_items:
        if item.type == kind:
            print(f"{item.agent.name}: {item.raw_item['output']}", flush=True)
    print(f"with {result.last_agent.name}: {result.final_output or 'waits'}", flush=True)


async def begin(url: str) -> str:
    """Run until a human is asked, and return the session and the run as text."""
    async with (
        Governor(url, policy=POLICY) as governor,
        governor.session("ticket-4711", agent="front-desk", user="u-17") as session,
    ):
        result = await Runner.run(front_desk(gone_on=False), "I want my 900 dollars back!")
        show(result, "handoff_output_item")
        state = result.to_state()
        [ticket] = await apply_answers(state)
        print(f"{ticket.tool} {ticket.arguments} waits for {ticket.approvers[0]}", flush=True)
        await session.apause()
        return f"{session.id}\n{state.to_string()}"


def answer(url: str) -> None:
    """Be the human, for whom `interlock approvals approve` does the same."""
    with Governor(url) as governor:
        [ticket] = governor.read(tickets.pending)
        governor.write(tickets.approve, ticket.id, by="ann", groups=["payments-oncall"])
        print("ann says yes", flush=True)


async def go_on(url: str, kept: str) -> None:
    """Take the run up where it waits; an approval written into its text would run nothing."""
    session_id, text = kept.split("\n", 1)
    async with (
        Governor(url, policy=POLICY) as governor,
        governor.resume_session(session_id),
    ):
        agent = front_desk(gone_on=True)
        state: Any = await RunState.from_string(agent, text)
        await apply_answers(state)
        show(await Runner.run(agent, state), "tool_call_output_item")


def main() -> None:
    """Run each step as a process of its own."""
    set_tracing_disabled(disabled=True)  # the SDK's own traces would go to its makers
    match sys.argv[1:]:
        case ["begin", url, file]:
            Path(file).write_text(asyncio.run(begin(url)), "utf-8")
        case ["go-on", url, file]:
            asyncio.run(go_on(url, Path(file).read_text("utf-8")))
        case _:
            with tempfile.TemporaryDirectory() as directory:
                url, file = f"sqlite:///{directory}/interlock.db", f"{directory}/run.txt"
                step(["begin", url, file])
                answer(url)
                step(["go-on", url, file])


def step(arguments: list[str]) -> None:
    """Do one step, and wait for its end."""
    subprocess.run([sys.executable, __file__, *arguments], check=True)  # noqa: S603 - this very file


if __name__ == "__main__":
    main()
