"""How opinions become one decision: the laws of combine(), and the scales that they stand on."""

from __future__ import annotations

import operator
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock import Decision, Opinion, Risk, Verdict
from interlock._verdict import combine
from tests.samples import opinion, opinions

heard = st.lists(opinions, max_size=6)
SCALES = [
    (Verdict, ["allow", "ask", "steer", "deny"]),
    (Risk, ["low", "medium", "high", "critical"]),
]


@pytest.mark.promise(2)
@given(heard, st.randoms())
def test_order_is_irrelevant(given_opinions: list[Opinion], random: Any) -> None:
    """Broken if a plugin can change the decision, or its text, by speaking earlier or later."""
    shuffled = list(given_opinions)
    random.shuffle(shuffled)
    assert combine(given_opinions) == combine(shuffled)
    assert combine(given_opinions).reason == combine(shuffled).reason


@pytest.mark.promise(2)
@given(heard, st.data())
def test_repetition_is_irrelevant(given_opinions: list[Opinion], data: st.DataObject) -> None:
    """Broken if saying a thing twice makes it weigh more, or appear twice."""
    again = (
        data.draw(st.lists(st.sampled_from(given_opinions), max_size=4)) if given_opinions else []
    )
    assert combine(given_opinions) == combine([*given_opinions, *again])


@pytest.mark.promise(2)
@given(st.lists(opinions, min_size=1, max_size=6), heard)
def test_addition_never_loosens(before: list[Opinion], added: list[Opinion]) -> None:
    """Broken if any further opinion makes a verdict milder, or lets through what was not."""
    assert combine(before).verdict <= combine([*before, *added]).verdict
    assert combine(before).admits >= combine([*before, *added]).admits


@pytest.mark.promise(2)
@given(st.lists(opinions, min_size=1, max_size=5), heard)
def test_addition_never_makes_asking_easier(before: list[Opinion], added: list[Opinion]) -> None:
    """Broken if a further opinion gives more time for an answer, or takes a group of approvers away."""
    asked, more = combine(before), combine([*before, *added])
    if asked.verdict is more.verdict:
        assert set(asked.approvers) <= set(more.approvers)
        assert asked.expires is None or (more.expires is not None and more.expires <= asked.expires)


@pytest.mark.promise(1, 2)
def test_no_opinion_is_deny() -> None:
    """Broken if a call on which nobody has a view runs."""
    nothing = combine([])
    assert (nothing.verdict, nothing.admits) == (Verdict.DENY, False)
    assert (nothing.because, nothing.opinions, nothing.is_fault) == ((), (), False)
    assert nothing.reason == "no opinion allows it"


@pytest.mark.promise(1)
@pytest.mark.parametrize("verdict", Verdict)
def test_an_opinion_that_only_observes_decides_nothing(verdict: Verdict) -> None:
    """Broken if a rule that is being tried out lets a call through when nobody else speaks, or refuses in its name."""
    tried = opinion(verdict, "tried out", observed=True)
    decision = combine([tried])
    assert (decision.verdict, decision.because, decision.opinions) == (Verdict.DENY, (), (tried,))


@given(heard)
def test_the_strictest_carries_and_all_are_kept(given_opinions: list[Opinion]) -> None:
    """Broken if the decision is not the maximum, or an opinion is lost from the record."""
    decision = combine(given_opinions)
    assert set(decision.opinions) == set(given_opinions)
    assert len(decision.opinions) == len(set(given_opinions))
    strictest = max((o.verdict for o in given_opinions), default=Verdict.DENY)
    assert decision.verdict is strictest
    assert set(decision.because) == {o for o in given_opinions if o.verdict is strictest}


@given(heard)
def test_only_an_allow_or_an_answered_ask_admits(given_opinions: list[Opinion]) -> None:
    """Broken if a human's yes admits anything stricter than what a human was asked."""
    decision = combine(given_opinions)
    answered = Decision(
        verdict=decision.verdict,
        because=decision.because,
        opinions=decision.opinions,
        approved_by="ann",
    )
    assert decision.admits == (decision.verdict is Verdict.ALLOW)
    assert answered.admits == (decision.verdict in {Verdict.ALLOW, Verdict.ASK})


@given(heard)
def test_the_reason_is_each_reason_once(given_opinions: list[Opinion]) -> None:
    """Broken if a reason that carries the verdict is not told, told twice, or what is told is something else."""
    decision = combine(given_opinions)
    reasons = {o.reason for o in given_opinions if o.verdict is decision.verdict}
    assert sorted(reasons) == sorted(decision.reason.split("; ") if given_opinions else [])
    assert combine([opinion(Verdict.ASK, "")]).reason == "no opinion allows it"


def test_what_is_told_comes_from_those_who_carry() -> None:
    """Broken if the model is told the reason or the guidance of somebody who did not decide."""
    decision = combine(
        [
            opinion(Verdict.ALLOW, "fine", guidance="go on", suggestions=("x",), rule="r0"),
            opinion(Verdict.STEER, "a wire", guidance="Ask.", suggestions=("pay",), rule="r1"),
            opinion(Verdict.STEER, "a wire", guidance="Ask.", suggestions=("pay", "wait")),
            opinion(Verdict.ASK, "large", approvers=("ops",), expires=timedelta(1)),
        ]
    )
    assert (decision.reason, decision.rule, decision.guidance) == ("a wire", "r1", "Ask.")
    assert sorted(decision.suggestions) == ["pay", "wait"]
    assert (decision.approvers, decision.expires) == ((), None)


def test_the_shortest_time_and_all_groups_stand() -> None:
    """Broken if of two who ask, one is not heard."""
    decision = combine(
        [
            opinion(Verdict.ASK, approvers=("ops",), expires=timedelta(hours=2)),
            opinion(Verdict.ASK, approvers=("ops", "legal"), expires=timedelta(hours=1)),
            opinion(Verdict.ASK),
        ]
    )
    assert sorted(decision.approvers) == ["legal", "ops"]
    assert decision.expires == timedelta(hours=1)


def test_a_fault_is_told_from_a_view() -> None:
    """Broken if a denial looks like a failure to be repaired, or a failure like a denial."""
    fault, view = opinion(Verdict.DENY, fault=True), opinion(Verdict.DENY)
    assert combine([fault, opinion(Verdict.ASK)]).is_fault
    assert not combine([fault, view]).is_fault
    assert not combine([view]).is_fault


@pytest.mark.parametrize(("scale", "words"), SCALES, ids=["verdict", "risk"])
def test_members_compare_by_place(scale: type[Any], words: list[str]) -> None:
    """Broken if the order of strictness, or of harm, is not the order that is documented."""
    assert [str(member) for member in sorted(scale)] == words
    for compare in (operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne):
        for a, left in enumerate(scale):
            for b, right in enumerate(scale):
                assert compare(a, b) == compare(left, right)


@pytest.mark.parametrize("compare", [operator.lt, operator.le, operator.gt, operator.ge])
@pytest.mark.parametrize("other", [Risk.LOW, "allow", 0, None, True])
def test_scales_do_not_mix(compare: Callable[[Any, Any], bool], other: Any) -> None:
    """Broken if a verdict can be compared with a risk, a word or a number, and come out as something."""
    for left, right in ((Verdict.ALLOW, other), (other, Verdict.ALLOW)):
        with pytest.raises(TypeError):
            compare(left, right)
    assert other != Verdict.ALLOW
