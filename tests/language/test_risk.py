"""Risk: what a tool declares, what the policy and plugins say, and what the session has done; never less than any."""

from __future__ import annotations

import contextlib
import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock import Call, Risk, Tool, Verdict, events, governed, hookimpl
from interlock._memory import Steps, recalled, remembering
from interlock.errors import ApprovalNeeded, Denied, EvaluatorFailed, PolicyError
from interlock.policy import Policy
from tests.language._asking import situation
from tests.language._joining import decisions
from tests.policies import document, rule
from tests.samples import EVENTS, call_of

LEVELS = [str(risk) for risk in Risk]


def policy(**risk: Any) -> dict[str, Any]:
    """A policy that allows all, but for what its risk says."""
    return document(rule("all", "*"), risk=risk)


def make(name: str, risk: str = "medium") -> Any:
    """A governed tool that does nothing."""
    return governed(name=name, risk=risk)(lambda: "done")


def plugin(answer: Any) -> object:
    """A plugin that takes every call to be so risky."""

    class Plugin:
        @hookimpl
        def interlock_risk(self, call: Call) -> Any:
            if isinstance(answer, Exception):
                raise answer
            return answer

    return Plugin()


@pytest.mark.promise(2)
@pytest.mark.parametrize("declared", LEVELS)
def test_the_risk_is_the_most_that_anybody_says(governor: Any, declared: str) -> None:
    """Broken if a policy or a plugin makes a call less risky than its tool says that it is."""
    for said, named in itertools.product(LEVELS, [None, *Risk]):
        its = governor(
            policy(tools=[{"tools": ["p*"], "risk": said}, {"tools": ["*"], "risk": "low"}]),
            plugins=[plugin(named)],
        )
        with its.session("s", agent="bot") as session:
            make("pay", declared)()
            make("x", declared)()
            [first, second] = decisions(its, session.id)
        assert max(Risk(declared), Risk(said), named or Risk.LOW) is first.risk
        assert max(Risk(declared), named or Risk.LOW) is second.risk


@pytest.mark.promise(2)
@pytest.mark.parametrize("looks_back", [False, True])
def test_a_plugin_that_raises_the_risk_loosens_nothing(governor: Any, looks_back: bool) -> None:
    """Broken if a rule that allows more at a higher risk lets a plugin open what was closed."""
    rules = [
        rule("odd", "pay", when={"risk": {"at_least": "high"}}),
        rule("no", "pay", verdict="ask"),
    ]
    more = {"risk": {"thresholds": {"critical": 100}}} if looks_back else {}
    for named in (None, Risk.CRITICAL):
        its = governor(document(*rules, **more), plugins=[plugin(named)])
        with its.session("s", agent="bot") as session:
            with pytest.raises(ApprovalNeeded, match="rule no says ask"):
                make("pay")()
            assert make("pay", "high")() == "done"
            [first, second] = decisions(its, session.id)
        assert (first.risk, second.risk) == (named or Risk.MEDIUM, named or Risk.HIGH)


@pytest.mark.promise(1)
@pytest.mark.parametrize("answer", ["low", 1, True, ..., LookupError("so")], ids=repr)
def test_a_plugin_that_cannot_say_the_risk_denies(governor: Any, answer: Any) -> None:
    """Broken if a call runs whose risk nobody knows."""
    with (
        governor(policy(), plugins=[plugin(answer)]).session("s", agent="bot"),
        pytest.raises(EvaluatorFailed, match="Plugin"),
    ):
        make("pay")()


@pytest.mark.parametrize(("ask_at", "deny_at"), [*itertools.product([None, *LEVELS], repeat=2)])
def test_from_a_risk_on_a_human_is_asked_or_the_call_denied(
    ask_at: str | None, deny_at: str | None
) -> None:
    """Broken if a bound is off by one, or a policy is taken in which nobody would ever be asked."""
    given = {key: word for key, word in (("ask_at", ask_at), ("deny_at", deny_at)) if word}
    if ask_at and deny_at and Risk(ask_at) >= Risk(deny_at):
        with pytest.raises(PolicyError, match="'ask_at' must be lower"):
            Policy.build(policy(**given))
        return
    made = Policy.build(policy(**given, **({"approvers": ["ops"]} if ask_at else {})))
    for risk in Risk:
        call = call_of(tool=Tool(name="pay", risk=risk))
        said = made.opinions(situation(made, call, risk))
        denies, asks = deny_at and risk >= Risk(deny_at), ask_at and risk >= Risk(ask_at)
        wanted = Verdict.DENY if denies else Verdict.ASK if asks else Verdict.ALLOW
        assert wanted is max(one.verdict for one in said)
        if wanted is Verdict.ASK:
            assert said[-1].approvers == ("ops",)


