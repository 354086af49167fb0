"""
What a governed call costs, its intent durable before the tool runs and its outcome before the result is returned.

Three things are timed in turn, in one run, each on an SQLite file of its own with WAL and synchronous=FULL:

- raw: one insert of an event-sized row and its commit, by sqlite3 alone, one caller.
- floor: the same rows as a governed call's in two transactions, by sqlite3 alone, their values prepared beforehand.
  Several callers hand their transactions to one thread that commits all that wait together.
- governed: `@governed` around a function that does nothing; policy, two events chained by hash, no span recorded.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue

from _harness import Options, Sample, directory, interleaved, show, timed

from interlock import Governor, Session, governed

Transaction = Callable[[sqlite3.Connection], None]

POLICY = {
    "version": 1,
    "name": "bench",
    "default": "deny",
    "rules": [
        {
            "id": "small",
            "tools": ["refund"],
            "when": {"argument": "amount", "at_most": 100},
            "verdict": "allow",
        }
    ],
}
THREADS = 8
TASKS = 64


@governed
def refund(order_id: str, amount: int) -> str:
    """Do as good as nothing."""
    return f"{order_id}: {amount}"


@governed(name="refund")
async def refund_async(order_id: str, amount: int) -> str:
    """Do as good as nothing."""
    return f"{order_id}: {amount}"


def opened(path: Path) -> sqlite3.Connection:
    """Return a connection that commits as durably as the store does."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")
    return connection


def raw(path: Path) -> Callable[[float], Sample]:
    """One insert, one commit."""
    connection = opened(path)
    connection.execute("CREATE TABLE events (id INTEGER PRIMARY KEY, body TEXT)")
    body = "x" * 1_000

    def once() -> None:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO events (body) VALUES (?)", (body,))
        connection.execute("COMMIT")

    return partial(timed, once)


class Floor:
    """The rows of governed calls, written by the driver alone: first those of the intent, then those of the outcome."""

    def __init__(self, path: Path) -> None:
        """Have the store make its tables, make one call, and take that call's rows as the model for all."""
        with Governor(f"sqlite:///{path}", policy=POLICY) as governor:
            session = governor.session("floor", agent="bench")
            with session:
                refund("o-1", 20)
        self.connection = opened(path)
        select = "SELECT * FROM events ORDER BY seq LIMIT 2 OFFSET 1"
        self.decided, self.finished = (
            list(row) for row in self.connection.execute(select).fetchall()
        )
        self.session_id = session.id
        self.seq = 4
        self.insert = "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"

    def transactions(self) -> tuple[Transaction, Transaction]:
        """Return what writes the intent of a call, and what writes its outcome."""
        call = f"{time.perf_counter_ns():036d}"
        return partial(self._intent, call), partial(self._outcome, call)

    def _intent(self, call: str, connection: sqlite3.Connection) -> None:
        self._append(connection, self.decided)
        connection.execute(
            "INSERT INTO intents VALUES (?, ?, ?, ?, NULL)",
            (self.session_id, call, "refund", self.decided[3]),
        )

    def _outcome(self, call: str, connection: sqlite3.Connection) -> None:
        connection.execute(
            "DELETE FROM intents WHERE session_id = ? AND call_id = ?", (self.session_id, call)
        )
        self._append(connection, self.finished)

    def _append(self, connection: sqlite3.Connection, model: list[object]) -> None:
        row = list(model)
        connection.execute(
            "SELECT status, head, head_hash FROM sessions WHERE id = ?", (self.session_id,)
        ).fetchone()
        self.seq += 1
        row[1], row[2] = self.seq, f"{self.seq:036d}"
        connection.execute(self.insert, row)
        connection.execute(
            "UPDATE sessions SET head = ?, head_hash = ? WHERE id = ?",
            (self.seq, row[-1], self.session_id),
        )

    def commit(self, *together: Transaction) -> None:
        """Write all of these in one transaction."""
        self.connection.execute("BEGIN IMMEDIATE")
        for write in together:
            write(self.connection)
        self.connection.execute("COMMIT")


def floor_alone(floor: Floor) -> Callable[[float], Sample]:
    """One caller, who commits twice."""

    def once() -> None:
        for write in floor.transactions():
            floor.commit(write)

    return partial(timed, once)


