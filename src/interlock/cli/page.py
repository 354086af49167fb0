"""
Page: a session's story as one HTML file.

It needs nothing but a browser: no network, no script; filters and details are HTML and CSS. All text goes through
`_display.shown`, as in the terminal, and through the template's escaping; and the page forbids itself everything but
its own style sheet, whose hash it names.
"""

from __future__ import annotations

import base64
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from interlock import events
from interlock._display import shown
from interlock._story import CallTold, Line, Story, Totals
from interlock._verdict import Verdict
from interlock.cli import wording
from interlock.cli.wording import Fact, Tone
from interlock.store.sessions import SessionRow

BUCKETS = 120
"""Into how many parts the strip divides the time."""

_HEIGHT = 56

_BRIEF = frozenset({"instead", "steered", "follows", "approved", "withheld", "halted", "ended"})
"""What is said of a call before its details are opened."""


class Entry(NamedTuple):
    """A line as the template shows it."""

    seq: int
    clock: str
    at: str
    filter: str
    tone: Tone
    word: str
    number: int | None
    tool: str
    pairs: list[tuple[str, str]]
    brief: str
    facts: list[Fact]
    trace: str | None
    link: str | None


class Bar(NamedTuple):
    """One part of a bar of the strip: calls of one verdict in one stretch of time."""

    x: float
    y: float
    height: float
    tone: Tone


class Strip(NamedTuple):
    """Calls over time, and what they had cost by then."""

    bars: list[Bar]
    curve: str
    most: int
    cost: str
    width: int
    height: int
    ends: str


def write(
    path: Path,
    row: SessionRow,
    whole: Callable[[], Iterator[events.Recorded]],
    *,
    link: str | None = None,
) -> None:
    """
    Write the page of a session to *path*, all of it or nothing.

    Args:
        path: The file; one that is there is replaced.
        row: The session.
        whole: Gives its events from the first on. They are read twice, and never held all at once.
        link: Where traces are shown: an http or https URL with `{trace_id}` in it.

    Raises:
        OSError: the file cannot be written.
    """
    first = Story()
    strip = _Strip(row, whole)
    for recorded in whole():
        strip.hear(recorded)
        for _ in first.hear(recorded):  # what is told is told below
            pass
    totals, told = first.totals, Story()
    chunks = _template().generate(
        row=row,
        style=_style(),
        policy=f"default-src 'none'; style-src '{_hash(str(_style()))}'; base-uri 'none'; form-action 'none'",
        identity=_identity(row),
        cards=list(wording.summary(totals)),
        verdicts=_counts(totals),
        strip=strip.drawn(),
        entries=(_entry(line, link) for line in _lines(told, whole())),
    )
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.writelines(chunks)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("interlock.cli", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["shown"] = shown
    return environment


def _template() -> Template:
    return _environment().get_template("replay.html.jinja")


@cache
def _style() -> Markup:
    """Return the style sheet: our own text, which holds nothing from outside."""
    return Markup(_environment().get_template("replay.css").render())  # noqa: S704


def _hash(style: str) -> str:
    """Return what a content security policy calls an inline style. Source: https://www.w3.org/TR/CSP3/#grammardef-hash-source."""
    return f"sha256-{base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()}"


def _lines(story: Story, whole: Iterable[events.Recorded]) -> Iterator[Line]:
    for recorded in whole:
        yield from story.hear(recorded)
    yield from story.end()


def _entry(told: Line, link: str | None) -> Entry:
    trace = None if told.trace is None else told.trace.trace_id
    where = None if trace is None or link is None else link.replace("{trace_id}", trace)
    clock, at = wording.clock(told.after_us), told.at.isoformat(timespec="milliseconds")
    if isinstance(told, CallTold):
        word, tone = wording.title(told)
        facts = list(wording.facts(told))
        brief = [told.decided.reason]
        brief += [
            f"{'' if fact.label == 'ended' else f'{fact.label} '}{fact.text}"
            for fact in facts
            if fact.label in _BRIEF
        ]
        decided = told.decided
        pairs = wording.pairs(decided.arguments)
        return Entry(
            told.seq, clock, at, str(decided.verdict), tone, word, told.number, decided.tool,
            pairs, " · ".join(brief), facts, trace, where,
        )  # fmt: skip
    word, text, tone = wording.happened(told)
    return Entry(told.seq, clock, at, "event", tone, word, None, "", [], text, [], trace, where)


def _counts(totals: Totals) -> list[tuple[str, int, Tone]]:
    return [(str(v), totals.verdicts.get(v, 0), wording.TONES[v]) for v in Verdict]


def _identity(row: SessionRow) -> list[tuple[str, str]]:
    identity = row.identity
    named = {
        "agent": identity.agent,
        "user": identity.user,
        "team": identity.team,
        "org": identity.org,
    }
    return [(key, value) for key, value in named.items() if value]


class _Strip:
    """Counts calls by verdict, and money, in equal stretches of the session's time."""

    def __init__(self, row: SessionRow, whole: Callable[[], Iterator[events.Recorded]]) -> None:
        last = row.opened_at
        for recorded in whole():
            last = recorded.at
        self._from = row.opened_at
        self._took = max((last - row.opened_at).total_seconds(), 1e-6)
        self._counts = [dict.fromkeys(Verdict, 0) for _ in range(BUCKETS)]
        self._costs = [Decimal(0)] * BUCKETS

    def hear(self, recorded: events.Recorded) -> None:
        after = (recorded.at - self._from).total_seconds() / self._took
        bucket = min(BUCKETS - 1, max(0, int(after * BUCKETS)))
        match recorded.event:
            case events.CallDecided(verdict=verdict):
                self._counts[bucket][verdict] += 1
            case events.CallFinished(cost_usd=cost) | events.UsageRecorded(cost_usd=cost):
                self._costs[bucket] += cost or 0
            case _:  # it is no call and costs nothing
                pass

    def drawn(self) -> Strip:
        most = max(1, *(sum(counts.values()) for counts in self._counts))
        total = sum(self._costs, Decimal(0))
        bars: list[Bar] = []
        points: list[str] = []
        spent = Decimal(0)
        for x, (counts, cost) in enumerate(zip(self._counts, self._costs, strict=True)):
            y = float(_HEIGHT)
            for verdict, count in counts.items():
                if count:
                    height = max(count / most * (_HEIGHT - 4), 1.5)
                    y -= height
                    bars.append(Bar(x * 5, round(y, 2), round(height, 2), wording.TONES[verdict]))
            spent += cost
            level = _HEIGHT - 2 - float(spent / total) * (_HEIGHT - 6) if total else _HEIGHT - 2
            points.append(f"{x * 5 + 2.5},{level:.2f}")
        return Strip(
            bars,
            " ".join(points) if total else "",
            most,
            wording.dollars(total),
            BUCKETS * 5,
            _HEIGHT,
            wording.clock(int(self._took * 1_000_000)),
        )
