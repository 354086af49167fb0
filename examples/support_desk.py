"""
A support agent works a case. What it may do runs, what it may not do is refused, and once a person is asked.

Agent, runner and tools are the real OpenAI Agents SDK; only the model is scripted, so this needs no network and no
key. Run it with `make demo`, or `python examples/support_desk.py [--db URL]`. The policy is in support_desk.yaml.
Where OTEL_EXPORTER_OTLP_ENDPOINT is set, the traces go there.
"""

import argparse
import asyncio
import json
import os
import re
import shlex
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

from agents import Agent, RunHooks, Runner, function_tool, set_tracing_disabled
from agents.testing import ModelCall, ModelStep, ScriptedModel, assistant_message, function_call
from opentelemetry import trace
from rich.console import Console
from rich.table import Table
from rich.text import Text

from interlock import Governor, Session, Verdict, governed, hookimpl
from interlock.events import CallDecided, CallFinished, Recorded, TicketResolved
from interlock.store.events import history
from interlock_openai_agents import apply_answers, govern

CASE = "Case 4711: the lamps of order A-1001 broke, and c-17 wants 530 dollars."
STORE = Path(".interlock/demo.db")
POLICY = Path(__file__).with_suffix(".yaml")
INTERLOCK = Path(sys.executable).with_name("interlock")
LOOKS = {
    Verdict.ALLOW: ("✔ allow", "green"),
    Verdict.ASK: ("? ask", "yellow"),
    Verdict.STEER: ("↪ steer", "magenta"),
    Verdict.DENY: ("✘ deny", "red"),
}
console = Console(highlight=False)
tracer = trace.get_tracer("support_desk")  # does nothing unless export_traces() finds where to
world: list[str] = []  # what the tools have really done


@function_tool
@governed(risk="low")
def find_order(order_id: str) -> str:
    """Look up an order."""
    return f"{order_id}: two lamps, 500 dollars"


@function_tool
@governed(risk="low")
def find_customer(customer_id: str) -> str:
    """Look up a customer."""
    return f"{customer_id}: customer since 2019"


@function_tool
@governed(resource="order_id", cost="amount")
def refund(order_id: str, amount: int) -> str:
    """Pay back part of an order, in dollars."""
    world.append(f"{amount} dollars of {order_id} paid back")
    return world[-1]


@function_tool
@governed(risk="critical", cost="amount")
def wire_money(account: str, amount: int) -> str:
    """Wire money."""
    world.append(f"{amount} dollars wired to {account}")
    return world[-1]


@function_tool
@governed
def create_payment_request(payee: str, amount: int) -> str:
    """Ask Finance to pay somebody."""
    world.append(f"Finance asked to pay {amount} dollars to {payee}")
    return world[-1]


@function_tool
@governed(risk="critical")
def delete_customer(customer_id: str) -> str:
    """Delete a customer and all their orders."""
    world.append(f"{customer_id} deleted")
    return world[-1]


@function_tool
@governed
def send_receipt(order_id: str) -> str:
    """Mail the receipt."""
    raise ConnectionError(f"no mail server for {order_id}")


def turn(*calls: tuple[str, dict[str, Any]]) -> list[Any]:
    """Return what a model says to make these calls at once."""
    return [function_call(name, given, call_id=f"{name} {given}") for name, given in calls]


def take_the_hint(call: ModelCall) -> list[Any]:
    """Return what a model says that reads its refusal: it calls the tool that it is pointed to."""
    [tool] = re.findall(r"Use instead: (\w+)", call.input[-1]["output"])
    return turn((tool, {"payee": "c-17", "amount": 30}))


def support_agent() -> Agent[None]:
    """Return the agent, governed."""
    steps = [
        turn(("find_order", {"order_id": "A-1001"}), ("find_customer", {"customer_id": "c-17"})),
        turn(("refund", {"order_id": "A-1001", "amount": 20})),
        turn(("refund", {"order_id": "A-1001", "amount": 480})),
        turn(("wire_money", {"account": "DE02", "amount": 30})),
        ModelStep.respond(take_the_hint),
        turn(("delete_customer", {"customer_id": "c-17"})),
        turn(("send_receipt", {"order_id": "A-1001"})),
        [assistant_message("All is paid or asked for. The receipt could not be sent.")],
    ]
    tools = [find_order, find_customer, refund, wire_money, create_payment_request, delete_customer]
    model = ScriptedModel(steps)
    return govern(Agent(name="support-bot", tools=[*tools, send_receipt], model=model))


class Pace(RunHooks[None]):
    """Lets a reader follow: a real model takes longer."""

    async def on_llm_start(self, *_: Any) -> None:
        """Wait, if somebody watches."""
        await asyncio.sleep(0.4 if console.is_terminal else 0)


