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
from concurrent.futures import CancelledError
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from sqlalchemy import Connection, text

from interlock._clock import SystemClock
from interlock.errors import StoreUnavailable
from interlock.store.engine import Store
from interlock.store.jobs import Bell
from interlock.store.jobs import Job as Waited
from interlock.store.writer import MAX_BATCH, Writer
from tests.races.commits import count_commits

Job = Callable[[Connection], Any]

ON_A_FILE = pytest.mark.parametrize("either", ["sqlite"], indirect=True)
"""For what only SQLite has, or does: its file, its lock file, its one transaction for jobs of all kinds."""


class Pending:
    """A job that was queued, and that nobody waits for yet."""

    def __init__(self, writer: Writer, run: Job) -> None:
        self.job: Waited[Any] = Waited(run)
        self.job.expect()
        writer.submit(self.job)

    @property
    def bell(self) -> Bell:
        """What is rung when the job is done."""
        assert self.job.bell is not None
        return self.job.bell

    def result(self) -> Any:
        """Wait, and return what came of it."""
        self.bell.wait()
        return self.job.outcome()

    def exception(self) -> BaseException | None:
        """Wait, and return what it raised."""
        self.bell.wait()
        return self.job.error


def run(writer: Writer, job: Job) -> Any:
    """Run *job* as a caller does."""
    return writer.run(Waited(job))


@pytest.fixture
def store(either: str) -> Iterator[Store]:
    """A store with two tables of the test's own: numbers, and links to them that are checked at the commit."""
    store = Store(either, clock=SystemClock())
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
    return count_commits(store)


