"""Races of governed calls on one store: from threads, from tasks and from processes, in one session and in many."""

import asyncio
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from functools import partial
from itertools import count

import anyio
import pytest

from interlock import Governor
from interlock.errors import Conflict
from interlock.store import sessions
from tests.races import _worker as worker
from tests.races._audit import Books, audit, switches
from tests.races._crew import Crew

Make = Callable[..., Governor]

SHARED = pytest.mark.parametrize("shared", [True, False], ids=["one-session", "many-sessions"])


ON_A_FILE = pytest.mark.parametrize("either", ["sqlite"], indirect=True)
"""For what only SQLite has, or does: its file, its lock file, its one transaction for jobs of all kinds."""


@pytest.fixture
def database(either: str) -> str:
    """Run every race here on both databases."""
    return either


def assert_kept(books: Books, returned: list[str]) -> None:
    """Every call that returned has its two events, every session its two, and there is nothing else."""
    assert set(returned) == books.decided == books.finished
    assert len(returned) == len(set(returned))
    assert Counter(f.body["outcome"] for f in books.of_kind("call_finished")) == {
        "returned": len(returned)
    }
    sessions = len(books.reports)
    assert len(books.facts) == 2 * len(returned) + 2 * sessions
    assert books.in_doubt == set()


@SHARED
@pytest.mark.promise(6, 7)
def test_threads(governor: Make, shared: bool) -> None:
    """Broken if calls from 8 threads lose, double or misplace an event, or one sees an error."""
    one = governor()
    commits = worker.commits_of(one)
    tally = worker.Tally()

    def body(number: int) -> None:
        with ExitStack() as stack:
            if shared:
                stack.enter_context(common.attach())
            else:
                stack.enter_context(one.session(f"own-{number}", agent="racer"))
            for n in range(40):
                tally.run(partial(worker.act, n))

    with ExitStack() as stack:
        if shared:
            common = stack.enter_context(one.session("shared", agent="racer"))
        worker.in_threads(8, body)

    books = audit(one)
    assert tally.errors == {}
    assert len(tally.returned) == 8 * 40
    assert_kept(books, tally.returned)
    assert len(commits) < len(books.facts), "no two threads ever shared a commit: no race was run"


@SHARED
@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
@pytest.mark.promise(6, 7)
async def test_tasks(governor: Make, shared: bool) -> None:
    """Broken if calls from 64 tasks of one loop lose, double or misplace an event, or one sees an error."""
    one = governor()
    commits = worker.commits_of(one)
    returned: list[str] = []

    async def body(number: int) -> None:
        if shared:
            await repeat()
        else:
            async with one.session(f"own-{number}", agent="racer"):
                await repeat()

    async def repeat() -> None:
        returned.extend([await worker.act_async(n) for n in range(5)])

    async with one.session("shared", agent="racer"), anyio.create_task_group() as group:
        for number in range(64):
            group.start_soon(body, number)

    books = audit(one)
    assert len(returned) == 64 * 5
    assert_kept(books, returned)
    assert len(commits) < len(books.facts) / 4, "the tasks hardly ever shared a commit"


@pytest.mark.promise(6, 7)
def test_threads_beside_a_loop(governor: Make) -> None:
    """Broken if sync callers, who write in their own thread, and async ones, who queue, get in each other's way."""
    one = governor()
    tally = worker.Tally()

    async def loop() -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(16):
                group.create_task(some())

    async def some() -> None:
        for n in range(10):
            tally.returned.append(await worker.act_async(n))

    def body(number: int) -> None:
        with common.attach():
            if number == 0:
                asyncio.run(loop())
            for n in range(20):
                tally.run(partial(worker.act, n))

    with one.session("shared", agent="racer") as common:
        worker.in_threads(8, body)

    books = audit(one)
    assert tally.errors == {}
    assert len(tally.returned) == 16 * 10 + 8 * 20
    assert_kept(books, tally.returned)


