"""
One process that takes a lease again and again, and writes under it; it may be stopped meanwhile, or killed.

Its one argument is its order in JSON. It says "ready", waits for a line, and answers with a line of JSON. A byte of a
file that others can read says whether it is inside its tool at the moment.
"""

from __future__ import annotations

import asyncio
import json
import mmap
import random
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, text

from interlock import (
    Call,
    Governor,
    InterlockError,
    LeaseTaken,
    Session,
    current_call,
    governed,
)
from interlock.store import leases

RESOURCES = ("api", "web")


def write(connection: Connection, call: Call, resource: str) -> None:
    """Write a line in the protected log, as the holder or not at all."""
    leases.check(connection, call)
    connection.execute(
        text("INSERT INTO protected (resource, token, call_id) VALUES (:resource, :token, :call)"),
        {"resource": resource, "token": call.leases["one"], "call": call.id},
    )


class Worker:
    """Makes its share of acquisitions, and counts what came of them."""

    def __init__(self, governor: Governor, order: dict[str, Any]) -> None:
        self.governor = governor
        self.seen: Counter[str] = Counter()
        self._wanted: int = order["wanted"]
        self._enough = Path(order["enough"])
        self._lock = threading.Lock()
        self._works_s: float = order["works_s"]
        with open(order["flag"], "r+b") as file:  # noqa: PTH123 - to be mapped
            self._flag = mmap.mmap(file.fileno(), 1)

    def work(self, resource: str) -> None:
        """Write twice under the lease, with a pause between."""
        call = current_call()
        assert call is not None
        self._flag[0] = 1
        try:
            for _ in range(2):
                self.governor.write(write, call, resource)
                time.sleep(self._works_s)
        finally:
            self._flag[0] = 0

    async def awork(self, resource: str) -> None:
        """Do as `work` does, awaiting."""
        call = current_call()
        assert call is not None
        self._flag[0] = 1
        for _ in range(2):
            await self.governor.awrite(write, call, resource)
            await asyncio.sleep(self._works_s)
        self._flag[0] = 0

    def is_done(self) -> bool:
        """Whether its share is made, and that is enough."""
        made = self.seen["acquired"] + self.seen["LeaseLost"]
        return made >= self._wanted and self._enough.exists()

    def note(self, error: BaseException | None) -> None:
        """Count what came of one try."""
        with self._lock:
            if error is None:
                self.seen["acquired"] += 1
            elif isinstance(error, InterlockError):
                self.seen[type(error).__name__] += 1
            else:
                self.seen[f"ESCAPED {error!r}"] += 1


def in_threads(worker: Worker, session: Session, count: int) -> None:
    """Try in that many threads, until the worker's share is made."""

    @governed(name="deploy", resource="resource")
    def deploy(resource: str) -> None:
        worker.work(resource)

    def body() -> None:
        with session.attach():
            while not worker.is_done():
                try:
                    deploy(random.choice(RESOURCES))
                    worker.note(None)
                except LeaseTaken as error:
                    worker.note(error)
                    time.sleep(random.random() / 200)
                except Exception as error:  # noqa: BLE001 - what is not ours is what is looked for
                    worker.note(error)

    threads = [threading.Thread(target=body) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def in_tasks(worker: Worker, session: Session, count: int) -> None:
    """Do as `in_threads` does, in asyncio tasks."""

    @governed(name="deploy", resource="resource")
    async def deploy(resource: str) -> None:
        await worker.awork(resource)

    async def body() -> None:
        while not worker.is_done():
            try:
                await deploy(random.choice(RESOURCES))
                worker.note(None)
            except LeaseTaken as error:
                worker.note(error)
                await asyncio.sleep(random.random() / 50)
            except Exception as error:  # noqa: BLE001 - what is not ours is what is looked for
                worker.note(error)

    async def main() -> None:
        with session.attach():
            async with asyncio.TaskGroup() as group:
                for _ in range(count):
                    group.create_task(body())

    asyncio.run(main())


def main() -> None:
    """Carry out the order."""
    order = json.loads(sys.argv[1])
    with (
        Governor(order["url"], policy=order["policy"]) as governor,
        governor.session("worker", agent="bot") as session,
    ):
        worker = Worker(governor, order)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.readline()
        {"threads": in_threads, "tasks": in_tasks}[order["how"]](worker, session, order["count"])
    sys.stdout.write(json.dumps(worker.seen) + "\n")


if __name__ == "__main__":
    main()
