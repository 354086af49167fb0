"""The writer by itself: who runs a job, in what order, in which transaction, and what a failure or a signal does."""

import asyncio
import fcntl
import gc
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from sqlalchemy import Connection, event, text

from interlock._clock import SystemClock
from interlock.errors import StoreUnavailable
from interlock.store.engine import Store
from interlock.store.writer import MAX_BATCH, Writer, outcome

Job = Callable[[Connection], Any]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A store with two tables of the test's own: numbers, and links to them that are checked at the commit."""
    store = Store(f"sqlite:///{tmp_path / 'writer.db'}", clock=SystemClock())
    store.write(_create)
    yield store
    store.close()


@pytest.fixture
def writer(store: Store) -> Writer:
    """The writer of that store."""
    return store._writer


@pytest.fixture
def commits(store: Store) -> list[int]:
    """Grows by one at each commit."""
    seen: list[int] = []
    event.listen(store._writing, "commit", lambda _: seen.append(1))
    return seen


def _create(connection: Connection) -> None:
    connection.execute(text("CREATE TABLE numbers (n INTEGER PRIMARY KEY)"))
    connection.execute(
        text("CREATE TABLE links (n REFERENCES numbers DEFERRABLE INITIALLY DEFERRED)")
    )


def put(n: int) -> Job:
    """Return a job that writes *n* and returns it."""

    def job(connection: Connection) -> int:
        connection.execute(text("INSERT INTO numbers VALUES (:n)"), {"n": n})
        return n

    return job


def dangle(connection: Connection) -> None:
    """Write what only the commit finds wrong."""
    connection.execute(text("INSERT INTO links VALUES (-1)"))


def raising(error: BaseException) -> Job:
    """Return a job that writes and then raises."""

    def job(connection: Connection) -> None:
        put(1_000_000)(connection)
        raise error

    return job


def written(store: Store) -> list[int]:
    """Return the numbers in the file, in order."""
    return store.read(lambda c: list(c.execute(text("SELECT n FROM numbers ORDER BY n")).scalars()))


@contextmanager
def busy(writer: Writer) -> Iterator[None]:
    """Keep the writer busy in another thread, so that whatever is submitted within has to queue."""
    begun, end = threading.Event(), threading.Event()

    def hold(_: Connection) -> None:
        begun.set()
        end.wait()

    thread = threading.Thread(target=writer.run, args=(hold,))
    thread.start()
    begun.wait()
    try:
        yield
    finally:
        end.set()
        thread.join()


def test_an_idle_writer_is_driven_by_the_caller(writer: Writer) -> None:
    """Broken if a lone caller pays for a hop to another thread."""
    assert writer.run(lambda _: threading.current_thread()) is threading.current_thread()
    assert writer._thread is None


def test_what_waits_is_committed_together_and_in_order(
    store: Store, writer: Writer, commits: list[int]
) -> None:
    """Broken if queued jobs pay for a commit each, or overtake each other, or get each other's results."""
    seen: list[int] = []

    def noted(n: int) -> Job:
        return lambda connection: (seen.append(n), put(n)(connection))[1]

    with busy(writer):
        futures = [writer.submit(noted(n)) for n in range(100)]
    assert [future.result() for future in futures] == list(range(100))
    assert seen == list(range(100))
    assert written(store) == list(range(100))
    assert len(commits) <= 3, "the one that kept it busy, and one or two batches"


def test_a_commit_survives_the_loss_of_power(writer: Writer) -> None:
    """Broken if SQLite is told to acknowledge what it has not flushed; no kill of a process shows that."""
    asked = ("journal_mode", "synchronous", "foreign_keys")
    found = writer.run(lambda c: [c.exec_driver_sql(f"PRAGMA {name}").scalar() for name in asked])
    assert found == ["wal", 2, 1], (
        "2 is FULL: https://www.sqlite.org/pragma.html#pragma_synchronous"
    )


