"""Replies: what comes of the effects of the flow, how a tool ended, and what was decided, reviewed and settled."""

from __future__ import annotations

from typing import Any

import msgspec

from interlock._budget import Account
from interlock._halt import Halt, Order
from interlock._lease import Occupancy, Slot
from interlock._ticket import Ticket
from interlock._verdict import Decision, Opinion
from interlock.errors import Conflict
from interlock.events import Outcome, Recorded


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """
    How the tool ended: a value, not an exception, since cancellation and failure are outcomes too.

    Attributes:
        outcome: How.
        result: What it returned.
        error: What it raised.
        unreviewable: Why what it gave cannot be shown to those who review it; it is then withheld.
        halt: What cancelled it, if it was a halt.
    """

    outcome: Outcome
    result: Any = None
    error: BaseException | None = None
    unreviewable: str | None = None
    halt: Halt | None = None


class Reviewed(msgspec.Struct, frozen=True, kw_only=True):
    """
    What came of showing a result to those who review it.

    Attributes:
        result: What is left of it, for the caller; None when it is withheld.
        opinions: What they think, in the order in which they were asked.
        redacted_by: The authors who put something else in its place, in that order.
        withheld: Whether the caller is given an exception instead.
    """

    result: Any = None
    opinions: tuple[Opinion, ...] = ()
    redacted_by: tuple[str, ...] = ()
    withheld: bool = False


class First(msgspec.Struct, frozen=True, kw_only=True):
    """
    The call that was made before with the idempotency key of another.

    Attributes:
        call_id: Its id.
        payload: The digest of its arguments.
        outcome: How it ended; None as long as nobody knows.
        result: What it gave, as canonical JSON; None where that is not kept.
    """

    call_id: str
    payload: str
    outcome: Outcome | None = None
    result: str | None = None


class Admission(msgspec.Struct, frozen=True, kw_only=True):
    """
    What the admitting transaction decided and wrote.

    Attributes:
        decision: What was decided.
        recorded: Its event.
        ticket: The request for approval, if one is needed.
        opened: The event of that request, if it was opened now.
        budgets: Those that count the call, as they stood before it.
        halts: Those that cover it, the widest first.
        slots: Of which leases it holds one.
        taken: The leases of which it needs one and none is left.
        orders: What the policy wants halted because of it.
        first: The call that was made before with its idempotency key, where it counts.
        repeats: Whether it is given what that one gave, instead of being run.
    """

    decision: Decision
    recorded: Recorded
    ticket: Ticket | None = None
    opened: Recorded | None = None
    budgets: tuple[Account, ...] = ()
    halts: tuple[Halt, ...] = ()
    slots: tuple[Slot, ...] = ()
    taken: tuple[Occupancy, ...] = ()
    orders: tuple[Order, ...] = ()
    first: First | None = None
    repeats: bool = False


class Settlement(msgspec.Struct, frozen=True, kw_only=True):
    """
    What the settling transaction wrote.

    Attributes:
        recorded: The event of the call's end.
        overspent: Budgets that ask for it to be said that, with this call, more was spent than they allow.
        halt: The halt that covers the call, which was engaged while it ran.
        leases_lost: The leases that it had lost by then.
        orders: What the policy wants halted because of it.
    """

    recorded: Recorded
    overspent: tuple[Account, ...] = ()
    halt: Halt | None = None
    leases_lost: tuple[str, ...] = ()
    orders: tuple[Order, ...] = ()


class Outdated(Conflict):
    """A ticket that the call was to use was used, or has expired, since it was looked at; nothing was written."""
