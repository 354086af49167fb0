"""Brief: all that an approver has to see of a ticket before they answer."""

from __future__ import annotations

from datetime import datetime

import msgspec
from sqlalchemy import Connection, select

from interlock import events
from interlock._budget import MAX_SUM, dollar_text, facts_of, nano
from interlock._call import Identity, Risk
from interlock._ticket import Ticket
from interlock._verdict import Verdict
from interlock.policy import Policy
from interlock.store import budgets, policies, sessions, tickets
from interlock.store.statements import tables_of

RECENT = 10
"""So many of the session's last calls are shown."""

_DECIDED = str(events.CallDecided.__struct_config__.tag)


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """
    What a call does to one limit of a budget.

    Attributes:
        budget: Its name.
        share: Whose share of it, as a JSON list.
        unit: `cost_usd`, `tokens` or `calls`.
        limit, left, takes, after: The limit; what can be reserved of it now; what the call takes; what is left then,
            which may be below zero. Decimal text; `takes` and `after` are None where the call does not say.
    """

    budget: str
    share: str
    unit: str
    limit: str
    left: str
    takes: str | None
    after: str | None


class Past(msgspec.Struct, frozen=True, kw_only=True):
    """One of the session's last calls: what was decided, and whether it was let through."""

    at: datetime
    tool: str
    arguments: str
    verdict: Verdict
    admitted: bool


class Brief(msgspec.Struct, frozen=True, kw_only=True):
    """
    A ticket, and what is around it.

    Attributes:
        ticket: The ticket.
        session: The name of its session.
        identity: On whose behalf that runs.
        risk: How risky the call is, after what the session had done when it was asked for.
        cost_usd: What the call says that it costs, decimal text; None: it does not say.
        budgets: What it does to the budgets that count it, as they stand now.
        recent: The session's last calls, newest first, this one's own attempts among them.
    """

    ticket: Ticket
    session: str
    identity: Identity
    risk: Risk | None
    cost_usd: str | None
    budgets: tuple[Effect, ...]
    recent: tuple[Past, ...]


def brief(connection: Connection, ticket_id: str) -> Brief:
    """
    Return all that an approver has to see of one ticket.

    Raises:
        Conflict: there is none with this id.
    """
    ticket = tickets.get(connection, ticket_id)
    session = sessions.get(connection, ticket.session_id)
    decided = _decision(connection, ticket)
    cost = None if decided is None else decided.cost_usd
    return Brief(
        ticket=ticket,
        session=session.name,
        identity=session.identity,
        risk=None if decided is None else decided.risk,
        cost_usd=None if cost is None else f"{cost:f}",
        budgets=_effects(connection, ticket, session.identity, decided),
        recent=_recent(connection, ticket.session_id),
    )


def _decision(connection: Connection, ticket: Ticket) -> events.CallDecided | None:
    """Return the decision that opened *ticket*: it was written in the same transaction, at the same instant."""
    table = tables_of(connection).events
    rows = connection.execute(
        select(table.c.kind, table.c.version, table.c.body).where(
            table.c.session_id == ticket.session_id,
            table.c.kind == _DECIDED,
            table.c.at == ticket.opened_at,
        )
    )
    for row in rows:
        decided = events.decode(row.body, row.kind, row.version)
        if isinstance(decided, events.CallDecided) and decided.call_id == ticket.call_id:
            return decided
    return None


def _recent(connection: Connection, session_id: str) -> tuple[Past, ...]:
    table = tables_of(connection).events
    found = connection.execute(
        select(table.c.at, table.c.kind, table.c.version, table.c.body)
        .where(table.c.session_id == session_id, table.c.kind == _DECIDED)
        .order_by(table.c.seq.desc())
        .limit(RECENT)
    )
    decided = [(row.at, events.decode(row.body, row.kind, row.version)) for row in found]
    return tuple(
        Past(
            at=at,
            tool=one.tool,
            arguments=one.arguments,
            verdict=one.verdict,
            admitted=one.admitted,
        )
        for at, one in decided
        if isinstance(one, events.CallDecided)
    )


def _effects(
    connection: Connection,
    ticket: Ticket,
    identity: Identity,
    decided: events.CallDecided | None,
) -> tuple[Effect, ...]:
    policy = Policy.parse(policies.document(connection, ticket.policy))
    facts = facts_of(
        identity,
        session_id=ticket.session_id,
        tool=ticket.tool,
        model=None if decided is None else decided.model,
    )
    # A tool that declares no cost has none, and takes no tokens; what a model takes nobody knows here.
    silent = None if decided is None or decided.tool_kind == "model" else 0
    cost = silent if decided is None or decided.cost_usd is None else nano(decided.cost_usd)
    takes = {"cost": cost, "tokens": silent, "calls": 1}
    effects = []
    for account in budgets.of(connection, policy.budgets.claims(facts)):
        for unit, taken in takes.items():
            limit, left = getattr(account.limits, unit), getattr(account.left, unit)
            if limit is not None:
                after = None if taken is None else left - min(taken, MAX_SUM)
                effects.append(
                    Effect(
                        budget=account.key.budget,
                        share=account.key.scope,
                        unit="cost_usd" if unit == "cost" else unit,
                        limit=_text(unit, limit),
                        left=_text(unit, left),
                        takes=None if taken is None else _text(unit, taken),
                        after=None if after is None else _text(unit, after),
                    )
                )
    return tuple(effects)


def _text(unit: str, amount: int) -> str:
    if unit != "cost":
        return str(amount)
    return dollar_text(amount) if amount >= 0 else f"-{dollar_text(-amount)}"
