"""Operations on grants: give one with an answer, find the one that covers a call, use it, look them up."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, insert, select, update

from interlock import events
from interlock._budget import nano
from interlock._call import Call, money
from interlock._grant import Grant, Standing, cost_of
from interlock._ticket import Ticket
from interlock._verdict import Decision
from interlock.errors import Conflict
from interlock.store.statements import tables_of

LONGEST = timedelta(days=366)
"""No grant lasts longer: a policy is the place for what is to hold for good."""

MAX_CALLS = 1_000_000
"""No grant is for more calls."""

# The columns that hold lists.
_LISTS: dict[str, Any] = {"asked": tuple[str, ...], "resources": tuple[str, ...] | None}


def give(
    connection: Connection, ticket: Ticket, grant: Grant, *, by: str, at: datetime
) -> events.GrantGiven:
    """
    Write what *by* grants with their yes to *ticket*; the event is the caller's to append.

    Raises:
        Conflict: the grant makes no sense.
    """
    if type(grant.calls) is not int or not 0 < grant.calls <= MAX_CALLS:
        raise Conflict(f"a grant is for 1 to {MAX_CALLS:,} further calls; approve the ticket alone")
    if not timedelta(0) < grant.lasts <= LONGEST:
        raise Conflict(f"a grant lasts longer than nothing, and {LONGEST.days} days at most")
    try:
        cost = nano(money(grant.cost_usd or 0))
    except ValueError as error:
        raise Conflict(f"what a grant may cost is {error}") from None
    own = None if ticket.resource is None else (ticket.resource,)
    given = Standing(
        id=ticket.id,
        session_id=ticket.session_id,
        tool=ticket.tool,
        policy=ticket.policy,
        asked=ticket.asked,
        resources=own if grant.resources is None else tuple(grant.resources),
        calls=grant.calls,
        cost=cost,
        expires_at=at + grant.lasts,
        by=by,
    )
    row = msgspec.structs.asdict(given)
    for name in _LISTS:
        row[name] = msgspec.json.encode(row[name]).decode()
    connection.execute(insert(tables_of(connection).grants).values(row))
    return given_event(given)


def given_event(given: Standing) -> events.GrantGiven:
    """Return the event that says that a grant was given."""
    return events.GrantGiven(
        grant_id=given.id,
        tool=given.tool,
        policy=given.policy,
        asked=given.asked,
        resources=given.resources,
        calls=given.calls,
        cost=given.cost,
        expires_at=given.expires_at,
        by=given.by,
    )


def covering(
    connection: Connection, call: Call, decision: Decision, *, policy: str, at: datetime
) -> Standing | None:
    """Return the oldest grant that covers *call*, whose session is locked."""
    table = tables_of(connection).grants
    rows = connection.execute(
        select(table)
        .where(
            table.c.session_id == call.session_id,
            table.c.tool == call.tool.name,
            table.c.policy == policy,
        )
        .order_by(table.c.id)
    )
    found = map(from_row, rows)
    return next((one for one in found if one.covers(call, decision, at)), None)


def use(connection: Connection, grant: Standing, call: Call) -> None:
    """Take of *grant* what *call* takes; its session is locked."""
    table = tables_of(connection).grants
    connection.execute(
        update(table)
        .where(table.c.id == grant.id)
        .values(calls_used=table.c.calls_used + 1, cost_used=table.c.cost_used + cost_of(call.cost))
    )


def of_session(connection: Connection, session_id: str) -> list[Standing]:
    """Return all grants of a session, oldest first."""
    table = tables_of(connection).grants
    query = select(table).where(table.c.session_id == session_id).order_by(table.c.id)
    return [from_row(row) for row in connection.execute(query)]


def from_row(row: Row[Any]) -> Standing:
    """Return the grant that *row* of the table holds."""
    fields: dict[str, Any] = dict(row._mapping)  # noqa: SLF001 - the documented way to a mapping
    for name, kind in _LISTS.items():
        fields[name] = msgspec.json.decode(fields[name], type=kind)
    return Standing(**fields)