def test_points_add_up_to_a_higher_risk(governor: Any) -> None:
    """Broken if the score is off by a call, counts refused ones, or feeds on the risk that it raises."""
    its = governor(
        policy(
            points={"low": 0, "medium": 1, "high": 4, "critical": 9},
            thresholds={"high": 3, "critical": 8},
            ask_at="critical",
        )
    )
    tools = ["low", "medium", "medium", "medium", "low", "high", "medium", "medium", "low"]
    with its.session("s", agent="bot") as session:
        found = []
        for word in tools:
            try:
                found.append(make("t", word)())
            except ApprovalNeeded:
                found.append("asked")
        told = decisions(its, session.id)
    # score before:            0  0  1  2  3  3  7  7  7
    # with its own points:     0  1  2  3  3  7  8  8  7
    risks = ["low", "medium", "medium", "high", "high", "high", "critical", "critical", "high"]
    assert risks == [str(one.risk) for one in told]
    assert found == ["done"] * 6 + ["asked"] * 2 + ["done"]
    assert [one.points for one in told] == [0, 1, 1, 1, 0, 4, 1, 1, 0]


def test_a_sequence_raises_the_risk_of_what_completes_it(governor: Any) -> None:
    """Broken if a sequence with others in between is missed, or one in another order is seen."""
    sequences = [
        {"name": "leak", "calls": ["read_crm", "query_*", "send_*"], "escalate_to": "critical"}
    ]
    its = governor(policy(sequences=sequences, deny_at="critical"))

    def risks(*tools: str) -> list[str]:
        with its.session("s", agent="bot") as session:
            for name in tools:
                with contextlib.suppress(Denied):
                    make(name)()
            return [str(one.risk)[0] for one in decisions(its, session.id)]

    assert risks("read_crm", "x", "query_db", "x", "send_email") == [*"mmmmc"]
    assert risks("query_db", "read_crm", "send_email") == [*"mmm"]
    assert risks("send_email", "query_db", "read_crm", "query_a", "query_b") == [*"mmmmm"]
    # What was refused did not complete it, so it is refused again; what comes besides is not.
    assert risks("read_crm", "query_db", "send_a", "send_b", "x") == [*"mmccm"]


def test_after_a_sequence_every_later_call_is_as_risky(governor: Any) -> None:
    """Broken if an agent that did what is dangerous together is trusted again with its next call."""
    sequences = [{"name": "leak", "calls": ["read", "send"], "escalate_to": "high"}]
    its = governor(policy(sequences=sequences))
    with its.session("s", agent="bot") as session:
        for name in ("read", "send", "x"):
            make(name, "low")()
        assert [str(one.risk) for one in decisions(its, session.id)] == ["low", "high", "high"]
    with its.session("another", agent="bot") as session:
        make("x", "low")()
        assert [str(one.risk) for one in decisions(its, session.id)] == ["low"]


def test_a_call_takes_one_step_at_most(governor: Any) -> None:
    """Broken if one call of a tool that a sequence names twice completes it by itself."""
    sequences = [{"name": "twice", "calls": ["pay", "*"], "escalate_to": "critical"}]
    its = governor(policy(sequences=sequences))
    with its.session("s", agent="bot") as session:
        for name in ("x", "pay", "pay"):
            make(name)()
        told = [str(one.risk) for one in decisions(its, session.id)]
    assert told == ["medium", "medium", "critical"]
    first = Steps(("pay", "*"))
    numbers = [0]
    for name in ("x", "pay", "pay", "pay"):
        numbers.append(first.next(numbers[-1], name))
    assert numbers == [0, 0, 1, 2, 2]


@given(st.lists(EVENTS[events.CallDecided], max_size=12), st.data())
def test_memory_is_a_fold(told: list[events.CallDecided], data: st.DataObject) -> None:
    """Broken if what is remembered depends on where a history was interrupted."""
    made = Policy.build(
        document(
            {
                **rule("r", "*", verdict="steer", guidance="go", retries=1),
                "when": {"all": [{"calls": {"tools": ["*"], "outcome": "deny", "at_most": 1}}]},
            },
            rule("s", "*") | {"when": {"after": ["*", "*"]}},
            risk={"thresholds": {"high": 10}},
            steering={"retries": 2},
        )
    )
    assert len(made.trackers) == 5
    place = data.draw(st.integers(0, len(told)))
    whole = recalled(made.trackers, told)
    parts = recalled(made.trackers, told[:place])
    for decided in told[place:]:
        parts = remembering(parts, decided)
    assert whole == parts
    got_in = [one for one in told if one.admitted]
    numbers = {
        '{"of":"points"}': sum(one.points for one in got_in),
        '{"of":"calls","tools":["*"],"outcome":"deny"}': sum(
            one.verdict is Verdict.DENY for one in told
        ),
        '{"of":"steps","steps":["*","*"]}': min(2, len(got_in)),
        '{"of":"steered"}': sum(one.verdict is Verdict.STEER and not one.admitted for one in told),
    }
    assert numbers == {key: whole[key] for key in numbers}
