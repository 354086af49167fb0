"""The feed: every committed event once, those of a session in order, none missed, from any cursor, on any database."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import anyio
import pytest
from sqlalchemy import create_engine, make_url, select, text

from interlock import Feed, Governor, Misuse, Session, _feed, governed
from interlock._clock import new_id
from interlock.errors import Conflict, StoreUnavailable
from interlock.events import Recorded, SessionResumed
from interlock.store import sessions
from interlock.store.events import append, lock
from interlock.store.statements import now
from interlock.store.tables import DEFAULT as TABLES
from tests.conftest import ALLOW_ALL
from tests.forging import run

ON_POSTGRES = pytest.mark.parametrize("either", ["postgres"], indirect=True)
"""For what only a database has that lets several transactions write at once."""


@governed
def act(number: int) -> int:
    """Return the number."""
    return number


@pytest.fixture
def governor(either: str) -> Iterator[Governor]:
    """A governor over a fresh store."""
    with Governor(either, policy=ALLOW_ALL) as one:
        yield one


def filled(governor: Governor) -> list[Session]:
    """Make three sessions, the calls of two of them in turn."""
    with governor.session("a", agent="bot") as first, governor.session("b", agent="bot") as second:
        for number in range(4):
            act(number)
            with first.attach():
                act(-number)
    with governor.session("c", agent="bot") as third:
        act(9)
    return [first, second, third]


def ids(found: list[Recorded]) -> list[str]:
    """Return the ids of events."""
    return [recorded.id for recorded in found]


def stored(url: str) -> list[str]:
    """Return the ids of all events that are committed, in the order of their positions."""
    return [row[0] for row in run(url, "SELECT id FROM events ORDER BY position")]


def assert_complete(found: list[Recorded], url: str) -> None:
    """Each event of the store once, and those of a session in their order, without a gap."""
    assert sorted(ids(found)) == sorted(stored(url))
    last: dict[str, int] = {}
    for recorded in found:
        assert recorded.seq == last.get(recorded.session_id, 0) + 1
        last[recorded.session_id] = recorded.seq


def touch(connection: Any, session_id: str) -> list[Recorded]:
    """Write an event into a session, in whatever transaction that is."""
    chain = lock(connection, session_id)
    return append(connection, chain, [SessionResumed()], at=now(connection))


@pytest.mark.parametrize("page", [1, 3, 500])
def test_every_event_comes_once_and_in_order(governor: Governor, either: str, page: int) -> None:
    """Broken if an event is left out or comes twice, where a page ends or elsewhere."""
    filled(governor)
    assert_complete(list(governor.feed(page=page)), either)


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_it_can_be_awaited(governor: Governor, either: str, anyio_backend: str) -> None:
    """Broken if an event is left out, or comes twice, where the feed is read by a task."""
    filled(governor)
    assert_complete([recorded async for recorded in governor.feed(page=4)], either)


def test_a_cursor_goes_on_after_the_event_given_last(either: str) -> None:
    """Broken if a projection that is restarted misses an event or is given one twice, wherever it was stopped."""
    with Governor(either, policy=ALLOW_ALL) as governor:
        filled(governor)
        cursors = [(feed := governor.feed(page=5)).cursor]
        everything = [recorded.id for recorded in feed if cursors.append(feed.cursor) is None]
    with Governor(either) as restarted:
        for number, cursor in enumerate(cursors):
            assert everything[number:] == ids(list(restarted.feed(after=cursor, page=4)))
    assert all(len(cursor) < 64 and cursor.isascii() for cursor in cursors)


def test_a_cursor_outlives_what_is_written_after_it(governor: Governor) -> None:
    """Broken if the end of one reading is not the beginning of the next."""
    filled(governor)
    first = governor.feed()
    before = ids(list(first))
    filled(governor)
    after = ids(list(governor.feed(after=first.cursor)))
    assert before + after == ids(list(governor.feed()))
    assert len(before) == len(after)


def test_it_can_go_on_after_its_end(governor: Governor) -> None:
    """Broken if a feed that came to its end does not give what was committed since."""
    reading = governor.feed()
    assert list(reading) == []
    filled(governor)
    assert ids(list(governor.feed())) == ids(list(reading))


@pytest.mark.parametrize("page", [1, 2, 500])
def test_one_session_and_some_kinds(governor: Governor, page: int) -> None:
    """Broken if a filter lets something else through, or holds back what is wanted."""
    first, *_ = filled(governor)
    everything = list(governor.feed())
    kinds = ("call_finished", "session_closed")
    for session in (None, first.id):
        for wanted in ((), kinds, ("of_a_newer_release",)):
            expected = [
                recorded.id
                for recorded in everything
                if session in {None, recorded.session_id}
                and (not wanted or recorded.kind in wanted)
            ]
            found = governor.feed(session=session, kinds=wanted, page=page)
            assert expected == ids(list(found))
            assert list(governor.feed(session=session, kinds=wanted, after=found.cursor)) == []


def test_a_filter_goes_on_from_a_cursor(governor: Governor) -> None:
    """Broken if what was left out before is counted, or a session's next events are not found from a cursor."""
    first, *_ = filled(governor)
    options: dict[str, Any] = {"session": first.id, "kinds": ["call_decided"], "page": 1}
    reading = governor.feed(**options)
    begun = [next(reading).id, next(reading).id]
    rest = ids(list(governor.feed(after=reading.cursor, **options)))
    assert ids(list(governor.feed(**options))) == begun + rest
    whole = governor.feed()
    one = next(whole)
    assert one.seq == 1
    later = ids(list(governor.feed(after=whole.cursor, session=first.id)))
    assert ids(list(governor.feed(session=first.id)))[1:] == later


