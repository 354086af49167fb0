"""Telling: a session's story in the terminal, for narrow and for wide ones."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, Group
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from interlock._display import shown
from interlock._story import CallTold, EventTold, Line, Totals
from interlock.cli import wording
from interlock.cli.output import arguments, safe
from interlock.cli.wording import Fact, Tone
from interlock.store.sessions import SessionRow

WIDE = 120
"""From so many columns on, a call and what is known of it stand side by side."""

_STYLES: dict[Tone, str] = {
    "plain": "",
    "good": "green",
    "wait": "yellow",
    "turn": "magenta",
    "bad": "red",
    "dim": "dim",
}
_MARKS: dict[Tone, tuple[str, str]] = {
    "plain": ("·", "-"),
    "good": ("✔", "+"),
    "wait": ("?", "?"),
    "turn": ("↪", ">"),
    "bad": ("✘", "x"),
    "dim": ("·", "-"),
}
_CLOCK, _VERDICT, _LABEL = 9, 11, 9


class Telling:
    """Prints a story, line by line, as it is told."""

    def __init__(self, console: Console, link: str | None = None) -> None:
        """
        Print on *console*.

        Args:
            console: Where to.
            link: Where traces are shown: a URL with `{trace_id}` in it; None: their ids are printed alone.
        """
        self._console = console
        self._link = link

    def opening(self, row: SessionRow) -> None:
        """Print which session it is."""
        who = [f"{key} {value}" for key, value in _identity(row) if value]
        self._console.print(safe(row.name, "bold"), soft_wrap=False)
        facts = [
            Fact("session", row.id),
            Fact("on behalf", ", ".join(who)),
            Fact("opened", f"{row.opened_at:%Y-%m-%d %H:%M:%S} UTC"),
            *([Fact("within", row.parent)] if row.parent else ()),
            Fact("status", str(row.state)),
            Fact("policy", row.policy or "none", "dim"),
        ]
        self._console.print(_grid(facts))
        self._console.print(Rule(style="dim"))

    def facts(self, facts: Iterable[Fact]) -> None:
        """Print what is known of something, each under its name."""
        self._console.print(_grid(facts))

    def line(self, told: Line) -> None:
        """Print one line of the story."""
        if isinstance(told, CallTold):
            self._call(told)
        else:
            self._event(told)

    def closing(self, totals: Totals) -> None:
        """Print what it adds up to."""
        self._console.print(Rule(style="dim"))
        self._console.print(_grid(wording.summary(totals)))

    def _call(self, told: CallTold) -> None:
        word, tone = wording.title(told)
        head = Text.assemble(
            safe(f"{told.number}. ", "dim"),
            safe(f"{told.decided.tool}(", "bold"),
            arguments(told.decided.arguments),
            safe(")", "bold"),
        )
        facts = _grid([*wording.facts(told), *self._trace(told)])
        self._print(told, word, tone, head, facts)

    def _event(self, told: EventTold) -> None:
        word, text, tone = wording.happened(told)
        self._print(told, word, tone, safe(text, _STYLES[tone]), None)

    def _print(self, told: Line, word: str, tone: Tone, head: Text, facts: Table | None) -> None:
        mark = _MARKS[tone][self._console.options.ascii_only]
        row = Table.grid(padding=(0, 1, 0, 0), expand=True)
        row.add_column(width=_CLOCK, justify="right", style="dim", no_wrap=True)
        row.add_column(width=_VERDICT, no_wrap=True)
        cells = [Text(wording.clock(told.after_us)), safe(f"{mark} {word}", _STYLES[tone])]
        if facts is not None and self._console.width >= WIDE:
            row.add_column(ratio=2, overflow="fold")
            row.add_column(ratio=3, overflow="fold")
            row.add_row(*cells, head, facts)
        else:
            row.add_column(ratio=1, overflow="fold")
            row.add_row(*cells, head if facts is None else Group(head, facts))
        self._console.print(Padding(row, (0, 0, 0 if facts is None else 1, 0)))

    def _trace(self, told: CallTold) -> list[Fact]:
        if told.trace is None:
            return []
        where = told.trace.trace_id
        return [Fact("trace", link_to(self._link, where) if self._link else where, "dim")]


def link_to(template: str, trace_id: str) -> str:
    """Return where the trace with this id is shown."""
    return template.replace("{trace_id}", trace_id)


def _identity(row: SessionRow) -> list[tuple[str, str | None]]:
    identity = row.identity
    return [
        ("agent", identity.agent),
        ("user", identity.user),
        ("team", identity.team),
        ("org", identity.org),
    ]


def _grid(facts: Iterable[Fact]) -> Table:
    table = Table.grid(padding=(0, 1, 0, 0))
    table.add_column(width=_LABEL, style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for fact in facts:
        table.add_row(Text(shown(fact.label)), safe(fact.text, _STYLES[fact.tone]))
    return table
