"""The flow of a call whose result is reviewed, driven by hand: nothing unreviewed is left, and all is settled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock import Call, Opinion, Verdict, errors, events
from interlock._decide import Counsel, decide
from interlock._flow import Admit, Consult, Review, Run, Settle, govern
from interlock._replies import Admission, Ending, Reviewed, Settlement
from interlock._state import SessionStatus
from interlock._verdict import Mode
from interlock.events import Outcome, Recorded
from tests.samples import NOW, call_of, opinion, opinions

CALL = call_of({"amount": 900})
ALLOW = opinion(Verdict.ALLOW, "fine")
ENDING = Ending(outcome=Outcome.RETURNED, result="the original")
RECORDED = events.link(
    events.SessionClosed(),
    id="e",
    session_id="s-1",
    seq=1,
    at=NOW,
    trace=None,
    previous_hash=events.GENESIS,
)
FAILURES: list[BaseException] = [
    ValueError("x"),
    errors.StoreUnavailable("down"),
    KeyboardInterrupt(),
    SystemExit(1),
    asyncio.CancelledError(),
    BaseExceptionGroup("x", [KeyboardInterrupt()]),
]


class Played(msgspec.Struct):
    """What a flow asked for and how it ended."""

    steps: list[str]
    settled: list[Settle]
    result: Any = None
    error: BaseException | None = None


def play(
    replies: Callable[[Any], Any],
    *,
    ending: Ending = ENDING,
    mode: Mode = Mode.ENFORCE,
    call: Call = CALL,
) -> Played:
    """Drive the flow of an allowed call to its end; *replies* answers Review and Settle, or raises."""
    flow, played = govern(call, reviewed=True), Played([], [])
    try:
        effect = flow.send(None)
        while True:
            played.steps.append(type(effect).__name__)
            if isinstance(effect, Settle):
                played.settled.append(effect)
            try:
                reply = _reply(effect, ending, mode) or replies(effect)
            except BaseException as error:  # noqa: BLE001 - it is what comes of the effect
                effect = flow.throw(error)
            else:
                effect = flow.send(reply)
    except StopIteration as stop:
        played.result = stop.value
    except BaseException as error:  # noqa: BLE001 - how it ended is what is looked at
        played.error = error
    return played


def _reply(effect: Any, ending: Ending, mode: Mode) -> Any:
    match effect:
        case Consult():
            return Counsel(opinions=(ALLOW,), mode=mode)
        case Admit(counsel=counsel):
            decision = decide(
                effect.call,
                counsel.opinions,
                status=SessionStatus.OPEN,
                ticket=None,
                now=NOW,
                mode=mode,
            )
            return Admission(decision=decision, recorded=RECORDED)
        case Run():
            return ending
        case _:
            return None


def answering(reviewed: Reviewed) -> Callable[[Any], Any]:
    """Reply as reviewers and a sound store do."""
    return lambda effect: (
        reviewed
        if isinstance(effect, Review)
        else Settlement(recorded=RECORDED)
        if isinstance(effect, Settle)
        else None
    )


def failing(error: BaseException) -> Callable[[Any], Any]:
    """Fail in the review."""

    def reply(effect: Any) -> Any:
        if isinstance(effect, Review):
            raise error
        return Settlement(recorded=RECORDED) if isinstance(effect, Settle) else None

    return reply


def test_a_reviewed_call_takes_these_steps() -> None:
    """Broken if the order changes in which a result is reviewed, recorded and given."""
    played = play(answering(Reviewed(result="what is left")))
    steps = ["Begin", "Consult", "Admit", "Observe", "Run", "Review", "Settle", "Observe"]
    assert (steps, "what is left", None) == (played.steps, played.result, played.error)


@pytest.mark.parametrize("outcome", list(Outcome)[1:])
def test_what_has_no_result_is_not_reviewed(outcome: Outcome) -> None:
    """Broken if reviewers are asked where there is nothing to give."""
    played = play(answering(Reviewed()), ending=Ending(outcome=outcome, error=ValueError("x")))
    assert "Review" not in played.steps
    assert (played.settled[0].reviewed, played.result) == (None, None)


@pytest.mark.promise(1, 6)
@pytest.mark.parametrize("error", FAILURES, ids=lambda error: type(error).__name__)
def test_whatever_breaks_the_review_nothing_gets_out_and_all_is_settled(
    error: BaseException,
) -> None:
    """Broken if a failure or interruption of the review gives the result away, or leaves the call in doubt."""
    played = play(failing(error))
    assert played.result is None
    if isinstance(error, Exception):
        assert isinstance(played.error, errors.EvaluatorFailed)
        assert played.error.ran is True
    else:
        assert played.error is error
    [settle] = played.settled
    assert settle.ending is ENDING
    assert settle.reviewed is not None
    assert (settle.reviewed.withheld, settle.reviewed.result) == (True, None)
    assert type(error).__name__ in settle.reviewed.opinions[0].reason


@pytest.mark.promise(1)
@given(st.lists(opinions, max_size=4), st.booleans())
def test_a_result_gets_out_only_without_objection(heard: list[Opinion], lost: bool) -> None:
    """Broken if any set of opinions lets a result out to which one that counts objects, stored or not."""
    reviewed = Reviewed(result="what is left", opinions=tuple(heard))
    sound = answering(reviewed)

    def reply(effect: Any) -> Any:
        if lost and isinstance(effect, Settle):
            raise errors.StoreUnavailable("down")
        return sound(effect)

    played = play(reply)
    objects = any(one.verdict is not Verdict.ALLOW and not one.observed for one in heard)
    assert played.result == (None if objects else "what is left")
    assert (played.error is not None) == objects
    [settle] = played.settled
    assert settle.reviewed is not None
    assert settle.reviewed.withheld is objects
    assert settle.reviewed.opinions == tuple(heard)
    if isinstance(played.error, (errors.Refused, errors.EvaluatorFailed)):
        assert ("and was booked" in str(played.error)) is not lost
        assert played.error.ran is True


@pytest.mark.parametrize("reply", [answering(Reviewed(result="****", redacted_by=("r",)))])
def test_observing_leaves_the_original(reply: Callable[[Any], Any]) -> None:
    """Broken if a mode that only observes changes what a caller gets."""
    played = play(reply, mode=Mode.OBSERVE)
    [settle] = played.settled
    assert played.result == "the original"
    assert settle.reviewed is not None
    assert (settle.reviewed.withheld, settle.reviewed.redacted_by) == (False, ())


@pytest.mark.promise(1)
def test_what_cannot_be_shown_is_withheld_unasked() -> None:
    """Broken if what its tool could not give as a whole is shown in part, or given."""
    ending = Ending(outcome=Outcome.ABANDONED, unreviewable="it has no end")
    played = play(answering(Reviewed(result="x")), ending=ending)
    assert "Review" not in played.steps
    assert isinstance(played.error, errors.EvaluatorFailed)
    assert "it has no end" in str(played.error)


def test_an_interruption_of_settling_lets_nothing_out() -> None:
    """Broken if Ctrl-C in the last write gives a withheld result, or its review is not in the second try."""
    tries: list[Recorded] = []

    def reply(effect: Any) -> Any:
        if isinstance(effect, Review):
            return Reviewed(result="x", opinions=(opinion(Verdict.DENY, "no"),))
        if isinstance(effect, Settle):
            tries.append(RECORDED)
            if len(tries) == 1:
                raise KeyboardInterrupt
            return Settlement(recorded=RECORDED)
        return None

    played = play(reply)
    assert isinstance(played.error, KeyboardInterrupt)
    assert [one.reviewed.withheld for one in played.settled if one.reviewed] == [True, True]
