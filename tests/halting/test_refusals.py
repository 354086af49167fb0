"""A policy that halts after refusals in a row: just then, just that, exactly once, and not again once released."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import Connection, text

from interlock import (
    BudgetExceeded,
    Call,
    Denied,
    Governor,
    Opinion,
    Session,
    Verdict,
    events,
    hookimpl,
)
from interlock.testing import Recorder
from tests.callers import history
from tests.halting._policies import (
    THREE,
    TOOLS,
    WHO,
    admitted_and_died,
    approval,
    call,
    halting,
    is_halted,
    ordered,
    refused,
)
from tests.judges import judge
from tests.language._joining import joined
from tests.language.test_memory import meeting

Make = Callable[..., Governor]
SHAPES = ["sync", "async"]
ELSE = {"agent": "clerk", "user": "u-2", "team": "sales", "org": "globex"}


@pytest.fixture
def database(either: str) -> str:
    """Run every test here on both databases."""
    return either


@pytest.fixture(autouse=True)
def _books_agree(governor: Make, database: str) -> Any:
    """Nothing that these tests do may leave books that disagree."""
    yield
    one = Governor(database)
    assert [report.problem for report in one.verify() if report.problem] == []
    assert one.verify_books() == {}
    one.close()


@pytest.mark.promise(4)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("scope", ["system", "org", "team", "user", "agent", "session", "tool"])
def test_after_so_many_refusals_just_that_is_halted(
    scope: str, shape: str, governor: Make, recorder: Recorder
) -> None:
    """Broken if an agent may hammer on, if the call that was too many hears something else, or if more is stopped."""
    one = governor(halting({"after_refusals": 3, "halt": scope}), plugins=[recorder])
    with one.session("theirs", **ELSE) as theirs, one.session("mine", **WHO) as mine:
        refused(shape, mine, 2)
        assert one.halts() == []
        refused(shape, mine, 1)
        [halt] = one.halts()
        name = {**WHO, "session": mine.id, "tool": "wire", "system": ""}[scope]
        assert (halt.target.scope, halt.target.name) == (scope, name)
        assert (halt.by, halt.reason) == ("policy:p", "3 calls in a row were refused")
        found = [call(shape, one, tool) for one in (mine, theirs) for tool in ("wire", "look")]
        stopped = {"system": [0, 1, 2, 3], "tool": [0, 2]}.get(scope, [0, 1])
        for number, came in enumerate(found):
            assert (came == "HaltedError") is (number in stopped)
        [told] = ordered(one, mine)
        assert (told.halt_id, told.target, told.by) == (halt.id, halt.target.key, "policy:p")
        seqs = [item.seq for item in recorder.recorded if item.session_id == mine.id]
        assert seqs == sorted(seqs)
        assert told in recorder.events


def _stops(sentence: str, shape: str, one: Governor, session: Session) -> bool:
    """Go through a history, a letter a call; return whether the session is halted by then."""
    words = {"d": "wire", "s": "pay", "a": "ship", "l": "look", "f": "other"}
    for letter in sentence:
        if letter in "ny":
            approval(one, session, yes=letter == "y")
        call(shape, session, "ship" if letter in "ny" else words[letter])
    return bool(one.halts())


@pytest.mark.promise(4)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("sentence", "halted"),
    [
        ("ddd", True),
        ("dsd", True),  # a steer is a refusal
        ("ndd", True),  # a human's no is a refusal
        ("nd", False),
        ("ddld", False),  # a call that got in ends the row
        ("ddyd", False),  # so does one that was approved
        ("ddaaa", False),  # a call that waits for a human is none
        ("ddad", True),  # and ends no row
        ("ddff", False),  # a judge that failed is not the agent's doing
        ("ddfd", True),
    ],
)
def test_what_counts_as_a_refusal(sentence: str, halted: bool, shape: str, governor: Make) -> None:
    """Broken if waiting for a human, or a judge that is down, stops an agent; or if it gets round by such a call."""

    def evaluate(_self: Any, _call: Call) -> None:
        raise ValueError("down")

    policy = halting(THREE, evaluators=[{"use": "failing", "tools": ["other"]}])
    one = governor(policy, evaluators={"failing": judge(evaluate)})
    with one.session("s", **WHO) as session:
        assert _stops(sentence, shape, one, session) is halted


@pytest.mark.promise(4)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("scope", ["session", "agent", "system"])
@pytest.mark.parametrize("hammers", [False, True])
def test_what_is_released_goes_on_until_the_next_row(
    hammers: bool, scope: str, shape: str, governor: Make
) -> None:
    """Broken if the next refusal after a release halts at once, or if no later row does."""
    one = governor(halting({"after_refusals": 3, "halt": scope}))
    with one.session("s", **WHO) as session:
        for _ in range(2):
            refused(shape, session)
            [halt] = one.halts()
            if hammers:
                assert call(shape, session, "wire") == "HaltedError"
            one.release(halt.id, reason="repaired", by="ann")
            assert call(shape, session, "look") == "look"
            refused(shape, session, 2)
            assert one.halts() == []
            assert call(shape, session, "look") == "look"
        assert len(ordered(one, session)) == 2


@pytest.mark.promise(4)
def test_a_row_that_led_to_a_halt_which_stood_already_has_ended(governor: Make) -> None:
    """Broken if a session whose row fell together with another's halts again once that one is released."""
    one = governor(halting({"after_refusals": 3, "halt": "agent"}), plugins=[meeting(2)])
    two = governor(halting({"after_refusals": 3, "halt": "agent"}))
    with one.session("a", **WHO) as first, one.session("b", **WHO) as second:
        for session in (first, second):
            with joined(two, session.id, **WHO) as there:
                refused("sync", there, 2)
        with ThreadPoolExecutor(2) as pool:  # both are consulted before either is decided
            assert list(pool.map(lambda s: call("sync", s, "wire"), (first, second))) != []
        for session in (first, second):
            with joined(two, session.id, **WHO) as there:
                call("sync", there, "wire")
        [halt] = one.halts()
        one.release(halt.id, reason="repaired", by="ann")
        for session in (first, second):
            with joined(two, session.id, **WHO) as there:
                assert call("sync", there, "look") == "look"
                assert call("sync", there, "wire") == "Denied"
                assert two.halts() == []
                assert call("sync", there, "look") == "look"


