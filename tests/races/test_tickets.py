"""Races for a yes: who answers a ticket, and who uses up the answer."""

import json
import random
import threading
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from interlock import ApprovalNeeded, Governor, Grant
from interlock._ticket import TicketState
from interlock.errors import Conflict
from interlock.store import tickets
from interlock.store.statements import now
from tests.races import _worker as worker
from tests.races._audit import Books, audit
from tests.races._crew import Crew

Make = Callable[..., Governor]


@pytest.fixture
def database(either: str) -> str:
    """Run every race here on both databases."""
    return either


def ask(number: int) -> str:
    """Make a call that needs approval and return the id of its ticket."""
    with pytest.raises(ApprovalNeeded) as needed:
        worker.act(number)
    return needed.value.ticket.id


def assert_one_ran(books: Books, ticket_id: str, returned: list[str]) -> None:
    """Of all callers one got through, by that ticket; the others were asked for another one, all for the same."""
    assert len(returned) == 1
    assert set(returned) == books.admitted == books.finished
    decided = books.of_kind("call_decided")
    admitted = [f.body for f in decided if f.body["admitted"]]
    assert [body["approved_by"] for body in admitted] == ["ann"]
    asked = Counter(f.body["ticket_id"] for f in decided if not f.body["admitted"])
    assert len(asked) == 2, "the first attempt's ticket, then one more for all who came too late"
    assert asked[ticket_id] == 1
    assert len(books.of_kind("ticket_opened")) == 2
    assert [f.body["by"] for f in books.of_kind("ticket_resolved")] == ["ann", tickets.NOBODY]


@pytest.mark.promise(3, 5)
def test_one_yes_is_used_once_by_threads(governor: Make) -> None:
    """Broken if two of 64 threads run the call that was approved once."""
    one = governor(worker.ASK)
    tally = worker.Tally()

    def body(_: int) -> None:
        with common.attach():
            tally.run(partial(worker.act, 1))

    with one.session("shared", agent="racer") as common:
        ticket_id = ask(1)
        one.write(tickets.approve, ticket_id, by="ann")
        worker.in_threads(64, body)

    assert tally.errors == {"ApprovalNeeded": 63}
    assert_one_ran(audit(one), ticket_id, tally.returned)


@pytest.mark.promise(3, 5)
def test_one_edit_is_used_once_by_threads(governor: Make) -> None:
    """Broken if two of 32 threads run what a human has written instead of their call, or one fails otherwise."""
    one = governor(worker.ASK)
    tally = worker.Tally()

    def body(_: int) -> None:
        with common.attach():
            tally.run(partial(worker.act, 1))

    with one.session("shared", agent="racer") as common:
        ticket_id = ask(1)
        one.write(tickets.approve, ticket_id, by="ann", arguments={"number": worker.EDITED})
        worker.in_threads(32, body)

    assert tally.errors == {"ApprovalNeeded": 31}
    books = audit(one)
    [ran] = [f.body for f in books.of_kind("call_decided") if f.body["admitted"]]
    assert json.loads(ran["arguments"]) == {"number": worker.EDITED}
    assert (tally.returned, ran["ticket_id"]) == ([ran["call_id"]], ticket_id)
    asked = Counter(
        f.body["ticket_id"] for f in books.of_kind("call_decided") if not f.body["admitted"]
    )
    assert len(asked) == 2, "the first ticket, then one more for all who came too late"


@pytest.mark.promise(3, 5)
def test_one_yes_is_used_once_by_processes(governor: Make, database: str, crew: Crew) -> None:
    """Broken if two of 8 processes of 64 threads each run the call that was approved once."""
    one = governor(worker.ASK)
    with one.session("shared", agent="racer") as common:
        ticket_id = ask(1)
        one.write(tickets.approve, ticket_id, by="ann")
        answers = crew.all("claim", url=database, session=common.id, threads=64)

    assert sum((Counter(answer["errors"]) for answer in answers), Counter()) == {
        "ApprovalNeeded": 8 * 64 - 1
    }
    assert_one_ran(audit(one), ticket_id, [x for answer in answers for x in answer["returned"]])


