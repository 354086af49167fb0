"""Idempotency keys: the same call runs once, and those who make it again are given what it gave."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from interlock import (
    AlreadyDone,
    ApprovalNeeded,
    Denied,
    Governor,
    InProgress,
    KeyReused,
    Misuse,
    Refused,
    events,
    governed,
)
from interlock._verdict import Verdict
from interlock.errors import Conflict
from interlock.store import tickets
from interlock.store.events import whole_history
from interlock.store.verify import session_ids

Make = Callable[..., Governor]

RAN: list[Any] = []

ALLOW = {"version": 1, "name": "allow", "default": "allow"}


@pytest.fixture(autouse=True)
def _nothing_ran() -> Iterator[None]:
    RAN.clear()
    yield
    RAN.clear()


@governed(idempotency_key="order")
def refund(order: str, amount: Any = 1, result: Any = "done") -> Any:
    """Remember that it ran."""
    RAN.append((order, amount))
    if isinstance(result, BaseException):
        raise result
    return result


@governed(idempotency_key="order")
async def arefund(order: str, amount: Any = 1) -> Any:
    """Remember that it ran."""
    RAN.append((order, amount))
    return {"paid": amount}


def sound(governor: Governor) -> bool:
    """Whether every row follows from the events, and each decision comes out again as it was."""
    reports = list(governor.verify())
    assert [report.problem for report in reports] == [None] * len(reports)
    assert governor.verify_books() == {}
    return all(governor.replay(report.session_id).agrees for report in reports)


def decisions(governor: Governor) -> list[events.CallDecided]:
    """Every decision, by session and number."""

    def found(connection: Any) -> list[events.CallDecided]:
        return [
            recorded.event
            for session_id in sorted(session_ids(connection, limit=1_000))
            for recorded in whole_history(connection, session_id)
            if isinstance(recorded.event, events.CallDecided)
        ]

    return governor.read(found)


def test_it_runs_once(either: str, governor: Make) -> None:
    """Broken if a call that is made again with its key runs again, or is given something else than the first."""
    one = governor(ALLOW, url=either)
    with one.session("a", agent="bot", org="acme"):
        first = refund("o-1", 5, {"paid": Decimal("5.00"), "to": ["x"]})
        assert refund("o-1", 5, {"paid": Decimal("5.00"), "to": ["x"]}) == first
    with one.session(
        "b", agent="other", user="ann", org="acme"
    ):  # another run of it, in another process
        assert refund("o-1", 5, {"paid": Decimal("5.00"), "to": ["x"]}) == first
    assert RAN == [("o-1", 5)]
    ran, *again = decisions(one)
    assert (ran.admitted, ran.repeats) == (True, None)
    assert [(said.admitted, said.repeats) for said in again] == [(False, ran.call_id)] * 2
    assert sound(one)


@pytest.mark.anyio
async def test_it_runs_once_awaited(either: str, governor: Make) -> None:
    """Broken as above, for coroutine functions."""
    one = governor(ALLOW, url=either)
    async with one.session("a", agent="bot"):
        assert [await arefund("o-1"), await arefund("o-1")] == [{"paid": 1}] * 2
    assert RAN == [("o-1", 1)]
    assert sound(one)


def test_what_differs_in_the_key_is_another_effect(governor: Make) -> None:
    """Broken if another order, tool or organisation is taken for the same effect."""
    one = governor(ALLOW)

    @governed(name="pay", idempotency_key=("order", "amount"))
    def pay(order: str, amount: int) -> None:
        RAN.append(("pay", order, amount))

    for org in ("acme", "umbra", None):
        with one.session("a", agent="bot", org=org):
            refund("o-1")
            refund("o-2")
            pay("o-1", 1)
            pay("o-1", 2)
    expected = [("o-1", 1), ("o-2", 1), ("pay", "o-1", 1), ("pay", "o-1", 2)]
    assert expected * 3 == RAN


@pytest.mark.parametrize("other", [2, True, 1.0, "1", Decimal(1)])
def test_another_payload_is_a_conflict(either: str, governor: Make, other: Any) -> None:
    """Broken if a key is taken for the first's though its call has other arguments."""
    one = governor(ALLOW, url=either)
    with one.session("a", agent="bot"):
        refund("o-1", 1)
        with pytest.raises(KeyReused, match="other arguments") as caught:
            refund("o-1", other)
    assert isinstance(caught.value, Conflict)
    assert isinstance(caught.value, Refused)
    first, refused = decisions(one)
    assert (refused.admitted, refused.verdict, caught.value.first) == (
        False,
        Verdict.DENY,
        first.call_id,
    )
    assert RAN == [("o-1", 1)]
    assert sound(one)


