"""
One process of a race: takes orders, a line of JSON each, and answers each with a line of JSON.

Every order is prepared first, then answered with "ready", and carried out when a line with "go" arrives, so that all
processes of a race begin together. A worker never sends an exception of ours further than into its answer.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from interlock import Governor, HaltedError, InterlockError, Session, current_call, governed
from interlock.store import tickets
from tests.races.commits import count_commits

ALLOW = {"version": 1, "name": "allow", "default": "allow"}
ASK = {"version": 1, "name": "ask", "default": "ask"}
SPENDER = {"user": "ann", "org": "acme"}
AMOUNT = "0.01"
"""What each call spends that is about budgets, in dollars."""
EDITED = 1_000_000
"""What is added to the number of a call by whoever changes it."""


@governed
def act(number: int) -> str:
    """Return the id of the very call."""
    return _own_id()


@governed(name="act")
async def act_async(number: int) -> str:
    """Return the id of the very call."""
    return _own_id()


@governed(cost="amount")
def spend(amount: str) -> str:
    """Return the id of the very call."""
    return _own_id()


@governed(name="spend", cost="amount")
async def spend_async(amount: str) -> str:
    """Return the id of the very call, after others had their turn."""
    await asyncio.sleep(0)
    return _own_id()


def _own_id() -> str:
    call = current_call()
    assert call is not None
    return call.id


class Tally:
    """What callers saw: ids of calls that returned, and how often each error came."""

    def __init__(self) -> None:
        self.returned: list[str] = []
        self.errors: Counter[str] = Counter()

    def run(self, call: Callable[[], str]) -> None:
        """Make a call and note what came of it."""
        try:
            self.returned.append(call())
        except Exception as error:  # noqa: BLE001 - any error that is not ours is what the race is looking for
            self.note(error)

    def note(self, error: Exception) -> None:
        """Count an error: by its class alone when it is ours, with its text when it should not have come."""
        ours = isinstance(error, InterlockError)
        self.errors[type(error).__name__ if ours else f"ESCAPED {error!r}"] += 1

    def answer(self, **more: Any) -> dict[str, Any]:
        """Return all of it, and *more*, for a line of JSON."""
        return {"returned": self.returned, "errors": dict(self.errors), **more}


def commits_of(governor: Governor) -> list[int]:
    """Return a list that grows by one at each commit of the writer."""
    return count_commits(governor._machinery.store)


def batches_of(governor: Governor) -> list[int]:
    """Return a list of how many entries the writer posts in each of its transactions, which grows as it does."""
    seen: list[int] = []
    batches = governor._machinery.store._writer._batches
    post = batches._post

    def counted(connection: Any, entries: Sequence[Any]) -> Sequence[Any]:
        results = post(connection, entries)
        seen.append(len(entries))
        return results

    batches._post = counted
    return seen


def joined(governor: Governor, session_id: str, **who: str) -> Session:
    """Return the open session *session_id*, which somebody else has opened, as one of *governor*'s."""
    session = governor.session("race", agent="racer", **who)
    session._id = session_id
    return session


