"""disagreements(): recompute what is no session's alone, and name the rows that differ, book by book."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from sqlalchemy import Connection

from interlock import events
from interlock.errors import NewerRelease
from interlock.store import commands, halt_log, usage_seals
from interlock.store.events import Place, known
from interlock.store.verify_budgets import BudgetSums
from interlock.store.verify_counters import CounterSums
from interlock.store.verify_leases import LeaseHolders


class _Told(Protocol):
    """What the events add up to in one book."""

    def hear(self, place: Place, event: events.Event) -> None:
        """Take an event: those of a session in their order, sessions in any."""
        ...

    def compared(self, connection: Connection) -> Iterable[str]:
        """Return a sentence for each row that is not what was heard."""
        ...


def disagreements(connection: Connection) -> dict[str, list[str]]:
    """
    Return for each book in which something disagrees a sentence for each row that does.

    The whole history is read once, a page at a time. Run it on a snapshot. That the events themselves are unchanged is
    the business of `verify`.

    - `budgets`: what is reserved and spent in each window, its row and its leases together. Not checked are the limits
      and the end of a window, which are there to be shown: what is decided with are those of the policy; nor which
      worker has a lease, and when it was last moved.
    - `leases`: who holds which slot, by which token. Until when a call holds it is only checked not to be earlier than
      when it was taken: renewing it is no event.
    - `counters`: the sums of all shards; not who counted what.
    - `halts`: what is halted, from the log of halts, and the chain of that log.
    - `usage`: rows outside of sessions, each by its own hash; `verify` has those of sessions.
    - `commands`: rows, each by its own hash.
    """
    told: dict[str, _Told] = {
        "budgets": BudgetSums(),
        "leases": LeaseHolders(),
        "counters": CounterSums(),
    }
    found: dict[str, list[str]] = {}
    try:
        for place, event in known(connection):
            for book in told.values():
                book.hear(place, event)
    except NewerRelease as newer:
        found |= {name: [f"the {name} cannot be recomputed: {newer}"] for name in told}
    else:
        found |= {name: [*book.compared(connection)] for name, book in told.items()}
    found["halts"] = halt_log.disagreements(connection)
    found["usage"] = usage_seals.disagreements(connection)
    found["commands"] = commands.disagreements(connection)
    return {name: problems for name, problems in found.items() if problems}
