"""Forks: a child of a process with open stores works on, and so does its parent; neither spoils the other's books."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, text

from interlock import Governor
from interlock._threads import begin
from interlock.errors import StoreUnavailable
from interlock.store import budgets
from interlock.store.engine import Store
from tests.races._audit import audit
from tests.store._forker import CALLS, THREADS

Make = Callable[..., Governor]

# Python 3.12 and newer warn of every fork of a process with threads; which is what is tested here.
WARNED = "ignore:.*multi-threaded, use of fork:DeprecationWarning"
pytestmark = pytest.mark.filterwarnings(WARNED)

ROOT = Path(__file__).parents[2]
FORKS = 8


@pytest.mark.promise(3, 6, 7)
def test_forking_while_threads_make_calls(either: str, governor: Make) -> None:
    """Broken if parent or child hangs, loses or doubles an event, or one of them sees an error."""
    options = ["-W", "error", "-W", "ignore::DeprecationWarning"]
    done = subprocess.run(
        [sys.executable, *options, "-m", "tests.store._forker", either, str(FORKS)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )
    assert (done.returncode, done.stderr) == (0, "")
    seen = json.loads(done.stdout)
    assert (seen["ended"], seen["errors"]) == ([0] * FORKS, [])
    assert seen["beside"] == FORKS, (
        "the parent's threads stood still while a child ran: no race was run"
    )

    one = governor(url=either)
    books = audit(one)
    made = Counter(f.body["arguments"] for f in books.of_kind("call_decided"))
    children = FORKS * (THREADS * CALLS + 1)
    assert made.total() == seen["made"] + 1 + children == len(books.finished)
    assert books.in_doubt == set()
    assert len(books.reports) == FORKS + 1
    (account,) = one.read(budgets.standing)
    assert (account.reserved.calls, account.spent.calls) == (0, made.total())


@contextmanager
def child(body: Callable[[], object]) -> Iterator[Callable[[], object]]:
    """Fork a child that does *body*; yield what waits for its end and returns what it returned, as JSON has it."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        try:
            answer: Any = body()
        except BaseException as error:  # noqa: BLE001 - nothing may get out of the child into pytest
            answer = f"{type(error).__name__}: {error}"
        os.write(writing, json.dumps(answer).encode())
        os._exit(0)
    os.close(writing)
    over: list[int] = []

    def wait() -> object:
        with os.fdopen(reading, "rb", closefd=False) as pipe:
            told = pipe.read()
        os.waitpid(pid, 0)
        over.append(pid)
        return json.loads(told) if told else None

    try:
        yield wait
    finally:
        os.close(reading)
        if not over:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def count_in(connection: Connection) -> int:
    """Return how many policies are kept."""
    found: int = connection.execute(text("SELECT count(*) FROM policies")).scalar_one()
    return found


def count(store: Store) -> int:
    """Return how many policies are kept."""
    return store.read(count_in)


@pytest.fixture
def store(either: str) -> Iterator[Store]:
    """A store that is open and has been written and read."""
    made = Store(either, clock=None)
    made.write(lambda _: None)
    count(made)
    yield made
    made.close()


def opened_by(pid: int, path: str) -> int:
    """Return how many descriptors of a process lead to *path* or what lies beside it."""
    found = 0
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found += str(descriptor.readlink()).startswith(path)
        except FileNotFoundError:  # that of the directory itself
            continue
    return found


@pytest.mark.skipif(
    not Path("/proc/self/fd").is_dir(), reason="the system does not list descriptors"
)
@pytest.mark.parametrize("either", ["sqlite"], indirect=True)
def test_a_child_inherits_no_file(store: Store) -> None:
    """Broken if a child has the database or its lock file open by inheritance: with SQLite that corrupts it."""
    path = str(store.url.database)
    assert opened_by(os.getpid(), path) >= 3, "nothing was open, so nothing could be inherited"
    with child(lambda: opened_by(os.getpid(), path)) as wait:
        assert wait() == 0
    assert count(store) == 0