def _create(connection: Connection) -> None:
    connection.execute(text("CREATE TABLE numbers (n INTEGER PRIMARY KEY)"))
    connection.execute(
        text("CREATE TABLE links (n INTEGER REFERENCES numbers DEFERRABLE INITIALLY DEFERRED)")
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

    thread = threading.Thread(target=run, args=(writer, hold))
    thread.start()
    begun.wait()
    try:
        yield
    finally:
        end.set()
        thread.join()


def test_an_idle_writer_is_driven_by_the_caller(writer: Writer) -> None:
    """Broken if a lone caller pays for a hop to another thread."""
    assert run(writer, lambda _: threading.current_thread()) is threading.current_thread()
    assert writer._thread is None


@ON_A_FILE
def test_what_waits_is_committed_together_and_in_order(
    store: Store, writer: Writer, commits: list[int]
) -> None:
    """Broken if queued jobs pay for a commit each, or overtake each other, or get each other's results."""
    seen: list[int] = []

    def noted(n: int) -> Job:
        return lambda connection: (seen.append(n), put(n)(connection))[1]

    with busy(writer):
        futures = [Pending(writer, noted(n)) for n in range(100)]
    assert [future.result() for future in futures] == list(range(100))
    assert seen == list(range(100))
    assert written(store) == list(range(100))
    assert len(commits) <= 3, "the one that kept it busy, and one or two batches"


@ON_A_FILE
def test_a_commit_survives_the_loss_of_power(writer: Writer) -> None:
    """Broken if SQLite is told to acknowledge what it has not flushed; no kill of a process shows that."""
    asked = ("journal_mode", "synchronous", "foreign_keys")
    found = run(writer, lambda c: [c.exec_driver_sql(f"PRAGMA {name}").scalar() for name in asked])
    assert found == ["wal", 2, 1], (
        "2 is FULL: https://www.sqlite.org/pragma.html#pragma_synchronous"
    )


@ON_A_FILE
def test_processes_queue_at_the_lock_file(store: Store, writer: Writer, tmp_path: Path) -> None:
    """Broken if a process writes out of turn: SQLite's own waiting is by lot, and some then wait for seconds."""
    with (tmp_path / "interlock.db.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        future = Pending(writer, put(1))
        _until(lambda: future.bell.is_claimed)
        other = sqlite3.connect(tmp_path / "interlock.db", isolation_level=None)
        with closing(other):
            other.execute(
                "BEGIN IMMEDIATE"
            )  # nobody is in a transaction: the writer waits before its own
            other.execute("ROLLBACK")
        assert written(store) == []
        fcntl.flock(lock, fcntl.LOCK_UN)
    assert future.result() == 1
    assert written(store) == [1]


@ON_A_FILE
def test_a_crowd_comes_back_together(
    store: Store, writer: Writer, commits: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Broken if the first caller of many who come back makes all others wait for a commit of its own."""
    with busy(writer):
        crowd = [Pending(writer, put(n)) for n in range(4)]
    assert [one.result() for one in crowd] == list(range(4))
    _until(lambda: writer._crowd == len(crowd))
    back: list[Pending] = []

    def others_get_the_processor(_: float) -> None:
        if len(back) < len(crowd) - 1:
            back.append(Pending(writer, put(10 + len(back))))

    before = len(commits)
    monkeypatch.setattr("interlock.store.writer.time.sleep", others_get_the_processor)
    first = Pending(writer, put(20))
    assert first.result() == 20
    assert [one.result() for one in back] == [10, 11, 12]
    assert len(commits) - before == 1


@ON_A_FILE
def test_nobody_is_waited_for_who_does_not_come_back(writer: Writer) -> None:
    """Broken if a caller goes ahead of a crowd, or if one that is alone again still pays for the crowd there was."""
    with busy(writer):
        crowd = [Pending(writer, put(n)) for n in range(4)]
    assert [one.result() for one in crowd] == list(range(4))
    _until(lambda: writer._crowd == len(crowd))
    where = [run(writer, lambda _: threading.current_thread())]
    _until(lambda: writer._crowd == 1)
    where.append(run(writer, lambda _: threading.current_thread()))
    assert where == [writer._thread, threading.current_thread()]


@ON_A_FILE
def test_a_batch_is_bounded(store: Store, writer: Writer, commits: list[int]) -> None:
    """Broken if a long queue is one transaction, so that its first waits for its last."""
    count = 2 * MAX_BATCH + 1
    with busy(writer):
        futures = [Pending(writer, put(n)) for n in range(count)]
    assert [future.result() for future in futures] == list(range(count))
    assert written(store) == list(range(count))
    assert 4 <= len(commits) <= 5


def _await(writer: Writer, job: Job) -> Any:
    """Run *job* as a caller on an event loop of its own does."""

    async def caller() -> Any:
        return await writer.arun(Waited(job))

    return asyncio.run(caller())


@pytest.mark.parametrize("closes", [False, True], ids=["until there is room", "until it closes"])
@pytest.mark.parametrize("call", [run, _await])
def test_who_finds_the_queue_full_waits_outside(
    store: Store,
    writer: Writer,
    call: Callable[[Writer, Job], Any],
    closes: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Broken if a store that is slow fills the memory with jobs, or who waits outside is forgotten there."""
    monkeypatch.setattr("interlock.store.writer.MAX_WAITING", 2)
    ended: list[object] = []

    def caller(n: int) -> None:
        try:
            call(writer, put(n))
        except StoreUnavailable as error:
            ended.append(error)
        else:
            ended.append(n)

    def start(n: int) -> threading.Thread:
        thread = threading.Thread(target=caller, args=(n,))
        thread.start()
        # The writer's thread has taken the first and waits for its turn.
        _until(lambda: writer._thread is not None and writer._queue.qsize() + writer._outside == n)
        return thread

    with busy(writer):
        threads = [start(n) for n in range(6)]
        assert (writer._queue.qsize(), writer._outside) == (2, 3)
        if closes:
            threads.append(threading.Thread(target=writer.close))
            threads[-1].start()
            _until(lambda: len(ended) == 3)
    for thread in threads:
        thread.join()
    assert written(store) == list(range(3 if closes else 6))
    assert len(ended) == 6


@pytest.mark.parametrize(
    "error", [ValueError("no"), SystemExit(3), KeyboardInterrupt(), CancelledError()], ids=repr
)
def test_a_failing_job_harms_no_neighbour(
    store: Store, writer: Writer, error: BaseException
) -> None:
    """Broken if what one job raises reaches another caller, undoes another's work, or keeps its own."""
    with busy(writer):
        before = [Pending(writer, put(n)) for n in range(5)]
        failing = Pending(writer, raising(error))
        after = [Pending(writer, put(n)) for n in range(5, 10)]
    assert failing.exception() is error
    assert [future.result() for future in before + after] == list(range(10))
    assert written(store) == list(range(10))


def test_a_statement_that_fails_is_its_callers_own(store: Store, writer: Writer) -> None:
    """Broken if the driver's error escapes untyped, or fails more than the one job."""
    with busy(writer):
        futures = [Pending(writer, put(n)) for n in (1, 2, 2, 3)]
    errors = [type(future.exception()) for future in futures]
    assert errors == [type(None), type(None), StoreUnavailable, type(None)]
    assert written(store) == [1, 2, 3]


def test_a_commit_that_fails_is_one_jobs_own(store: Store, writer: Writer) -> None:
    """Broken if a batch is given up, or acknowledged, when it is its commit that fails."""
    with busy(writer):
        futures = [Pending(writer, job) for job in (put(1), dangle, put(2))]
    errors = [type(future.exception()) for future in futures]
    assert errors == [type(None), StoreUnavailable, type(None)]
    assert written(store) == [1, 2]


def test_a_lone_job_that_fails_leaves_nothing(store: Store, writer: Writer) -> None:
    """Broken if the caller's own thread keeps the turn, or a half-done transaction, after a failure."""
    with pytest.raises(ValueError, match="no"):
        run(writer, raising(ValueError("no")))
    with pytest.raises(StoreUnavailable):
        run(writer, dangle)
    assert run(writer, put(1)) == 1
    assert written(store) == [1]


@ON_A_FILE
def test_where_no_transaction_begins_every_job_fails_alike(store: Store, writer: Writer) -> None:
    """Broken if a whole queue tries, one after the other, what has just failed for the first."""
    tried: list[str] = []

    with busy(writer):
        futures = [Pending(writer, put(n)) for n in range(10)]
        writer._batches._turnstile = _Shut(tried)
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
        futures = [Pending(writer, put(n)) for n in range(3)]
        assert futures[1].bell.claim()
    assert [futures[0].result(), futures[2].result()] == [0, 2]
    assert written(store) == [0, 2]


def test_closing_commits_what_waits(store: Store, writer: Writer) -> None:
    """Broken if a queued job is dropped at the end, or one that comes later waits for ever."""
    with busy(writer):
        futures = [Pending(writer, put(n)) for n in range(10)]
        closing = threading.Thread(target=writer.close)
        closing.start()
    closing.join()
    writer.close()
    assert [future.bell.is_rung for future in futures] == [True] * 10
    assert [future.result() for future in futures] == list(range(10))
    assert written(store) == list(range(10))
    with pytest.raises(StoreUnavailable, match="closed"):
        Pending(writer, put(11))
    with pytest.raises(StoreUnavailable, match="closed"):
        run(writer, put(12))


def _interrupt() -> None:
    main = threading.main_thread().ident
    assert main is not None
    signal.pthread_kill(main, signal.SIGINT)


def _until(state: Callable[[], bool]) -> None:
    while not state():
        time.sleep(0.001)


def _waits_at() -> int | None:
    """The line from which the main thread waits for its job; None when it does not wait."""
    frame = sys._current_frames()[threading.main_thread().ident or 0]
    caller = frame.f_back
    return caller.f_lineno if frame.f_code is Bell.wait.__code__ and caller else None


def test_interrupted_before_its_turn(store: Store, writer: Writer) -> None:
    """Broken if Ctrl-C while a caller queues leaves its job behind, to be written when nobody waits for it."""

    def watch() -> None:
        _until(lambda: _waits_at() is not None)
        _interrupt()

    with busy(writer):
        watcher = threading.Thread(target=watch)
        watcher.start()
        with pytest.raises(KeyboardInterrupt):
            run(writer, put(1))
        watcher.join()
    assert run(writer, put(2)) == 2
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
            _until(lambda: _waits_at() is not None)
            first = _waits_at()
        begun.wait()  # ... and is the writer's now
        _interrupt()
        _until(lambda: _waits_at() not in {None, first} or over.is_set())
        end.set()

    ready = threading.Event()
    watcher = threading.Thread(target=watch)
    watcher.start()
    ready.wait()
    try:
        with pytest.raises(KeyboardInterrupt):
            run(writer, slow)
        assert written(store) == [1], "it was raised before the end"
    finally:
        over.set()
        watcher.join()


def held_back(writer: Writer, end: threading.Event) -> Waited[int]:
    """Return a job that ends when *end* is set."""

    def job(connection: Connection) -> int:
        end.wait()
        return int(put(1)(connection))

    return Waited(job)


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_an_outcome_is_awaited_through_a_cancelled_scope(
    store: Store, writer: Writer
) -> None:
    """Broken if a task in a cancelled scope leaves before it is known whether its job was committed."""
    end = threading.Event()
    outcomes: list[Any] = []
    with anyio.CancelScope() as scope:
        scope.cancel()
        threading.Timer(0.01, end.set).start()
        outcomes.append(await writer.arun(held_back(writer, end)))
        assert written(store) == [1]
        await anyio.lowlevel.checkpoint()
    assert [result for result, _ in outcomes] == [1]
    assert scope.cancelled_caught


async def test_every_cancellation_of_a_task_is_held_back(store: Store, writer: Writer) -> None:
    """Broken if a task that is cancelled again and again leaves early, or is not told in the end."""
    end = threading.Event()
    task = asyncio.create_task(writer.arun(held_back(writer, end)))
    for _ in range(5):
        await asyncio.sleep(0)
        task.cancel()
    await asyncio.sleep(0.01)
    assert not task.done()
    end.set()
    result, held = await task
    assert (result, type(held)) == (1, asyncio.CancelledError)
    assert written(store) == [1]


async def test_a_failed_outcome_is_seen_once(
    writer: Writer, caplog: pytest.LogCaptureFixture
) -> None:
    """Broken if a failure that its caller was told of is also reported as one that nobody has looked at."""
    told = ""
    try:
        await writer.arun(Waited(raising(StoreUnavailable("down"))))
    except StoreUnavailable as error:
        told = str(error)  # the error itself would keep alive what is looked for
    assert told == "down"
    gc.collect()
    await asyncio.sleep(0)
    assert [record.getMessage() for record in caplog.records] == []


@ON_A_FILE
async def test_tasks_of_one_loop_are_woken_together(
    store: Store, writer: Writer, commits: list[int]
) -> None:
    """Broken if tasks pay for a commit each, or get each other's results."""
    with busy(writer):
        tasks = [asyncio.create_task(writer.arun(Waited(put(n)))) for n in range(100)]
        await asyncio.sleep(0)
    assert [result for result, _ in await asyncio.gather(*tasks)] == list(range(100))
    assert written(store) == list(range(100))
    assert len(commits) <= 3