def test_processes_queue_at_the_lock_file(store: Store, writer: Writer, tmp_path: Path) -> None:
    """Broken if a process writes out of turn: SQLite's own waiting is by lot, and some then wait for seconds."""
    with (tmp_path / "writer.db.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        future = writer.submit(put(1))
        _until(lambda: future.running() or future.done())
        other = sqlite3.connect(tmp_path / "writer.db", isolation_level=None)
        with closing(other):
            other.execute(
                "BEGIN IMMEDIATE"
            )  # nobody is in a transaction: the writer waits before its own
            other.execute("ROLLBACK")
        assert written(store) == []
        fcntl.flock(lock, fcntl.LOCK_UN)
    assert future.result() == 1
    assert written(store) == [1]


def test_a_batch_is_bounded(store: Store, writer: Writer, commits: list[int]) -> None:
    """Broken if a long queue is one transaction, so that its first waits for its last."""
    count = 2 * MAX_BATCH + 1
    with busy(writer):
        futures = [writer.submit(put(n)) for n in range(count)]
    assert [future.result() for future in futures] == list(range(count))
    assert written(store) == list(range(count))
    assert 4 <= len(commits) <= 5


@pytest.mark.parametrize(
    "error", [ValueError("no"), SystemExit(3), KeyboardInterrupt(), CancelledError()], ids=repr
)
def test_a_failing_job_harms_no_neighbour(
    store: Store, writer: Writer, error: BaseException
) -> None:
    """Broken if what one job raises reaches another caller, undoes another's work, or keeps its own."""
    with busy(writer):
        before = [writer.submit(put(n)) for n in range(5)]
        failing: Future[None] = writer.submit(raising(error))
        after = [writer.submit(put(n)) for n in range(5, 10)]
    assert failing.exception() is error
    assert [future.result() for future in before + after] == list(range(10))
    assert written(store) == list(range(10))


def test_a_statement_that_fails_is_its_callers_own(store: Store, writer: Writer) -> None:
    """Broken if the driver's error escapes untyped, or fails more than the one job."""
    with busy(writer):
        futures = [writer.submit(put(n)) for n in (1, 2, 2, 3)]
    errors = [type(future.exception()) for future in futures]
    assert errors == [type(None), type(None), StoreUnavailable, type(None)]
    assert written(store) == [1, 2, 3]


def test_a_commit_that_fails_is_one_jobs_own(store: Store, writer: Writer) -> None:
    """Broken if a batch is given up, or acknowledged, when it is its commit that fails."""
    with busy(writer):
        futures: list[Future[Any]] = [writer.submit(job) for job in (put(1), dangle, put(2))]
    errors = [type(future.exception()) for future in futures]
    assert errors == [type(None), StoreUnavailable, type(None)]
    assert written(store) == [1, 2]


def test_a_lone_job_that_fails_leaves_nothing(store: Store, writer: Writer) -> None:
    """Broken if the caller's own thread keeps the turn, or a half-done transaction, after a failure."""
    with pytest.raises(ValueError, match="no"):
        writer.run(raising(ValueError("no")))
    with pytest.raises(StoreUnavailable):
        writer.run(dangle)
    assert writer.run(put(1)) == 1
    assert written(store) == [1]


def test_where_no_transaction_begins_every_job_fails_alike(store: Store, writer: Writer) -> None:
    """Broken if a whole queue tries, one after the other, what has just failed for the first."""
    tried: list[str] = []

    with busy(writer):
        futures = [writer.submit(put(n)) for n in range(10)]
        writer._turnstile = _Shut(tried)
    assert [type(future.exception()) for future in futures] == [StoreUnavailable] * 10
    assert len(tried) <= 2
    assert written(store) == []


class _Shut:
    def __init__(self, tried: list[str]) -> None:
        self._tried = tried

    def __enter__(self) -> None:
        self._tried.append("entered")
        raise OSError("no lock file")

    def __exit__(self, *_: object) -> None:
        """Do nothing."""


@pytest.mark.parametrize("url", ["sqlite:///{}/read.db", "sqlite://"], ids=["file", "memory"])
def test_reading_cannot_write(tmp_path: Path, url: str) -> None:
    """Broken if what is run as a read can write, beside the writer and without its turn."""
    store = Store(url.format(tmp_path), clock=SystemClock())
    store.write(_create)
    with pytest.raises(StoreUnavailable, match="readonly"):
        store.read(put(1))
    assert store.write(put(2)) == 2
    assert written(store) == [2]
    store.close()


def test_what_was_cancelled_in_the_queue_never_runs(store: Store, writer: Writer) -> None:
    """Broken if a job that its caller took back is written all the same."""
    with busy(writer):
        futures = [writer.submit(put(n)) for n in range(3)]
        assert futures[1].cancel()
    assert [futures[0].result(), futures[2].result()] == [0, 2]
    assert written(store) == [0, 2]


def test_closing_commits_what_waits(store: Store, writer: Writer) -> None:
    """Broken if a queued job is dropped at the end, or one that comes later waits for ever."""
    with busy(writer):
        futures = [writer.submit(put(n)) for n in range(10)]
        closing = threading.Thread(target=writer.close)
        closing.start()
    closing.join()
    writer.close()
    assert [future.result(0) for future in futures] == list(range(10))
    assert written(store) == list(range(10))
    with pytest.raises(StoreUnavailable, match="closed"):
        writer.submit(put(11))
    with pytest.raises(StoreUnavailable, match="closed"):
        writer.run(put(12))


def _interrupt() -> None:
    main = threading.main_thread().ident
    assert main is not None
    signal.pthread_kill(main, signal.SIGINT)


def _until(state: Callable[[], bool]) -> None:
    while not state():
        time.sleep(0.001)


def _main_waits(within: Callable[..., object]) -> bool:
    """Whether the main thread is blocked, for a future's *within*."""
    frame = sys._current_frames()[threading.main_thread().ident or 0]
    caller = frame.f_back
    blocked = frame.f_code is threading.Condition.wait.__code__
    return blocked and caller is not None and caller.f_code is within.__code__


def test_interrupted_before_its_turn(store: Store, writer: Writer) -> None:
    """Broken if Ctrl-C while a caller queues leaves its job behind, to be written when nobody waits for it."""

    def watch() -> None:
        _until(lambda: _main_waits(Future.result))
        _interrupt()

    with busy(writer):
        watcher = threading.Thread(target=watch)
        watcher.start()
        with pytest.raises(KeyboardInterrupt):
            writer.run(put(1))
        watcher.join()
    assert writer.run(put(2)) == 2
    assert written(store) == [2]


def test_interrupted_during_its_turn(store: Store, writer: Writer) -> None:
    """Broken if Ctrl-C, while the writer has the job, is raised before it is known whether that was committed."""
    begun, end, over = threading.Event(), threading.Event(), threading.Event()

    def slow(connection: Connection) -> None:
        put(1)(connection)
        begun.set()
        end.wait()

    def watch() -> None:
        with busy(writer):  # so that the job is queued ...
            ready.set()
            _until(lambda: _main_waits(Future.result))
        begun.wait()  # ... and is the writer's now
        _interrupt()
        _until(lambda: _main_waits(Future.exception) or over.is_set())
        end.set()

    ready = threading.Event()
    watcher = threading.Thread(target=watch)
    watcher.start()
    ready.wait()
    try:
        with pytest.raises(KeyboardInterrupt):
            writer.run(slow)
        assert written(store) == [1], "it was raised before the end"
    finally:
        over.set()
        watcher.join()


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_an_outcome_is_awaited_through_a_cancelled_scope() -> None:
    """Broken if a task in a cancelled scope leaves before it is known whether its job was committed."""
    future: Future[int] = Future()
    with anyio.CancelScope() as scope:
        scope.cancel()
        threading.Timer(0.01, future.set_result, [1]).start()
        assert await outcome(future) == (1, None)
        await anyio.lowlevel.checkpoint()
    assert scope.cancelled_caught


async def test_every_cancellation_of_a_task_is_held_back() -> None:
    """Broken if a task that is cancelled again and again leaves early, or is not told in the end."""
    future: Future[int] = Future()
    task = asyncio.create_task(outcome(future))
    for _ in range(5):
        await asyncio.sleep(0)
        task.cancel()
    await asyncio.sleep(0.01)
    assert not task.done()
    future.set_result(1)
    result, held = await task
    assert (result, type(held)) == (1, asyncio.CancelledError)


async def test_a_failed_outcome_is_seen_once(caplog: pytest.LogCaptureFixture) -> None:
    """Broken if a failure that its caller was told of is also reported as one that nobody has looked at."""

    async def fail() -> None:
        future: Future[int] = Future()
        threading.Timer(0.01, future.set_exception, [StoreUnavailable("down")]).start()
        await outcome(future)

    try:
        await fail()
    except StoreUnavailable as error:
        told = str(error)  # the error itself would keep alive what is looked for
    assert told == "down"
    gc.collect()
    await asyncio.sleep(0)
    assert [record.getMessage() for record in caplog.records] == []