def test_a_fork_while_a_thread_begins(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Broken if a child cannot use the store since a thread of its parent's was being started, which does not write."""
    begun, goes_on = threading.Event(), threading.Event()
    plain = threading.Thread._set_native_id  # type: ignore[attr-defined]

    def stays(thread: threading.Thread) -> None:
        plain(thread)  # which is the last step before it says that it has started
        if thread.name == "begins":
            begun.set()
            goes_on.wait(20)

    monkeypatch.setattr(threading.Thread, "_set_native_id", stays)
    starter = threading.Thread(target=begin, args=[int], kwargs={"name": "begins"})
    starter.start()
    assert begun.wait(20)
    with child(lambda: store.write(count_in)) as wait:
        goes_on.set()
        starter.join()
        assert wait() == 0


def test_a_child_whose_parent_dies_in_the_lock_holds_up_nobody(either: str, governor: Make) -> None:
    """Broken if a child keeps the lock file that its parent had locked when it was killed."""
    governor(url=either).close()
    script = """
import os, sys, threading, time
from interlock.store import engine
from interlock.store.engine import Store

engine._FORK_WAIT_S = 0.05
store = Store(sys.argv[1], clock=None)
inside = threading.Event()

def stay(_):
    inside.set()
    time.sleep(60)

threading.Thread(target=store.write, args=(stay,), daemon=True).start()
inside.wait()
if os.fork() == 0:
    print("child", os.getpid(), flush=True)
    time.sleep(60)
    os._exit(0)
time.sleep(60)
"""
    parent = subprocess.Popen(
        [sys.executable, "-c", script, either], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    orphan = int(parent.stdout.readline().split()[1])
    try:
        parent.kill()
        parent.wait()
        one = governor(url=either)  # writes the policy
        with one.session("s", agent="bot"):
            pass
        (report,) = one.verify()
        assert report.problem is None
        os.kill(orphan, 0)  # it lives still
    finally:
        os.kill(orphan, signal.SIGKILL)
        parent.stdout.close()


def test_a_fork_waits_for_the_transaction(store: Store) -> None:
    """Broken if a child begins with a half-done transaction of its parent's."""
    inside, end = threading.Event(), threading.Event()

    def stay(_: object) -> None:
        inside.set()
        end.wait()

    writing = threading.Thread(target=store.write, args=(stay,))
    writing.start()
    inside.wait()
    threading.Timer(0.05, end.set).start()
    with child(lambda: [end.is_set(), count(store), store.write(lambda _: "written")]) as wait:
        assert wait() == [True, 0, "written"]
    writing.join()
    assert (store.write(lambda _: "written"), count(store)) == ("written", 0)


def test_a_fork_inside_an_operation(store: Store) -> None:
    """Broken if a process that forks in the midst of an operation hangs, or its child writes with its connection."""

    def operation(_: object) -> object:
        def body() -> list[str]:
            told = []
            for use in (store.write, store.read):
                try:
                    threading_free(use)
                except StoreUnavailable as error:
                    told.append(str(error))
            return told

        def threading_free(use: Callable[..., object]) -> None:
            thread = threading.Thread(target=lambda: told_by(use))
            thread.start()
            thread.join()
            if refused:
                raise refused.pop()

        def told_by(use: Callable[..., object]) -> None:
            try:
                use(lambda _: None)
            except StoreUnavailable as error:
                refused.append(error)

        refused: list[StoreUnavailable] = []
        with child(body) as wait:
            return wait()

    why = "the process was forked while the store was in use, so the child cannot use it"
    assert store.write(operation) == [f"{why}; nothing was written", f"{why}; nothing was read"]
    assert store.read(operation) == [f"{why}; nothing was written", f"{why}; nothing was read"]
    assert store.write(lambda _: "written") == "written"
    assert count(store) == 0


def test_a_store_in_memory_stays(governor: Make) -> None:
    """Broken if a child spends from a copy of the books, which nobody will ever see."""
    one = governor(url="sqlite://")
    store = one._machinery.store

    def body() -> list[str]:
        told = []
        for use in (store.write, store.read):
            with pytest.raises(StoreUnavailable) as refused:
                use(lambda _: None)
            told.append(str(refused.value))
        return told

    with child(body) as wait:
        why = "a store in memory stays with the process that opened it"
        assert wait() == [f"{why}; nothing was written", f"{why}; nothing was read"]
    assert count(store) == 1


def test_a_closed_store_stays_closed(store: Store) -> None:
    """Broken if a fork opens again what was closed."""
    store.close()
    with child(lambda: store.write(lambda _: "written")) as wait:
        assert wait() == "StoreUnavailable: the store is closed; nothing was written"


def test_many_threads_fork_at_once(store: Store) -> None:
    """Broken if two forks at the same moment wait for each other, or leave a store held."""
    seen: list[object] = []
    gate = threading.Barrier(4)

    def body() -> None:
        gate.wait()
        for _ in range(4):
            with child(lambda: store.write(lambda _: "written")) as wait:
                seen.append(wait())

    threads = [threading.Thread(target=body) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == ["written"] * 16
    assert store.write(lambda _: count(store)) == 0


@pytest.mark.parametrize("either", ["sqlite"], indirect=True)
def test_the_parents_lock_outlives_the_child(store: Store, tmp_path: Path) -> None:
    """Broken if a child, letting go of the lock file that it inherited, unlocks it for its parent."""
    turnstile = store._turnstile
    turnstile.__enter__()
    with child(lambda: "gone") as wait, (tmp_path / "interlock.db.lock").open() as lock:
        assert wait() == "gone"
        with pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    turnstile.__exit__(None, None, None)