@pytest.mark.promise(3, 5)
@pytest.mark.parametrize(
    "threads", [8, pytest.param(64, marks=[pytest.mark.soak, pytest.mark.timeout(600)])]
)
def test_a_grant_is_used_as_often_as_it_says(
    threads: int, governor: Make, database: str, crew: Crew
) -> None:
    """Broken if 8 processes of 8, or 64, threads get one call more or less out of a grant than it holds."""
    uses = 4 * threads + 1
    one = governor(worker.ASK)
    with one.session("shared", agent="racer") as common:
        ticket_id = ask(1)
        one.write(tickets.approve, ticket_id, by="ann", grant=Grant(calls=uses))
        with common.attach():
            worker.act(1)
        answers = crew.all("claim", url=database, session=common.id, threads=threads)

    returned = [len(answer["returned"]) for answer in answers]
    refused = sum((Counter(answer["errors"]) for answer in answers), Counter())
    assert (sum(returned), refused) == (uses, {"ApprovalNeeded": 8 * threads - uses})
    assert sum(1 for some in returned if some) > 1, "one process had all of it: no race was run"
    books = audit(one)
    granted = [f.body for f in books.of_kind("call_decided") if f.body.get("grant_id")]
    assert len(granted) == uses


@pytest.mark.promise(3, 5)
@pytest.mark.parametrize("edited", [False, True], ids=["plain", "edited"])
def test_one_ticket_is_resumed_once_by_processes(
    edited: bool, governor: Make, database: str, crew: Crew
) -> None:
    """Broken if two of 8 processes of 8 threads run the call of a ticket that they resume at once, or none does."""
    one = governor(worker.ASK)
    with one.session("shared", agent="racer") as session:
        ids = [ask(number) for number in range(3)]
        for ticket_id in ids:
            arguments = {"number": worker.EDITED} if edited else None
            one.write(tickets.approve, ticket_id, by="ann", arguments=arguments)
        session.pause()
    answers = crew.all("resume_tickets", url=database, ids=ids, threads=8)
    books = audit(one)
    returned = [call_id for answer in answers for call_id in answer["returned"]]
    assert len(returned) == 3
    assert set(returned) == books.admitted == books.finished
    assert sum((Counter(answer["errors"]) for answer in answers), Counter()) == {
        "Conflict": 3 * 64 - 3
    }
    ran = [f.body["arguments"] for f in books.of_kind("call_decided") if f.body["admitted"]]
    numbers = [worker.EDITED] * 3 if edited else range(3)
    assert sorted(ran) == sorted(json.dumps({"number": n}, separators=(",", ":")) for n in numbers)


@pytest.mark.promise(3, 5)
def test_every_yes_is_used_once(governor: Make) -> None:
    """Broken if, of many tickets claimed at once in another order by each thread, one is used twice or not at all."""
    one = governor(worker.ASK)
    tally = worker.Tally()
    seed = random.randrange(2**32)

    def body(number: int) -> None:
        order = random.Random(seed + number).sample(range(20), 20)
        with common.attach():
            for n in order:
                tally.run(partial(worker.act, n))

    with one.session("shared", agent="racer") as common:
        for n in range(20):
            one.write(tickets.approve, ask(n), by="ann")
        worker.in_threads(8, body)

    books = audit(one)
    assert tally.errors == {"ApprovalNeeded": 7 * 20}, f"seed {seed}"
    assert len(books.admitted) == 20
    admitted = [f.body for f in books.of_kind("call_decided") if f.body["admitted"]]
    assert len({body["digest"] for body in admitted}) == 20


