"""Reviewers: they see a result before the caller does, and whatever goes wrong with one, the caller does not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from interlock import (
    Call,
    Denied,
    Governor,
    Steered,
    Verdict,
    events,
    governed,
)
from interlock._canonical import canonical, digest
from interlock.errors import EvaluatorFailed
from interlock.evaluators import Redacted
from tests.callers import Caller, history
from tests.hostile import ALLOW, FAILING, HANGING, JUNK
from tests.reviews import SECRET, answering, as_review, finished
from tests.samples import opinion

Make = Callable[..., Governor]


def check_withheld(found: list[Any], kind: type[Exception], verdict: Verdict) -> None:
    """Check that the one call made has run, is booked, and that its result was withheld, and why."""
    error, end = found[0], finished(found)
    assert type(error) is kind, error
    assert error.ran is True
    assert error.decision.verdict is verdict
    assert str(error).startswith("pay ran and was booked, but its result is withheld")
    assert "Do not run it again." in str(error)
    assert (end.outcome, end.withheld, end.redacted_by) == (events.Outcome.RETURNED, True, ())
    assert error.decision.because[0] in end.reviews
    assert SECRET not in str(error) + events.body_of(end)


def check_fault(found: list[Any]) -> None:
    """Check that a result was withheld because its reviewer failed."""
    check_withheld(found, EvaluatorFailed, Verdict.DENY)
    assert [(one.author, one.fault) for one in finished(found).reviews] == [
        ("evaluator:judge", True)
    ]


@pytest.mark.promise(8)
@pytest.mark.parametrize("answer", [None, ALLOW])
@pytest.mark.parametrize("form", ["sync", "async", "awaitable"])
def test_a_result_without_objection_is_the_very_object(
    answer: Any, form: str, caller: Caller, made: Make
) -> None:
    """Broken if reviewing a result copies or changes it, or the reviewer is shown something else."""
    shown: list[Any] = []

    def plain(self: Any, call: Call, result: object) -> Any:
        shown.append((call.tool.name, dict(call.arguments), result))
        return answer

    async def coroutine(self: Any, call: Call, result: object) -> Any:
        return plain(self, call, result)

    def awaitable(self: Any, call: Call, result: object) -> Any:
        return coroutine(self, call, result)

    forms = {"sync": plain, "async": coroutine, "awaitable": awaitable}
    found = caller(made(judge=forms[form]))
    assert found[0] is caller.gives
    assert shown[0][2] is caller.gives
    assert (shown, caller.ran) == ([("pay", {"to": "ann"}, caller.gives)], ["ann"])
    end = finished(found)
    assert [one.author for one in end.reviews] == (["evaluator:judge"] if answer else [])
    assert (end.withheld, end.redacted_by) == (False, ())


@pytest.mark.parametrize(
    ("said", "kind", "verdict"),
    [
        (Verdict.DENY, Denied, Verdict.DENY),
        (Verdict.STEER, Steered, Verdict.STEER),
        (Verdict.ASK, Denied, Verdict.DENY),
    ],
)
def test_an_objection_withholds(
    said: Verdict, kind: type[Exception], verdict: Verdict, caller: Caller, made: Make
) -> None:
    """Broken if a result to which somebody objects reaches the caller, or its digest and reasons are not on record."""
    view = opinion(
        said, "a card number", guidance="Ask for the last digits.", suggestions=("last",)
    )
    found = caller(made(judge=answering(view)))
    check_withheld(found, kind, verdict)
    assert "a card number" in str(found[0])
    assert ("nobody" in str(found[0]) or "the call has run" in str(found[0])) == (
        said is Verdict.ASK
    )
    if kind is Steered:
        assert "Ask for the last digits. Use instead: last." in str(found[0])
    assert finished(found).result_digest == digest(canonical(caller.gives))
    assert caller.ran == ["ann"]


def test_a_redacted_result_is_what_the_caller_gets(caller: Caller, made: Make) -> None:
    """Broken if the original reaches the caller, or the record holds either, or another digest than the original's."""
    left = {"card": ["****"]}
    found = caller(made(judge=answering(Redacted(result=left, reason="1 card number"))))
    assert found[0] is left
    end = finished(found)
    assert end.result_digest == digest(canonical(caller.gives))
    assert (end.withheld, end.redacted_by) == (False, ("evaluator:judge",))
    assert [(one.verdict, one.reason) for one in end.reviews] == [(Verdict.ALLOW, "1 card number")]
    assert "****" not in events.body_of(end)
    assert caller.ran == ["ann"]


@pytest.mark.parametrize("order", [("upper", "cut"), ("cut", "upper")])
def test_each_sees_what_the_one_before_has_left(order: tuple[str, str], made: Make) -> None:
    """Broken if reviewers are asked in another order than the policy's, or one undoes what another took out."""
    change: dict[str, Callable[[str], str]] = {"upper": str.upper, "cut": lambda text: text[:3]}
    shown: list[object] = []

    def changing(name: str) -> Any:
        async def review(self: Any, call: Call, result: object) -> Any:
            shown.append(result)
            return Redacted(result=change[name](str(result)), reason=name)

        return review

    found = Caller("sync", "some text")(made(**{name: changing(name) for name in order}))
    assert found[0] == "SOM"
    assert shown == ["some text", change[order[0]]("some text")]
    assert finished(found).redacted_by == tuple(f"evaluator:{name}" for name in order)


