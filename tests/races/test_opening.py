"""Races at the edges of a governor's life: the file is being created, and the governor is being closed."""

import asyncio
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import anyio
import pytest

from interlock import Governor
from interlock.errors import StoreUnavailable
from tests.races import _worker as worker
from tests.races._audit import audit
from tests.races._crew import ROOT, Crew

Make = Callable[..., Governor]

JUDGED = {
    **worker.ALLOW,
    "evaluators": [{"use": "list", "with": {"argument": "number", "block": ["x"]}}],
}
"""A policy with an evaluator, which denies every number since it is no text."""


ON_A_FILE = pytest.mark.parametrize("either", ["sqlite"], indirect=True)
"""For what only SQLite has, or does: its file, and who makes it."""


@pytest.fixture
def database(either: str) -> str:
    """Run every race here on both databases."""
    return either


@pytest.mark.promise(6)
def test_creating_one_database(crew: Crew, tmp_path: Path) -> None:
    """Broken if processes that find no database at the same moment do not all get to work with the one they make."""
    for attempt in range(6):
        url = f"sqlite:///{tmp_path / f'new-{attempt}.db'}"
        answers = crew.all("open_and_call", url=url, times=1)
        assert [answer["errors"] for answer in answers] == [{}] * 8
        with Governor(url) as governor:
            books = audit(governor)
        assert books.finished == {call for answer in answers for call in answer["returned"]}
        assert len(books.reports) == 8


@ON_A_FILE
def test_opening_while_somebody_writes(governor: Make, tmp_path: Path) -> None:
    """Broken if a file whose journal has yet to be changed is given up at once when somebody else is at it."""
    opened: list[Governor] = []
    with closing(sqlite3.connect(tmp_path / "interlock.db", isolation_level=None)) as other:
        other.execute("CREATE TABLE somebodys (n)")
        other.execute("BEGIN IMMEDIATE")
        opening = threading.Thread(target=lambda: opened.append(governor()))
        opening.start()
        opening.join(0.1)
        assert opening.is_alive(), "it did not wait"
        other.execute("ROLLBACK")
        opening.join()
    assert len(opened) == 1
    audit(opened[0])


@pytest.mark.promise(6)
def test_opening_and_closing_all_the_time(crew: Crew, database: str) -> None:
    """Broken if a process that closes the file last, and tidies its log away, gets in the way of one that opens it."""
    answers = crew.all("open_and_call", url=database, times=8)

    with Governor(database) as governor:
        books = audit(governor)
    assert [answer["errors"] for answer in answers] == [{}] * 8
    assert books.finished == {call for answer in answers for call in answer["returned"]}
    assert len(books.finished) == 8 * 8


@pytest.mark.promise(6)
def test_closing_under_threads(governor: Make, database: str) -> None:
    """Broken if closing loses a call that returned, or gives anyone else another error than StoreUnavailable."""
    one = governor()
    tally = worker.Tally()
    begun = threading.Semaphore(0)

    def body(number: int) -> None:
        if number == 0:
            for _ in range(40):
                begun.acquire()
            one.close()
            return
        with common.attach():
            while not tally.errors:
                tally.run(partial(worker.act, number))
                begun.release()

    with pytest.raises(StoreUnavailable), one.session("shared", agent="racer") as common:
        worker.in_threads(9, body)

    assert set(tally.errors) == {"StoreUnavailable"}
    with Governor(database) as after:
        books = audit(after)
    assert set(tally.returned) >= books.finished
    # A tool that ran while the store was closed gave its result; its call is in doubt, and nothing is hidden.
    assert set(tally.returned) == books.admitted
    assert len(tally.returned) >= 40


@pytest.mark.promise(6)
def test_closing_under_tasks(governor: Make, database: str) -> None:
    """Broken if closing loses what was acknowledged to a task, leaves one waiting, or gives another error."""
    one = governor()
    tally = worker.Tally()

    async def body(number: int) -> None:
        try:
            while True:
                tally.returned.append(await worker.act_async(number))
        except Exception as error:  # noqa: BLE001 - any other error is what the race is looking for
            tally.note(error)

    async def main() -> None:
        async with one.session("shared", agent="racer"), anyio.create_task_group() as group:
            for number in range(64):
                group.start_soon(body, number)
            while len(tally.returned) < 64:
                await worker.act_async(-1)
            one.close()

    with pytest.raises(StoreUnavailable):
        asyncio.run(main())

    assert tally.errors == {"StoreUnavailable": 64}
    with Governor(database) as after:
        books = audit(after)
    mine = {
        f.body["call_id"] for f in books.of_kind("call_decided") if "-1" not in f.body["arguments"]
    }
    assert set(tally.returned) >= books.finished & mine
    assert set(tally.returned) == books.admitted & mine


def close_under_evaluators(one: Governor) -> worker.Tally:
    """Close a governor while 8 threads make calls that its evaluators judge; return what the threads saw."""
    tally = worker.Tally()
    asked = threading.Semaphore(0)

    def body(number: int) -> None:
        if number == 0:
            asked.acquire()
            one.close()
            return
        with common.attach():
            while "StoreUnavailable" not in tally.errors:
                tally.run(partial(worker.act, number))
                asked.release()

    with pytest.raises(StoreUnavailable), one.session("shared", agent="racer") as common:
        worker.in_threads(9, body)
    return tally


def test_closing_under_evaluators(governor: Make) -> None:
    """Broken if a caller whose evaluators are asked while the governor closes sees an error that is not ours."""
    before = set(threading.enumerate())
    with switching_all_the_time():
        tallies = [close_under_evaluators(governor(JUDGED)) for _ in range(40)]
    seen = {error for tally in tallies for error in tally.errors}
    assert (
        {"StoreUnavailable", "Denied"} <= seen <= {"StoreUnavailable", "Denied", "EvaluatorFailed"}
    )
    new = set(threading.enumerate()) - before
    left = [thread.name for thread in new if "interlock" in thread.name]
    assert left == [], "a thread outlives its governor"


@contextmanager
def switching_all_the_time() -> Iterator[None]:
    """Let threads take turns as often as the interpreter can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


@pytest.mark.parametrize("call", ["act(1)", "__import__('asyncio').run(act_async(1))"])
def test_a_program_that_forgets_to_close_still_ends(database: str, call: str) -> None:
    """Broken if a governor that nobody closed keeps its process from ending, or loses what was recorded."""
    script = f"""
from interlock import Governor
from tests.races._worker import act, act_async
from tests.races.test_opening import JUDGED

governor = Governor({database!r}, policy=JUDGED)
with governor.session("forgetful", agent="racer"):
    try:
        {call}
    except Exception as error:
        print(type(error).__name__)
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=40,
    )
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "Denied", "")
    with Governor(database) as after:
        assert len(audit(after).decided) == 1
