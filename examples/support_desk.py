"""
A support agent works a case: what it may do runs, what it may not do is refused, and a human is asked in between.

The agent, its runner and its tools are the real OpenAI Agents SDK. Only the model is scripted, so no key and no
network are needed. Run it with `make demo`, or `python examples/support_desk.py [--db URL]`.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

from agents import Agent, Runner, function_tool, set_tracing_disabled
from agents.testing import ScriptedModel, assistant_message, function_call
from rich.console import Console
from rich.table import Table
from rich.text import Text

from interlock import Governor, Verdict, governed, hookimpl
from interlock.events import CallDecided, CallFinished, Outcome, Recorded, TicketOpened
from interlock_openai_agents import apply_answers, govern

CASE = "ticket-4711"
POLICY = Path(__file__).with_suffix(".yaml")
INTERLOCK = Path(sys.executable).with_name("interlock")
LOOKS = {
    Verdict.ALLOW: ("✔ allow", "green"),
    Verdict.ASK: ("? ask", "yellow"),
    Verdict.STEER: ("↪ steer", "magenta"),
    Verdict.DENY: ("✘ deny", "red"),
}

console = Console(highlight=False)


@function_tool
@governed(risk="low")
def find_order(order_id: str) -> str:
    """Look up an order."""
    return f"{order_id}: two lamps, 530 dollars, one arrived broken"


@function_tool
@governed(risk="low")
def find_customer(customer_id: str) -> str:
    """Look up a customer."""
    return f"{customer_id}: customer since 2019"


@function_tool
@governed(resource="order_id", cost="amount")
def refund(order_id: str, amount: int) -> str:
    """Pay back part of an order, in dollars."""
    return f"{amount} dollars of {order_id} paid back"


@function_tool
@governed(cost="amount", risk="critical")
def wire_transfer(account: str, amount: int) -> str:
    """Wire money."""
    return f"{amount} dollars wired to {account}"


@function_tool
@governed(risk="low")
def create_payment_request(payee: str, amount: int) -> str:
    """Ask Finance to pay somebody."""
    return f"request to pay {amount} dollars to {payee} filed"


@function_tool
@governed(risk="critical")
def delete_customer(customer_id: str) -> str:
    """Delete a customer and all their orders."""
    return f"{customer_id} deleted"


@function_tool
@governed
def send_receipt(order_id: str) -> str:
    """Mail the receipt."""
    raise ConnectionError(f"no mail server for {order_id}")


TOOLS = [
    find_order,
    find_customer,
    refund,
    wire_transfer,
    create_payment_request,
    delete_customer,
    send_receipt,
]
# What the model does, turn by turn. What it is told of each refusal decides nothing here; it would, of a real one.
SCRIPT: list[list[tuple[str, dict[str, object]]]] = [
    [("find_order", {"order_id": "A-1001"}), ("find_customer", {"customer_id": "c-17"})],
    [("refund", {"order_id": "A-1001", "amount": 20})],
    [("refund", {"order_id": "A-1001", "amount": 480})],
    [("wire_transfer", {"account": "DE02 1203 0000", "amount": 30})],
    [("create_payment_request", {"payee": "c-17", "amount": 30})],
    [("delete_customer", {"customer_id": "c-17"})],
    [("send_receipt", {"order_id": "A-1001"})],
]
ANSWER = "The refund is on its way, and Finance reviews the rest. The receipt will follow."


def support_agent() -> Agent[None]:
    """Return the agent, governed."""
    turns = [
        [function_call(name, given, call_id=f"call-{turn}-{name}") for name, given in calls]
        for turn, calls in enumerate(SCRIPT)
    ]
    model = ScriptedModel([*turns, [assistant_message(ANSWER)]])
    return govern(Agent(name="support-bot", tools=[*TOOLS], model=model))


class Timeline:
    """A plugin that prints each event once it is recorded; nothing else in this file prints a decision."""

    @hookimpl
    def interlock_recorded(self, recorded: Recorded) -> None:
        """Print one event."""
        match recorded.event:
            case CallDecided() as decided:
                word, style = ("✔ ask", "green") if decided.approved_by else LOOKS[decided.verdict]
                given = json.loads(decided.arguments).items()
                call = f"{decided.tool}({', '.join(f'{name}={value!r}' for name, value in given)})"
                at = Text(f"{recorded.at:%H:%M:%S}", style="dim")
                row(at, Text(word, style=f"bold {style}"), Text(call, style="bold"))
                if decided.approved_by:
                    detail(f"approved by {decided.approved_by}")
                elif decided.verdict is not Verdict.ALLOW:
                    detail(decided.reason)
                for opinion in decided.opinions:
                    if opinion.guidance:
                        detail(
                            f"the model is told: {opinion.guidance} Use {', '.join(opinion.suggestions)}."
                        )
            case TicketOpened() as ticket:
                detail(f"waits for {' or '.join(ticket.approvers)}")
            case CallFinished(outcome=Outcome.RETURNED) as finished:
                detail(f"{finished.tool} ran in {finished.duration_us / 1000:.1f} ms")
            case CallFinished() as finished:
                detail(
                    f"{finished.tool} ran and {finished.outcome} {finished.error_type or ''}", "red"
                )


def row(at: Text, verdict: Text, what: Text) -> None:
    """Print one line of the timeline."""
    line = Table.grid(padding=(0, 1))
    for width in (8, 8):
        line.add_column(width=width, no_wrap=True)
    line.add_column(overflow="fold")
    line.add_row(at, verdict, what)
    console.print(line)


def detail(what: str, style: str = "dim") -> None:
    """Print what belongs to the line above."""
    row(Text(), Text(), Text(f"↳ {what}", style=style))


async def work(db: str) -> None:
    """Work the case to its end, waiting for a human where one is asked."""
    agent = support_agent()
    result = await Runner.run(agent, "One of my lamps arrived broken, order A-1001.")
    while result.interruptions:
        state = result.to_state()
        for ticket in await apply_answers(state):
            # On call, and in a process of their own: this one only waits for the answer.
            human = [str(INTERLOCK), "approvals", "approve", ticket.id, "--by", "ann", "--db", db]
            console.print(
                f"\n[yellow]The run is paused.[/] In a second process:\n  [dim]{' '.join(shown(human))}[/]"
            )
            answer = await asyncio.to_thread(
                subprocess.run, human, check=True, capture_output=True, text=True
            )
            said = [
                line
                for line in answer.stdout.splitlines()
                if line.startswith(("state", "decided by"))
            ]
            console.print("\n".join(f"  {line.strip()}" for line in said), "\nThe run goes on.\n")
        await apply_answers(state)
        result = await Runner.run(agent, state)
    console.print(f"\n[bold]The agent:[/] {result.final_output}")


def summary(governor: Governor, session_id: str, db: str) -> None:
    """Print what the books say, and what to look at next."""
    [report] = [report for report in governor.verify() if report.session_id == session_id]
    state = report.state
    verdicts = [
        Text(f"{state.verdicts.get(verdict, 0)} {verdict}", style=LOOKS[verdict][1])
        for verdict in Verdict
    ]
    sound = report.problem or f"{state.head} events, gapless, chained, unchanged"
    facts = Table.grid(padding=(0, 2))
    facts.add_row("Decisions", Text("  ").join(verdicts))
    facts.add_row("Spent", f"{state.cost_usd} dollars")
    facts.add_row("History", Text(sound, style="red" if report.problem else "green"))
    facts.add_row("In doubt", f"{len(report.in_doubt)} calls")
    console.rule(style="dim")
    console.print(facts, "\nTry next:")
    books = ["--db", db]
    policy = ["policy", "check", os.path.relpath(POLICY)]
    for command in (["events", session_id, *books], ["verify", *books], policy):
        console.print(
            f"  {' '.join(shown([str(INTERLOCK), *command]))}",
            style="cyan",
            soft_wrap=True,
        )


def shown(command: list[str]) -> list[str]:
    """Return *command* as one would type it here."""
    return [os.path.relpath(command[0]), *command[1:]]


def main() -> None:
    """Work the case in a store of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--db", help="the store's URL; a fresh one in .interlock by default")
    db = parser.parse_args().db or fresh_store()
    set_tracing_disabled(disabled=True)  # the SDK's own traces would go to its makers
    with Governor(db, policy=POLICY, plugins=[Timeline()]) as governor:
        console.rule(f"[bold]{CASE}[/]: an agent works a case, Interlock decides", style="dim")
        with governor.session(CASE, agent="support-bot", user="u-17", org="acme") as session:
            asyncio.run(work(db))
        summary(governor, session.id, db)


def fresh_store() -> str:
    """Return the URL of an empty store, in place of the one that the last run left."""
    path = Path(".interlock/demo.db")
    path.parent.mkdir(exist_ok=True)
    for old in path.parent.glob(f"{path.name}*"):
        old.unlink()
    return f"sqlite:///{path}"


if __name__ == "__main__":
    main()
