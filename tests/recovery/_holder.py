"""
A process that is inside a governed call until it is told to go on; it is stopped there, or killed.

Its argument is its order in JSON. It says on which session and call it is as whom, waits for a line, and says then what
came of the call, and of one that it makes afterwards in a session of its own.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import timedelta
from typing import Any

from interlock import Governor, current_call, governed


@governed(name="hold")
def hold(effects: str) -> str:
    """Have the effect, and wait."""
    call = current_call()
    assert call is not None
    with open(effects, "a") as file:  # noqa: PTH123 - as tools do
        file.write(f"{call.id}\n")
    sys.stdin.readline()
    return call.id


@governed(name="hold")
def at_once(effects: str) -> str:
    """Have the effect."""
    call = current_call()
    assert call is not None
    return call.id


class Heard(logging.Handler):
    """Keeps what the host is told."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        self.said.append(record.getMessage())


def say(told: dict[str, Any]) -> None:
    """Say it in a line."""
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Carry out the order."""
    order = json.loads(sys.argv[1])
    heard = Heard()
    logging.getLogger("interlock").addHandler(heard)
    beat = timedelta(milliseconds=order["beat_ms"])
    with Governor(order["url"], policy=order["policy"], heartbeat=beat) as governor:
        with governor.session("holder", agent="bot", org="acme") as session:
            say({"session": session.id, "owner": governor._store.owner.id})
            result = hold(order["effects"])
        with governor.session("after", agent="bot", org="acme") as next_:
            later = at_once(order["effects"])
        told = {
            "result": result,
            "session": next_.id,
            "later": later,
            "owner": governor._store.owner.id,
            "said": heard.said,
        }
        say(told)


if __name__ == "__main__":
    main()