@SHARED
@pytest.mark.parametrize(
    "order",
    [
        {"do": "call_in_threads", "threads": 4, "calls": 20},
        {"do": "call_in_tasks", "tasks": 16, "calls": 5},
    ],
    ids=["threads", "tasks"],
)
@pytest.mark.promise(6, 7)
def test_processes(
    governor: Make, database: str, crew: Crew, order: dict[str, object], shared: bool
) -> None:
    """Broken if 8 processes on one store lose, double or misplace an event, or a driver's error escapes."""
    one = governor()
    with one.session("shared", agent="racer") as common:
        answers = crew.all(**order, url=database, session=common.id if shared else None)

    books = audit(one)
    returned = [call for answer in answers for call in answer["returned"]]
    assert [answer["errors"] for answer in answers] == [{}] * 8
    assert len(returned) == 8 * int(order.get("threads", 0) or order["tasks"]) * order["calls"]
    assert_kept(books, returned)
    owner = {call: n for n, answer in enumerate(answers) for call in answer["returned"]}
    calls = books.of_kind("call_decided", "call_finished")
    assert switches(calls, owner) > 3 * len(crew), "the processes took turns as a whole: no race"


@pytest.mark.promise(6, 7)
def test_two_governors_of_one_process(governor: Make) -> None:
    """Broken if two governors over one store, in one process, block each other or spoil each other's events."""
    pair = [governor(), governor()]
    tally = worker.Tally()

    def body(number: int) -> None:
        with worker.joined(pair[number % 2], common.id).attach():
            for n in range(20):
                tally.run(partial(worker.act, n))

    with pair[0].session("shared", agent="racer") as common:
        worker.in_threads(8, body)

    assert tally.errors == {}
    assert_kept(audit(pair[1]), tally.returned)


@ON_A_FILE
@pytest.mark.promise(6, 7)
def test_beside_a_writer_of_somebody_else(governor: Make) -> None:
    """Broken if a program that writes the same file without our lock file makes calls fail, as a late lock would."""
    one = governor()
    tally = worker.Tally()
    over = threading.Event()
    written: list[int] = []

    def write() -> None:
        path = str(one._machinery.store.url.database)
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            # With a breath between: SQLite promises no turn to who waits beside one that never pauses.
            while not over.wait(0.002):
                other.execute("INSERT INTO somebodys VALUES (1)")
                written.append(1)

    def body(_: int) -> None:
        with common.attach():
            for n in count():
                if n >= 40 and len(written) > 10:  # both have been at it
                    return
                tally.run(partial(worker.act, n))

    one.write(lambda connection: connection.exec_driver_sql("CREATE TABLE somebodys (n)"))
    somebody = threading.Thread(target=write)
    with one.session("shared", agent="racer") as common:
        somebody.start()
        try:
            worker.in_threads(4, body)
        finally:
            over.set()
            somebody.join()

    assert tally.errors == {}
    assert_kept(audit(one), tally.returned)
    assert len(written) > 10, "nobody else wrote: no race was run"


@pytest.mark.promise(7)
def test_closing_a_session_while_it_is_used(governor: Make) -> None:
    """Broken if a call is admitted after its session was closed, or one that was admitted is not finished."""
    one = governor()
    tally = worker.Tally()

    def body(number: int) -> None:
        with worker.joined(one, common.id).attach():
            for n in range(200):
                tally.run(partial(worker.act, n))
                if number == 0 and n == 20:
                    one.write(sessions.close_session, common.id)
                if tally.errors:
                    break

    with (
        suppress(Conflict),
        one.session("shared", agent="racer") as common,
    ):  # closed before its end
        worker.in_threads(8, body)

    books = audit(one)
    assert set(tally.errors) == {"Denied"}
    assert set(tally.returned) == books.admitted == books.finished
    kinds = [(f.kind, f.body.get("admitted")) for f in books.facts]
    closing = kinds.index(("session_closed", None))
    assert ("call_decided", True) not in kinds[closing:]
    assert ("call_decided", False) in kinds[closing:], "nobody was refused: no race was run"
