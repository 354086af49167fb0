"""Real trouble with the database, before a tool runs and while it runs: it is full, locked, read-only, not there."""

import logging
import os
import resource
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path

import anyio
import pytest
from sqlalchemy import Connection, event

from interlock import Governor, governed
from interlock.errors import Conflict, StoreUnavailable
from tests.faults._shapes import Shape, Witness, every_shape
from tests.races._audit import audit

Make = Callable[..., Governor]
ALLOW = {"version": 1, "name": "allow", "default": "allow"}


@pytest.fixture(autouse=True)
def room() -> Iterator[None]:
    """Whatever a test does, the next one has all the room again."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def pragma(one: Governor, statement: str) -> None:
    """Set something on the writer's connection, and on those that replace it after a failure."""

    def configure(connection: sqlite3.Connection, _: object) -> None:
        connection.execute(f"PRAGMA {statement}")

    store = one._machinery.store
    event.listen(store.database.writing, "connect", configure)
    link = store._writer._batches._link
    if link is not None:
        link.connection.connection.cursor().execute(f"PRAGMA {statement}")


def path_of(one: Governor) -> Path:
    """Return where the database is."""
    return Path(str(one._machinery.store.url.database))


class Trouble:
    """Something that is wrong with a database, to be begun and ended."""

    reason: str

    def __init__(self, one: Governor) -> None:
        self.one = one

    def begin(self) -> None:
        """Make it so."""
        raise NotImplementedError

    def end(self) -> None:
        """Make it good."""


class ReadOnly(Trouble):
    """Nothing may be written."""

    reason = "readonly"

    def begin(self) -> None:
        """Have SQLite refuse to write."""
        pragma(self.one, "query_only=ON")

    def end(self) -> None:
        """Let it write."""
        pragma(self.one, "query_only=OFF")


class Full(Trouble):
    """The kernel takes not a byte more."""

    reason = "disk I/O error"

    def begin(self) -> None:
        """Forbid every file of this process to grow."""
        self._before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, self._before[1]))

    def end(self) -> None:
        """Let them grow."""
        resource.setrlimit(resource.RLIMIT_FSIZE, self._before)


class Locked(Trouble):
    """Somebody else holds the write lock and does not let go."""

    reason = "locked"

    def begin(self) -> None:
        """Take the lock."""
        pragma(self.one, "busy_timeout=10")
        self._other = sqlite3.connect(
            path_of(self.one), isolation_level=None, check_same_thread=False
        )
        self._other.execute("BEGIN EXCLUSIVE")

    def end(self) -> None:
        """Let go."""
        self._other.close()


class Tableless(Trouble):
    """The table of events is not there."""

    reason = "no such table"

    def begin(self) -> None:
        """Rename it."""
        self._run("ALTER TABLE events RENAME TO hidden")

    def end(self) -> None:
        """Give it back its name."""
        self._run("ALTER TABLE hidden RENAME TO events")

    def _run(self, statement: str) -> None:
        with closing(sqlite3.connect(path_of(self.one))) as other:
            other.execute(statement)


TROUBLES = [ReadOnly, Full, Locked, Tableless]
every_trouble = pytest.mark.parametrize("trouble", TROUBLES, ids=lambda kind: kind.__name__)

BIG = "x" * 20_000
"""An argument that needs new pages."""


def about(error: StoreUnavailable, reason: str) -> None:
    """Assert that the error says what is wrong, with what, and what to do."""
    told = str(error)
    assert reason in told
    assert "interlock.db" in told
    assert "Check that its directory exists, is writable and has space" in told
    assert error.__cause__ is not None


@every_trouble
@every_shape
@pytest.mark.promise(1)
def test_before_a_tool_runs(governor: Make, shape: Shape, trouble: type[Trouble]) -> None:
    """Broken if a tool runs though its intent cannot be written, or if the store does not recover by itself."""
    one = governor()
    witness = Witness(one)
    wrong = trouble(one)
    tool = shape.make(witness)
    with one.session("troubled", agent="t"):
        wrong.begin()
        for _ in range(3):
            with pytest.raises(StoreUnavailable) as refused:
                shape.run(tool)
            about(refused.value, trouble.reason)
        assert witness.seen == []
        wrong.end()
        assert shape.run(tool) == "done"
    assert witness.seen == [1]
    assert len(audit(one).decided) == 1


@every_trouble
@every_shape
@pytest.mark.promise(6)
def test_while_a_tool_runs(
    governor: Make, shape: Shape, trouble: type[Trouble], caplog: pytest.LogCaptureFixture
) -> None:
    """Broken if a tool's result is lost because its outcome cannot be written, or if nobody is told of that."""
    one = governor()
    wrong = trouble(one)
    with one.session("troubled", agent="t"):
        threads_begin = partial(_elsewhere, wrong.begin)
        with caplog.at_level(logging.ERROR, logger="interlock"):
            assert shape.run(shape.make(threads_begin)) == "done"
        wrong.end()
        said = [r.getMessage() for r in caplog.records if r.name == "interlock"]
        assert len(said) == 1
        (open_call,) = Witness(one).intents()
        for part in ("act ran, but its outcome could not be recorded", trouble.reason, open_call):
            assert part in said[0]
        assert shape.run(shape.make(lambda: None)) == "done"
    assert audit(one).in_doubt == {open_call}


def _elsewhere(begin: Callable[[], None]) -> None:
    """Run *begin* in another thread, as somebody else would; SQLite's own locks care about that."""
    thread = threading.Thread(target=begin)
    thread.start()
    thread.join()