def assert_one_answer_each(books: Books, one: Governor, won: list[tuple[str, str]]) -> None:
    """Each ticket has one event and one row with the answer of the one who was told that it counts."""
    answers = [f for f in books.of_kind("ticket_resolved") if f.body["by"] != tickets.NOBODY]
    resolved = {f.body["ticket_id"]: f.body["by"] for f in answers}
    assert len(answers) == len(resolved) == len(won)
    assert resolved == dict(won)
    for ticket_id, by in won:
        row = one.read(tickets.get, ticket_id)
        # Nobody made the calls, so what was approved was cancelled with the session.
        said = TicketState.CANCELLED if by.startswith("approve") else TicketState.DENIED
        assert (row.state, row.decided_by) == (said, by)
    assert len({by for _, by in won}) > 1, "one decider answered everything: no race was run"


@pytest.mark.promise(3, 5)
def test_one_answer_counts_among_threads(governor: Make) -> None:
    """Broken if a ticket that 8 deciders approve and deny at once takes two answers, or none."""
    one = governor(worker.ASK)
    won: list[tuple[str, str]] = []
    lost: list[str] = []
    verbs = [tickets.approve, tickets.deny]

    def body(number: int) -> None:
        by = f"{verbs[number % 2].__name__}-{number}"
        for ticket_id in random.sample(ids, len(ids)):
            try:
                one.write(verbs[number % 2], ticket_id, by=by)
                won.append((ticket_id, by))
            except Conflict:
                lost.append(ticket_id)

    with one.session("shared", agent="racer"):
        ids = [ask(n) for n in range(40)]
        worker.in_threads(8, body)

    assert (len(won), len(lost)) == (40, 7 * 40)
    assert_one_answer_each(audit(one), one, won)


@pytest.mark.promise(3, 5)
def test_one_answer_counts_among_processes(governor: Make, database: str, crew: Crew) -> None:
    """Broken if a ticket that 8 processes approve and deny at once takes two answers, or none."""
    one = governor(worker.ASK)
    with one.session("shared", agent="racer"):
        ids = [ask(n) for n in range(40)]
        orders = [
            {
                "do": "answer_tickets",
                "url": database,
                "ids": random.sample(ids, len(ids)),
                "by": f"{verb}-{n}",
                "verb": verb,
            }
            for n, verb in enumerate(["approve", "deny"] * 4)
        ]
        answers = crew.together(orders)

    won = [
        (ticket_id, str(order["by"]))
        for order, answer in zip(orders, answers, strict=True)
        for ticket_id in answer["returned"]
    ]
    assert len(won) == 40
    assert sum((Counter(answer["errors"]) for answer in answers), Counter()) == {"Conflict": 7 * 40}
    assert_one_answer_each(audit(one), one, won)


