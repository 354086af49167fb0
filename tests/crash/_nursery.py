"""
A process that has imported everything and forks, on each order, a child that makes governed calls until it is killed.

In: an order, a line of JSON. Out, on one pipe and so in the order of writing: `pid N`; from the child `open` once its
session is open and `ack KEY` for each call that returned; `dead STATUS` when it is gone. A tool's effect is one line
in a side file, appended without fsync: the key of the call and, where a tool can know it, the id.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from typing import Any, NoReturn

from interlock import Governor, Session, current_call, governed
from tests.faults._points import Points
from tests.races._worker import in_threads, joined

ALLOW = {"version": 1, "name": "allow", "default": "allow"}
ASK = {"version": 1, "name": "ask", "default": "ask"}

TAKES_S = 0.001
"""About as long as recording a call, so that a good part of the kills come between its effect and its outcome."""

_side_file = -1


def _effect(key: str) -> str:
    call = current_call()
    os.write(_side_file, f"{key} {call.id if call else '-'}\n".encode())
    return key


@governed
def act(key: str) -> str:
    """Have the effect, and take a little longer, as tools do."""
    done = _effect(key)
    time.sleep(TAKES_S)
    return done


@governed(name="act")
async def act_async(key: str) -> str:
    """Have the effect, and take a little longer."""
    done = _effect(key)
    await asyncio.sleep(TAKES_S)
    return done


@governed(name="act")
def act_in_steps(key: str) -> Iterator[str]:
    """Have the effect between two items."""
    yield "begun"
    yield _effect(key)
    time.sleep(TAKES_S)


@governed(name="act")
def act_and_die(key: str) -> str:
    """Have the effect and get no further."""
    _effect(key)
    os.kill(os.getpid(), signal.SIGKILL)
    return key


def _say(line: str) -> None:
    os.write(1, (line + "\n").encode())


def _keys() -> Iterator[str]:
    return (f"{os.getpid()}-{n}" for n in count())


def call_alone(session: Session) -> None:
    """Make one call after the other."""
    for key in _keys():
        _say(f"ack {act(key)}")


def call_streams(session: Session) -> None:
    """Consume one stream after the other."""
    for key in _keys():
        _say(f"ack {list(act_in_steps(key))[-1]}")


def call_in_threads(session: Session) -> None:
    """Make calls from four threads."""

    def body(number: int) -> None:
        with session.attach():
            for key in _keys():
                _say(f"ack {act(f'{key}-{number}')}")

    in_threads(4, body)


def call_in_tasks(session: Session) -> None:
    """Make calls from sixteen tasks."""

    async def body(number: int) -> None:
        for key in _keys():
            _say(f"ack {await act_async(f'{key}-{number}')}")

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(16):
                group.create_task(body(number))

    asyncio.run(main())


_MODES: dict[str, Callable[[Session], None]] = {
    mode.__name__: mode for mode in (call_alone, call_streams, call_in_threads, call_in_tasks)
}


def live(url: str, mode: str, policy: dict[str, Any] = ALLOW) -> None:
    """Make calls until killed."""
    with (
        Governor(url, policy=policy) as governor,
        governor.session("victim", agent="v", user="ann", org="acme") as session,
    ):
        _say("open")
        _MODES[mode](session)


def die_at(url: str, at: int, *, after: bool, mode: str) -> None:
    """Make one call and be killed at request number *at* to the driver, or *after* it; or else live to its end."""
    kill = partial(os.kill, os.getpid(), signal.SIGKILL)
    with Governor(url, policy=ALLOW) as governor, governor.session("victim", agent="v"):
        _say("open")
        with Points(governor).failing(at, kill, after=after):
            _say(f"ack {act('k') if mode == 'sync' else asyncio.run(act_async('k'))}")


def die_acting(url: str, session: str, key: str) -> None:
    """Make the call that was approved in *session*, and be killed in the midst of it."""
    with Governor(url, policy=ASK) as governor, joined(governor, session).attach():
        _say("open")
        _say(f"ack {act_and_die(key)}")


def die_resuming(url: str, ticket: str) -> None:
    """Resume the call of an approved ticket, and be killed in the midst of it."""
    with Governor(url) as governor:
        _say("open")
        _say(f"ack {governor.resume(ticket, tool=act_and_die)}")


def die_before_it_runs(url: str, ticket: str, at: int, *, after: bool) -> None:
    """Resume the call of an approved ticket, and be killed at request number *at* to the driver, or *after* it."""
    kill = partial(os.kill, os.getpid(), signal.SIGKILL)
    with Governor(url) as governor:
        _say("open")
        with Points(governor).failing(at, kill, after=after):
            _say(f"ack {governor.resume(ticket, tool=act)}")


def die_recovering(url: str, at: int, *, after: bool) -> None:
    """Recover, and be killed at request number *at* to the driver, or *after* it."""
    kill = partial(os.kill, os.getpid(), signal.SIGKILL)
    with Governor(url) as governor:
        _say("open")
        with Points(governor).failing(at, kill, after=after):
            governor.recover()


_ORDERS: dict[str, Callable[..., None]] = {
    f.__name__: f
    for f in (live, die_at, die_acting, die_resuming, die_before_it_runs, die_recovering)
}


def _child(do: str, side_file: str, **order: Any) -> NoReturn:
    global _side_file  # noqa: PLW0603 - the tools are module-level, as tools are
    status = 1
    try:
        _side_file = os.open(side_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        _ORDERS[do](**order)
        status = 0
    finally:
        sys.stderr.flush()
        os._exit(status)


def main() -> None:
    """Fork a child for each order, until there are no more."""
    while line := sys.stdin.readline():
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            _child(**order)
        _say(f"pid {child}")
        _, status = os.waitpid(child, 0)
        _say(f"dead {os.waitstatus_to_exitcode(status)}")


if __name__ == "__main__":
    main()
