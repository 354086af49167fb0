"""@governed on every shape of tool: judged once, run once, and result, exception and refusal alike for all."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest

from interlock import (
    Denied,
    Governor,
    Misuse,
    Risk,
    Session,
    Steered,
    Tool,
    Verdict,
    governed,
    tool_of,
)
from interlock.errors import ApprovalNeeded, NotConfigured
from interlock.events import CallDecided, CallFinished, Outcome
from interlock.testing import Recorder
from tests.books import booked, of_kind
from tests.shapes import SHAPES, Shape

MakeGovernor = Callable[..., Governor]


class ToolFailed(Exception):
    """What a tool raises here."""


@pytest.fixture(params=SHAPES, ids=str)
def shape(request: pytest.FixtureRequest) -> Shape:
    """Every shape of tool in turn."""
    shape: Shape = request.param
    return shape


@pytest.fixture
def session(governor: MakeGovernor, recorder: Recorder) -> Iterator[Session]:
    """An open session in which everything is allowed."""
    with governor(url="sqlite://", plugins=[recorder]).session("s", agent="bot") as session:
        yield session


@pytest.mark.promise(8)
@pytest.mark.parametrize("options", [{}, {"risk": "low", "labels": ["a"]}], ids=["bare", "options"])
def test_runs_once_and_gives_its_own_result(
    shape: Shape, options: dict[str, Any], session: Session, recorder: Recorder
) -> None:
    """Broken if a shape of tool runs twice or never, is judged twice, or gives another object than its own."""
    result = object()
    seen: list[tuple[Any, Any]] = []

    def body(order: Any, amount: Any) -> object:
        seen.append((order, amount))
        return result

    tool = shape.make(body, **options)

    assert result is shape.run(tool, "o-1", amount=5)
    assert seen == [("o-1", 5)]
    assert booked(session) == ({Verdict.ALLOW: 1}, {Outcome.RETURNED: 1}, {})
    (decided,) = of_kind(recorder, CallDecided)
    (finished,) = of_kind(recorder, CallFinished)
    assert decided.call_id == finished.call_id


@pytest.mark.promise(8)
def test_raises_its_own_exception(shape: Shape, session: Session, recorder: Recorder) -> None:
    """Broken if an exception arrives changed, wrapped, chained to ours or without the tool's frame."""
    error = ToolFailed("out of stock")

    def body(order: Any, amount: Any) -> None:
        raise error

    with pytest.raises(ToolFailed) as caught:
        shape.run(shape.make(body), "o-1")

    assert error is caught.value
    assert (error.__cause__, error.__context__, error.__suppress_context__) == (None, None, False)
    assert traceback.extract_tb(error.__traceback__)[-1].name == "body"
    assert booked(session) == ({Verdict.ALLOW: 1}, {Outcome.RAISED: 1}, {})
    (finished,) = of_kind(recorder, CallFinished)
    assert finished.error_type == "ToolFailed"


@pytest.mark.promise(1)
@pytest.mark.parametrize(
    ("verdict", "refusal"), [("deny", Denied), ("steer", Steered), ("ask", ApprovalNeeded)]
)
def test_refused_does_not_run(
    shape: Shape, verdict: str, refusal: type[Exception], governor: MakeGovernor
) -> None:
    """Broken if a shape of tool runs, or leaves an intent, in spite of a refusal."""
    ran: list[Any] = []
    rule: dict[str, Any] = {"id": "r", "tools": ["refund"], "verdict": verdict}
    if verdict == "steer":
        rule["guidance"] = "Use another."
    policy = {"version": 1, "name": "p", "default": "allow", "rules": [rule]}
    tool = shape.make(lambda order, amount: ran.append(order), name="refund")

    with governor(policy, url="sqlite://").session("s", agent="bot") as session:
        with pytest.raises(refusal):
            shape.run(tool, "o-1")
        assert booked(session) == ({Verdict(verdict): 1}, {}, {})

    assert ran == []