class Timeline:
    """A plugin that shows each call once it is recorded: what was decided, why, and what came of it."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._seen = 0
        self._running: dict[str, tuple[Recorded, CallDecided]] = {}

    @hookimpl
    def interlock_recorded(self, recorded: Recorded) -> None:
        """Show one event."""
        self._seen = recorded.seq
        match recorded.event:
            case CallDecided(admitted=True) as decided:
                self._running[decided.call_id] = recorded, decided  # shown once it has ended
            case CallDecided() as decided:
                ways = (way for o in decided.opinions for way in (*o.approvers, *o.suggestions))
                show(recorded, decided, " → ".join(["not run", *ways]), LOOKS[decided.verdict][1])
            case CallFinished() as finished:
                error = finished.error_type or ""
                outcome = f"{finished.outcome} {error}".strip()
                outcome += f", {finished.duration_us / 1000:.1f} ms"
                show(*self._running.pop(finished.call_id), outcome, "red" if error else "dim")
            case TicketResolved() as answer:
                said = f"{answer.state} by {answer.by}: {answer.comment}"
                row(recorded, ("● human", "green"), Text(f"ticket {answer.ticket_id[:13]}…"), said)

    def catch_up(self, governor: Governor, session: Session) -> None:
        """Show what other processes have recorded meanwhile."""
        for recorded in governor.read(partial(history, after=self._seen), session.id):
            self.interlock_recorded(recorded)


def show(recorded: Recorded, decided: CallDecided, outcome: str, style: str) -> None:
    """Print one call."""
    yes = decided.approved_by
    arguments = json.loads(decided.arguments)
    if decided.tool_kind == "model":  # the whole prompt is recorded, and too long to show
        arguments = {"model": decided.model}
    given = ", ".join(f"{name}={value}" for name, value in arguments.items())
    call = Text.assemble((decided.tool, "bold"), "\n", (given, "dim"))
    why = Text.assemble(f"{yes} said yes" if yes else decided.reason, "\n", (outcome, style))
    row(recorded, ("✔ ask", "green") if yes else LOOKS[decided.verdict], call, why)


def row(recorded: Recorded, looks: tuple[str, str], call: Text, why: Text | str) -> None:
    """Print one row of the timeline."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    for width in (8, 7, max(27, console.width // 3)):
        grid.add_column(width=width)
    grid.add_row(Text(f"{recorded.at:%H:%M:%S}", "dim"), Text(*looks), call, why)
    console.print(grid)


async def run(agent: Agent[None], given: Any, session: Session) -> Any:
    """Run the agent until it has finished or a person is asked: one trace for each run, as in a service."""
    attributes = {"openinference.span.kind": "AGENT", "gen_ai.operation.name": "invoke_agent"}
    attributes |= {"gen_ai.agent.name": agent.name, "gen_ai.conversation.id": session.name}
    with tracer.start_as_current_span(f"invoke_agent {agent.name}", attributes=attributes):
        return await Runner.run(agent, given, hooks=Pace())


async def work(governor: Governor, session: Session, timeline: Timeline, db: str) -> None:
    """Work the case to its end; where a person is asked, wait for the answer."""
    agent = support_agent()
    result = await run(agent, CASE, session)
    while result.interruptions:
        state = result.to_state()
        for ticket in await apply_answers(state):
            command = [str(INTERLOCK), "approvals", "approve", ticket.id, "--db", db]
            command += ["--as", "ann", "--yes", "--comment", "photos seen"]
            console.print("\nThe run waits. A person answers, in a second process:", style="yellow")
            show_command(command, end="\n\n")
            answer = partial(subprocess.run, check=True, stdout=subprocess.DEVNULL)
            await asyncio.to_thread(answer, command)
        timeline.catch_up(governor, session)
        await apply_answers(state)
        result = await run(agent, state, session)
    console.print(Text.assemble(("\nThe agent: ", "bold"), result.final_output, "\n"))


def show_command(command: list[str], end: str = "\n") -> None:
    """Print a command as one types it here."""
    typed = shlex.join([min(command[0], os.path.relpath(command[0]), key=len), *command[1:]])
    console.print(Text(f"  {typed}", "cyan"), soft_wrap=True, end=end)


def summary(governor: Governor, session: Session, db: str) -> None:
    """Print what the books say, and where to look next."""
    [report] = [report for report in governor.verify() if report.session_id == session.id]
    counts = [Text(f"{report.state.verdicts.get(v, 0)} {v}", LOOKS[v][1]) for v in Verdict]
    sound = Text(f"{report.state.head} events: gapless, chained, unchanged", "green")
    facts = Table.grid(padding=(0, 2, 0, 0))
    facts.add_row("Decided", Text("  ").join(counts))
    facts.add_row("Done", "\n".join(world))
    facts.add_row("Spent", f"{report.state.cost_usd} dollars")
    facts.add_row("History", Text(report.problem, "red") if report.problem else sound)
    facts.add_row("In doubt", f"{len(report.in_doubt)} calls")
    console.print(facts, "\nTry next:")
    for command in (
        ["replay", session.id],
        ["replay", session.id, "--check"],
        ["verify"],
        ["approvals", "list"],
    ):
        show_command([str(INTERLOCK), *command, "--db", db])


def export_traces() -> None:
    """Send traces where the environment says, unless the host of this program has seen to it."""
    given = isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
    if not (given and os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")):
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError as missing:
        packages = "opentelemetry-sdk opentelemetry-exporter-otlp-proto-http"
        sys.exit(f"OTEL_EXPORTER_OTLP_ENDPOINT is set, and {missing}: pip install {packages}")
    provider = TracerProvider()  # when the process ends, it sends what it still has
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)


def main() -> None:
    """Work one case, in a store of its own unless one is given."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--db", help="the store's URL; by default a fresh one in .interlock")
    db = parser.parse_args().db
    if db is None:
        STORE.parent.mkdir(exist_ok=True)
        for old in STORE.parent.glob(f"{STORE.name}*"):
            old.unlink()
        db = f"sqlite:///{STORE}"
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    set_tracing_disabled(disabled=True)  # the SDK's own traces would go to its makers
    export_traces()
    timeline = Timeline()
    console.print(CASE, style="bold")
    console.print(
        f"Worked by a real agent with a scripted model, under {POLICY.name}.\n", style="dim"
    )
    with Governor(db, policy=POLICY, plugins=[timeline]) as governor:
        with governor.session("case-4711", agent="support-bot", user="u-17") as session:
            asyncio.run(work(governor, session, timeline, db))
        summary(governor, session, db)


if __name__ == "__main__":
    main()