@every_shape
@pytest.mark.promise(6)
def test_closed_while_a_tool_runs(governor: Make, shape: Shape, database: str) -> None:
    """Broken if a tool's result is lost because its governor was closed meanwhile."""
    one = governor()
    session = one.session("closed", agent="c")
    session.__enter__()
    assert shape.run(shape.make(one.close)) == "done"
    with pytest.raises(StoreUnavailable, match="closed"):
        shape.run(shape.make(pytest.fail))
    with pytest.raises(StoreUnavailable, match="closed"):
        session.__exit__(None, None, None)
    with Governor(database) as after:
        assert len(audit(after).in_doubt) == 1


@every_shape
@pytest.mark.promise(6)
def test_a_session_that_is_lost_while_its_tool_runs(
    governor: Make, shape: Shape, caplog: pytest.LogCaptureFixture
) -> None:
    """Broken if a call whose outcome cannot be recorded, its session's row being gone, is no longer in doubt."""
    one = governor()

    def lose() -> None:
        with closing(sqlite3.connect(path_of(one))) as stranger, stranger:
            stranger.execute("DELETE FROM sessions")

    before = Witness(one).intents()
    with suppress(Conflict), one.session("lost", agent="l"):
        assert shape.run(shape.make(lambda: _elsewhere(lose))) == "done"
        assert sum("in doubt" in record.getMessage() for record in caplog.records) == 1
    assert len(Witness(one).intents() - before) == 1


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    """Have the kernel fail every write beyond *size* bytes of any file, a part of it done."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@every_shape
@pytest.mark.promise(1, 6)
def test_a_write_that_fails_at_any_byte(governor: Make, shape: Shape) -> None:
    """Broken if a disk that fills up in the midst of a write runs a tool without intent, or spoils what is there."""
    one = governor()
    log = path_of(one).with_name("interlock.db-wal")
    witness = Witness(one)
    tool = shape.make(witness)
    refused, kept, room = 0, 0, 0
    with one.session("filling", agent="f"):
        while True:
            intents, happened = len(witness.intents()), len(witness.seen)
            with no_file_larger_than(log.stat().st_size + room):
                try:
                    assert shape.run(tool) == "done"
                except StoreUnavailable as error:
                    about(error, "disk I/O error")
                    assert len(witness.seen) == happened
                    refused += 1
            left = len(witness.intents()) - intents
            kept += left
            if len(witness.seen) > happened and not left:
                break
            room += 1_021  # a prime, so that pages are cut at ever other places
    assert refused >= 2, "no write of an intent was cut"
    assert kept >= 2, "no write of an outcome was cut"
    assert len(witness.seen) == kept + 1
    books = audit(one)
    assert len(books.in_doubt) == kept


def test_a_disk_that_fills_up(governor: Make) -> None:
    """Broken if, near the end of the space, a call is acknowledged that is not in the file."""
    one = governor()
    ran: list[int] = []

    @governed
    def act(number: int, text: str) -> int:
        ran.append(number)
        return number

    returned: list[int] = []
    with one.session("filling", agent="f"):
        pages = one.read(_pages)
        pragma(one, f"max_page_count={pages + 40}")
        with pytest.raises(StoreUnavailable, match="full"):  # noqa: PT012 - it has to happen some time
            for number in range(100):
                returned += [act(number, BIG)]
        assert 0 < len(returned) < 100
        assert ran == returned
        pragma(one, "max_page_count=1000000")
        assert act(100, BIG) == 100
    assert audit(one).in_doubt == set()


def _pages(connection: Connection) -> int:
    return int(connection.exec_driver_sql("PRAGMA page_count").scalar_one())


def _directory(path: Path) -> None:
    path.mkdir()


def _no_parent(path: Path) -> None:
    path.parent.rmdir()


def _garbage(path: Path) -> None:
    path.write_bytes(os.urandom(8_192))


def _lock_is_directory(path: Path) -> None:
    path.with_name("interlock.db.lock").mkdir()


@pytest.mark.parametrize("spoil", [_directory, _no_parent, _garbage, _lock_is_directory])
@pytest.mark.promise(1)
def test_a_place_that_is_none(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    """Broken if a governor can be had over a database that cannot be opened, or the error does not say where it is."""
    place = tmp_path / "place"
    place.mkdir()
    spoil(place / "interlock.db")
    with pytest.raises(StoreUnavailable) as refused:
        Governor(f"sqlite:///{place / 'interlock.db'}", policy=ALLOW)
    about(refused.value, "")


@every_trouble
@pytest.mark.promise(1)
def test_a_session_that_cannot_be_opened(governor: Make, trouble: type[Trouble]) -> None:
    """Broken if the body of a session runs though the session is nowhere recorded."""
    one = governor()
    wrong = trouble(one)
    wrong.begin()
    entered: list[str] = []
    with pytest.raises(StoreUnavailable), one.session("troubled", agent="t"):
        entered.append("sync")

    async def main() -> None:
        async with one.session("troubled", agent="t"):
            entered.append("async")

    with pytest.raises(StoreUnavailable):
        anyio.run(main)
    assert entered == []
    wrong.end()
    assert audit(one).facts == []


@every_trouble
@pytest.mark.promise(8)
def test_a_session_that_cannot_be_closed(
    governor: Make, trouble: type[Trouble], caplog: pytest.LogCaptureFixture
) -> None:
    """Broken if the store's error hides the one that ended a session, or an end that is not kept seems good."""
    one = governor()
    wrong = trouble(one)

    def fail() -> None:
        wrong.begin()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), one.session("troubled", agent="t"):
        fail()
    assert [r.levelname for r in caplog.records if "could not be closed" in r.getMessage()] == [
        "ERROR"
    ]
    wrong.end()
    with pytest.raises(StoreUnavailable), one.session("troubled", agent="t"):
        wrong.begin()
    wrong.end()
    audit(one)
