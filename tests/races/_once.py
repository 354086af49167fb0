"""
One process whose senders all make the same few calls, each with an idempotency key, until told what came of it.

Its one argument is its order in JSON. It says "ready", waits for a line, and answers with a line of JSON. The effect of
a call is a line in a file. With `dies` it ends itself by SIGKILL within the effect of that key.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import threading
from collections import Counter
from typing import Any
from uuid import uuid4

from interlock import Governor, InProgress, current_call, governed

ALLOW = {"version": 1, "name": "allow", "default": "allow"}


class Sender:
    """Makes every call of the order, in an order of its own, and keeps the answers."""

    def __init__(self, order: dict[str, Any]) -> None:
        self.answers: dict[str, set[str]] = {}
        self.seen: Counter[str] = Counter()
        self._order = order
        self._lock = threading.Lock()

    def effect(self, key: str) -> str:
        """Leave a line behind, and return what nobody else can have returned."""
        if key == self._order.get("dies"):
            os.kill(os.getpid(), signal.SIGKILL)
        call, answer = current_call(), uuid4().hex
        assert call is not None
        file = os.open(self._order["effects"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(file, f"{key} {call.id} {answer}\n".encode())
        os.close(file)
        return answer

    def shuffled(self) -> list[str]:
        """The keys, shuffled."""
        keys = [f"k-{number}" for number in range(self._order["keys"])]
        random.shuffle(keys)
        return keys

    def note(self, key: str, answer: str) -> None:
        """Keep an answer."""
        with self._lock:
            self.answers.setdefault(key, set()).add(answer)
            self.seen["answered"] += 1


def in_threads(sender: Sender, governor: Governor, count: int) -> None:
    """Send from that many threads."""

    @governed(name="effect", idempotency_key="key")
    def effect(key: str) -> str:
        return sender.effect(key)

    def send() -> None:
        with governor.session("sender", agent="bot"):
            for key in sender.shuffled():
                while True:
                    try:
                        sender.note(key, effect(key))
                        break
                    except InProgress:
                        sender.seen["in progress"] += 1

    threads = [threading.Thread(target=send) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


async def in_tasks(sender: Sender, governor: Governor, count: int) -> None:
    """Send from that many tasks."""

    @governed(name="effect", idempotency_key="key")
    async def effect(key: str) -> str:
        await asyncio.sleep(0)
        return sender.effect(key)

    async def send() -> None:
        async with governor.session("sender", agent="bot"):
            for key in sender.shuffled():
                while True:
                    try:
                        sender.note(key, await effect(key))
                        break
                    except InProgress:
                        sender.seen["in progress"] += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(send())


def main() -> None:
    """Send."""
    order = json.loads(sys.argv[1])
    sender = Sender(order)
    with Governor(order["url"], policy=ALLOW) as governor:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.readline()
        if order["how"] == "threads":
            in_threads(sender, governor, order["senders"])
        else:
            asyncio.run(in_tasks(sender, governor, order["senders"]))
    answers = {key: sorted(found) for key, found in sender.answers.items()}
    sys.stdout.write(json.dumps({"answers": answers, "seen": sender.seen}) + "\n")


if __name__ == "__main__":
    main()
