"""`interlock budgets`: how the budgets stand in the windows that are open."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any

import msgspec
import typer
from rich.text import Text

from interlock import Governor
from interlock._budget import Account, WindowKey, dollar_text
from interlock.cli.bars import bar
from interlock.cli.output import (
    DEFAULT,
    Database,
    Json,
    cut,
    instant,
    moment,
    opened,
    print_json,
    safe,
    show,
    table,
)
from interlock.store import budgets as stored
from interlock.store.statements import now
from interlock.store.tables import from_microseconds

PAGE = 1_000
"""Windows read at once."""

_UNITS = {"cost": "dollars", "tokens": "tokens", "calls": "calls"}


def budgets(
    db: Database = DEFAULT,
    *,
    budget: Annotated[str | None, typer.Option(help="Only the budget of this name.")] = None,
    at: Annotated[
        datetime | None,
        typer.Option(
            parser=moment, metavar="TIME", help="When the windows are open, ISO 8601; now."
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many windows, by budget.")] = 200,
    json: Json = False,
) -> None:
    """Show what is spent and reserved of each budget; exit with 1 if one is overspent."""
    with opened(db) as governor:
        found = list(_pages(governor, budget, at, limit + 1))
    accounts, is_cut = found[:limit], len(found) > limit
    if json:
        print_json(_as_json(account) for account in accounts)
    elif accounts:
        listed = table("budget", "whose", "until", "spent + reserved of limit")
        listed.columns[1].no_wrap = False
        for account in accounts:
            name, until = safe(account.key.budget), instant(account.ends_at) or "never ends"
            listed.add_row(name, whose(account.key.scope), until, _amounts(account))
        show(listed)
    else:
        show(Text(_nothing(budget, at), style="dim"))
    if is_cut:
        cut(f"only the first {limit} windows are shown; name a budget with --budget, or --limit")
    raise typer.Exit(code=1 if any(account.is_overspent for account in accounts) else 0)


def _pages(
    governor: Governor, budget: str | None, at: datetime | None, limit: int
) -> Iterator[Account]:
    """Yield how that many windows stand, read in pages; all as of one moment's windows, if not of one moment's sums."""
    at = at or governor.read(now)
    after: WindowKey | None = None
    while limit > 0:
        size = min(limit, PAGE)
        page = governor.read(stored.standing, budget=budget, at=at, after=after, limit=size)
        yield from page
        if len(page) < size:
            return
        limit -= size
        after = page[-1].key


def whose(scope: str) -> Text:
    """Return whose share *scope* is, readable: the values by which shares are told apart, in their order."""
    shown = Text()
    for number, name in enumerate(msgspec.json.decode(scope)):
        shown.append(", " if number else "")
        shown.append_text(named(name))
    return shown


def named(name: str | None) -> Text:
    """Return a name, or "nobody" where there is none; who is called so stands in quotes."""
    if name is None:
        return Text("nobody", style="dim italic")
    return safe(f'"{name}"' if name == "nobody" or not name.strip() else name)


def _amounts(account: Account) -> Text:
    lines = [
        _line(name, limit, getattr(account.spent, name), getattr(account.reserved, name))
        for name in _UNITS
        if (limit := getattr(account.limits, name)) is not None
    ]
    if not lines:
        calls = account.spent.calls + account.reserved.calls
        return Text(f"no limit on amounts; {calls:,} calls", style="dim")
    return Text("\n").join(lines)


def _line(name: str, limit: int, spent: int, reserved: int) -> Text:
    written = dollar_text if name == "cost" else "{:,}".format
    held = f" + {written(reserved)}" if reserved else ""
    line = bar(spent, reserved, limit)
    line.append(f" {written(spent)}{held} of {written(limit)} {_UNITS[name]}")
    if spent > limit:
        line.append(" OVERSPENT", style="bold red")
    return line


def _nothing(budget: str | None, at: datetime | None) -> str:
    when = "now" if at is None else f"at {at.isoformat()}"
    which = "No budget has" if budget is None else f"Budget {budget!r} has no"
    window = "a window that is open" if budget is None else "window that is open"
    return (
        f"{which} {window} {when}. One opens with the first call or usage that it counts: write `budgets:` "
        "into the policy, or give a governor without one Governor(url, budgets=[...])."
    )


def _as_json(account: Account) -> dict[str, Any]:
    starts_at = None if account.ends_at is None else from_microseconds(account.key.starts_at)
    return {
        "budget": account.key.budget,
        "share": msgspec.json.decode(account.key.scope),
        "starts_at": starts_at,
        "ends_at": account.ends_at,
        "cost_usd": {
            part: None if amount is None else dollar_text(amount)
            for part, amount in _parts(account, "cost").items()
        },
        "tokens": _parts(account, "tokens"),
        "calls": _parts(account, "calls"),
        "overspent": account.is_overspent,
    }


def _parts(account: Account, name: str) -> dict[str, int | None]:
    return {
        "limit": getattr(account.limits, name),
        "reserved": getattr(account.reserved, name),
        "spent": getattr(account.spent, name),
    }
