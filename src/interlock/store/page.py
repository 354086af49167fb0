"""Page: the state that a batch of entries needs, locked and read at once, and what they change of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, delete

from interlock._budget import Amounts, WindowKey
from interlock._call import Call
from interlock._lease import Slot
from interlock.store import halts, owners, usage
from interlock.store.accounts import Accounts
from interlock.store.budgets import Held
from interlock.store.entries import Admit, Entry, Settle, wanted
from interlock.store.events import ask_heads, chains, lost_at, write
from interlock.store.keys import Keys
from interlock.store.memories import Memories
from interlock.store.slots import Slots, slots_of, text_of
from interlock.store.statements import Prepared, ask_time, binding, insertion, read, told
from interlock.store.tables import Tables, to_microseconds

_OPEN = Prepared(lambda tables: insertion(tables.intents))


def _is_this(tables: Tables) -> Any:
    table = tables.intents
    return (table.c.session_id == bindparam("session")) & (table.c.call_id == bindparam("call"))


_CLOSE = Prepared(
    lambda tables: (
        delete(tables.intents)
        .where(
            _is_this(tables),
            tables.intents.c.owner == bindparam("owner"),  # whoever went on as another has lost it
            tables.intents.c.doubted_at.is_(None),
        )
        .returning(tables.intents.c.reserved, tables.intents.c.leases)
    )
)


class Page:
    """
    One page of the books.

    Attributes:
        connection: A transaction on the store.
        at: The time of all that is written.
        chains: By session, the end of its history; None where there is no such session.
        halts: Those that stand.
        keys: Who has which idempotency key.
        slots: Of the leases that are needed, who holds them.
        accounts: How the budgets stand.
        memories: What the sessions remember.
        usage: Rows of usage to be written.
    """

    def __init__(self, connection: Connection, entries: Sequence[Entry]) -> None:
        """Lock and read what *entries* need, in a fixed order, and take those that settle for settled."""
        self.connection = connection
        bound = binding(connection)
        self._owner = bound.owner
        self._me = bound.me
        sessions = {entry.call.session_id for entry in entries}
        settled = [entry.call for entry in entries if isinstance(entry, Settle)]
        halts.share(connection)
        heads, closed, time, stopping = read(
            connection,
            ask_heads(sessions, self._me),
            (_CLOSE, [{**_key(call), "owner": self._me} for call in settled]),
            ask_time(connection),
            halts.ask_first(),
        )
        self.halts = halts.Standing(connection, stopping[0], (entry.call for entry in entries))
        self.chains = chains(sessions, heads)
        self._take_name(lost_at(heads))
        self.keys = Keys(connection)
        self.keys.lock(
            entry.call.idempotency.key
            for entry in entries
            if entry.call.idempotency is not None and not isinstance(entry, Settle)
        )
        self.at = told(connection, time)
        self._holding: dict[str, Held | None] = {
            call.id: Held.read(rows[0][0]) if rows[0][0] else None
            for call, rows in zip(settled, closed, strict=True)
            if rows
        }
        self._slots_held = {
            call.id: slots_of(rows[0][1])
            for call, rows in zip(settled, closed, strict=True)
            if rows and rows[0][1]
        }
        self.slots = Slots(connection)
        at = self.slots.lock(
            (slot.key for held in self._slots_held.values() for slot in held),
            wanted=(
                claim.key
                for entry in entries
                if not isinstance(entry, Settle)
                for claim in entry.leases
            ),
        )
        self.at = at or self.at
        self.accounts = Accounts(connection)
        self._opened: dict[str, dict[str, object]] = {}
        self.usage: list[dict[str, object]] = []
        if wants := wanted(entries, self._holding, at=self.at):
            self.accounts.lock(wants, at=self.at)
        self.memories = Memories(connection, self.chains, entries)

    def write(self) -> None:
        """Write all that was changed."""
        write(self.connection, self.chains.values())
        if self._opened and self._owner is not None and not self._has_row:
            owners.enter(self.connection, self._owner, at=self.at)
        _OPEN.run(self.connection, list(self._opened.values()))
        usage.write(self.connection, self.usage)
        self.accounts.write()
        self.slots.write()
        self.keys.write()

    def is_open(self, call: Call) -> bool:
        """Whether *call* is this process's, and admitted and not finished."""
        return call.id in self._holding

    def open(
        self,
        entry: Admit,
        windows: tuple[WindowKey, ...],
        reserved: Amounts | None,
        slots: tuple[Slot, ...],
    ) -> None:
        """Write down that the call of *entry* may be running, with what it holds from now on."""
        call, held = entry.call, None
        self.keys.take(call)
        if reserved is not None:
            held = Held(reserved, windows)
            self.accounts.reserve(windows, reserved)
        self._holding[call.id] = held
        if slots:
            self._slots_held[call.id] = slots
        self._opened[call.id] = {
            "call_id": call.id,
            "session_id": call.session_id,
            "tool": call.tool.name,
            "admitted_at": to_microseconds(self.at),
            "reserved": None if held is None else held.text(),
            "leases": text_of(slots),
            "owner": self._me,
            "recovery": call.tool.recovery.value,
            "doubted_at": None,
            "stuck_at": None,
        }

    def let_go(self, call: Call) -> tuple[Held | None, tuple[Slot, ...]]:
        """Return what *call*, which is open, holds of budgets and of leases; it holds that no more."""
        self._opened.pop(call.id, None)  # where it was admitted in this very transaction
        return self._holding.pop(call.id), self._slots_held.pop(call.id, ())

    def _take_name(self, lost: int | None) -> None:
        """Go on as another where this process was declared lost: what it opens must be that of somebody who lives."""
        self._has_row = lost == 0
        if lost and self._owner is not None:
            self._owner.renew(self._me)
            self._me = self._owner.id


def _key(call: Call) -> dict[str, object]:
    return {"session": call.session_id, "call": call.id}
