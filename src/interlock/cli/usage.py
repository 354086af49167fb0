"""`interlock usage`: what models took and cost, summed up."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, get_args

import typer
from rich.text import Text
from sqlalchemy import Connection

from interlock._budget import dollar_text, nano
from interlock.cli.bars import bar
from interlock.cli.budgets import named
from interlock.cli.output import (
    DEFAULT,
    Database,
    Json,
    cut,
    moment,
    opened,
    print_json,
    show,
    table,
)
from interlock.store.usage import Column, Sum, summary

_COLUMNS: tuple[Column, ...] = get_args(Column)
_TOKENS = (
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
)


def _columns(text: str) -> list[Column]:
    """Return the columns that *text* names, between commas."""
    names = [name.strip() for name in text.split(",")]
    found: list[Column] = [column for name in names for column in _COLUMNS if column == name]
    if len(found) < len(names):
        wrong = next(name for name in names if name not in _COLUMNS)
        raise typer.BadParameter(
            f"{wrong!r} is no column; write some of {', '.join(_COLUMNS)}", param_hint="--by"
        )
    if len(set(found)) < len(found):
        raise typer.BadParameter("it names a column twice", param_hint="--by")
    return found


def usage(
    db: Database = DEFAULT,
    *,
    by: Annotated[
        str, typer.Option(metavar="COLUMNS", help=f"Kept apart by: {', '.join(_COLUMNS)}.")
    ] = "model",
    since: Annotated[
        datetime | None,
        typer.Option(parser=moment, metavar="TIME", help="From then on, ISO 8601."),
    ] = None,
    until: Annotated[
        datetime | None, typer.Option(parser=moment, metavar="TIME", help="Before then, ISO 8601.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Only of this model.")] = None,
    org: Annotated[str | None, typer.Option(help="Only of this organisation.")] = None,
    user: Annotated[str | None, typer.Option(help="Only of this user.")] = None,
    team: Annotated[str | None, typer.Option(help="Only of this team.")] = None,
    agent: Annotated[str | None, typer.Option(help="Only of this agent.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many sums, dearest first.")] = 50,
    json: Json = False,
) -> None:
    """Sum up what models took and cost, the dearest first."""
    columns = _columns(by)
    given: dict[Column, str | None] = {
        "model": model,
        "org": org,
        "user": user,
        "team": team,
        "agent": agent,
    }
    where: dict[Column, str] = {name: value for name, value in given.items() if value is not None}

    def look(connection: Connection) -> tuple[list[Sum], Sum]:
        found = summary(
            connection, by=columns, since=since, until=until, where=where, limit=limit + 1
        )
        [whole] = summary(connection, by=(), since=since, until=until, where=where)
        return found, whole

    with opened(db) as governor:
        found, whole = governor.read(look)
    sums, is_cut = found[:limit], len(found) > limit
    if json:
        print_json(_as_json(one, columns) for one in sums)
    elif sums:
        show(_table(sums, columns))
        show(_total(whole))
    else:
        is_narrow = bool(where or since or until)
        show(Text(_nothing(is_narrow=is_narrow), style="dim"))
    if is_cut:
        cut(f"only the {limit} dearest sums are shown; the rest is in the total; see --limit")


def _table(sums: list[Sum], columns: list[Column]) -> Any:
    listed = table(*columns, "calls", "tokens in", "out", "dollars", "")
    for column in listed.columns[: len(columns)]:
        column.no_wrap = column.header == "day"
    for column in listed.columns[len(columns) : -1]:
        column.justify = "right"
    dearest = nano(sums[0].cost_usd)
    for one in sums:
        line = bar(nano(one.cost_usd), 0, dearest) if dearest else Text()
        if one.unpriced:
            line.append(f" + {_unpriced(one.unpriced)}", style="yellow")
        listed.add_row(
            *map(named, one.of),
            f"{one.calls:,}",
            f"{one.input_tokens:,}",
            f"{one.output_tokens:,}",
            dollar_text(nano(one.cost_usd)),
            line,
        )
    return listed


def _total(whole: Sum) -> Text:
    said = Text(f"\n{dollar_text(nano(whole.cost_usd))} dollars", style="bold")
    calls = f"{whole.calls:,} {'call' if whole.calls == 1 else 'calls'}"
    said.append(
        f" for {calls}, {whole.input_tokens:,} tokens in and {whole.output_tokens:,} out",
        style="not bold",
    )
    if whole.unpriced:
        said.append(f"; {_unpriced(whole.unpriced)}, and not in the sum", style="yellow not bold")
    return said


def _unpriced(count: int) -> str:
    return f"{count:,} {'call has' if count == 1 else 'calls have'} no known price"


def _nothing(*, is_narrow: bool) -> str:
    if is_narrow:
        return "No usage matches. Leave options out, or widen --since and --until, to see more."
    return (
        "No usage is recorded yet. Record it with governor.record_usage(model=..., input_tokens=..., "
        "output_tokens=...), or govern the calls of models."
    )


def _as_json(one: Sum, columns: list[Column]) -> dict[str, Any]:
    return {
        **dict(zip(columns, one.of, strict=True)),
        "calls": one.calls,
        **{name: getattr(one, name) for name in _TOKENS},
        "cost_usd": dollar_text(nano(one.cost_usd)),
        "unpriced": one.unpriced,
    }
