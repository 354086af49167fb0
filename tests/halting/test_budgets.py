"""A budget that halts whoever exceeds it: at the call that has no room, at an overrun, and at recorded usage."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest

from interlock import BudgetExceeded, Governor, Identity, Session, Usage
from interlock.errors import PolicyError
from tests.books import unsound
from tests.halting._policies import WHO, admitted_and_died, call, halting, ordered

Make = Callable[..., Governor]
SHAPES = ["sync", "async"]
TWO = {"name": "two", "per": "session", "calls": 2, "halt": "agent"}
CENT = {"name": "cent", "per": "org", "cost_usd": "0.01", "halt": "org"}


@pytest.fixture
def database(either: str) -> str:
    """Run every test here on both databases."""
    return either


@pytest.fixture(autouse=True)
def _books_agree(governor: Make, database: str) -> Any:
    """Nothing that these tests do may leave books that disagree."""
    yield
    one = Governor(database)
    assert unsound(one) == []
    one.close()


def think(session: Session, said: str, took: str) -> str:
    """Call a model that takes something else than was said."""
    estimate = Usage(input_tokens=1, output_tokens=1, cost_usd=Decimal(said))
    with session.model_call(model="m-1", estimate=estimate) as called:
        called.record(Usage(input_tokens=1, output_tokens=1, cost_usd=Decimal(took)))
    return "thought"


@pytest.mark.promise(4)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("scope", ["system", "org", "team", "user", "agent", "session", "tool"])
def test_a_call_without_room_halts_just_that(scope: str, shape: str, governor: Make) -> None:
    """Broken if a budget is used up and its owner goes on trying, or somebody else is stopped."""
    one = governor(halting(budgets=[{**TWO, "halt": scope}]))
    with one.session("mine", **WHO) as mine:
        found = [call(shape, mine, "look") for _ in range(4)]
        assert found == ["look", "look", "BudgetExceeded", "HaltedError"]
        name = {**WHO, "session": mine.id, "tool": "look", "system": ""}[scope]
        [halt] = one.halts()
        assert (halt.target.scope, halt.target.name) == (scope, name)
        assert (halt.by, halt.reason) == ("policy:p", "budget two is exceeded")
        assert [told.rule for told in ordered(one, mine)] == ["budget:two"]
        one.release(halt.id, reason="once more", by="ann")
        assert call(shape, mine, "look") == "BudgetExceeded"
        assert len(one.halts()) == 1  # it is exceeded anew


@pytest.mark.promise(4)
def test_a_budget_that_steers_halts_too(governor: Make) -> None:
    """Broken if a budget halts only where it denies."""
    steering = {"on_exceed": "steer", "guidance": "Stop."}
    one = governor(halting(budgets=[{**TWO, **steering}]))
    with one.session("s", **WHO) as session:
        found = [call("sync", session, "look") for _ in range(4)]
        assert found == ["look", "look", "Steered", "HaltedError"]


@pytest.mark.promise(4)
def test_what_says_nothing_of_its_cost_exceeds_nothing(governor: Make) -> None:
    """Broken if an oversight of the programmer's stops an organisation."""
    one = governor(halting(budgets=[CENT]))
    with one.session("s", **WHO) as session:
        with pytest.raises(BudgetExceeded), session.model_call(model="m-1"):
            raise AssertionError("it was admitted")
        assert (one.halts(), ordered(one, session)) == ([], [])


@pytest.mark.promise(4)
@pytest.mark.parametrize("how", ["record", "raise"])
def test_an_overrun_halts(how: str, governor: Make) -> None:
    """Broken if whoever took more than there was goes on."""
    one = governor(halting(budgets=[{**CENT, "on_overrun": how}]))
    with one.session("s", **WHO) as session:
        if how == "record":
            assert think(session, "0.001", "0.02") == "thought"
        else:
            with pytest.raises(BudgetExceeded) as caught:
                think(session, "0.001", "0.02")
            assert caught.value.ran
        [halt] = one.halts()
        assert (str(halt.target), halt.reason) == ("org acme", "budget cent is exceeded")
        assert call("sync", session, "look") == "HaltedError"