def in_threads(count: int, body: Callable[[int], None]) -> None:
    """Run *body* in that many threads, all released at once, to their end."""
    gate = threading.Barrier(count)

    def entered(number: int) -> None:
        gate.wait()
        body(number)

    threads = [threading.Thread(target=entered, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _ready() -> None:
    _say("ready")
    assert sys.stdin.readline().strip() == "go"


def call_in_threads(url: str, session: str | None, threads: int, calls: int) -> dict[str, Any]:
    """Make *calls* calls in each thread, in the session given, or each thread in one of its own."""
    tally = Tally()
    with Governor(url, policy=ALLOW) as governor:
        commits = commits_of(governor)
        _ready()

        def body(number: int) -> None:
            if session is None:
                with governor.session(f"own-{number}", agent="racer"):
                    repeat()
            else:
                with joined(governor, session).attach():
                    repeat()

        def repeat() -> None:
            for number in range(calls):
                tally.run(partial(act, number))

        in_threads(threads, body)
    return tally.answer(commits=len(commits))


def call_in_tasks(url: str, session: str | None, tasks: int, calls: int) -> dict[str, Any]:
    """Make *calls* calls in each asyncio task, in the session given, or each task in one of its own."""
    tally = Tally()

    async def body(governor: Governor, number: int) -> None:
        if session is None:
            async with governor.session(f"own-{number}", agent="racer"):
                await repeat()
        else:
            with joined(governor, session).attach():
                await repeat()

    async def repeat() -> None:
        for number in range(calls):
            try:
                tally.returned.append(await act_async(number))
            except Exception as error:  # noqa: BLE001 - as in Tally.run
                tally.note(error)

    async def main(governor: Governor) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(tasks):
                group.create_task(body(governor, number))

    with Governor(url, policy=ALLOW) as governor:
        commits = commits_of(governor)
        _ready()
        asyncio.run(main(governor))
    return tally.answer(commits=len(commits))


def spend_in_threads(
    url: str, policy: dict[str, Any], session: str, threads: int, tries: int
) -> dict[str, Any]:
    """Try in each thread to spend ever more, in the session given, beside all others on the same budgets."""
    tally = Tally()
    with Governor(url, policy=policy) as governor:
        batches = batches_of(governor)
        _ready()

        def body(_: int) -> None:
            with joined(governor, session, **SPENDER).attach():
                for _try in range(tries):
                    tally.run(partial(spend, AMOUNT))

        in_threads(threads, body)
    return tally.answer(batches=batches)


def spend_in_tasks(
    url: str, policy: dict[str, Any], session: str, tasks: int, tries: int
) -> dict[str, Any]:
    """Do as `spend_in_threads` does, in asyncio tasks."""
    tally = Tally()

    async def body(governor: Governor) -> None:
        with joined(governor, session, **SPENDER).attach():
            for _try in range(tries):
                try:
                    tally.returned.append(await spend_async(AMOUNT))
                except Exception as error:  # noqa: BLE001 - as in Tally.run
                    tally.note(error)

    async def main(governor: Governor) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(tasks):
                group.create_task(body(governor))

    with Governor(url, policy=policy) as governor:
        batches = batches_of(governor)
        _ready()
        asyncio.run(main(governor))
    return tally.answer(batches=batches)


def claim(url: str, session: str, threads: int) -> dict[str, Any]:
    """Make the very call that a ticket was opened for, once in each thread."""
    tally = Tally()
    with Governor(url, policy=ASK) as governor:
        shared = joined(governor, session)
        _ready()

        def body(_: int) -> None:
            with shared.attach():
                tally.run(partial(act, 1))

        in_threads(threads, body)
    return tally.answer()


def answer_tickets(url: str, ids: list[str], by: str, verb: str) -> dict[str, Any]:
    """Approve, or deny, each of the tickets in this order; the tally's ids are those answered."""
    tally = Tally()
    with Governor(url) as governor:
        _ready()
        for ticket_id in ids:
            try:
                governor.write(getattr(tickets, verb), ticket_id, by=by)
                tally.returned.append(ticket_id)
            except Exception as error:  # noqa: BLE001 - as in Tally.run
                tally.note(error)
    return tally.answer()


def decide_tickets(
    url: str,
    orders: list[dict[str, Any]],
    policy: dict[str, Any],
    session: str,
    numbers: dict[str, int],
) -> dict[str, Any]:
    """Work off each of *orders*, tickets by `id` and what is done to them by `verb`, in a thread of its own."""
    tally = Tally()
    won: list[tuple[str, str]] = []
    with Governor(url, policy=policy) as governor:
        shared = joined(governor, session)
        _ready()

        def body(number: int) -> None:
            by, verb, ids = (orders[number][key] for key in ("by", "verb", "ids"))
            for ticket_id in ids:
                try:
                    if verb == "expire":
                        ended = governor.write(tickets.expire, limit=1)
                        won.extend((one.event.ticket_id, "interlock") for one in ended)
                    elif verb == "halt":
                        halt = governor.halt(session=session, reason="race", by=by).halt
                        governor.release(halt.id, reason="race", by=by)
                    elif verb == "call":
                        with shared.attach():
                            tally.returned.append(act(numbers[ticket_id]))
                    elif verb == "edit":
                        number = numbers[ticket_id] + EDITED
                        edited = partial(tickets.approve, arguments={"number": number})
                        governor.write(edited, ticket_id, by=by)
                        won.append((ticket_id, by))
                    else:
                        governor.write(getattr(tickets, verb), ticket_id, by=by)
                        won.append((ticket_id, by))
                except Exception as error:  # noqa: BLE001 - as in Tally.run
                    tally.note(error)

        in_threads(len(orders), body)
    return tally.answer(won=won)


def resume_tickets(url: str, ids: list[str], threads: int) -> dict[str, Any]:
    """Resume each of the tickets in each thread."""
    tally = Tally()
    with Governor(url, policy=ALLOW) as governor:
        _ready()

        def body(_: int) -> None:
            for ticket_id in ids:
                tally.run(partial(governor.resume, ticket_id, tool=act))

        in_threads(threads, body)
    return tally.answer()


def open_and_call(url: str, times: int) -> dict[str, Any]:
    """Open the database, which may not exist yet, make one call, close it; and again."""
    tally = Tally()
    _ready()
    for number in range(times):
        try:
            with Governor(url, policy=ALLOW) as governor, governor.session("new", agent="racer"):
                tally.run(partial(act, number))
        except Exception as error:  # noqa: BLE001 - as in Tally.run
            tally.note(error)
    return tally.answer()


def call_until_halted(
    url: str,
    policy: dict[str, Any],
    session: str | None,
    who: dict[str, str],
    threads: int,
    reason: str,
) -> dict[str, Any]:
    """
    Call in each thread, in the session given or one of its own, until a halt for that *reason* stops it.

    What other halts stop, and what is refused, is called again.
    """
    tally = Tally()
    with Governor(url, policy=policy) as governor:
        _ready()

        def body(number: int) -> None:
            if session is not None:
                with joined(governor, session, **who).attach():
                    repeat()
            else:
                with governor.session(f"own-{number}", agent="racer", **who):
                    repeat()

        def repeat() -> None:
            while True:
                try:
                    tally.returned.append(act(1))
                except HaltedError as error:
                    tally.note(error)
                    if error.halt.reason == reason:
                        return
                except Exception as error:  # noqa: BLE001 - as in Tally.run
                    tally.note(error)

        in_threads(threads, body)
    return tally.answer()


def call_in_each(url: str, sessions: list[tuple[str, dict[str, str]]]) -> dict[str, Any]:
    """Make a call in each of these sessions, each by its id and identity; *stopped* are those that were halted."""
    stopped: list[str] = []
    tally = Tally()
    with Governor(url, policy=ALLOW) as governor:
        _ready()
        for session_id, who in sessions:
            session = governor.session("race", **who)  # type: ignore[arg-type]
            session._id = session_id
            with session.attach():
                try:
                    tally.returned.append(act(1))
                except HaltedError:
                    stopped.append(session_id)
    return tally.answer(stopped=stopped)


def note_in_threads(url: str, sessions: list[str], threads: int, notes: int) -> dict[str, Any]:
    """Record *notes* notes in each thread, in each of the sessions in turn."""
    tally = Tally()

    def noted(session: Session, number: int) -> str:
        return session.record("step", number).id

    with Governor(url, policy=ALLOW) as governor:
        shared = [joined(governor, session) for session in sessions]
        commits = commits_of(governor)
        _ready()

        def body(start: int) -> None:
            for number in range(notes):
                session = shared[(start + number) % len(shared)]
                tally.run(partial(noted, session, number))

        in_threads(threads, body)
    return tally.answer(commits=len(commits))


_ORDERS: dict[str, Callable[..., dict[str, Any]]] = {
    order.__name__: order
    for order in (
        call_in_threads,
        call_in_tasks,
        spend_in_threads,
        spend_in_tasks,
        claim,
        answer_tickets,
        decide_tickets,
        resume_tickets,
        open_and_call,
        call_until_halted,
        call_in_each,
        note_in_threads,
    )
}


def main() -> None:
    """Carry out orders until there are no more."""
    while line := sys.stdin.readline():
        order = json.loads(line)
        _say(json.dumps(_ORDERS[order.pop("do")](**order)))


if __name__ == "__main__":
    main()
