"""Model calls: judged, budgeted and recorded like any tool, and charged what they say that they have used."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any

import anyio
import pytest

from interlock import (
    BudgetExceeded,
    Denied,
    Governor,
    Misuse,
    Session,
    Usage,
    governed,
    report_usage,
)
from interlock._budget import Account, Amounts
from interlock._model_call import ModelCall
from interlock.errors import NotConfigured
from interlock.events import CallDecided, CallFinished, Outcome
from interlock.store import usage
from interlock.testing import Recorder
from tests.books import of_kind

MOST = Usage(input_tokens=100, output_tokens=50, cost_usd=Decimal("0.30"))
USED = Usage(input_tokens=80, output_tokens=20, cost_usd=Decimal("0.20"))
POLICY: dict[str, Any] = {
    "version": 1,
    "name": "models",
    "default": "allow",
    "rules": [{"id": "no", "tools": ["forbidden"], "verdict": "deny"}],
    "budgets": [{"name": "run", "per": "session", "cost_usd": 1, "tokens": 1_000, "calls": 10}],
}


@pytest.fixture
def books(either: str, recorder: Recorder) -> Iterator[Governor]:
    """A governor over either store, whose history adds up when the test is over."""
    with Governor(either, policy=POLICY, plugins=[recorder]) as books:
        yield books
        assert [report.problem for report in books.verify() if report.problem] == []
        assert books.verify_books() == {}


@pytest.fixture
def session(books: Governor) -> Iterator[Session]:
    """An open session of that governor."""
    with books.session("s", agent="bot", user="u-17", org="acme") as session:
        yield session


def spent(session: Session) -> tuple[Amounts, Amounts]:
    """Return what is spent and what is reserved of the one budget."""
    (account,) = session.budgets()
    return account.spent, account.reserved


def test_a_call_is_reserved_and_charged_the_truth(
    session: Session, books: Governor, recorder: Recorder
) -> None:
    """Broken if a model call is not held at its estimate while it runs, or not charged what it used."""
    with session.model_call(model="m-1", provider="p", estimate=MOST) as call:
        assert spent(session) == (Amounts(), Amounts(300_000_000, 150, 1))
        call.record(USED)
    assert spent(session) == (Amounts(200_000_000, 100, 1), Amounts())

    (decided,), (finished,) = of_kind(recorder, CallDecided), of_kind(recorder, CallFinished)
    assert (decided.tool, decided.tool_kind, decided.model) == ("chat", "model", "m-1")
    assert decided.reserved == Amounts(300_000_000, 150, 1)
    assert (finished.usage, finished.cost_usd, finished.priced_by) == (
        USED,
        Decimal("0.20"),
        "caller",
    )
    (row,) = books.read(usage.summary, by=["model", "provider", "user", "org", "session_id"])
    assert row.of == ("m-1", "p", "u-17", "acme", session.id)
    assert (row.calls, row.input_tokens, row.output_tokens) == (1, 80, 20)
    assert row.cost_usd == Decimal("0.20")


async def test_the_same_awaiting(session: Session) -> None:
    """Broken if `async with` does otherwise than `with`."""
    async with session.model_call(model="m-1", estimate=MOST) as call:
        await anyio.lowlevel.checkpoint()
        call.record(USED)
    assert spent(session) == (Amounts(200_000_000, 100, 1), Amounts())


def test_usage_that_is_not_said_is_charged_as_estimated(session: Session) -> None:
    """Broken if a call that says nothing is free: the books would hold less than the truth."""
    with session.model_call(model="m-1", estimate=MOST):
        pass
    assert spent(session) == (Amounts(300_000_000, 150, 1), Amounts())


def test_a_call_that_raises_is_charged_what_it_said(session: Session, recorder: Recorder) -> None:
    """Broken if a failed call is charged its estimate, or one that was paid for before it failed is not charged."""
    with (
        pytest.raises(TimeoutError, match="gone"),
        session.model_call(model="m-1", estimate=MOST),
    ):
        raise TimeoutError("gone")
    assert spent(session) == (Amounts(0, 0, 1), Amounts())

    def fail(call: ModelCall) -> None:
        call.record(USED)
        raise TimeoutError

    with (
        pytest.raises(TimeoutError),
        session.model_call(model="m-1", estimate=MOST) as call,
    ):
        fail(call)
    assert spent(session) == (Amounts(200_000_000, 100, 2), Amounts())
    assert [event.outcome for event in of_kind(recorder, CallFinished)] == [Outcome.RAISED] * 2


async def test_a_cancelled_call_is_charged_its_estimate(session: Session) -> None:
    """Broken if cancelling makes a call free, which may have been paid for."""
    with anyio.move_on_after(0.01):
        async with session.model_call(model="m-1", estimate=MOST):
            await anyio.sleep_forever()
    assert spent(session) == (Amounts(300_000_000, 150, 1), Amounts())


@pytest.mark.promise(1, 3)
@pytest.mark.parametrize("estimate", [None, Usage(), Usage(input_tokens=5), Usage(cost_usd=1)])
def test_what_is_not_estimated_does_not_run(session: Session, estimate: Usage | None) -> None:
    """Broken if a call runs of which nobody knows whether there is money, or tokens, for it."""
    ran: list[int] = []
    with (
        pytest.raises(BudgetExceeded, match="is not known"),
        session.model_call(model="nobody-knows-this-model", estimate=estimate),
    ):
        ran.append(1)
    assert ran == []
    assert spent(session) == (Amounts(), Amounts())


def test_a_refused_call_does_not_run(session: Session, recorder: Recorder) -> None:
    """Broken if the block of a forbidden call is entered."""
    ran: list[int] = []
    with (
        pytest.raises(Denied),
        session.model_call(model="m-1", estimate=MOST, name="forbidden"),
    ):
        ran.append(1)
    assert ran == []
    (decided,) = of_kind(recorder, CallDecided)
    assert (decided.admitted, decided.reserved) == (False, None)


@pytest.mark.promise(3)
def test_the_call_that_has_no_room_is_told_which_budget(session: Session) -> None:
    """Broken if a call runs beyond its budget, or the error does not say how that stands."""
    for _ in range(3):
        with session.model_call(model="m-1", estimate=MOST):
            pass
    with (
        pytest.raises(BudgetExceeded, match=r"has no room: 0\.1\d* US dollars") as refused,
        session.model_call(model="m-1", estimate=MOST),
    ):
        pytest.fail("it ran")
    (account,) = refused.value.budgets
    assert isinstance(account, Account)
    assert (account.key.budget, account.left.cost) == ("run", 100_000_000)


@pytest.mark.parametrize("found", [{"model": "m-2"}, {"model": 7}, {}])
def test_a_governed_function_says_its_model_by_its_argument(
    session: Session, recorder: Recorder, found: dict[str, Any]
) -> None:
    """Broken if the model of a call is not the argument that says so, or what is no name is taken for one."""

    @governed(kind="model", estimate=MOST)
    def ask(prompt: str, model: Any = "m-1") -> str:
        report_usage(USED)
        return prompt

    assert ask("hello", **found) == "hello"
    expected = {"m-2": "m-2", 7: "", None: "m-1"}[found.get("model")]
    assert [event.model for event in of_kind(recorder, CallDecided)] == [expected]
    assert spent(session)[0] == Amounts(200_000_000, 100, 1)


def test_an_estimate_may_be_found_from_the_arguments(session: Session) -> None:
    """Broken if a function that estimates is not given the arguments as they are judged."""
    seen: list[Mapping[str, Any]] = []

    def estimate(arguments: Mapping[str, Any]) -> Usage:
        seen.append(arguments)
        return Usage(input_tokens=len(arguments["prompt"]), output_tokens=5, cost_usd="0.01")  # type: ignore[arg-type]

    @governed(kind="model", estimate=estimate)
    def ask(prompt: list[str], model: str = "m-1") -> None:
        """Use what was estimated."""

    ask(["a", "b", "c"])
    assert spent(session)[0] == Amounts(10_000_000, 8, 1)
    assert seen[0]["prompt"] == ("a", "b", "c"), "not the frozen view"


@pytest.mark.promise(1)
@pytest.mark.parametrize(
    ("estimate", "why"),
    [
        (lambda _: 1 / 0, "its estimate raised ZeroDivisionError"),
        (lambda _: None, "its estimate is a NoneType instead of a Usage"),
        (lambda _: Usage(input_tokens=-1), "its estimate raised Misuse"),
    ],
)
def test_an_estimate_that_fails_denies(
    session: Session, recorder: Recorder, estimate: Callable[[Any], Usage], why: str
) -> None:
    """Broken if a call runs whose estimate failed, or is not recorded."""

    @governed(kind="model", estimate=estimate)
    def ask(model: str = "m-1") -> None:
        pytest.fail("it ran")

    with pytest.raises(Denied, match=why):
        ask()
    assert [event.admitted for event in of_kind(recorder, CallDecided)] == [False]


async def test_a_stream_reports_what_it_used(session: Session) -> None:
    """Broken if a stream, which knows its usage only at its end, cannot say it, sync or async."""

    @governed(kind="model", estimate=MOST)
    def stream(model: str = "m-1") -> Iterator[str]:
        yield "a"
        report_usage(USED)

    @governed(kind="model", estimate=MOST)
    async def astream(model: str = "m-1") -> AsyncIterator[str]:
        yield "a"
        await anyio.lowlevel.checkpoint()
        report_usage(USED)

    assert list(stream()) == ["a"]
    assert [item async for item in astream()] == ["a"]
    assert spent(session) == (Amounts(400_000_000, 200, 2), Amounts())


def test_an_abandoned_stream_is_charged_its_estimate(session: Session) -> None:
    """Broken if breaking off a stream makes it free."""

    @governed(kind="model", estimate=MOST)
    def stream(model: str = "m-1") -> Iterator[str]:
        yield "a"
        yield "b"

    items = stream()
    assert next(items) == "a"
    items.close()  # type: ignore[attr-defined]
    assert spent(session) == (Amounts(300_000_000, 150, 1), Amounts())


def test_an_overrun_is_booked_and_told_where_the_budget_says_so(either: str) -> None:
    """Broken if more was used than allowed and it is not recorded, or is told where nobody asked for it."""
    for how, raises in (("record", False), ("raise", True)):
        budget = {"name": how, "per": "session", "cost_usd": "0.5", "on_overrun": how}
        policy = {"version": 1, "name": "p", "default": "allow", "budgets": [budget]}
        with Governor(either, policy=policy) as books, books.session("s", agent="bot") as session:
            done: list[str] = []
            try:
                with session.model_call(model="m-1", estimate=MOST) as call:
                    call.record(Usage(cost_usd=Decimal(2)))
                    done.append("ran")
            except BudgetExceeded as told:
                done += [account.key.budget for account in told.budgets]
            assert done == (["ran", how] if raises else ["ran"])
            assert spent(session)[0].cost == 2_000_000_000
            with (
                pytest.raises(BudgetExceeded, match="has no room"),
                session.model_call(model="m-1", estimate=MOST),
            ):
                pytest.fail("it ran")
            assert books.verify_books() == {}


def test_a_budget_lets_only_its_models_through(either: str) -> None:
    """Broken if a list of models does not keep others out, or an empty one lets any through."""
    for models, runs in ((["m-1"], True), (["m-2"], False), ([], False)):
        budget = {"name": "b", "per": "session", "models": models}
        policy = {"version": 1, "name": "p", "default": "allow", "budgets": [budget]}
        with Governor(either, policy=policy) as books, books.session("s", agent="bot") as session:
            ran: list[int] = []
            try:
                with session.model_call(model="m-1"):
                    ran.append(1)
            except BudgetExceeded:
                pass
            assert ran == [1] * runs


def test_a_call_may_be_used_once_at_a_time(session: Session, books: Governor) -> None:
    """Broken if wrong use of a model call is accepted in silence."""
    call = session.model_call(model="m-1", estimate=MOST)
    with pytest.raises(Misuse, match="not being made"):
        call.record(USED)
    with call:
        with pytest.raises(Misuse, match="being made already"):
            call.__enter__()
        call.record(USED)
    with pytest.raises(Misuse, match="not being made"):
        assert call.id
    assert spent(session)[0] == Amounts(200_000_000, 100, 1)


def test_outside_of_everything() -> None:
    """Broken if usage is reported, or a model call described, where there is nothing that could book it."""
    with pytest.raises(Misuse, match="no governed call is running"):
        report_usage(USED)
    with Governor("sqlite://", policy=POLICY) as books, pytest.raises(NotConfigured):
        books.model_call(model="m-1")


def test_another_governors_session_is_not_taken(session: Session) -> None:
    """Broken if a model call of one governor is booked in the session of another."""
    with Governor("sqlite://", policy=POLICY) as other, pytest.raises(NotConfigured):
        other.model_call(model="m-1")