def test_a_denial_ends_the_review(caller: Caller, made: Make) -> None:
    """Broken if somebody is shown a result that is withheld already, or a redaction outweighs a denial."""
    asked: list[str] = []
    redact = answering(Redacted(result="fine", reason="all of it"))
    deny = answering(opinion(Verdict.DENY, "no"))
    late = lambda self, call, result: asked.append("late")  # noqa: E731
    found = caller(made(redact=redact, deny=deny, late=late))
    assert (type(found[0]), asked) == (Denied, [])
    end = finished(found)
    assert (end.withheld, end.redacted_by) == (True, ("evaluator:redact",))
    assert [one.author for one in end.reviews] == ["evaluator:redact", "evaluator:deny"]


def test_a_mild_objection_does_not_hide_a_strict_one(caller: Caller, made: Make) -> None:
    """Broken if a STEER keeps the next reviewer from being asked, or a later consent outweighs it."""
    steer, deny = opinion(Verdict.STEER, "s", guidance="g"), opinion(Verdict.DENY, "d")
    assert type(caller(made(a=answering(steer), b=answering(deny)))[0]) is Denied
    assert type(caller(made(a=answering(steer), b=answering(ALLOW)))[0]) is Steered


@pytest.mark.promise(1)
@pytest.mark.parametrize("name", FAILING)
def test_one_that_fails_withholds(name: str, caller: Caller, made: Make) -> None:
    """Broken if a reviewer that raises, exits or cancels lets the result through, escapes, or breaks the next one."""
    governor = made(judge=as_review(FAILING[name]), timeout="15s")
    for _ in range(2):
        found = caller(governor)
        check_fault(found)
        assert "within" not in str(found[0])
    assert caller.ran == ["ann", "ann"]


@pytest.mark.promise(1)
@pytest.mark.parametrize("evaluate", HANGING, ids=lambda function: function.__name__)
def test_one_that_hangs_withholds(evaluate: Any, caller: Caller, made: Make) -> None:
    """Broken if a reviewer that never ends keeps its call waiting, or lets the result through."""
    found = caller(made(judge=as_review(evaluate), timeout="30ms"))
    check_fault(found)
    assert "within 0.03 s" in str(found[0])
    assert caller.ran == ["ann"]


class Other(Redacted, frozen=True):
    """Not quite a redaction."""


ODD_REDACTIONS: list[Any] = [
    Redacted,
    ("fine", "redacted"),
    Other(result="fine", reason="redacted"),
    *[Redacted(result="fine", reason=word) for word in (None, 5, b"x", ["x"], "\ud800")],  # type: ignore[arg-type]
    Redacted(result=iter("fine"), reason="later"),
    Redacted(result=(item for item in "fine"), reason="later"),
]


@pytest.mark.promise(1)
@pytest.mark.parametrize("is_async", [False, True])
def test_junk_withholds(is_async: bool, caller: Caller, made: Make) -> None:
    """Broken if a reviewer that answers with anything but an Opinion, a Redacted or None lets the result through."""
    junk = JUNK + ODD_REDACTIONS
    assert len([item for item in junk if item is NotImplemented or item]) >= 50
    answers: list[Any] = []

    def plain(self: Any, call: Call, result: object) -> Any:
        return answers.pop()

    async def coroutine(self: Any, call: Call, result: object) -> Any:
        return answers.pop()

    answers += junk
    *found, _ = caller(made(judge=coroutine if is_async else plain), times=len(junk))
    assert [type(one) for one in found] == [EvaluatorFailed] * len(junk)
    assert caller.ran == ["ann"] * len(junk)


@pytest.mark.promise(1)
@pytest.mark.parametrize(
    "lazy",
    [lambda: iter([SECRET]), lambda: (item for item in [SECRET]), asyncio.Future],
    ids=["iterator", "generator", "future"],
)
def test_what_comes_into_being_later_is_withheld(lazy: Any, made: Make) -> None:
    """Broken if a result that cannot be looked at without being used up reaches the caller unseen."""
    asked: list[object] = []

    @governed
    def pay() -> Any:
        return lazy()

    async def main(governor: Governor) -> Any:
        async with governor.session("s", agent="bot") as session:
            with pytest.raises(
                EvaluatorFailed, match="content comes only when it is used"
            ) as error:
                pay()
            return error.value, history(governor, session.id)

    error, found = asyncio.run(main(made(judge=lambda self, call, result: asked.append(result))))
    assert (error.ran, asked) == (True, [])
    assert finished([found]).withheld is True


def test_nobody_is_shown_what_a_tool_raises(caller: Caller, made: Make) -> None:
    """Broken if a reviewer stands between a caller and the tool's own exception."""
    asked: list[object] = []
    problem = LookupError("gone")

    @governed
    def pay() -> None:
        raise problem

    governor = made(judge=lambda self, call, result: asked.append(result))
    with governor.session("s", agent="bot") as session, pytest.raises(LookupError) as error:
        pay()
    assert (error.value is problem, asked) == (True, [])
    assert finished([history(governor, session.id)]).reviews == ()
