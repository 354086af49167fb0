"""
A process that forks while its threads make calls, a program of tests/store/test_fork.py.

In: the store's URL, and how often to fork. Out: a line of JSON with what was seen. It is a program of its own because
pytest has threads and files of its own that a fork would double.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import traceback
from typing import Any

from interlock import Governor, governed
from interlock.errors import StoreUnavailable
from interlock.store import sessions

THREADS = 4
CALLS = 20
POLICY: dict[str, Any] = {
    "version": 1,
    "name": "p",
    "default": "allow",
    "evaluators": [
        {"use": "list", "tools": ["judged"], "with": {"argument": "who", "block": ["x"]}}
    ],
    "budgets": [{"name": "all", "per": "org", "calls": 1_000_000}],
}


@governed
def act(who: str, number: int) -> str:
    """Do nothing."""
    return who


@governed
def judged(who: str) -> str:
    """Do nothing, once an evaluator has been asked."""
    return who


def calls(governor: Governor, who: str) -> None:
    """Make calls in a session of one's own, from several threads, and read beside them."""

    def body() -> None:
        with session.attach():
            for number in range(CALLS):
                act(who, number)
                governor.read(sessions.get, session.id)

    with governor.session(who, agent="bot", org="acme") as session:
        assert judged(who) == who
        threads = [threading.Thread(target=body) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def child(governor: Governor, number: int) -> int:
    """Live as a child does; return how it ends."""
    try:
        calls(governor, f"child-{number}")
        governor.close()
    except BaseException:  # noqa: BLE001 - nothing may get out of the child into the parent's code
        traceback.print_exc()
        return 1
    return 0


def main(url: str, forks: int) -> dict[str, Any]:
    """Fork again and again while threads make calls; return how the children ended."""
    over = threading.Event()
    made: list[int] = []
    errors: list[str] = []
    governor = Governor(url, policy=POLICY)

    def busy() -> None:
        try:
            with shared.attach():
                while not over.is_set():
                    act("parent", len(made))
                    governor.read(sessions.get, shared.id)
                    made.append(1)
        except StoreUnavailable as error:
            errors.append(str(error))

    ended = []
    beside = 0
    with governor.session("parent", agent="bot", org="acme") as shared:
        assert judged("parent") == "parent"
        threads = [threading.Thread(target=busy) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        for number in range(forks):
            before = len(made)
            pid = os.fork()
            if pid == 0:
                os._exit(child(governor, number))
            ended.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
            beside += len(made) > before
        over.set()
        for thread in threads:
            thread.join()
    governor.close()
    return {"ended": ended, "made": len(made), "beside": beside, "errors": errors}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]))))  # noqa: T201 - its answer