def test_a_cursor_of_other_events_is_refused(governor: Governor) -> None:
    """Broken if what one filter has left out is taken for given by another."""
    first, *_ = filled(governor)
    some = governor.feed(session=first.id)
    list(some)
    for other in ({}, {"kinds": ["call_decided"]}, {"session": new_id()}):
        with pytest.raises(Misuse, match="left out"):
            governor.feed(after=some.cursor, **other)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options",
    [
        {"after": ""},
        {"after": "17"},
        {"after": "1.x.0000000000000000.all"},
        {"page": 0},
        {"page": _feed.MAX_PAGE + 1},
        {"kinds": "call_decided"},
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(governor: Governor, options: dict[str, Any]) -> None:
    """Broken if a typing error reads everything again, or nothing, and says so nowhere."""
    with pytest.raises(Misuse):
        governor.feed(**options)


def test_an_unknown_session_is_refused(governor: Governor) -> None:
    """Broken if a mistyped id is followed for ever in silence."""
    filled(governor)
    with pytest.raises(Conflict, match="no session"):
        next(governor.feed(session=new_id(), follow=True))


def test_a_cursor_of_another_history_is_refused(governor: Governor, either: str) -> None:
    """Broken if a projection goes on over a store that was restored to an earlier state, or is another's."""
    filled(governor)
    reading = governor.feed()
    list(reading)
    run(either, "UPDATE events SET hash = 'x' WHERE position = (SELECT max(position) FROM events)")
    with pytest.raises(Conflict, match="restored"):
        list(governor.feed(after=reading.cursor))
    run(either, "DELETE FROM events WHERE position = (SELECT max(position) FROM events)")
    with pytest.raises(Conflict, match="restored"):
        list(governor.feed(after=reading.cursor))
    filled(governor)  # beyond where it was
    again = governor.feed()
    assert list(again)[-1].id in ids(list(governor.feed()))


def test_an_event_that_was_removed_is_passed_over(governor: Governor, either: str) -> None:
    """Broken if a cursor cannot be used any more once the session it happened to end in was removed."""
    filled(governor)
    reading = governor.feed()
    for _ in range(3):
        next(reading)
    run(either, "DELETE FROM events WHERE position = 3")
    assert stored(either)[2:] == ids(list(governor.feed(after=reading.cursor)))


@pytest.mark.parametrize("rolls_back", [False, True])
@ON_POSTGRES
def test_a_slow_transaction_is_waited_for(
    either: str, governor: Governor, monkeypatch: pytest.MonkeyPatch, *, rolls_back: bool
) -> None:
    """Broken if events that are committed after later ones are never given: a reader by `position > cursor` fails."""
    monkeypatch.setattr(_feed, "PATIENCE_S", 0.05)
    first, second, third = (_opened(governor, name) for name in "abc")
    reading = governor.feed()
    before = ids(list(reading))
    engine = create_engine(make_url(either).set(drivername="postgresql+psycopg"))
    with engine.connect() as slow:
        [held] = governor.join(slow, touch, first)
        late = [governor.write(touch, second)[0].id, governor.write(touch, third)[0].id]
        assert (
            late == [row[0] for row in run(either, "SELECT id FROM events ORDER BY position")][3:]
        )
        (place,) = slow.execute(select(TABLES.events.c.position).filter_by(id=held.id)).one()
        [(later,)] = run(either, f"SELECT position FROM events WHERE id = '{late[0]}'")  # noqa: S608
        assert place < later, "the slow one was not ahead, so nothing is shown"
        assert list(reading) == []
        assert before == ids(list(governor.feed()))
        (slow.rollback if rolls_back else slow.commit)()
    engine.dispose()
    expected = late if rolls_back else [held.id, *late]
    assert expected == ids(list(reading))
    assert before + expected == ids(list(governor.feed()))


@ON_POSTGRES
def test_a_follower_waits_for_a_slow_transaction(either: str, governor: Governor) -> None:
    """Broken if who follows is given later events first, or is not given those that a slow transaction commits."""
    first, second = (_opened(governor, name) for name in "ab")
    looked = threading.Event()
    found: list[str] = []

    def follow(reading: Feed) -> None:
        for recorded in reading:
            found.append(recorded.id)
            if len(found) == 6:
                reading.close()

    engine = create_engine(make_url(either).set(drivername="postgresql+psycopg"))
    reading = governor.feed(follow=True)
    waits = reading._wait_for_writers

    def seen(doubtful: int) -> Any:
        pause = waits(doubtful)
        if reading._doubt is not None:
            looked.set()
        return pause

    reading._wait_for_writers = seen  # type: ignore[method-assign]
    with engine.connect() as slow:
        [held] = governor.join(slow, touch, first)
        late = [governor.write(touch, second)[0].id for _ in range(3)]
        thread = threading.Thread(target=follow, args=(reading,))
        thread.start()
        assert looked.wait(20), "the reader never saw that somebody was writing"
        assert len(found) == 2
        slow.commit()
    thread.join(20)
    engine.dispose()
    assert [held.id, *late] == found[2:]


@ON_POSTGRES
def test_others_transactions_are_not_waited_for(either: str, governor: Governor) -> None:
    """Broken if any long transaction of the same database, or one that only reads our tables, holds the feed up."""
    session = _opened(governor, "a")
    engine = create_engine(make_url(either).set(drivername="postgresql+psycopg"))
    with engine.connect() as slow:
        slow.execute(text("CREATE TABLE theirs (n integer)"))
        slow.execute(text("INSERT INTO theirs VALUES (1)"))
        slow.execute(select(TABLES.events)).all()
        run(either, "SELECT nextval(pg_get_serial_sequence('events', 'position'))")  # leaves a gap
        governor.write(touch, session)
        assert stored(either) == ids(list(governor.feed()))
    engine.dispose()


@pytest.mark.parametrize("either", ["sqlite"], indirect=True)
def test_an_open_transaction_on_a_file_is_ahead_of_nothing(either: str, governor: Governor) -> None:
    """Broken if what is not committed is given, or what is written after it can come before it."""
    first, second = (_opened(governor, name) for name in "ab")
    reading = governor.feed()
    before = ids(list(reading))
    begun = threading.Event()
    thread = threading.Thread(target=lambda: (begun.set(), governor.write(touch, second)))
    engine = create_engine(either)
    with engine.connect() as slow:
        [held] = governor.join(slow, touch, first)
        thread.start()
        begun.wait()
        assert list(reading) == []
        assert before == ids(list(governor.feed()))
        slow.commit()
    thread.join()
    engine.dispose()
    found = ids(list(reading))
    assert (2, held.id) == (len(found), found[0])


def waited_for(reading: Feed) -> threading.Event:
    """Return what is set once *reading* has found nothing, and waits for more."""
    waits, look = threading.Event(), reading._look

    def seen() -> Any:
        pause = look()
        if pause is not None and pause.ends_early:
            waits.set()
        return pause

    reading._look = seen  # type: ignore[method-assign]
    return waits


@pytest.mark.parametrize("what", ["a call", "a note"])
def test_a_follower_is_woken_by_this_process(
    governor: Governor, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Broken if a follower learns of what its own process commits only when it looks for others'."""
    monkeypatch.setattr(_feed, "POLL_S", 3_600.0)
    with governor.session("s", agent="bot") as session:
        reading = governor.feed(follow=True)
        waits = waited_for(reading)
        found: list[Recorded] = []
        waiting = threading.Thread(target=lambda: found.extend(_until(reading, 2)))
        waiting.start()
        assert waits.wait(20)
        if what == "a call":
            act(1)
        else:
            session.record("noted")
        waiting.join(20)
        assert [recorded.seq for recorded in found] == [1, 2]


@governed(name="act")
async def act_async(number: int) -> int:
    """Return the number."""
    return number


@pytest.mark.parametrize("what", ["a call", "a note"])
@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_an_awaiting_follower_is_woken(
    governor: Governor, monkeypatch: pytest.MonkeyPatch, anyio_backend: str, what: str
) -> None:
    """Broken if a task that follows is not woken by what its own process commits."""
    monkeypatch.setattr(_feed, "POLL_S", 3_600.0)
    found: list[int] = []

    async def follow() -> None:
        async for recorded in reading:
            found.append(recorded.seq)
            if len(found) == 2:
                return

    with anyio.fail_after(20):
        async with (
            governor.session("s", agent="bot") as session,
            anyio.create_task_group() as group,
        ):
            reading = governor.feed(follow=True)
            waits = waited_for(reading)
            group.start_soon(follow)
            assert await anyio.to_thread.run_sync(waits.wait, 20)
            if what == "a call":
                await act_async(1)
            else:
                await session.arecord("noted")
    assert found == [1, 2]


def test_a_follower_sees_what_others_commit(either: str, governor: Governor) -> None:
    """Broken if a follower is blind to what is written through another store on the same database."""
    reading = governor.feed(follow=True)
    found: list[Recorded] = []
    waiting = threading.Thread(target=lambda: found.extend(_until(reading, 16)))
    waiting.start()
    with Governor(either, policy=ALLOW_ALL) as other, other.session("s", agent="bot"):
        for number in range(7):
            act(number)
    waiting.join(20)
    assert stored(either) == ids(found)


@pytest.mark.parametrize("ends", ["feed", "governor"])
def test_a_follower_ends(either: str, monkeypatch: pytest.MonkeyPatch, ends: str) -> None:
    """Broken if a thread that follows cannot be ended, or ends with an error, when its feed or governor is closed."""
    monkeypatch.setattr(_feed, "POLL_S", 3_600.0)
    with closing(Governor(either, policy=ALLOW_ALL)) as governor:
        reading = governor.feed(follow=True)
        ended: list[object] = []
        waits = waited_for(reading)
        waiting = threading.Thread(target=lambda: ended.append(list(reading)))
        waiting.start()
        assert waits.wait(20)
        (reading if ends == "feed" else governor).close()
        waiting.join(20)
    assert ended == [[]]


def test_now_is_after_what_is_there(governor: Governor) -> None:
    """Broken if who asks for what comes is given what was."""
    filled(governor)
    reading = governor.feed(after="now")
    assert list(reading) == []
    cursor = reading.cursor
    filled(governor)
    assert 24 == len(list(reading)) == len(list(governor.feed(after=cursor)))


async def test_a_cancelled_follower_loses_nothing(governor: Governor) -> None:
    """Broken if what was read when a task was cancelled is neither given nor read again."""
    filled(governor)
    reading = governor.feed(page=3)
    found: list[str] = []
    for number in range(200):
        with anyio.CancelScope() as scope:
            if number % 2:
                scope.cancel()
            found.append((await anext(reading)).id)
        if len(found) == 24:
            break
    assert ids(list(governor.feed())) == found


def test_an_outage_is_passed_over(
    governor: Governor, either: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Broken if a follower must begin anew, or misses something, because the store did not answer once."""
    filled(governor)
    reading = governor.feed(page=2)
    found = [next(reading).id, next(reading).id]
    run(either, "ALTER TABLE events RENAME TO away")
    with pytest.raises(StoreUnavailable):
        next(reading)
    run(either, "ALTER TABLE away RENAME TO events")
    assert stored(either) == found + ids(list(reading))


def test_a_position_that_was_changed_is_found(governor: Governor, either: str) -> None:
    """Broken if the order in which a session's events are given can be changed unseen."""
    first, *_ = filled(governor)
    assert [report.problem for report in governor.verify()] == [None] * 3
    where = f"WHERE session_id = '{first.id}' AND seq IN (2, 3)"
    pairs = run(either, f"SELECT position, seq FROM events {where} ORDER BY seq")  # noqa: S608
    run(
        either,
        f"UPDATE events SET position = -position {where}",  # noqa: S608
        *(
            f"UPDATE events SET position = {other} WHERE position = -{position}"  # noqa: S608
            for (position, _), (other, _) in zip(pairs, reversed(pairs), strict=True)
        ),
    )
    problems = [report.problem for report in governor.verify() if report.problem]
    assert len(problems) == 1
    assert "position" in problems[0]


def test_a_position_that_was_never_given_is_found(governor: Governor, either: str) -> None:
    """Broken if an event can be put beyond the end of the feed, where its readers pass over it, unseen."""
    filled(governor)
    run(
        either,
        "UPDATE events SET position = position + 7 "
        "WHERE position = (SELECT max(position) FROM events)",
    )
    assert ["position" in str(report.problem) for report in governor.verify()] == [
        True,
        False,
        False,
    ]


def _until(reading: Feed, count: int) -> Iterator[Recorded]:
    for number, recorded in enumerate(reading, 1):
        yield recorded
        if number == count:
            return


def _opened(governor: Governor, name: str) -> str:
    session = governor.session(name, agent="bot")
    return governor.write(sessions.open_session, name, session.identity, policy=None).session_id