def test_beside_the_first_it_is_in_progress(either: str, governor: Make) -> None:
    """Broken if a call runs while another with its key does."""
    one = governor(ALLOW, url=either)
    refused: list[InProgress] = []

    @governed(idempotency_key="order")
    def slow(order: str) -> str:
        RAN.append(order)
        with one.session("inner", agent="bot"), pytest.raises(InProgress) as caught:
            slow(order)
        refused.append(caught.value)
        return "done"

    with one.session("a", agent="bot"):
        assert [slow("o-1"), slow("o-1")] == ["done", "done"]
    assert RAN == ["o-1"]
    first = next(said for said in decisions(one) if said.admitted)
    assert [error.first for error in refused] == [first.call_id]
    assert sound(one)


def test_what_raised_may_be_tried_again(either: str, governor: Make) -> None:
    """Broken if a call that failed can never be made again with its key, or what it raised is not the caller's."""
    one = governor(ALLOW, url=either)
    failure = LookupError("no such order")
    with one.session("a", agent="bot"):
        with pytest.raises(LookupError) as caught:
            refund("o-1", 1, failure)
        assert caught.value is failure
        assert refund("o-1", 2) == "done"  # nor is it bound to what the failed one was given
    assert RAN == [("o-1", 1), ("o-1", 2)]
    assert sound(one)


@pytest.mark.anyio
async def test_what_was_cancelled_is_not_made_again(either: str, governor: Make) -> None:
    """Broken if a call that may have had its effect is made again because its caller has gone."""
    one = governor(ALLOW, url=either)
    begun = asyncio.Event()

    @governed(idempotency_key="order")
    async def hang(order: str) -> None:
        RAN.append(order)
        begun.set()
        await asyncio.sleep(60)

    async with one.session("a", agent="bot"):
        task = asyncio.create_task(hang("o-1"))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(AlreadyDone, match="cut short"):
            await hang("o-1")
    assert RAN == ["o-1"]
    assert sound(one)


class Thing:
    """What no JSON tells."""


@pytest.mark.parametrize("result", [Thing(), {1, "a", Thing()}, lambda: None, "x" * 2_000_000])
def test_what_cannot_be_kept_is_said(governor: Make, result: Any) -> None:
    """Broken if who repeats a call is given something else than what it gave, or has it run again."""
    one = governor(ALLOW)

    @governed(idempotency_key="order")
    def make(order: str) -> Any:
        RAN.append(order)
        return result

    with one.session("a", agent="bot"):
        assert make("o-1") is result
        with pytest.raises(AlreadyDone, match="not kept") as caught:
            make("o-1")
    assert RAN == ["o-1"]
    assert caught.value.first == decisions(one)[0].call_id
    assert sound(one)


kept = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.decimals(allow_nan=False)
    | st.dates()
    | st.datetimes(timezones=st.just(UTC)).map(lambda when: when.replace(fold=0))
    | st.timedeltas(max_value=timedelta(days=9_999), min_value=timedelta(0))
    | st.uuids(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=8,
)


@given(kept)
def test_what_is_given_again_is_the_same(value: Any) -> None:
    """Broken if what a call gave is given again as another value, or of another type."""
    with Governor("sqlite://", policy=ALLOW) as one, one.session("a", agent="bot"):

        @governed(idempotency_key="order")
        def make(order: str) -> Any:
            return value

        make("o-1")
        try:
            again = make("o-1")
        except AlreadyDone:
            return
        assert typed(again) == typed(value)


def typed(value: Any) -> Any:
    """The value with the types of all that is in it."""
    if isinstance(value, dict):
        return ("dict", {key: typed(item) for key, item in value.items()})
    if isinstance(value, (list, tuple)):
        return (type(value).__name__, [typed(item) for item in value])
    return (type(value).__name__, repr(value))


def test_plain_results_are_kept(governor: Make) -> None:
    """Broken if what nearly every tool returns cannot be given again: the law above would then hold for nothing."""
    one = governor(ALLOW)
    results = [
        None,
        "é",
        {"a": [1, 2.5, True, None], "$b": {"c": ()}},
        (1, "x"),
        b"\x00",
        Decimal("1.10"),
        date(2026, 1, 2),
        datetime(2026, 1, 2, tzinfo=UTC),
        UUID(int=7),
        {1, 2},
        PurePosixPath("/a"),
    ]
    with one.session("a", agent="bot"):
        for number, result in enumerate(results):

            @governed(name=f"make-{number}", idempotency_key="order")
            def make(order: str, given: Any = result) -> Any:
                RAN.append(order)
                return given

            make("o-1")
            if isinstance(result, PurePosixPath):
                continue
            assert typed(make("o-1")) == typed(result)


def test_a_refusal_takes_no_key(governor: Make) -> None:
    """Broken if a call that was refused keeps its key from the same call made where it is allowed."""
    rules = [{"id": "no", "tools": ["refund"], "agents": ["bad"], "verdict": "deny"}]
    one = governor({**ALLOW, "rules": rules})
    with one.session("a", agent="bad"), pytest.raises(Denied):
        refund("o-1")
    with one.session("a", agent="good"):
        refund("o-1")
    with (
        one.session("a", agent="bad"),
        pytest.raises(Denied) as caught,
    ):  # nor is it told what came of it
        refund("o-1")
    assert "done" not in str(caught.value)
    assert RAN == [("o-1", 1)]
    assert sound(one)


