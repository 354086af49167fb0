"""`interlock health` and `interlock scorecard`: how the store is, and what happened in it, in numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any

import typer
from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from interlock._budget import dollar_text, nano
from interlock._state import SessionStatus
from interlock.cli.bars import bar
from interlock.cli.output import (
    DEFAULT,
    STYLES,
    Database,
    Json,
    instant,
    moment,
    opened,
    print_json,
    safe,
    show,
    table,
)
from interlock.store.health import Health
from interlock.store.health import health as how_it_is
from interlock.store.scorecard import Scorecard
from interlock.store.scorecard import scorecard as counted

MOST_RULES = 20
"""Rows of those who carried verdicts that are shown to people; programs get all."""


def health(db: Database = DEFAULT, *, json: Json = False) -> None:
    """Show what is open, what waits for a human, what hangs and what is halted."""
    with opened(db) as governor:
        found = governor.read(how_it_is)
    if json:
        return print_json([found])
    shown = _pairs()
    sessions = (f"{n:,} {status}" for status, n in found.sessions.items())
    shown.add_row("sessions", ", ".join(sessions) or "none")
    shown.add_row("tickets", _counted(found.pending, "wait for an answer", found.pending_since))
    shown.add_row("calls", _counted(found.running, "run", found.running_since))
    shown.add_row("in doubt", _counted(found.in_doubt, "need a human", found.in_doubt_since))
    shown.add_row("halts", _counted(found.halts, "stand", None))
    return show(Group(Text(f"At {instant(found.at)}"), shown, *_advice(found)))


def scorecard(
    db: Database = DEFAULT,
    *,
    since: Annotated[
        str | None,
        typer.Option(help="A time on the first day, in ISO 8601; today, if it is not said."),
    ] = None,
    until: Annotated[
        str | None, typer.Option(help="A time on the last day; today, if it is not said.")
    ] = None,
    days: Annotated[
        int, typer.Option(min=1, help="So many days, up to the last; not together with --since.")
    ] = 1,
    json: Json = False,
) -> None:
    """Show what was decided, asked, spent and what failed, in whole days of UTC."""
    if since and days > 1:
        raise typer.BadParameter("say --since or --days, not both")
    last = moment(until) if until else None
    first = moment(since) if since else None
    with opened(db) as governor:
        if first is None and days > 1:
            first = (last or governor.health().at) - timedelta(days=days - 1)
        card = governor.read(counted, since=first, until=last)
    if json:
        return print_json([card])
    return show(Group(*_card(card)))


def _advice(found: Health) -> Iterable[Text]:
    if found.pending:
        yield Text("interlock approvals list shows what waits.", style="dim")
    if found.running:
        yield Text("interlock recover finds those whose process is gone.", style="dim")
    if found.in_doubt:
        yield Text("interlock recover list shows what is in doubt.", style="dim")
    if found.halts:
        yield Text("interlock halts shows what stands.", style="dim")


def _card(card: Scorecard) -> Iterable[Any]:
    last = card.until - timedelta(days=1)
    span = f"{card.since:%Y-%m-%d}" + (f" to {last:%Y-%m-%d}" if last > card.since else "")
    total = sum(card.decisions.values())
    yield Text(f"{span}: {total:,} calls decided, {card.admitted:,} let through", style="bold")
    decided = _pairs("")
    for verdict in sorted(card.decisions, reverse=True):
        n = card.decisions[verdict]
        row = Text.assemble(bar(n, 0, total), f" {n:,}")
        decided.add_row(Text(verdict.value, style=STYLES[verdict]), row)
    yield decided
    if card.unenforced:
        said = (f"{n:,} {verdict.value}" for verdict, n in sorted(card.unenforced.items()))
        yield Text(f"only observed or simulated: {', '.join(said)}", style="dim")
    if card.carried:
        carried = table("calls", "verdict", "carried by")
        for one in card.carried[:MOST_RULES]:
            coloured = Text(one.verdict.value, style=STYLES[one.verdict])
            carried.add_row(f"{one.calls:,}", coloured, safe(one.by))
        yield Padding(carried, (1, 0))
        if len(card.carried) > MOST_RULES:
            yield Text(f"and {len(card.carried) - MOST_RULES} more: see --json", style="dim")
    facts = _pairs()
    _states(facts, "sessions", {_became(status): n for status, n in card.sessions.items()})
    _states(facts, "refused by budgets", card.refusals_by_budget)
    _states(facts, "tickets", {state.value: n for state, n in card.approvals.states.items()})
    waits = (card.approvals.p50, card.approvals.p90, card.approvals.p99)
    if all(waits):
        names = ("half", "90 %", "99 %")
        said = (f"{name} in {_span(wait)}" for name, wait in zip(names, waits, strict=True) if wait)
        facts.add_row("answered", ", ".join(said))
    _states(facts, "ended", {outcome.value: n for outcome, n in card.outcomes.items()})
    facts.add_row("cost", f"{dollar_text(nano(card.cost_usd))} US dollars")
    if card.cost_per_success is not None:
        each = dollar_text(nano(card.cost_per_success))
        facts.add_row("cost of each that returned", f"{each} US dollars")
    if card.unpriced:
        facts.add_row("returned at unknown cost", f"{card.unpriced:,}")
    _states(facts, "failed to judge", card.faults)
    yield facts


def _became(status: SessionStatus) -> str:
    """Return what happened to a session: "open" would say that it still is."""
    return "opened" if status is SessionStatus.OPEN else status.value


def _states(facts: Table, name: str, counted: Mapping[str, int]) -> None:
    if counted:
        facts.add_row(name, safe(", ".join(f"{n:,} {which}" for which, n in counted.items())))


def _counted(n: int, what: str, since: datetime | None) -> str:
    if not n:
        return "none"
    return f"{n:,} {what}" + (f", the oldest since {since:%Y-%m-%d %H:%M:%S}Z" if since else "")


def _span(span: timedelta) -> str:
    """Return a duration in the unit in which people would say it."""
    seconds = span.total_seconds()
    for unit, size in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} seconds"


def _pairs(style: str = "dim") -> Table:
    made = Table(box=None, show_header=False, pad_edge=False)
    made.add_column(style=style, no_wrap=True)
    made.add_column(overflow="fold")
    return made
