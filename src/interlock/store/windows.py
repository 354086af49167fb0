"""Windows of budgets in one transaction: what calls want of each, what is locked of it, and how it is moved."""

from __future__ import annotations

from datetime import datetime

import msgspec

from interlock._budget import Account, Amounts, Claim, Limits, Need, WindowKey
from interlock.store import budget_rows as rows

SHARE = 8
"""A worker is leased the eighth part of what nobody has yet, so that others find something to lease, too."""

WORTH = 4
"""No lease is taken that would be used up by fewer batches of calls than this: near the limit there is one row."""


class Want(msgspec.Struct, frozen=True):
    """
    What one call wants of one window.

    Attributes:
        key: Which.
        takes: What must be left for it at most: of a claim what it reserves, of a charge by how much it is more than
            was held for it.
        lets_go: What is held for it, and will not be any longer.
        limits: With which limits it is decided; None: with none.
        ends_at: When the window ends.
        is_claim: Whether the window is made where it is not there.
    """

    key: WindowKey
    takes: Amounts
    lets_go: Amounts = Amounts()
    limits: Limits | None = None
    ends_at: datetime | None = None
    is_claim: bool = False

    @classmethod
    def of_claim(cls, claim: Claim, at: datetime, need: Need) -> Want:
        """Return what a call wants that *claim* counts."""
        key, ends_at = claim.window(at)
        # Who does not know what it takes is let through while there is anything.
        takes = Amounts(
            *(1 if wanted is None else wanted for wanted in (need.cost, need.tokens, need.calls))
        )
        return cls(key, takes, limits=claim.budget.limits, ends_at=ends_at, is_claim=True)


class Window:
    """
    A window in one transaction.

    Attributes:
        key: Which.
        takes, lets_go: What all calls together want of it, as in `Want`.
        limits: With which limits it is decided, those of the last call; None: with none.
        claimed: Those that the row is to show, of the last claim; None: those that it shows.
        agrees: Whether all are decided with the same.
        ends_at, is_claim: As in `Want`.
        account: What stands in the rows that are locked, and what was moved since; None: there is no row.
        lease: This worker's, where nothing but that is locked.
        leased: Where the row of the window is locked, what leases hold that are not folded into it.
        folded: Leases that are.
        reserved, spent: What was moved.
    """

    __slots__ = (
        "account", "agrees", "claimed", "ends_at", "folded", "is_claim", "is_shared", "key", "lease",
        "leased", "lets_go", "limits", "reserved", "row", "spent", "takes",
    )  # fmt: skip

    def __init__(self, key: WindowKey) -> None:
        self.key = key
        self.takes = self.lets_go = Amounts()
        self.limits: Limits | None = None
        self.claimed: Limits | None = None
        self.agrees = True
        self.ends_at: datetime | None = None
        self.is_claim = self.is_shared = False
        self.account: Account | None = None
        self.row: rows.Row | None = None
        self.lease: rows.Lease | None = None
        self.leased = Amounts()
        self.folded: list[rows.Lease] = []
        self.reserved = self.spent = Amounts()

    def add(self, want: Want) -> None:
        """Count in what one call wants of it."""
        self.takes += want.takes
        self.lets_go += want.lets_go
        if want.limits is not None:
            self.agrees = self.agrees and self.limits in (None, want.limits)
            self.limits = want.limits
        if want.is_claim:
            self.is_claim, self.ends_at, self.claimed = True, want.ends_at, want.limits

    def stands_on(self, row: rows.Row) -> None:
        """Take the row of the window, which is locked."""
        self.row, self.account, self.leased = row, row.account, row.leased

    def stands_on_lease(self, lease: rows.Lease, ends_at: datetime | None, limits: Limits) -> bool:
        """Take the lease, which is locked and was given under *limits*; return whether all fits into it."""
        self.lease = lease
        self.account = Account(
            key=self.key,
            ends_at=ends_at,
            limits=limits,
            reserved=lease.reserved,
            spent=lease.spent,
        )
        return self.is_decided_with(limits) and self._fits(lease.left, lease.reserved)

    def is_decided_with(self, limits: Limits) -> bool:
        """Whether all that is wanted is decided with *limits*."""
        return self.agrees and self.limits in (None, limits)

    def fits(self) -> bool:
        """Whether what is locked is enough to decide with: all of it, or all that is wanted."""
        account = self.account
        if account is None or not (self.leased.cost or self.leased.tokens or self.leased.calls):
            return True
        return self.is_decided_with(account.limits) and self._fits(self.free(), account.reserved)

    def free(self) -> Amounts:
        """Return what nobody has, neither a call nor a lease; less than zero where more is taken than allowed."""
        account = self.account
        assert account is not None  # noqa: S101 - asked only of a window with a row
        taken = account.reserved + account.spent + self.leased
        return rows.ceiling(account.limits) - taken

    def part(self) -> Amounts | None:
        """Return how much a lease of it would be; None: not worth it."""
        free, takes = self.free(), self.takes
        part = Amounts(free.cost // SHARE, free.tokens // SHARE, free.calls // SHARE)
        worth = Amounts(takes.cost * WORTH, takes.tokens * WORTH, takes.calls * WORTH)
        is_worth = rows.fits(Amounts(), free) and rows.fits(worth, part)
        return part if is_worth else None

    def fold(self, lease: rows.Lease) -> None:
        """Take a lease back, which is locked together with the row of the window."""
        account = self.account
        assert account is not None  # noqa: S101 - as in `free`
        self.folded.append(lease)
        self.leased -= lease.limit
        self.account = msgspec.structs.replace(
            account,
            reserved=account.reserved + lease.reserved,
            spent=account.spent + lease.spent,
        )

    def move(self, reserved: Amounts, spent: Amounts) -> None:
        """Add to what is reserved and to what is spent; either may be less than nothing."""
        account = self.account
        if account is None:  # its row is gone; `verify` says so
            return
        self.reserved += reserved
        self.spent += spent
        self.account = msgspec.structs.replace(
            account, reserved=account.reserved + reserved, spent=account.spent + spent
        )

    @property
    def is_moved(self) -> bool:
        """Whether there is anything to write."""
        nothing = Amounts()
        changed = self.row is not None and self.account is not None
        return (
            self.reserved != nothing
            or self.spent != nothing
            or bool(self.folded)
            or (changed and self.row.account.limits != self.account.limits)  # type: ignore[union-attr]
        )

    def settled(self) -> None:
        """Know that what was moved is written, and need not be once more."""
        self.row, self.folded = None, []
        self.reserved = self.spent = Amounts()

    def _fits(self, room: Amounts, reserved: Amounts) -> bool:
        return rows.fits(self.takes, room) and rows.fits(self.lets_go, reserved)


def more_than(one: Amounts, other: Amounts) -> Amounts:
    """Return by how much *one* is more than *other*; nothing where it is less."""
    more = one - other
    return Amounts(max(0, more.cost), max(0, more.tokens), max(0, more.calls))