class Queue:
    """Commits whatever waits together, in a thread of its own."""

    def __init__(self, floor: Floor) -> None:
        """Start the thread."""
        self._floor = floor
        self._waiting: SimpleQueue[tuple[Transaction, Future[None]] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def submit(self, write: Transaction) -> Future[None]:
        """Return what is done once *write* is durable."""
        future: Future[None] = Future()
        self._waiting.put((write, future))
        return future

    def close(self) -> None:
        """Stop the thread."""
        self._waiting.put(None)
        self._thread.join()

    def _serve(self) -> None:
        while (first := self._waiting.get()) is not None:
            batch = [first]
            try:
                while (more := self._waiting.get_nowait()) is not None:
                    batch.append(more)
            except Empty:
                pass
            self._floor.commit(*(write for write, _ in batch))
            for _, future in batch:
                future.set_result(None)


def in_threads(once: Callable[[], object], seconds: float) -> Sample:
    """Do it in several threads at once."""
    samples: list[list[float]] = []
    gate = threading.Barrier(THREADS + 1)

    def body() -> None:
        gate.wait()
        times: list[float] = []
        begun = last = time.perf_counter()
        while last - begun < seconds:
            once()
            now = time.perf_counter()
            times.append(now - last)
            last = now
        samples.append(times)

    threads = [threading.Thread(target=body) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    gate.wait()
    begun = time.perf_counter()
    for thread in threads:
        thread.join()
    return Sample([t for times in samples for t in times], time.perf_counter() - begun)


def in_tasks(once: Callable[[], Awaitable[object]], seconds: float) -> Sample:
    """Do it in many asyncio tasks at once."""
    times: list[float] = []

    async def body(begun: float) -> None:
        last = begun
        while last - begun < seconds:
            await once()
            now = time.perf_counter()
            times.append(now - last)
            last = now

    async def main() -> float:
        begun = time.perf_counter()
        await asyncio.gather(*(body(begun) for _ in range(TASKS)))
        return time.perf_counter() - begun

    elapsed = asyncio.run(main())
    return Sample(times, elapsed)


def floor_in_threads(floor: Floor, queue: Queue) -> Callable[[float], Sample]:
    """Several callers, who each wait twice."""

    def once() -> None:
        for write in floor.transactions():
            queue.submit(write).result()

    return partial(in_threads, once)


def floor_in_tasks(floor: Floor, queue: Queue) -> Callable[[float], Sample]:
    """Many tasks, which each wait twice."""

    async def once() -> None:
        for write in floor.transactions():
            await asyncio.wrap_future(queue.submit(write))

    return partial(in_tasks, once)


def ours_in_threads(session: Session) -> Callable[[float], Sample]:
    """Governed calls from several threads, in one session."""

    def once() -> None:
        with session.attach():
            refund("o-1", 20)

    return partial(in_threads, once)


def main() -> None:
    """Measure and show."""
    options = Options(__doc__)
    with directory() as place, ExitStack() as stack:
        floors = [Floor(place / f"floor-{n}.db") for n in range(3)]
        queues = [Queue(floor) for floor in floors[1:]]
        for queue in queues:
            stack.callback(queue.close)
        governor = stack.enter_context(Governor(f"sqlite:///{place / 'ours.db'}", policy=POLICY))
        session = stack.enter_context(governor.session("bench", agent="bench"))
        cells = {
            "raw commit": raw(place / "raw.db"),
            "floor, 1 thread": floor_alone(floors[0]),
            "governed, 1 thread": partial(timed, partial(refund, "o-1", 20)),
            "floor, 8 threads": floor_in_threads(floors[1], queues[0]),
            "governed, 8 threads": ours_in_threads(session),
            "floor, 64 tasks": floor_in_tasks(floors[2], queues[1]),
            "governed, 64 tasks": partial(in_tasks, partial(refund_async, "o-1", 20)),
        }
        results = interleaved(options, cells)
        assert [report.problem for report in governor.verify()] == [None]
    raw_commit = results["raw commit"]
    alone, alone_floor = results["governed, 1 thread"], results["floor, 1 thread"]
    ratios = {
        "sqlite.thread1.over_raw_commit": alone.typical_s / raw_commit.typical_s,
        "sqlite.thread1.of_floor": alone_floor.typical_s / alone.typical_s,
    }
    meanings = {
        "sqlite.thread1.over_raw_commit": "time of a call over that of one raw commit; two commits are the least",
        "sqlite.thread1.of_floor": "time of the floor over that of a call; 1 is the floor itself",
    }
    for key, name in (("threads8", "8 threads"), ("tasks64", "64 tasks")):
        rate = results[f"governed, {name}"].rate
        ratios[f"sqlite.{key}.over_raw_commit"] = rate / raw_commit.rate
        ratios[f"sqlite.{key}.of_floor"] = rate / results[f"floor, {name}"].rate
        meanings[f"sqlite.{key}.over_raw_commit"] = "calls a second over raw commits a second"
        meanings[f"sqlite.{key}.of_floor"] = "calls a second over those of the floor"
    show(
        options,
        title="A governed call",
        method=str(__doc__).strip(),
        results=results,
        ratios=ratios,
        meanings=meanings,
    )


if __name__ == "__main__":
    main()
