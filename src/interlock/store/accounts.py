"""
Accounts: the budget windows of a batch of calls, locked, reserved and charged.

A window is one row, moved by whoever makes a call that it counts, who has it locked until the commit. Where several
workers of a server want the same one, each takes a lease of it: a row of its own with a part of what is left, out of
which it hands out without asking anybody. What the window stands at is the sum over its rows.

Rule 1: what is leased is taken from what is left of the window, so a call that fits into a lease fits into the window.
Rule 2: a call that does not fit is refused only once all leases of the window were locked and folded into its row.
Rule 3: leases stand only under one set of limits, and only while the window is not overspent: who brings other limits,
or a charge that has no room, folds them first. So every call hears what it would hear if there were one row.
Rule 4: rows are locked in one order, by every transaction: sessions, then windows by key, then leases by key. Whoever
holds a lease and finds that it needs a window's row begins the transaction again, without leases. Several leases of
one window are locked only by who holds its row.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

import msgspec
from sqlalchemy import Connection

from interlock._budget import Account, Amounts, Budget, WindowKey
from interlock.store import budget_rows as rows
from interlock.store.statements import binding, read
from interlock.store.tables import to_microseconds
from interlock.store.windows import Want, Window, more_than
from interlock.store.worker import PAUSE, Purse, Recalled, Worker

IDLE = timedelta(minutes=1)
"""A lease that was not used for so long is folded by the next who takes one: its worker may be gone."""


class Accounts:
    """The budget windows that a batch of calls touches, locked, and what it moves in them."""

    def __init__(self, connection: Connection) -> None:
        """Lock nothing yet."""
        bound = binding(connection)
        self._connection = connection
        # A transaction of the host's lasts as long as the host likes: it keeps no lease from its worker.
        self._worker = None if bound.link is None else bound.worker
        self._windows: dict[WindowKey, Window] = {}
        self._at: datetime | None = None

    def __getitem__(self, key: WindowKey) -> Account:
        account = self._windows[key].account
        if account is None:
            raise KeyError(key)
        return account

    def under(self, budget: Budget, key: WindowKey) -> Account:
        """
        Return what is known of a window, under the limits of *budget*, whatever another policy wrote there last.

        All that was wanted of it when it was locked has as much room in it as in the whole of its rows: see `shown`.
        """
        window = self._windows.get(key)
        account = None if window is None else window.account
        if account is None:  # as in `Window.move`
            return Account(key=key, ends_at=None, limits=budget.limits)
        if account.limits == budget.limits:
            return account
        return msgspec.structs.replace(account, limits=budget.limits)

    def taken(self, key: WindowKey) -> Amounts | None:
        """Return what is reserved and spent of a window; None where others hold parts of it that were not looked at."""
        window = self._windows.get(key)
        if window is None or window.account is None:
            return Amounts()
        if window.lease is not None or window.leased != Amounts():
            return None
        return window.account.reserved + window.account.spent

    def shown(self, accounts: Iterable[Account]) -> tuple[Account, ...]:
        """Return *accounts* as they stand over all their rows, those that others hold as they last committed them."""
        return tuple(self._shown(account) for account in accounts)

    def lock(self, wants: Iterable[Want], *, at: datetime) -> None:
        """
        Lock and read what is needed of windows to decide *wants*, in a fixed order; claimed ones are made if need be.

        Args:
            wants: All that will be reserved and charged.
            at: The time of the transaction.
        """
        self._at = at
        windows: dict[WindowKey, Window] = {}
        for want in wants:
            window = windows.get(want.key)
            if window is None:
                window = windows[want.key] = Window(want.key)
            window.add(want)
        self._windows = {key: windows[key] for key in sorted(windows)}
        worker = self._worker
        if worker is None or not self._lock_leases(worker, at):
            self._lock_rows(worker, at)

    def reserve(self, windows: Iterable[WindowKey], amounts: Amounts) -> None:
        """Hold *amounts* of each of *windows*."""
        for key in windows:
            self._windows[key].move(amounts, Amounts())

    def charge(self, windows: Iterable[WindowKey], held: Amounts, charged: Amounts) -> None:
        """Let go of what was *held* of each of *windows*, and book what is *charged* instead."""
        for key in windows:
            self._windows[key].move(Amounts() - held, charged)

    def write(self) -> None:
        """Write what was moved."""
        if not self._windows:
            return
        moved = [window for window in self._windows.values() if window.is_moved]
        by_row = [window for window in moved if window.lease is None]
        loans = {window.key: self._lent(window) for window in by_row}
        rows.MOVE.run(self._connection, [_row_moved(one, loans[one.key]) for one in by_row])
        rows.FOLD.run(
            self._connection,
            [rows.which(one.key, worker=lease.worker) for one in by_row for lease in one.folded],
        )
        worker, at = self._worker, self._at
        if worker is not None and at is not None:
            rows.LEND.run(
                self._connection,
                [rows.lent(key, worker.id, at, lease) for key, lease in loans.items() if lease],
            )
            rows.MOVE_LEASE.run(
                self._connection,
                [_lease_moved(one, worker.id, at) for one in moved if one.lease is not None],
            )
            for window in moved:
                _remember(worker, window, loans.get(window.key), at)
        for window in moved:
            window.settled()

    def _lock_leases(self, worker: Worker, at: datetime) -> bool:
        """
        Make do with this worker's leases, where they are believed to be enough, and the rows of other windows.

        Returns:
            Whether that was tried.

        Raises:
            Recalled: it was not enough, and what would be cannot be locked any more without leaving the order.
        """
        fit = [one for one in self._windows.values() if _may_fit(worker.purse(one.key), one)]
        if not fit or worker.pauses():
            return False
        chosen = {one.key for one in fit}
        others = [one for key, one in self._windows.items() if key not in chosen]
        self._make(others)
        found, leases = read(
            self._connection,
            (rows.LOCK, [rows.which(one.key) for one in others]),
            (rows.LOCK_LEASE, [rows.which(one.key, worker=worker.id) for one in fit]),
        )
        for window, row in zip(others, found, strict=True):
            if row:
                self._stand(window, rows.row_of(window.key, row[0]), at)
            elif window.is_claim:
                raise self._mistaken(worker, window)
            if not window.fits():
                worker.pause(PAUSE)
                raise Recalled
            self._take_limits(window)
        for window, lease in zip(fit, leases, strict=True):
            if not lease or not _stands_on(window, lease[0]):
                worker.keep(window.key, None)
                worker.pause(1)
                raise Recalled
        return True

    def _lock_rows(self, worker: Worker | None, at: datetime) -> None:
        """Lock the row of each window, then the leases of those of which more is wanted than nobody has."""
        wanted = list(self._windows.values())
        if self._connection.dialect.name == "postgresql":
            # Before any is locked: one that somebody else makes while others are would be locked after those.
            self._make(wanted)
        self._read(wanted, at)
        missing = [one for one in wanted if one.is_claim and one.account is None]
        if missing and worker is not None:
            raise self._mistaken(worker, *missing)
        if missing:
            self._make(missing)
            self._read(missing, at)
        mine = "" if worker is None else worker.id
        idle_since = to_microseconds(at - IDLE)
        for window in wanted:
            if not window.fits() or self._is_crowded(window):
                self._fold(window, mine, idle_since)
            if not window.fits():
                self._fold(window, mine, rows.FOREVER)
            self._take_limits(window)

    def _make(self, windows: Sequence[Window]) -> None:
        """Make the rows of those that are claimed, and that this worker has not seen yet, where they are not there."""
        worker = self._worker
        new = [one for one in windows if one.is_claim and not (worker and worker.knows(one.key))]
        rows.MAKE.run(self._connection, [rows.empty(one.key, one.ends_at) for one in new])

    def _mistaken(self, worker: Worker, *windows: Window) -> Recalled:
        """Have *worker* forget what it believes of windows whose rows are not there: their making was undone."""
        for window in windows:
            worker.forget(window.key)
        return Recalled()

    def _read(self, windows: Sequence[Window], at: datetime) -> None:
        found = rows.LOCK.rows(self._connection, [rows.which(one.key) for one in windows])
        for window, row in zip(windows, found, strict=True):
            if row:
                self._stand(window, rows.row_of(window.key, row[0]), at)

    def _stand(self, window: Window, row: rows.Row, at: datetime) -> None:
        window.stands_on(row)
        if self._worker is not None:
            sums = (row.account.reserved, row.account.spent)
            window.is_shared = row.leased != Amounts() or self._worker.shares(window.key, sums, at)

    def _fold(self, window: Window, mine: str, since: int) -> None:
        known = {lease.worker for lease in window.folded}
        asked = rows.which(window.key, worker=mine, idle_since=since)
        (found,) = rows.LOCK_LEASES.rows(self._connection, [asked])
        for row in found:
            lease = rows.lease_of(row)
            if lease.worker not in known:
                window.fold(lease)

    def _take_limits(self, window: Window) -> None:
        """Have the row show the limits that it was decided with last."""
        account = window.account
        if account is not None and window.claimed not in (None, account.limits):
            window.account = msgspec.structs.replace(account, limits=window.claimed)

    def _is_crowded(self, window: Window) -> bool:
        """Whether this worker gets no lease because others have most of what is left: who may be gone."""
        return (
            self._worker is not None
            and window.is_claim
            and window.leased != Amounts()
            and window.part() is None
        )

    def _lent(self, window: Window) -> rows.Lease | None:
        """Return what is to be leased to this worker of a window whose row it holds; None: nothing."""
        worker, account = self._worker, window.account
        if worker is None or account is None or not (window.is_shared and window.is_claim):
            return None
        has_one = not window.folded and _may_fit(worker.purse(window.key), window)
        part = None if has_one or not window.agrees else window.part()
        if part is None:
            return None
        # Its running calls go with it: their ends then need nothing but the lease.
        mine = sum(
            (lease.reserved for lease in window.folded if lease.worker == worker.id), Amounts()
        )
        kept = _least(more_than(mine + window.reserved, Amounts()), account.reserved)
        return rows.Lease(worker.id, part + kept, reserved=kept)

    def _shown(self, account: Account) -> Account:
        window = self._windows.get(account.key)
        if window is None or (window.lease is None and window.leased == Amounts()):
            return account
        (found,) = rows.TOTAL.rows(self._connection, [rows.which(account.key)])
        if not found:
            return account
        stored = rows.account_of(account.key, found[0][3:])
        return msgspec.structs.replace(
            account,
            reserved=stored.reserved + window.reserved,
            spent=stored.spent + window.spent,
        )


def _may_fit(purse: Purse | None, window: Window) -> bool:
    return (
        purse is not None
        and rows.fits(window.takes, purse.left)
        and rows.fits(window.lets_go, purse.reserved)
    )


def _stands_on(window: Window, row: Sequence[object]) -> bool:
    ends_at, limits, lease = rows.leased_of(row)
    return window.stands_on_lease(lease, ends_at, limits)


def _row_moved(window: Window, lent: rows.Lease | None) -> dict[str, object]:
    """Return by what the row of a window is moved, some of which goes into a lease."""
    row, account = window.row, window.account
    assert row is not None and account is not None  # noqa: S101, PT018 - there was something to move
    kept, limit = (Amounts(), Amounts()) if lent is None else (lent.reserved, lent.limit)
    return {
        **rows.which(window.key),
        **rows.columns("limit", account.limits),
        **rows.columns("reserved", account.reserved - row.account.reserved - kept),
        **rows.columns("spent", account.spent - row.account.spent),
        **rows.columns("leased", window.leased - row.leased + limit),
    }


def _lease_moved(window: Window, worker: str, at: datetime) -> dict[str, object]:
    return {
        **rows.which(window.key, worker=worker),
        "moved_at": to_microseconds(at),
        **rows.columns("reserved", window.reserved),
        **rows.columns("spent", window.spent),
    }


def _remember(worker: Worker, window: Window, lent: rows.Lease | None, at: datetime) -> None:
    """Have *worker* remember how it leaves a window."""
    account = window.account
    if account is None:
        return
    if window.lease is not None:
        taken = account.reserved + account.spent
        worker.keep(window.key, Purse(window.lease.limit - taken, account.reserved))
        return
    kept = Amounts() if lent is None else lent.reserved
    worker.leave(window.key, (account.reserved - kept, account.spent), at)
    before = None if window.folded else worker.purse(window.key)
    if lent is None:
        worker.keep(window.key, before)
    elif before is None:
        worker.keep(window.key, Purse(lent.left, kept))
    else:
        worker.keep(window.key, Purse(before.left + lent.left, before.reserved + kept))


def _least(one: Amounts, other: Amounts) -> Amounts:
    return Amounts(
        min(one.cost, other.cost), min(one.tokens, other.tokens), min(one.calls, other.calls)
    )