@pytest.mark.promise(4)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("scope", ["session", "agent"])
def test_a_death_between_the_decision_and_the_halt_loses_nothing(
    scope: str, shape: str, governor: Make
) -> None:
    """Broken if an agent goes on because the process died that was about to halt it."""
    policy = halting({"after_refusals": 3, "halt": scope})
    one, two = governor(policy), governor(policy)
    with one.session("s", **WHO) as session:
        refused(shape, session, 2)
        admission = admitted_and_died(session, "wire")
        assert ([order.target.scope for order in admission.orders], one.halts()) == ([scope], [])
        with joined(two, session.id, **WHO) as there:
            assert call(shape, there, "look") == "Denied"  # the memory says it
            [halt] = two.halts()
            assert (halt.by, halt.target.scope) == ("policy:p", scope)
            assert call(shape, there, "look") == "HaltedError"
            two.release(halt.id, reason="repaired", by="ann")
            assert call(shape, there, "look") == "look"


@pytest.mark.promise(4)
def test_the_memory_says_why(governor: Make) -> None:
    """Broken if a call that is refused by what the session remembers does not say that it is a halt."""
    one = governor(halting(THREE))
    with one.session("s", **WHO) as session:
        for _ in range(3):
            admitted_and_died(session, "wire")
        with (
            session.attach(),
            pytest.raises(Denied, match="the policy halts the session") as caught,
        ):
            TOOLS["look"]["sync"]()
        assert caught.value.decision.authors == ("halts",)


