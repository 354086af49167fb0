"""`interlock verify`: whether the record is sound; and events in words."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress
from rich.text import Text

from interlock import events as kinds
from interlock._display import data_text
from interlock._verdict import Mode
from interlock.cli import checkpoints, wording
from interlock.cli.output import (
    DEFAULT,
    STYLES,
    Database,
    Json,
    arguments,
    opened,
    print_json,
    safe,
    show,
)
from interlock.store import commands, halt_log
from interlock.store import sessions as stored
from interlock.store.verify import Report


def verify(
    db: Database = DEFAULT,
    *,
    checkpoint: Annotated[
        Path | None, typer.Option(help="A file of checkpoints to compare with.")
    ] = None,
    key: checkpoints.KeyFile = None,
    json: Json = False,
) -> None:
    """Recompute sessions, budgets, leases and halts from what was recorded; exit with 1 if anything disagrees."""
    seen = problems = newer = 0
    reports: list[Report] = []
    with opened(db) as governor:
        total = governor.read(stored.count)
        console = Console(stderr=True)
        with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
            for report in progress.track(governor.verify(), total=total, description="Verifying"):
                seen += 1
                problems += report.problem is not None
                newer += report.problem is None and report.newer is not None
                if json:
                    print_json([_report(report)])
                elif report.problem or report.newer or report.in_doubt:
                    reports.append(report)
        others = {
            "budgets": governor.verify_budgets(),
            "leases": governor.verify_leases(),
            "halts": governor.read(halt_log.disagreements),
            "counters": governor.verify_counters(),
            "commands": governor.read(commands.disagreements),
        }
        comparison = None if checkpoint is None else checkpoints.compared(governor, checkpoint, key)
    sound = seen - problems - newer
    problems += sum(map(len, others.values()))
    if comparison is not None:
        problems += len(comparison.problems)
        if json:
            others["checkpoints"] = comparison.problems
        else:
            checkpoints.show_comparison(comparison)
    if json:
        print_json({what: problem} for what, found in others.items() for problem in found)
    else:
        for report in reports:
            _print_report(report)
        for problem in (one for found in others.values() for one in found):
            show(safe(problem, "red"))
        style = "red" if problems else "yellow" if newer else "green"
        show(Text(f"{sound} of {seen} sessions verified", style=style))
    raise typer.Exit(code=1 if problems or newer else 0)


def _report(report: Report) -> dict[str, object]:
    return {
        "session_id": report.session_id,
        "name": report.name,
        "events": report.state.head,
        "in_doubt": report.in_doubt,
        "problem": report.problem,
        "newer": report.newer,
    }


def _print_report(report: Report) -> None:
    named = safe(f"{report.session_id} {report.name}: ")
    if report.problem:
        show(named + Text(report.problem, style="red"))
    elif report.newer:
        show(named + safe(f"{report.newer}; its chain is sound", "yellow"))
    for call_id in report.in_doubt:
        tool = report.state.running.get(call_id) or report.state.in_doubt[call_id]
        show(
            named
            + safe(
                f"call {call_id} of {tool} is in doubt: admitted, and no outcome recorded", "yellow"
            )
        )


def told(event: kinds.Event | kinds.NewerEvent) -> Text:
    """One line that says what the event is about."""
    match event:
        case kinds.NewerEvent():
            return safe(f"of a newer release (version {event.version}); upgrade to understand it")
        case kinds.AppNoted():
            return safe(event.name, "bold") + safe(" ") + safe(data_text(event.data))
        case kinds.CallDecided() | kinds.CallFinished() | kinds.UsageRecorded():
            return _told_of_call(event)
        case (
            kinds.TicketOpened()
            | kinds.TicketApproved()
            | kinds.TicketResolved()
            | kinds.GrantGiven()
        ):
            return safe(_told_of_ticket(event))
        case kinds.CallDoubted() | kinds.CallRecovered() | kinds.CallStuck():
            return safe(_told_of_recovery(event))
        case _:
            return safe(_told_of_session(event))


def _told_of_call(event: kinds.CallDecided | kinds.CallFinished | kinds.UsageRecorded) -> Text:
    match event:
        case kinds.CallDecided():
            verdict = Text(str(event.verdict), style=STYLES[event.verdict])
            approved = f" (approved by {event.approved_by})" if event.approved_by else ""
            if event.mode is not Mode.ENFORCE:
                approved += f" ({event.mode.replace('_', ' ')})"
            return Text.assemble(
                verdict,
                safe(f" {event.tool}(", "bold"),
                arguments(event.arguments),
                safe(")", "bold"),
                safe(f"{approved}: {event.reason}"),
            )
        case kinds.CallFinished():
            failed = f" {event.error_type}" if event.error_type else ""
            taken = f"after {event.duration_us / 1000:.1f} ms"
            return safe(
                f"{event.tool} {event.outcome}{failed} {taken}{_lost(event)}{_reviewed(event)}"
            )
        case kinds.UsageRecorded():
            cost = "unknown" if event.cost_usd is None else f"{event.cost_usd:f} US dollars"
            return safe(f"usage of {event.model}: {event.usage.tokens} tokens, cost {cost}")


def _told_of_ticket(
    event: kinds.TicketOpened | kinds.TicketApproved | kinds.TicketResolved | kinds.GrantGiven,
) -> str:
    match event:
        case kinds.TicketOpened():
            who = " or ".join(event.approvers) or "a human"
            return f"{event.tool}: {who} is asked, ticket {event.ticket_id}"
        case kinds.TicketApproved():
            said = f": {event.comment}" if event.comment else ""
            return f"approved by {event.by}, {event.missing} more needed{said}"
        case kinds.TicketResolved():
            return f"{event.state} by {event.by}{f': {event.comment}' if event.comment else ''}"
        case kinds.GrantGiven():
            return f"{event.by} granted {event.calls} more of {event.tool}"


def _told_of_recovery(event: kinds.CallDoubted | kinds.CallRecovered | kinds.CallStuck) -> str:
    match event:
        case kinds.CallDoubted():
            return f"{event.tool}: its process is gone, and nobody knows whether it happened"
        case kinds.CallStuck():
            return f"{event.tool}: runs since {event.since:%Y-%m-%d %H:%M:%S}Z"
        case kinds.CallRecovered():
            known = {True: "it happened", False: "it did not happen", None: "it may be made again"}
            why = f": {event.comment}" if event.comment else ""
            return f"{event.tool}: {known[event.happened]}, says {event.by}{why}"


def _told_of_session(
    event: kinds.SessionOpened
    | kinds.SessionStuck
    | kinds.SessionPaused
    | kinds.SessionResumed
    | kinds.SessionHalted
    | kinds.SessionReleased
    | kinds.HaltOrdered
    | kinds.SessionClosed,
) -> str:
    match event:
        case kinds.SessionOpened():
            within = f", in session {event.parent}" if event.parent else ""
            return f"{event.name}, agent {event.agent}{within}"
        case kinds.SessionPaused():
            return f"waits to be resumed{f': {event.reason}' if event.reason else ''}"
        case kinds.SessionStuck():
            return f"open since {event.since:%Y-%m-%d %H:%M:%S}Z"
        case kinds.SessionResumed():
            return "goes on"
        case kinds.SessionHalted():
            return f"halted by {event.by}: {event.reason}"
        case kinds.HaltOrdered():
            what = event.target.replace(":", " ", 1).strip()
            return f"{event.by} halts {what}: {event.reason}, halt {event.halt_id}"
        case kinds.SessionReleased():
            return f"released by {event.by}: {event.reason}"
        case kinds.SessionClosed():
            return wording.ended(event)[1].removeprefix("the session ").removeprefix("was ")


def _lost(event: kinds.CallFinished) -> str:
    """Which leases it did not hold any more."""
    return f", having lost lease {', '.join(event.leases_lost)}" if event.leases_lost else ""


def _reviewed(event: kinds.CallFinished) -> str:
    """What became of its result, where it was reviewed and not simply given."""
    if event.withheld:
        return f", its result withheld: {'; '.join(one.reason for one in event.reviews)}"
    return f", its result redacted by {', '.join(event.redacted_by)}" if event.redacted_by else ""