@pytest.mark.promise(4)
def test_what_was_within_its_reserve_halts_nobody(governor: Make) -> None:
    """Broken if a call that took no more than it said halts for what others had overspent before."""
    one = governor(halting(budgets=[CENT]))
    with one.session("s", **WHO) as session:
        assert think(session, "0.010", "0.010") == "thought"
        assert (one.halts(), ordered(one, session)) == ([], [])


@pytest.mark.promise(4)
@pytest.mark.parametrize("where", ["session", "nowhere"])
@pytest.mark.anyio
async def test_recorded_usage_halts(where: str, governor: Make) -> None:
    """Broken if what is only written down may exceed a budget that halts, without a halt."""
    one = governor(halting(budgets=[CENT]))
    fields: dict[str, Any] = {"model": "m", "cost_usd": "0.02", "input_tokens": 1}
    if where == "session":
        with one.session("s", **WHO) as session, suppress(BudgetExceeded):
            await one.arecord_usage(**fields)
        assert len(ordered(one, session)) == 1
    else:
        with suppress(BudgetExceeded):
            one.record_usage(**fields, identity=Identity(**WHO))
    assert [(str(halt.target), halt.by) for halt in one.halts()] == [("org acme", "policy:p")]


@pytest.mark.promise(4)
def test_a_halt_that_stands_is_not_engaged_again(governor: Make) -> None:
    """Broken if each of many who exceed a budget writes another halt that has to be released."""
    one = governor(halting(budgets=[CENT]))
    with one.session("s", **WHO):
        for _ in range(3):
            with suppress(BudgetExceeded):
                one.record_usage(model="m", cost_usd="0.02", input_tokens=1)
    assert len(one.halts(released=True)) == 1


@pytest.mark.promise(4)
def test_usage_that_takes_nothing_of_what_is_overspent_halts_nobody(governor: Make) -> None:
    """Broken if whoever was released is halted again for what was spent before, by usage that costs nothing."""
    one = governor(halting(budgets=[CENT]))
    with one.session("s", **WHO):
        for cost in ("0.02", "0"):
            with suppress(BudgetExceeded):
                one.record_usage(model="m", cost_usd=cost, input_tokens=1)
            for halt in one.halts():
                one.release(halt.id, reason="paid for", by="ann")
    assert len(one.halts(released=True)) == 1


@pytest.mark.promise(4)
def test_a_death_before_the_halt_loses_nothing(governor: Make) -> None:
    """Broken if whoever has used up a budget is not halted since a process died."""
    one = governor(halting(budgets=[TWO]))
    with one.session("s", **WHO) as session:
        assert [call("sync", session, "look") for _ in range(2)] == ["look"] * 2
        admission = admitted_and_died(session, "look")
        assert ([order.rule for order in admission.orders], one.halts()) == (["budget:two"], [])
        assert call("sync", session, "look") == "BudgetExceeded"
        assert [str(halt.target) for halt in one.halts()] == ["agent bot"]


def test_a_budget_that_asks_does_not_halt(governor: Make) -> None:
    """Broken if what a human may approve is halted before they can."""
    with pytest.raises(PolicyError, match="cannot be approved"):
        governor(halting(budgets=[{**TWO, "on_exceed": "ask"}]))


@pytest.mark.promise(4)
@pytest.mark.parametrize("nobody", [None, ""])
def test_whoever_has_no_such_name_has_its_session_halted(
    nobody: str | None, governor: Make
) -> None:
    """Broken if a budget that halts the team halts nothing where there is none, or halts everybody who has none."""
    one = governor(halting(budgets=[{**TWO, "halt": "team"}]))
    with (
        one.session("b", agent="bot") as theirs,
        one.session("a", agent="bot", team=nobody) as mine,
    ):
        assert [call("sync", mine, "look") for _ in range(4)][2:] == [
            "BudgetExceeded",
            "HaltedError",
        ]
        assert str(one.halts()[0].target) == f"session {mine.id}"
        assert call("sync", theirs, "look") == "look"
