"""
Renewals: keep the leases of the calls that run in this process, and know which of them are lost.

One thread for each governor renews what they hold at a third of its term, as long as any call holds something. A call
that could not renew in time has lost its lease whatever the store says later: that is known here by this machine's own
clock, counted from before the store was asked, so never later than the store itself would give the lease to another.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections.abc import Iterable
from datetime import timedelta
from functools import partial

import msgspec
from immutabledict import immutabledict

from interlock._call import Call
from interlock._clock import Clock
from interlock._lease import LeaseClaim, Slot
from interlock._threads import begin
from interlock.errors import StoreUnavailable
from interlock.store import leases
from interlock.store.engine import Store
from interlock.store.leases import Renewal

PARTS = 3
"""A lease is renewed so many times within its term."""

_LINGER_S = 2.0
"""For so long the thread stays with nothing to renew: starting one for each call would take longer."""

log = logging.getLogger("interlock")


class _Kept:
    """One slot: until when it is surely held, and when it is to be renewed, both by clocks of this machine."""

    __slots__ = ("due", "is_given_back", "is_lost", "slot", "term", "until")

    def __init__(self, slot: Slot, term: timedelta, *, sent: float) -> None:
        self.slot = slot
        self.term = term
        self.is_lost = self.is_given_back = False
        self.renewed(sent)

    def renewed(self, sent: float) -> None:
        seconds = self.term.total_seconds()
        self.until = sent + seconds
        self.due = time.monotonic() + seconds / PARTS


class Tenure:
    """What one running call holds of leases."""

    __slots__ = ("__weakref__", "_clock", "_kept", "call_id")

    def __init__(
        self,
        call: Call,
        slots: Iterable[Slot],
        claims: Iterable[LeaseClaim],
        *,
        clock: Clock,
        sent: float,
    ) -> None:
        """Hold *slots* of *claims* for *call*; *sent* is what *clock* showed before the store was asked for them."""
        terms = {claim.key: claim.lease.expires for claim in claims}
        self.call_id = call.id
        self._clock = clock
        self._kept = [_Kept(slot, terms[slot.key], sent=sent) for slot in slots]

    def shown(self, call: Call) -> Call:
        """Return *call* with what it holds, and what it has lost."""
        return msgspec.structs.replace(
            call,
            leases=immutabledict({one.slot.lease: one.slot.token for one in self._kept}),
            leases_lost=tuple(one.slot.lease for one in self._kept if self._is_lost(one)),
        )

    def give_back(self) -> None:
        """Mind no longer what becomes of what it holds."""
        for one in self._kept:
            one.is_given_back = True

    def kept(self) -> list[_Kept]:
        """Return what is not lost."""
        return [one for one in self._kept if not self._is_lost(one)]

    def _is_lost(self, one: _Kept) -> bool:
        return one.is_lost or self._clock.monotonic() >= one.until


class Renewals:
    """The tenures of one governor, and the thread that renews them."""

    def __init__(self, store: Store, clock: Clock) -> None:
        """Hold nothing yet."""
        self._store = store
        self._clock = clock
        # Weakly: a call that was dropped unsettled holds nothing any more, and its slots come free by themselves.
        self._held: dict[int, weakref.ref[Tenure]] = {}
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._process = os.getpid()

    def sent(self) -> float:
        """Return the time from which a term is counted that the store is asked for next."""
        return self._clock.monotonic()

    def begin(
        self, call: Call, slots: Iterable[Slot], claims: Iterable[LeaseClaim], *, sent: float
    ) -> Tenure:
        """Keep *slots* of *claims* for *call* until `end`, or until what is returned is dropped."""
        tenure = Tenure(call, slots, claims, clock=self._clock, sent=sent)
        if self._process != os.getpid():
            # A fork: the parent's thread is not here, and what its calls hold is the parent's to renew.
            self._process, self._thread, self._held = os.getpid(), None, {}
            self._lock, self._wake = threading.Lock(), threading.Event()
        with self._lock:
            self._held[id(tenure)] = weakref.ref(tenure, partial(self._gone, id(tenure)))
            if self._thread is None and not self._closed:
                self._thread = begin(self._serve, name="interlock-leases")
            self._wake.set()
        return tenure

    def end(self, tenure: Tenure) -> None:
        """Renew it no longer: what it holds is about to be given back."""
        tenure.give_back()
        self._held.pop(id(tenure), None)

    def close(self) -> None:
        """Renew nothing any more: what is held is lost after its term."""
        self._closed = True
        self._wake.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread() and thread.is_alive():
            thread.join(5)

    def _gone(self, key: int, _: object) -> None:
        self._held.pop(key, None)

    def _kept(self) -> list[_Kept]:
        found = (tenure() for tenure in self._held.copy().values())
        return [one for tenure in found if tenure is not None for one in tenure.kept()]

    def _serve(self) -> None:
        idle_since = time.monotonic()
        while not self._closed:
            self._wake.clear()
            kept = self._kept()
            passed = time.monotonic()
            if kept:
                idle_since = passed
                # Those that are due soon go with those that are due: each renewal is a commit.
                due = [one for one in kept if one.due - self._slack(one) <= passed]
                if any(one.due <= passed for one in due):
                    self._renew(due)
                    continue
                self._wake.wait(min(one.due for one in kept) - passed)
            elif passed - idle_since < _LINGER_S:
                self._wake.wait(_LINGER_S)
            else:
                with self._lock:
                    if not self._held:
                        self._thread = None
                        return
                self._wake.wait(_LINGER_S)  # what is left is lost, and its call runs on

    @staticmethod
    def _slack(one: _Kept) -> float:
        return one.term.total_seconds() / PARTS / PARTS

    def _renew(self, due: list[_Kept]) -> None:
        sent = self.sent()
        try:
            lost = self._store.write(leases.renew, [Renewal(one.slot, one.term) for one in due])
        except StoreUnavailable as error:
            log.warning("leases could not be renewed, and are lost after their term: %s", error)
        except Exception:  # a thread that ends would lose the leases of all calls
            log.exception("leases could not be renewed, and are lost after their term")
        else:
            gone = {(slot.key, slot.token) for slot in lost}
            for one in due:
                if one.is_given_back:
                    continue
                if (one.slot.key, one.slot.token) in gone:
                    one.is_lost = True
                    log.error("lease %s was lost while its call ran", one.slot.lease)
                else:
                    one.renewed(sent)
            return
        again = time.monotonic()
        for one in due:
            one.due = again + self._slack(one)
