"""`interlock verify`: whether the record is sound."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress
from rich.text import Text

from interlock.cli import checkpoints
from interlock.cli.output import (
    DEFAULT,
    Database,
    Json,
    opened,
    print_json,
    safe,
    show,
)
from interlock.store import sessions as stored
from interlock.store.verify import Report


def verify(
    db: Database = DEFAULT,
    *,
    checkpoint: Annotated[
        str | None, typer.Option(help="Checkpoints to compare with: a file, or a URL.")
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
        others = governor.verify_books()
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