@pytest.mark.promise(1)
def test_without_a_session_does_not_run(shape: Shape) -> None:
    """Broken if a shape of tool runs where nothing governs it."""
    ran: list[Any] = []
    tool = shape.make(lambda order, amount: ran.append(order))

    with pytest.raises(NotConfigured, match="outside any session"):
        shape.run(tool, "o-1")

    assert ran == []


def test_position_and_name_are_one_call(shape: Shape, session: Session, recorder: Recorder) -> None:
    """Broken if a rule or a ticket holds for one spelling of a call and not for another."""
    tool = shape.make(lambda order, amount: None)

    shape.run(tool, "o-1")
    shape.run(tool, "o-1", 3)
    shape.run(tool, "o-1", amount=3)
    shape.run(tool, order="o-1", amount=3)
    shape.run(tool, amount=3, order="o-1")
    shape.run(tool, "o-1", 4)

    digests = [event.digest for event in of_kind(recorder, CallDecided)]
    arguments = {event.arguments for event in of_kind(recorder, CallDecided)[:5]}
    assert len(set(digests[:5])) == 1
    assert digests[0] != digests[5]
    (told,) = arguments
    assert '"amount":3' in told
    assert '"order":"o-1"' in told
    assert "self" not in told


def test_wrong_arguments_are_a_type_error(shape: Shape, session: Session) -> None:
    """Broken if a call that Python would refuse is judged, or fails as something other than a TypeError."""
    tool = shape.make(lambda order, amount: None)

    with pytest.raises(TypeError, match="order"):
        shape.run(tool)
    with pytest.raises(TypeError, match="discount"):
        shape.run(tool, "o-1", discount=1)

    assert booked(session) == ({}, {}, {})


def test_result_has_a_digest_unless_it_is_a_stream(
    shape: Shape, session: Session, recorder: Recorder
) -> None:
    """Broken if the books do not say what a tool returned."""
    tool = shape.make(lambda order, amount: {"refunded": amount})

    shape.run(tool, "o-1", 3)
    shape.run(tool, "o-1", 4)

    first, second = (event.result_digest for event in of_kind(recorder, CallFinished))
    if not shape.is_stream:
        assert first is not None
        assert first != second
    assert {Outcome.RETURNED} == {event.outcome for event in of_kind(recorder, CallFinished)}


def test_declaration_is_found(shape: Shape) -> None:
    """Broken if adapters cannot tell that a tool is governed already, and judge it a second time."""
    tool = shape.make(
        lambda order, amount: None,
        name="refund",
        kind="handoff",
        resource="order",
        cost="amount",
        risk=Risk.HIGH,
        labels=["b", "a"],
        capabilities=["payments.write"],
        secrets=["order"],
    )

    found = tool_of(tool)
    assert found is not None
    assert found.schema is not None
    assert found == Tool(
        name="refund",
        kind="handoff",
        resource="order",
        cost="amount",
        risk=Risk.HIGH,
        labels=("a", "b"),
        capabilities=("payments.write",),
        secrets=("order",),
        schema=found.schema,
    )


def test_applied_twice_is_refused(shape: Shape) -> None:
    """Broken if a call can be judged, and paid for, twice."""
    tool = shape.make(lambda order, amount: None)

    with pytest.raises(Misuse, match="governed already"):
        governed(tool)


def test_declared_cost_is_booked(shape: Shape, session: Session, recorder: Recorder) -> None:
    """Broken if the cost that an argument holds is not what the books say."""
    tool = shape.make(lambda order, amount: None, cost="amount", resource="order")

    shape.run(tool, "o-1", "12.50")

    (decided,) = of_kind(recorder, CallDecided)
    (finished,) = of_kind(recorder, CallFinished)
    assert ("o-1", Decimal("12.50")) == (decided.resource, decided.cost_usd)
    assert Decimal("12.50") == finished.cost_usd
    assert Decimal("12.50") == session.state().cost_usd
