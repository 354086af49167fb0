"""Feed: every committed event of a store, once, to whoever makes a projection of them."""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Iterable
from functools import partial
from typing import Any, NamedTuple, Self

import anyio
import anyio.lowlevel
import anyio.to_thread

from interlock._canonical import canonical, digest
from interlock.errors import Misuse
from interlock.events import Recorded
from interlock.store import feed
from interlock.store.engine import Store
from interlock.store.feed import Place, Wanted

NOW = "now"
"""Instead of a cursor: after what is committed already."""

POLL_S = 0.2
"""How often a follower looks for what other processes have committed."""

PATIENCE_S = 1.0
"""How long who does not follow waits for transactions that are open and may be given smaller positions."""

MAX_PAGE = 10_000
"""Events that may be read at once: tens of megabytes."""

_SHORTEST_S, _LONGEST_S = 0.001, 0.05

_CURSOR = re.compile(
    r"1\.(?P<position>[0-9]{1,18})\.(?P<hash>[0-9a-f]{16})\.(?P<filter>[0-9a-f]{8}|all)"
)


class _Pause(NamedTuple):
    """How long nothing need be looked for, and whether a commit of this process ends that."""

    seconds: float
    ends_early: bool


class _Doubt(NamedTuple):
    """Everything up to a position is final once these transactions are over."""

    position: int
    writers: frozenset[str]


class Feed:
    """
    An iterator, sync and async, over the committed events of a store: each once, those of a session in their order.

    `cursor` says how far it is, as text to be kept with what is made of the events; `Governor.feed(after=cursor)` goes
    on there, in any process. It is used by one thread or task at a time; `close` may be called from any.
    Where the store does not answer, `StoreUnavailable` is raised, and the next step tries again at the same place.
    """

    def __init__(
        self,
        store: Store,
        *,
        after: str | None = None,
        session: str | None = None,
        kinds: Iterable[str] = (),
        follow: bool = False,
        page: int = 500,
    ) -> None:
        """
        Read nothing yet; `Governor.feed` says what is what.

        Raises:
            Misuse: *after* is no cursor, or one of a feed of other events; *page* is no number that can be used.
        """
        if isinstance(kinds, str) or not 1 <= page <= MAX_PAGE:
            raise Misuse(
                f"a feed is of kinds=, several names of events, and page= is from 1 to {MAX_PAGE}"
            )
        self._store = store
        self._wanted = Wanted(session, tuple(sorted(set(kinds))), page)
        self._filter = _filter_of(self._wanted)
        self._follows = follow
        self._begins_now = after == NOW
        self._is_checked = False
        self._place = Place() if after in {None, NOW} else self._parsed(str(after))
        self._given = self._place
        self._ready: deque[tuple[int, Recorded]] = deque()
        self._final = 0
        self._doubt: _Doubt | None = None
        self._waited_s = 0.0
        self._closed = threading.Event()

    @property
    def session(self) -> str | None:
        """The id of the only session that it is of; None: of all."""
        return self._wanted.session

    @property
    def follows(self) -> bool:
        """Whether it waits for more."""
        return self._follows

    @property
    def cursor(self) -> str:
        """How far it is: after the event that was given last. Text of less than 64 ASCII characters."""
        place = self._given
        return f"1.{place.position}.{place.hash[:16] or '0' * 16}.{self._filter}"

    def close(self) -> None:
        """End the iteration, also one that waits in another thread."""
        self._closed.set()
        self._store.followers.nudge()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Recorded:
        while self._closed.is_set() or not self._ready:
            rung = threading.Event()
            with self._store.followers.listening(rung.set):
                pause = self._look()
                if pause is None:
                    raise StopIteration
                if pause.ends_early:
                    rung.wait(pause.seconds)
                elif pause.seconds:
                    self._closed.wait(pause.seconds)
        return self._give()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Recorded:
        loop: Any = anyio.lowlevel.current_token().native_token
        soon = getattr(loop, "call_soon_threadsafe", None) or loop.run_sync_soon
        while self._closed.is_set() or not self._ready:
            rung = anyio.Event()
            with self._store.followers.listening(partial(soon, rung.set)):
                pause = await anyio.to_thread.run_sync(self._look)
                if pause is None:
                    raise StopAsyncIteration
                if pause.ends_early:
                    with anyio.move_on_after(pause.seconds):
                        await rung.wait()
                elif pause.seconds:
                    await anyio.sleep(pause.seconds)
        return self._give()

    def _give(self) -> Recorded:
        position, recorded = self._ready.popleft()
        # What comes after the last of a page was looked at too, and is not wanted.
        self._given = Place(position, recorded.hash) if self._ready else self._place
        return recorded

    def _look(self) -> _Pause | None:
        """Look once for more; return when to look again, or None: this is the end."""
        if self._closed.is_set():
            return None
        if self._store.is_closed and self._is_checked and self._follows:
            return None
        if not self._is_checked:
            self._begin()
        seen = self._store.read(feed.look, self._place, self._wanted, final=self._final)
        if seen.place != self._place:
            self._place, self._doubt, self._waited_s = seen.place, None, 0.0
            self._ready.extend(seen.found)
            if not self._ready:
                self._given = self._place
            return _Pause(0, ends_early=False)
        if seen.doubtful is not None:
            return self._wait_for_writers(seen.doubtful)
        return _Pause(POLL_S, ends_early=True) if self._follows else None

    def _begin(self) -> None:
        if self._begins_now:
            self._place = self._given = self._store.read(feed.latest)
        else:
            self._store.read(feed.check, self._place)
        self._is_checked = True

    def _wait_for_writers(self, doubtful: int) -> _Pause | None:
        """Return when to look again for who may yet commit a smaller position than *doubtful*."""
        writing = self._store.read(feed.writers)  # in a transaction of its own: after what was seen
        doubt = self._doubt or _Doubt(doubtful, writing)
        left = doubt.writers & writing
        if not left:
            self._final, self._doubt = doubt.position, None
            return _Pause(0, ends_early=False)
        self._doubt = _Doubt(doubt.position, left)
        if self._waited_s > PATIENCE_S and not self._follows:
            return None
        seconds = min(_LONGEST_S, max(_SHORTEST_S, self._waited_s))
        self._waited_s += seconds
        return _Pause(seconds, ends_early=False)

    def _parsed(self, cursor: str) -> Place:
        found = _CURSOR.fullmatch(cursor)
        if found is None:
            raise Misuse(
                "after= is no cursor of a feed; give it what feed.cursor was, None for the beginning, or 'now'"
            )
        if found["filter"] not in {"all", self._filter}:
            raise Misuse(
                "the cursor is of a feed with another session= or kinds=, which has left out what this one wants"
            )
        position = int(found["position"])
        return Place(position, found["hash"] if position else "")


def _filter_of(wanted: Wanted) -> str:
    if wanted.session is None and not wanted.kinds:
        return "all"
    return digest(canonical([wanted.session, list(wanted.kinds)]))[:8]
