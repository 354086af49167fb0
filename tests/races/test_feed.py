"""A reader tails the feed while several processes write: it is given each event once, those of a session in order."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager

import pytest
from sqlalchemy import create_engine, make_url

from interlock import Governor, Session
from interlock._feed import Feed
from tests.conftest import ALLOW_ALL
from tests.forging import run
from tests.races._crew import Crew

THREADS = 4


class Tail:
    """A thread that follows the feed from its beginning until it has seen so many events, each beginning anew."""

    def __init__(self, governor: Governor, expected: int, *, page: int, begins_anew: bool) -> None:
        """Begin at once."""
        self._governor = governor
        self._page = page
        self._begins_anew = begins_anew
        self.seen: list[tuple[str, int, str]] = []
        self.waited = threading.Event()
        self._thread = threading.Thread(target=self._follow, args=(expected,), daemon=True)
        self._thread.start()

    def _follow(self, expected: int) -> None:
        cursor: str | None = None
        while len(self.seen) < expected:
            feed = self._governor.feed(after=cursor, follow=True, page=self._page)
            waits = feed._wait_for_writers

            def counted(doubtful: int, waits: object = waits) -> object:
                self.waited.set()
                return waits(doubtful)  # type: ignore[operator]

            feed._wait_for_writers = counted  # type: ignore[assignment,method-assign]
            for recorded in self._taken(feed, expected):
                self.seen.append((recorded.session_id, recorded.seq, recorded.id))
            cursor = feed.cursor

    def _taken(self, feed: Feed, expected: int) -> Iterator[object]:
        most = 97 if self._begins_anew else expected
        for _ in range(min(most, expected - len(self.seen))):
            yield next(feed)

    def join(self, timeout_s: float) -> None:
        """Wait until it has seen them all."""
        self._thread.join(timeout_s)


@contextmanager
def committed_late(url: str, session: Session, tails: list[Tail]) -> Iterator[None]:
    """Write an event of *session* that is committed when each of *tails* has met positions that are not final."""

    def write(written: threading.Event) -> None:
        engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"))
        with engine.begin() as connection:
            session.record("late", within=connection)
            written.set()
            for tail in tails:
                tail.waited.wait(60)
        engine.dispose()

    written = threading.Event()
    writer = threading.Thread(target=write, args=(written,), daemon=True)
    writer.start()
    written.wait(60)
    yield
    writer.join(120)


@pytest.mark.promise(7)
@pytest.mark.parametrize("sessions", [1, 100])
@pytest.mark.parametrize("notes", [8, pytest.param(250, marks=pytest.mark.soak)])
def test_a_reader_misses_nothing_while_many_write(
    either: str, crew: Crew, sessions: int, notes: int
) -> None:
    """
    Broken if a tailing reader misses an event that is committed late, is given one twice, or out of a session's order.

    The soak is the number that is asked for: 8 processes, each with 1,000 events, in one session and in a hundred.
    """
    with closing(Governor(either, policy=ALLOW_ALL)) as governor:
        opened = []
        # On SQLite nobody else can write before a transaction that has written is over.
        late = either.startswith("postgres")
        for number in range(sessions + late):
            session = governor.session(f"race-{number}", agent="racer")
            session.__enter__()
            session._detach()
            opened.append(session)
        total = len(opened) + len(crew) * THREADS * notes + late
        tails = [
            Tail(governor, total, page=500, begins_anew=False),
            Tail(governor, total, page=7, begins_anew=True),
        ]
        with ExitStack() as stack:
            if late:
                stack.enter_context(committed_late(either, opened.pop(), tails))
            shared = [session.id for session in opened]
            answers = crew.all(
                "note_in_threads", url=either, sessions=shared, threads=THREADS, notes=notes
            )
        assert [{}] * len(crew) == [answer["errors"] for answer in answers]
        for tail in tails:
            tail.join(120)
        stored = run(either, "SELECT session_id, seq, id FROM events ORDER BY session_id, seq")
        assert total == len(stored)
        written = {event_id for answer in answers for event_id in answer["returned"]}
        assert written <= {row[2] for row in stored}
        for tail in tails:
            assert sorted(tail.seen) == stored
            last: dict[str, int] = {}
            for session_id, seq, _ in tail.seen:
                assert seq == last.get(session_id, 0) + 1
                last[session_id] = seq
        assert [late, late] == [tail.waited.is_set() for tail in tails]
        assert [None] * (sessions + late) == [report.problem for report in governor.verify()]