@pytest.mark.promise(5)
def test_a_yes_is_good_for_the_repetition_in_its_session_only(either: str, governor: Make) -> None:
    """Broken if a human is asked again about what was done, or another session is given it without being asked."""
    rules = [{"id": "ask", "tools": ["refund"], "verdict": "ask"}]
    one = governor({**ALLOW, "rules": rules}, url=either)
    with one.session("a", agent="bot"):
        with pytest.raises(ApprovalNeeded) as asked:
            refund("o-1")
        one.write(tickets.approve, asked.value.ticket.id, by="ann")
        assert [refund("o-1"), refund("o-1")] == ["done", "done"]
    with one.session("b", agent="bot"):
        with pytest.raises(ApprovalNeeded) as asked:
            refund("o-1")
        one.write(tickets.approve, asked.value.ticket.id, by="ann")
        assert refund("o-1") == "done"
    assert RAN == [("o-1", 1)]
    assert len(one.read(lambda c: c.execute(text("SELECT id FROM tickets")).all())) == 2
    assert sound(one)


def test_a_repetition_costs_nothing(governor: Make) -> None:
    """Broken if a call that does not run is charged to a budget, or holds a part of one."""
    budgets = [{"name": "calls", "per": "session", "window": "total", "calls": 1}]
    one = governor({**ALLOW, "budgets": budgets})
    with one.session("a", agent="bot"):
        refund("o-1")
        with pytest.raises(Refused):
            refund("o-2")
    assert RAN == [("o-1", 1)]
    assert one.verify_books() == {}


def test_in_observe_and_dry_run_there_are_no_keys(governor: Make) -> None:
    """Broken if a mode that refuses nothing keeps a call from running, or one that runs nothing takes keys."""
    watching = governor({**ALLOW, "mode": "observe"})
    with watching.session("a", agent="bot"):
        refund("o-1")
        refund("o-1", 2)
    assert RAN == [("o-1", 1), ("o-1", 2)]
    trying = governor(ALLOW)
    with trying.session("a", agent="bot", dry_run=True):
        refund("o-3")
    with trying.session("a", agent="bot"):
        refund("o-3")
    assert RAN[2:] == [("o-3", 1)]
    assert sound(trying)


def test_a_missing_key_is_refused(governor: Make) -> None:
    """Broken if a call whose key is not there runs as if it had one, or as if it needed none."""
    one = governor(ALLOW)
    with one.session("a", agent="bot"), pytest.raises(Denied, match="idempotency key"):
        refund(None)  # type: ignore[arg-type]
    assert RAN == []


def test_misuse_is_told_where_it_is_declared() -> None:
    """Broken if a declaration that cannot work is found out by the first call."""
    with pytest.raises(Misuse, match="names no argument"):
        governed(idempotency_key="nothing")(lambda order: order)
    with pytest.raises(Misuse, match="stream"):

        @governed(idempotency_key="order")
        def rows(order: str) -> Iterator[str]:
            yield order


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("UPDATE idempotency_keys SET result = '\"stolen\"'", "result"),
        ("UPDATE idempotency_keys SET result = NULL", "result"),
        ("UPDATE idempotency_keys SET outcome = NULL", "outcome"),
        ("UPDATE idempotency_keys SET payload = digest", "payload"),
        ("UPDATE idempotency_keys SET digest = payload", "digest"),
        ("UPDATE idempotency_keys SET call_id = session_id", "call_id"),
        ("UPDATE idempotency_keys SET key = payload", "missing|never taken"),
        ("DELETE FROM idempotency_keys", "missing"),
    ],
)
def test_a_changed_key_is_found(governor: Make, change: str, told: str) -> None:
    """Broken if somebody can have a call run again, or give its repetition something else, unseen."""
    one = governor(ALLOW)
    with one.session("a", agent="bot"):
        refund("o-1")
    one.write(lambda connection: connection.execute(text(change)) and None)
    [report] = one.verify()
    assert report.problem is not None
    assert any(word in report.problem for word in told.split("|"))


def test_the_record_says_it(governor: Make) -> None:
    """Broken if the stored event does not tell which call a repetition repeats, or holds what is secret in the key."""
    one = governor(ALLOW)

    @governed(idempotency_key="card", secrets=["card"])
    def charge(card: str) -> str:
        return "ok"

    with one.session("a", agent="bot"):
        charge("4111-secret")
        charge("4111-secret")
    stored = one.read(
        lambda c: (
            c.execute(text("SELECT body FROM events WHERE kind = 'call_decided'")).scalars().all()
        )
    )
    first, again = map(json.loads, stored)
    assert again["repeats"] == first["call_id"]
    assert "4111-secret" not in "".join(stored)
    assert sound(one)