@pytest.mark.promise(4)
@pytest.mark.parametrize("how", ["observe", "dry_run", "dry session"])
def test_nothing_is_halted_where_nothing_is_enforced(how: str, governor: Make) -> None:
    """Broken if trying a policy out stops agents."""
    more = {} if how == "dry session" else {"mode": how}
    budget = {"name": "b", "per": "session", "calls": 1, "halt": "org"}
    rules = [THREE, {"at_risk": "medium", "halt": "agent"}]
    one = governor(halting(*rules, budgets=[budget], **more))
    with one.session("s", **WHO, dry_run=how == "dry session") as session:
        for shape in SHAPES:
            for name in ("wire", "look", "wire", "wire", "wire"):
                call(shape, session, name)
        with suppress(BudgetExceeded):  # it is recorded, and this says that it was too much
            one.record_usage(model="m", cost_usd=5, input_tokens=1)
    assert (one.halts(released=True), ordered(one, session)) == ([], [])


@pytest.mark.promise(4)
def test_many_at_once_halt_once(governor: Make) -> None:
    """Broken if of many calls that are refused at once each engages a halt, or none does."""
    policy = halting({"after_refusals": 5, "halt": "agent"})
    parties, rounds = 16, 8
    with_plugins = {"plugins": [meeting(parties)]}
    makers = [governor(policy, **with_plugins), governor(policy, **with_plugins)]
    with makers[0].session("s", **WHO) as session, ThreadPoolExecutor(2 * parties) as pool:

        def work(number: int) -> list[str]:
            with joined(makers[number % 2], session.id, **WHO) as there:
                return [call("sync", there, "wire") for _ in range(rounds)]

        found = [came for some in pool.map(work, range(2 * parties)) for came in some]
        assert {"Denied", "HaltedError"} == set(found)
        decided = [e for e in history(makers[0], session.id) if isinstance(e, events.CallDecided)]
        assert len(decided) == 2 * parties * rounds
        assert len(ordered(makers[0], session)) == 1
        assert makers[0].read(_rows, "halt_log") == 1


def _rows(connection: Connection, table: str) -> int:
    return int(connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())  # noqa: S608


def test_refusals_of_what_is_halted_or_closed_do_not_count(governor: Make) -> None:
    """Broken if a human's halt, once it is released, leaves behind a row of refusals that nobody made."""
    one = governor(halting({"after_refusals": 3, "halt": "agent"}))
    with one.session("s", **WHO) as session:
        refused("sync", session, 2)
        halt = one.halt(org="acme", reason="drill", by="ann").halt
        for _ in range(5):
            assert call("sync", session, "wire") == "HaltedError"
        one.release(halt.id, reason="over", by="ann")
        assert call("sync", session, "look") == "look"
        refused("sync", session, 2)
        assert one.halts() == []
    for _ in range(5):
        assert call("sync", session, "wire") == "Denied"
    assert one.halts() == []


def test_a_plugin_that_denies_is_a_refusal_too(governor: Make) -> None:
    """Broken if only what rules refuse is counted."""

    class Refusing:
        @hookimpl
        def interlock_opinion(self, call: Call) -> Opinion | None:
            if call.tool.name != "other":
                return None
            return Opinion(verdict=Verdict.DENY, reason="no", author="plugin:x")

    one = governor(halting(THREE), plugins=[Refusing()])
    with one.session("s", **WHO) as session:
        assert [call("sync", session, "other") for _ in range(4)] == ["Denied"] * 3 + [
            "HaltedError"
        ]


@pytest.mark.promise(4)
def test_two_rules_count_each_for_itself(governor: Make) -> None:
    """Broken if the halt of the session by one rule keeps another from ever halting the agent."""
    one = governor(halting(THREE, {"after_refusals": 5, "halt": "agent"}))
    with one.session("s", **WHO) as session:
        refused("sync", session)
        [halt] = one.halts()
        one.release(halt.id, reason="over", by="ann")
        refused("sync", session, 2)
        [halt] = one.halts()
        assert halt.target.key == "agent:bot"
        assert is_halted(session)
