"""The laws of opinions, with rules, evaluators and plugins mixed at random, those that only observe included."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock import Call, Governor, Opinion, Verdict, events, governed, hookimpl
from interlock._verdict import Decision, combine
from interlock.errors import InterlockError
from tests.callers import history
from tests.judges import judge
from tests.policies import document
from tests.samples import opinion, opinions

ran: list[str] = []
counting = opinions.filter(lambda one: not one.observed)
observed = st.builds(opinion, st.sampled_from(Verdict), observed=st.just(True))


@pytest.mark.promise(2)
@given(st.lists(opinions | observed, max_size=6), st.lists(observed, max_size=4))
def test_what_is_only_observed_never_counts(heard: list[Opinion], tried: list[Opinion]) -> None:
    """Broken if a rule that is tried out changes what happens, or is lost from the record."""
    before, after = combine(heard), combine([*heard, *tried])
    assert (before.verdict, before.because) == (after.verdict, after.because)
    assert {*heard, *tried} == set(after.opinions)
    assert not any(one.observed for one in after.because)


@pytest.mark.promise(2)
@given(
    st.lists(counting, min_size=1, max_size=4),
    st.lists(opinions | observed, max_size=6),
    st.randoms(use_true_random=False),
)
def test_the_laws_hold_with_observed_opinions_among_them(
    before: list[Opinion], added: list[Opinion], chance: random.Random
) -> None:
    """Broken if order or repetition tells, or a further opinion lets through what was not."""
    more = [*before, *added]
    shuffled = [*more, *chance.choices(more, k=3)]
    chance.shuffle(shuffled)
    assert combine(more) == combine(shuffled)
    assert combine(before).verdict <= combine(more).verdict


# Who speaks, what he says (None: no view), and whether it only is observed.
Voice = tuple[str, Verdict | None, bool]
WHO = ["rule", "evaluator", "async evaluator", "plugin"]
SEATS = 4
voices: st.SearchStrategy[Voice] = st.tuples(
    st.sampled_from(WHO), st.none() | st.sampled_from(Verdict), st.booleans()
)


def view(call: Call, seat: str) -> Opinion | None:
    """What whoever has this seat thinks: the call says it."""
    told = call.arguments["said"].get(seat)
    if told is None:
        return None
    verdict, observed = told
    return Opinion(
        verdict=Verdict(verdict), reason="so", author="x", guidance="go", observed=observed
    )


def plugin(number: int) -> object:
    """A plugin that thinks what the call says that it thinks."""

    class Plugin:
        @hookimpl
        def interlock_opinion(self, call: Call) -> Opinion | None:
            return view(call, f"plugin {number}")

    Plugin.__qualname__ = f"plugin{number}"
    return Plugin()


def evaluator(number: int, *, is_async: bool) -> type:
    """An evaluator that thinks what the call says that it thinks."""

    def evaluate(_self: Any, call: Call) -> Opinion | None:
        return view(call, f"evaluator {number}")

    async def aevaluate(_self: Any, call: Call) -> Opinion | None:
        return view(call, f"async evaluator {number}")

    return judge(aevaluate if is_async else evaluate)


def rules(number: str, mode: str) -> Iterator[dict[str, Any]]:
    """Rules that say what the call says that they say."""
    for verdict in Verdict:
        yield {
            "id": f"{number} {verdict}",
            "tools": ["act"],
            "when": {"argument": ["rules", number], "equals": verdict.value},
            "verdict": verdict.value,
            "mode": mode,
            **({"guidance": "go"} if verdict is Verdict.STEER else {}),
        }


@governed
def act(said: dict[str, Any], rules: dict[str, str]) -> None:
    """Do something."""
    ran.append("act")


@pytest.fixture(scope="module")
def all_voices() -> Iterator[Governor]:
    """A governor with many of each kind of voice."""
    named = {
        f"{kind}{number}": evaluator(number, is_async=kind == "async")
        for kind in ("sync", "async")
        for number in range(SEATS)
    }
    tried = [one for number in range(SEATS) for one in rules(f"rule {number}", "observe")]
    policy = document(
        *tried,
        *rules("base", "enforce"),
        evaluators=[{"use": name, "timeout": "30s"} for name in named],
    )
    plugins = [plugin(number) for number in range(SEATS)]
    with Governor("sqlite://", policy=policy, evaluators=named, plugins=plugins) as governor:
        yield governor


def decided(governor: Governor, said: list[Voice], base: Verdict) -> tuple[Decision, bool]:
    """What a real governor decides, the policy saying *base*, and whether the tool ran."""
    seats = dict.fromkeys(WHO, 0)
    told: dict[str, Any] = {}
    rules = {f"rule {number}": "" for number in range(SEATS)}
    for who, verdict, is_observed in said:
        if verdict is not None:
            if who == "rule":
                rules[f"rule {seats[who]}"] = verdict.value
            else:
                told[f"{who} {seats[who]}"] = (verdict.value, is_observed)
        seats[who] += 1
    ran.clear()
    with governor.session("s", agent="bot") as session:
        with contextlib.suppress(InterlockError):
            act(told, {**rules, "base": base.value})
        found = next(
            event
            for event in history(governor, session.id)
            if isinstance(event, events.CallDecided)
        )
    return combine(found.opinions), bool(ran)


def counts(said: list[Voice]) -> list[Verdict]:
    """The verdicts that are to count; rules are only tried out here."""
    return [
        verdict
        for who, verdict, is_observed in said
        if verdict is not None and who != "rule" and not is_observed
    ]


@pytest.mark.promise(2)
@given(
    said=st.lists(voices, max_size=4),
    base=st.sampled_from(Verdict),
    chance=st.randoms(use_true_random=False),
)
def test_a_governor_decides_the_strictest_of_all_that_count(
    all_voices: Governor, said: list[Voice], base: Verdict, chance: random.Random
) -> None:
    """Broken if any mix of evaluators, plugins and rules lets a call through that one of them stands against."""
    decision, did_run = decided(all_voices, said, base)
    strictest = max([base, *counts(said)])
    assert strictest is decision.verdict
    assert (strictest is Verdict.ALLOW) == did_run
    shuffled = list(said)
    chance.shuffle(shuffled)
    again, ran_again = decided(all_voices, shuffled, base)
    assert (decision.verdict, did_run) == (again.verdict, ran_again)


@pytest.mark.promise(2)
@given(said=st.lists(voices, max_size=3), further=voices, base=st.sampled_from(Verdict))
def test_one_more_voice_never_loosens(
    all_voices: Governor, said: list[Voice], further: Voice, base: Verdict
) -> None:
    """Broken if installing a plugin, naming an evaluator or trying out a rule opens what was closed."""
    before, _ = decided(all_voices, said, base)
    after, _ = decided(all_voices, [*said, further], base)
    assert before.verdict <= after.verdict
    twice, _ = decided(all_voices, [*said, *said[:1]], base)
    assert before.verdict is twice.verdict
