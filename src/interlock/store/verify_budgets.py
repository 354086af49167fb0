"""BudgetSums: what the events and the ledger add up to in every budget window, and which rows differ from that."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import msgspec
from sqlalchemy import Connection, select

from interlock import events
from interlock._budget import Amounts, WindowKey
from interlock.store.budgets import Held
from interlock.store.events import Place
from interlock.store.statements import raw, tables_of
from interlock.store.tables import AMOUNTS

_MOVED = tuple(f"{name}_{part}" for part in ("reserved", "spent") for name in AMOUNTS)
_LEASED = tuple(f"{name}_leased" for name in AMOUNTS)


class BudgetSums:
    """What the events and the ledger add up to; see `verify_books`."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.reserved: defaultdict[WindowKey, Amounts] = defaultdict(Amounts)
        self.spent: defaultdict[WindowKey, Amounts] = defaultdict(Amounts)
        self._held: dict[str, Held] = {}

    def hear(self, place: Place, event: events.Event) -> None:
        """Take an event."""
        del place  # windows are summed up whatever session spends of them
        match event:
            case events.CallDecided(reserved=amounts) if amounts is not None:
                self._held[event.call_id] = Held(amounts, event.windows)
                for key in event.windows:
                    self.reserved[key] += amounts
            case events.CallFinished(charged=charged) | events.CallRecovered(charged=charged) if (
                event.call_id in self._held
            ):
                held = self._held.pop(event.call_id)
                for key in held.windows:
                    self.reserved[key] -= held.amounts
                self.charge(Held(charged or Amounts(), held.windows))
            case events.UsageRecorded(charged=charged) if charged is not None:
                self.charge(Held(charged, event.windows))
            case _:
                pass

    def compared(self, connection: Connection) -> list[str]:
        """Return a sentence for each window whose sums are others; to be called once, when all was heard."""
        problems: list[str] = []
        for charge in _outside_sessions(connection, problems):
            self.charge(charge)
        return problems + _compared(connection, self)

    def charge(self, charge: Held) -> None:
        """Take what is charged whatever was reserved."""
        for key in charge.windows:
            self.spent[key] += charge.amounts

    def told(self) -> set[WindowKey]:
        """Windows in which there is anything."""
        both = (self.reserved, self.spent)
        return {key for sums in both for key, amounts in sums.items() if amounts != Amounts()}


def _outside_sessions(connection: Connection, problems: list[str]) -> Iterator[Held]:
    """What the ledger says was charged for usage that no session has an event of."""
    table = tables_of(connection).usage
    rows = connection.execute(
        select(table.c.id, table.c.charged).where(
            table.c.session_id.is_(None), table.c.charged.is_not(None)
        )
    )
    for usage_id, charged in rows:
        try:
            yield Held.read(charged)
        except (msgspec.MsgspecError, TypeError, ValueError):
            problems.append(f"usage {usage_id}: what it was charged cannot be read")


def _compared(connection: Connection, sums: BudgetSums) -> list[str]:
    table = tables_of(connection).windows
    keys = [raw(column) for column in table.primary_key.columns]
    problems: list[str] = []
    leased = _leased(connection, problems)
    missing = sums.told() | set(leased)
    for row in connection.execute(
        select(*keys, *(table.c[name] for name in (*_MOVED, *_LEASED))).order_by(*keys)
    ):
        key = WindowKey(*row[:3])
        missing.discard(key)
        lent = leased.get(key, (0,) * 9)
        # What is in the rows of its leases is not in that of the window.
        told = (*_three(sums.reserved[key]), *_three(sums.spent[key]))
        here = (*(of - at for of, at in zip(told, lent[3:], strict=True)), *lent[:3])
        for name, stored, wanted in zip((*_MOVED, *_LEASED), row[3:], here, strict=True):
            if stored != wanted:
                problems.append(f"{_named(key)}: {name} is {stored}, but adds up to {wanted}")
    return problems + [f"{_named(key)} is missing" for key in sorted(missing, key=str)]


def _leased(connection: Connection, problems: list[str]) -> dict[WindowKey, tuple[int, ...]]:
    """What the leases of each window add up to: what they hold, and what is reserved and spent of that."""
    table = tables_of(connection).budget_leases
    keys = [raw(table.c[name]) for name in ("budget", "scope", "starts_at")]
    limits = [table.c[f"{name}_limit"] for name in AMOUNTS]
    found: dict[WindowKey, tuple[int, ...]] = {}
    for row in connection.execute(select(*keys, *limits, *(table.c[name] for name in _MOVED))):
        key, amounts = WindowKey(*row[:3]), row[3:]
        if not all(isinstance(amount, int) for amount in amounts):
            problems.append(f"{_named(key)}: a lease of it cannot be read")
            continue
        before = found.get(key, (0,) * 9)
        found[key] = tuple(one + other for one, other in zip(before, amounts, strict=True))
    return found


def _three(amounts: Amounts) -> tuple[int, int, int]:
    return amounts.cost, amounts.tokens, amounts.calls


def _named(key: WindowKey) -> str:
    return f"budget {key.budget} of {key.scope} from {key.starts_at}"