@pytest.mark.promise(3, 5)
@pytest.mark.parametrize(
    "count", [40, pytest.param(1_000, marks=[pytest.mark.soak, pytest.mark.timeout(900)])]
)
def test_one_outcome_each_among_all_ways(
    count: int, governor: Make, database: str, crew: Crew
) -> None:
    """
    Broken if of 8 deciders in 4 processes, who approve, edit, deny and let expire, two have their way with one ticket.

    Meanwhile one halts the session and lets it go on, and one makes the calls: each runs once at most, after the yes,
    as it was written by whoever gave it, and not while the session is halted.
    """
    lifetime = {"id": "short", "tools": ["act"], "verdict": "ask", "expires": "3s"}
    policy = {**worker.ASK, "rules": [lifetime]}
    one = governor(policy)
    rounds, won, lost, numbers = max(1, count // 40), [], Counter[str](), {}
    returned: list[str] = []
    raced, done = False, 0
    # A busy machine can sleep through a ticket's last moments; such a round counts, and another is run.
    while done < rounds or (not raced and done < rounds + 10):
        with one.session("shared", agent="racer") as session:
            ids = [ask(done * 40 + n) for n in range(min(40, count))]
            numbers |= {ticket_id: done * 40 + n for n, ticket_id in enumerate(ids)}
            first = one.read(tickets.get, ids[0])
            # Of a ticket's three seconds the last moments are raced for: before, and after, there is but one way.
            while one.read(_left, first.id) > timedelta(milliseconds=150):
                threading.Event().wait(0.02)
            ways = [
                ("approve", "deny"),
                ("edit", "call"),
                ("expire", "edit"),
                ("halt", "deny"),
            ]
            orders = [
                {
                    "do": "decide_tickets",
                    "url": database,
                    "policy": policy,
                    "session": session.id,
                    "numbers": numbers,
                    "orders": [
                        {
                            "by": f"{verb}-{process}",
                            "verb": verb,
                            "ids": random.sample(ids, len(ids)),
                        }
                        for verb in verbs
                    ],
                }
                for process, verbs in enumerate(ways)
            ]
            answers = crew.together(orders)
            won += [tuple(item) for answer in answers for item in answer["won"]]
            lost += sum((Counter(answer["errors"]) for answer in answers), Counter())
            returned += [call_id for answer in answers for call_id in answer["returned"]]
            won += [(e.event.ticket_id, "interlock") for e in _expired(one)]
        done += 1
        raced = len({by for _, by in won if by != "interlock"}) > 1 and bool(lost)
    assert raced, "no two deciders had their way in any round: no race was run"
    assert set(lost) <= {"Conflict", "ApprovalNeeded", "Denied", "HaltedError"}
    books = audit(one)
    _assert_ran_as_approved(books, numbers, returned)
    firsts = {}
    for fact in books.of_kind("ticket_resolved"):
        if fact.body["ticket_id"] not in numbers:  # of a call that came when the first had expired
            continue
        firsts.setdefault(fact.body["ticket_id"], []).append((fact.body["state"], fact.body["by"]))
    assert len(firsts) == done * min(40, count)
    # An approval that nobody used expires, too: that is not an answer, and comes after it.
    tails = [tail for _, *tail in firsts.values() if tail]
    assert {tuple(tail) for tail in tails} <= {
        (("expired", "interlock"),),
        (("cancelled", "interlock"),),
    }
    by_ticket = {ticket_id: said[0] for ticket_id, said in firsts.items()}
    answered = [(ticket_id, by) for ticket_id, by in won if by != "interlock"]
    won_by = Counter(by.partition("-")[0] for _, by in answered)
    assert set(won_by) <= {"approve", "edit", "deny"}
    assert sorted(answered) == sorted(
        (ticket_id, by) for ticket_id, (state, by) in by_ticket.items() if by != "interlock"
    )


def _assert_ran_as_approved(books: Books, numbers: dict[str, int], returned: list[str]) -> None:
    """Every call that ran used up one yes, after it was given, ran what it was given to, and in no halted session."""
    said: dict[str, dict[str, Any]] = {}
    used: list[str] = []
    ran: list[str] = []
    halted: set[str] = set()
    for fact in books.facts:
        body = fact.body
        match fact.kind:
            case "session_halted":
                halted.add(fact.session_id)
            case "session_released":
                halted.discard(fact.session_id)
            case "ticket_resolved" if body["state"] == "approved":
                said[body["ticket_id"]] = body
            case "call_decided" if body["admitted"]:
                assert fact.session_id not in halted
                ticket_id = body["ticket_id"]
                edit = said[ticket_id].get("arguments")
                assert body["approved_by"] == said[ticket_id]["by"]
                number = numbers[ticket_id] + (worker.EDITED if edit else 0)
                assert json.loads(body["arguments"]) == {"number": number}
                assert edit in {None, body["arguments"]}
                used.append(ticket_id)
                ran.append(body["call_id"])
            case _:
                pass
    assert len(set(used)) == len(used)
    # A call that a halt found running has run, and its result was withheld.
    late = {f.body["call_id"] for f in books.of_kind("call_finished") if f.body.get("halt_id")}
    assert set(ran) == books.finished
    assert sorted(set(ran) - late) == sorted(returned)


def _left(connection: Any, ticket_id: str) -> timedelta:
    return tickets.get(connection, ticket_id).expires_at - now(connection)


def _expired(one: Governor) -> list[Any]:
    """Let the rest expire, once their time has passed."""
    while one.read(tickets.pending):
        threading.Event().wait(0.02)
    return one.write(tickets.expire)
