"""`interlock leases`: who holds which lease, and until when."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.text import Text

from interlock import Governor
from interlock._lease import Holder, LeaseKey, Occupancy
from interlock.cli.output import DEFAULT, Database, Json, cut, opened, print_json, safe, show, table
from interlock.store.statements import now

PAGE = 200
"""Parts of leases read at once."""


def leases(
    db: Database = DEFAULT,
    *,
    lease: Annotated[str | None, typer.Option(help="Only the lease of this name.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many holders, by lease.")] = 200,
    json: Json = False,
) -> None:
    """List who holds which lease: calls that run, and tickets of calls that wait for a human."""
    with opened(db) as governor:
        at = governor.read(now)
        found: list[tuple[Occupancy, Holder]] = []
        for pair in _pages(governor, lease):
            found.append(pair)
            if len(found) > limit:
                break
    shown, is_cut = found[:limit], len(found) > limit
    if json:
        print_json(_as_json(row, holder, at) for row, holder in shown)
    elif shown:
        listed = table("lease", "token", "until", "session", "tool", "resource", "who")
        for row, holder in shown:
            listed.add_row(*_row(row, holder, at))
        show(listed)
    else:
        show(Text("Nobody holds a lease.", style="dim"))
    if is_cut:
        cut(f"only the first {limit} holders are shown; name a lease with --lease, or --limit")


def _pages(governor: Governor, lease: str | None) -> Iterator[tuple[Occupancy, Holder]]:
    after: LeaseKey | None = None
    while page := governor.leases(lease=lease, after=after, limit=PAGE):
        for row in page:
            for holder in row.holders:
                yield row, holder
        after = page[-1].key


def _row(row: Occupancy, holder: Holder, at: datetime) -> list[str | Text]:
    until = f"{holder.expires_at:%Y-%m-%d %H:%M:%SZ}"
    who = f"ticket {holder.ticket_id}" if holder.ticket_id else f"call {holder.call_id}"
    return [
        safe(row.key.lease, "bold"),
        str(holder.token),
        until if at < holder.expires_at else Text(f"{until} LOST", style="red"),
        holder.session_id,
        safe(holder.tool),
        safe(holder.resource or ""),
        safe(who),
    ]


def _as_json(row: Occupancy, holder: Holder, at: datetime) -> dict[str, Any]:
    return {
        "lease": row.key.lease,
        "scope": row.key.scope,
        "token": holder.token,
        "session_id": holder.session_id,
        "call_id": holder.call_id,
        "ticket_id": holder.ticket_id,
        "tool": holder.tool,
        "resource": holder.resource,
        "expires_at": holder.expires_at,
        "lost": at >= holder.expires_at,
    }
