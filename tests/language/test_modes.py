"""Modes: what is only observed runs and is recorded; what runs dry is decided and does nothing."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest

from interlock import Governor, Opinion, Session, Verdict, events, governed
from interlock._verdict import Mode
from interlock.errors import (
    ApprovalNeeded,
    Denied,
    Misuse,
    NotConfigured,
    Steered,
    StoreUnavailable,
)
from interlock.store.calls import in_doubt
from tests.callers import WAYS, Caller, history
from tests.judges import judge
from tests.language._joining import decisions
from tests.policies import document, rule
from tests.tracing import Traces, attributes

REFUSING = ["ask", "steer", "deny"]
GUIDE = {"steer": {"guidance": "go"}}


def saying(verdict: str, **head: Any) -> dict[str, Any]:
    """A policy that says so of every call."""
    return document(rule("r", "*", verdict=verdict, **GUIDE.get(verdict, {})), **head)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("verdict", ["allow", *REFUSING])
def test_what_is_observed_runs_and_is_recorded(governor: Any, way: str, verdict: str) -> None:
    """Broken if trying a policy out stops anything, or does not tell what it would have stopped."""
    caller = Caller(way)
    result, told = caller(governor(saying(verdict, mode="observe")))
    told = [event for event in told if not isinstance(event, events.SessionClosed)]
    assert (result, caller.ran) == ("receipt", ["ann"])
    decided = told[1]
    assert isinstance(decided, events.CallDecided)
    assert (decided.verdict, decided.admitted, decided.mode) == (
        Verdict(verdict),
        True,
        Mode.OBSERVE,
    )
    assert (decided.ticket_id, decided.reason) == (None, f"rule r says {verdict}")
    kinds = [type(event) for event in told]
    assert [events.SessionOpened, events.CallDecided, events.CallFinished] == kinds
    assert told[0].mode is Mode.OBSERVE


def test_the_word_observe_is_a_policy(governor: Any) -> None:
    """Broken if a host that wants nothing but a record has something refused."""
    result, told = Caller("sync")(governor("observe"))
    assert result == "receipt"
    assert (told[1].verdict, told[1].mode) == (Verdict.ALLOW, Mode.OBSERVE)


def endless() -> list[Any]:
    """A list that nobody can copy to its end."""
    found: list[Any] = []
    found.append(found)
    return found


def test_what_cannot_be_judged_runs_where_it_is_only_observed(governor: Any) -> None:
    """Broken if an argument that nobody can copy stops a tool that was to be watched."""
    caller, handle = Caller("sync"), endless()
    result, told = caller(governor("observe"), handle)
    assert (result, caller.ran[0] is handle) == ("receipt", True)
    assert told[1].verdict is Verdict.DENY
    assert "cannot be judged" in told[1].reason
    enforced, _ = caller(governor({"version": 1, "name": "p", "default": "allow"}), handle)
    assert isinstance(enforced, Denied)


@pytest.mark.parametrize("fails", [False, True], ids=["denies", "raises"])
def test_evaluators_are_heard_where_it_is_only_observed(governor: Any, fails: bool) -> None:
    """Broken if an evaluator that is tried out stops a call, or its failure does."""

    def evaluate(_self: Any, _call: Any) -> Any:
        if fails:
            raise LookupError
        return Opinion(verdict=Verdict.DENY, reason="no", author="x")

    policy = saying("allow", mode="observe", evaluators=[{"use": "e"}])
    caller = Caller("sync")
    result, told = caller(governor(policy, evaluators={"e": judge(evaluate)}))
    assert (result, told[1].verdict) == ("receipt", Verdict.DENY)


@pytest.mark.promise(1)
def test_observing_does_not_open_what_is_closed(governor: Any) -> None:
    """Broken if a call runs in a session that has ended, because nothing is enforced."""
    caller = Caller("sync")
    its = governor("observe")
    with its.session("s", agent="bot") as session:
        pass
    with session.attach(), pytest.raises(Denied, match="the session is completed"):
        caller._pay()
    assert caller.ran == []


@pytest.mark.promise(1)
def test_observing_needs_the_store(governor: Any) -> None:
    """Broken if a call runs unrecorded, because nothing is enforced."""
    caller = Caller("sync")
    its = governor("observe")
    with its.session("s", agent="bot") as session:
        pass
    its.close()
    with session.attach(), pytest.raises(StoreUnavailable):
        caller._pay()
    assert caller.ran == []


@pytest.mark.promise(3)
def test_budgets_are_charged_where_they_are_only_observed(governor: Any, either: str) -> None:
    """Broken if, the day that a policy is enforced, its budgets have not seen what was spent before."""
    budget = {"name": "b", "per": "session", "cost_usd": 5, "calls": 1}
    with (
        Governor(either, policy=saying("allow", mode="observe", budgets=[budget])) as its,
        its.session("s", agent="bot") as session,
    ):
        pay = governed(name="pay", cost=Decimal(4))(lambda: "paid")
        assert [pay(), pay(), pay()] == ["paid"] * 3
        [account] = session.budgets()
        assert (account.spent_usd, account.spent.calls) == (12, 3)
        verdicts = [one.verdict for one in decisions(its, session.id)]
        assert verdicts == [Verdict.ALLOW, Verdict.DENY, Verdict.DENY]
        assert its.verify_books() == {}
        assert [report.problem for report in its.verify()] == [None]


@pytest.mark.parametrize("verdict", REFUSING)
def test_one_rule_is_observed_and_the_next_speaks(governor: Any, verdict: str) -> None:
    """Broken if a rule that is tried out stops a call, or keeps another from it."""
    tried = rule("tried", "pay", verdict=verdict, mode="observe", **GUIDE.get(verdict, {}))
    caller = Caller("sync")
    for next_rule, outcome in ((rule("next", "pay"), "receipt"), (rule("next", "x"), Denied)):
        result, told = caller(governor(document(tried, next_rule)))
        assert result == outcome or isinstance(result, outcome)  # type: ignore[arg-type]
        said = {one.rule: (one.verdict, one.observed) for one in told[1].opinions}
        assert said["tried"] == (Verdict(verdict), True)
        assert told[1].mode is Mode.ENFORCE


def simulated(  # noqa: C901 - two of each kind
    mark: Callable[[str], None],
) -> dict[str, tuple[Any, Any, Any]]:
    """Of each kind: a tool, a simulation, and how its call is seen through."""

    def function(to: str) -> str:
        mark("real")
        return "real"

    def function_(to: str) -> str:
        mark(f"for {to}")
        return "simulated"

    async def coroutine(to: str) -> str:
        mark("real")
        return "real"

    async def coroutine_(to: str) -> str:
        mark(f"for {to}")
        return "simulated"

    def generator(to: str) -> Iterator[str]:
        mark("real")
        yield "real"

    def generator_(to: str) -> Iterator[str]:
        mark(f"for {to}")
        yield "simulated"

    async def agenerator(to: str) -> AsyncIterator[str]:
        mark("real")
        yield "real"

    async def agenerator_(to: str) -> AsyncIterator[str]:
        mark(f"for {to}")
        yield "simulated"

    async def awaited(result: Awaitable[str]) -> str:
        return await result

    async def gathered(result: AsyncIterator[str]) -> list[str]:
        return [item async for item in result]

    return {
        "function": (function, function_, lambda result: [result]),
        "coroutine": (coroutine, coroutine_, lambda result: [asyncio.run(awaited(result))]),
        "generator": (generator, generator_, list),
        "async generator": (agenerator, agenerator_, lambda result: asyncio.run(gathered(result))),
    }


KINDS = [*simulated(print)]


@pytest.fixture(params=["policy", "session"])
def dry(request: pytest.FixtureRequest, governor: Any) -> Callable[..., tuple[Governor, Session]]:
    """Make a governor, and a session of it that runs dry because the policy, or the session, says so."""

    def make(policy: dict[str, Any], **options: Any) -> tuple[Governor, Session]:
        if request.param == "policy":
            its = governor({**policy, "mode": "dry_run"}, **options)
            return its, its.session("s", agent="bot")
        its = governor(policy, **options)
        return its, its.session("s", agent="bot", dry_run=True)

    return make


@pytest.mark.parametrize("kind", KINDS)
def test_a_dry_run_runs_what_stands_in(dry: Any, kind: str) -> None:
    """Broken if a dry run does the real thing, or its stand-in gets other arguments."""
    done: list[str] = []
    tool, stand_in, seen = simulated(done.append)[kind]
    its, session = dry(saying("allow"))
    with session:
        assert seen(governed(simulate=stand_in)(tool)(to="ann")) == ["simulated"]
        assert done == ["for ann"]
        kinds = [type(event) for event in history(its, session.id)]
        assert kinds == [events.SessionOpened, events.CallDecided]
        [decided] = decisions(its, session.id)
    assert (decided.admitted, decided.mode) == (False, Mode.DRY_RUN)
    assert decided.verdict is Verdict.ALLOW


@pytest.mark.parametrize("kind", KINDS)
def test_a_dry_run_without_a_stand_in_does_nothing(dry: Any, kind: str) -> None:
    """Broken if a tool that declares no simulation runs."""
    done: list[str] = []
    tool, _, seen = simulated(done.append)[kind]
    _, session = dry(saying("allow"))
    with session:
        assert seen(governed(tool)("ann")) == ([] if "generator" in kind else [None])
    assert done == []


@pytest.mark.parametrize(
    ("verdict", "error"), [("ask", None), ("steer", Steered), ("deny", Denied)]
)
def test_a_dry_run_refuses_as_ever_and_asks_nobody(dry: Any, verdict: str, error: Any) -> None:
    """Broken if a dry run shows another refusal than the real one, or a human is bothered with it."""
    done: list[str] = []
    tool, stand_in, _ = simulated(done.append)["function"]
    its, session = dry(saying(verdict))
    with session:
        pay = governed(simulate=stand_in)(tool)
        if error is None:
            assert pay("ann") == "simulated"
        else:
            with pytest.raises(error):
                pay("ann")
        [decided] = decisions(its, session.id)
        assert (decided.verdict, decided.ticket_id) == (Verdict(verdict), None)
    assert "real" not in done


def test_a_dry_run_costs_nothing(dry: Any) -> None:
    """Broken if what was never done is reserved, charged, or in doubt."""
    budget = {"name": "b", "per": "session", "cost_usd": 5}
    its, session = dry(saying("allow", budgets=[budget]))
    with session:
        pay = governed(name="pay", cost=Decimal(4))(lambda: "paid")
        assert [pay(), pay(), pay()] == [None] * 3
        [account] = session.budgets()
        assert (account.spent.cost, account.reserved.cost, account.spent.calls) == (0, 0, 0)
        assert its.read(in_doubt) == []
        costly = governed(name="pay", cost=Decimal(6))(lambda: "paid")
        with pytest.raises(Exception, match="no room"):
            costly()


def test_a_dry_run_looks_back_as_a_real_one_would(dry: Any) -> None:
    """Broken if in a dry run nothing ever follows anything: it would show other decisions than the real run."""
    rules = [
        rule("few", "pay") | {"when": {"calls": {"tools": ["pay"], "at_most": 1}}},
        rule("leak", "send", verdict="deny") | {"when": {"after": ["pay", "pay"]}},
        rule("send", "send"),
    ]
    found: dict[bool, list[tuple[str, str]]] = {}
    its, session = dry(document(*rules))
    for is_dry, one in ((True, session), (False, its.session("s", agent="bot"))):
        if not is_dry and its.policy.mode is Mode.DRY_RUN:
            continue
        with one:
            for name in ("send", "pay", "pay", "pay", "send"):
                with contextlib.suppress(Denied):
                    governed(name=name)(lambda: None)()
            found[is_dry] = [(d.tool, d.verdict.value) for d in decisions(its, one.id)]
        assert [report.problem for report in its.verify()] == [None] * len(found)
    assert found[True] == [
        *[("send", "allow"), ("pay", "allow"), ("pay", "allow"), ("pay", "deny"), ("send", "deny")]
    ]
    assert found.get(False, found[True]) == found[True]


def test_a_method_has_a_stand_in(dry: Any) -> None:
    """Broken if the stand-in of a method is given the object, which is no argument of the call."""
    done: list[str] = []

    class Desk:
        @governed(simulate=lambda to, by="bot": done.append(f"{to} by {by}"))
        def pay(self, to: str, by: str = "bot") -> None:
            done.append("real")

    _, session = dry(saying("allow"))
    with session:
        Desk().pay("ann")
    assert done == ["ann by bot"]


def test_a_stand_in_may_fail(dry: Any) -> None:
    """Broken if what a simulation raises is lost, or leaves a call in doubt."""

    def fail() -> None:
        raise LookupError("simulated")

    its, session = dry(saying("allow"))
    with session:
        with pytest.raises(LookupError, match="simulated"):
            governed(name="pay", simulate=fail)(lambda: "paid")()
        assert its.read(in_doubt) == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_stand_in_of_another_kind_is_misuse(kind: str) -> None:
    """Broken if a mistake is found out by the first dry run instead of the import."""
    made = simulated(print)
    tool = made[kind][0]
    for other in (*(made[name][1] for name in KINDS if name != kind), "x", 5, object()):
        with pytest.raises(Misuse, match="simulate="):
            governed(simulate=other)(tool)


def test_a_dry_run_needs_a_policy(governor: Any) -> None:
    """Broken if a session that runs dry under no policy seems to allow something."""
    with (
        governor(None).session("s", agent="bot", dry_run=True),
        pytest.raises(NotConfigured),
    ):
        governed(name="pay")(lambda: "paid")()


def test_a_model_cannot_be_called_in_a_block_that_runs_dry(dry: Any) -> None:
    """Broken if a dry run pays for a model."""
    _, session = dry(saying("allow"))
    with session, pytest.raises(Misuse, match="dry run"), session.model_call(model="gpt-5"):
        raise AssertionError("the block ran")


def test_spans_show_the_mode(governor: Any) -> None:
    """Broken if a trace does not tell a call that was let through because nothing is enforced from one that passed."""
    traces = Traces()
    for mode in ("enforce", "observe", "dry_run"):
        policy = saying("deny" if mode == "observe" else "allow", mode=mode)
        its = governor(policy, tracer_provider=traces.provider)
        with its.session("s", agent="bot"):
            governed(name="pay")(lambda: "paid")()
    shown = {
        (span.name, attributes(span).get("interlock.mode"))
        for span in traces.finished
        if not span.name.startswith("governed_call")
    }
    assert shown == {
        ("govern pay", None),
        ("execute_tool pay", None),
        ("govern pay", "observe"),
        ("execute_tool pay", "observe"),
        ("govern pay [allow]", "dry_run"),
    }


def test_enforcing_still_asks(governor: Any) -> None:
    """Broken if these tests would pass with nothing enforced at all."""
    with governor(saying("ask")).session("s", agent="bot"), pytest.raises(ApprovalNeeded):
        governed(name="pay")(lambda: "paid")()
