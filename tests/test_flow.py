"""The flow, driven by hand: nothing runs that was not admitted, and whatever runs is settled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock import Call, Denied, Opinion, Steered, Verdict, errors, events
from interlock._decide import Counsel, decide
from interlock._flow import (
    Admit,
    Ask,
    Await,
    Begin,
    Consult,
    Effect,
    Flow,
    Observe,
    Run,
    Settle,
    govern,
    preview,
)
from interlock._replies import Admission, Ending, Settlement
from interlock._state import SessionStatus
from interlock._ticket import TicketState
from interlock._verdict import Mode
from interlock.events import Outcome, Recorded, TraceIds
from tests.samples import NOW, call_of, opinion, opinions, ticket_for

CALL = call_of({"amount": 900, "to": "4111-planted"})
FAULTY = call_of({"amount": 10**5_000})
TRACE = TraceIds("a" * 32, "b" * 16, 1)
RETURNED = Ending(outcome=Outcome.RETURNED, result="receipt")

ALLOW, ASK = opinion(Verdict.ALLOW, "fine"), opinion(Verdict.ASK, "large", approvers=("ops",))
STEER = opinion(Verdict.STEER, "a wire", guidance="Ask finance.", suggestions=("pay",))
DENY, FAULT = opinion(Verdict.DENY, "no"), opinion(Verdict.DENY, "broke", fault=True)


class Throw(msgspec.Struct, frozen=True):
    """A reply that is an exception."""

    error: BaseException


class Played(msgspec.Struct, frozen=True):
    """What a flow asked for, what it was told, and how it ended."""

    effects: list[Effect[Any]]
    replies: list[Any]
    result: Any = None
    error: BaseException | None = None

    @property
    def steps(self) -> list[str]:
        """The names of the effects, in order."""
        return [type(effect).__name__ for effect in self.effects]

    def last(self, kind: type[Effect[Any]]) -> Any:
        """The last effect of that kind."""
        return [effect for effect in self.effects if isinstance(effect, kind)][-1]


def play(flow: Flow, answer: Callable[[Effect[Any]], Any]) -> Played:
    """Drive *flow* to its end, replying with *answer*."""
    played = Played([], [])
    try:
        effect = flow.send(None)
        while True:
            played.effects.append(effect)
            played.replies.append(answer(effect))
            reply = played.replies[-1]
            effect = flow.throw(reply.error) if isinstance(reply, Throw) else flow.send(reply)
    except StopIteration as stop:
        return msgspec.structs.replace(played, result=stop.value)
    except BaseException as error:  # noqa: BLE001 - how it ended is what is looked at
        return msgspec.structs.replace(played, error=error)


def recorded(event: events.Event | None = None) -> Recorded:
    """Put an event into some place."""
    return events.link(
        event or events.SessionClosed(),
        id="e",
        session_id="s-1",
        seq=1,
        at=NOW,
        trace=None,
        previous_hash=events.GENESIS,
    )


def admission(call: Call, counsel: Counsel, *, approved: bool = False) -> Admission:
    """Decide as the store does."""
    state = TicketState.APPROVED if approved else TicketState.PENDING
    ticket = ticket_for(call, state)
    decision = decide(
        call,
        counsel.opinions,
        status=SessionStatus.OPEN,
        ticket=ticket,
        now=NOW,
        mode=counsel.mode,
    )
    asked = decision.verdict is Verdict.ASK and decision.mode is Mode.ENFORCE
    return Admission(decision=decision, recorded=recorded(), ticket=ticket if asked else None)


def ordinary(*heard: Opinion, ending: Ending = RETURNED, **other: Any) -> Callable[[Any], Any]:
    """Reply as a sound store and tool do, or for the effect named by a keyword with what it is given."""

    def answer(effect: Effect[Any]) -> Any:
        name = type(effect).__name__.lower()
        if name in other:
            return other[name]
        match effect:
            case Begin():
                return TRACE
            case Consult():
                return Counsel(opinions=heard)
            case Admit(counsel=counsel) | Ask(counsel=counsel):
                return admission(effect.call, counsel)
            case Run():
                return ending
            case Settle():
                return Settlement(recorded=recorded())
            case _:
                return None

    return answer


INTERRUPTIONS = [
    ValueError("x"),
    errors.StoreUnavailable("down"),
    errors.Conflict("gone"),
    KeyboardInterrupt(),
    SystemExit(1),
    asyncio.CancelledError(),
    RuntimeError("x"),
    StopAsyncIteration(),
    MemoryError(),
    BaseExceptionGroup("x", [KeyboardInterrupt()]),
]
throws = st.sampled_from(INTERRUPTIONS).map(Throw)
endings = st.one_of(
    st.just(RETURNED),
    st.builds(
        Ending, outcome=st.sampled_from(list(Outcome)[1:]), error=st.sampled_from(INTERRUPTIONS)
    ),
)


def anything(data: st.DataObject, odds: int = 8) -> Callable[[Effect[Any]], Any]:
    """Reply to each effect with something that can come back from it, an exception included."""

    def answer(effect: Effect[Any]) -> Any:
        if data.draw(st.integers(1, odds)) == 1:
            return data.draw(throws)
        match effect:
            case Begin():
                return data.draw(st.sampled_from([None, TRACE]))
            case Consult():
                likely = st.sampled_from([[ALLOW], [ASK]])
                heard = tuple(data.draw(likely | st.lists(opinions, max_size=3)))
                mode = data.draw(st.sampled_from([Mode.ENFORCE] * 4 + list(Mode)))
                return Counsel(opinions=heard, mode=mode)
            case Admit(counsel=counsel) | Ask(counsel=counsel):
                return admission(effect.call, counsel, approved=data.draw(st.booleans()))
            case Run():
                return data.draw(endings)
            case Settle():
                return data.draw(st.sampled_from([None, Settlement(recorded=recorded())]))
            case _:
                return None

    return answer


@pytest.mark.promise(1, 6)
@given(st.sampled_from([CALL, FAULTY]), st.data())
def test_a_tool_runs_only_as_admitted_and_is_always_settled(
    call: Call, data: st.DataObject
) -> None:
    """Broken if any sequence of replies and failures leads to a run without an intent, or without a settling."""
    played = play(govern(call, reviewed=False), anything(data))
    runs = [place for place, step in enumerate(played.steps) if step == "Run"]
    assert len(runs) <= 1
    for place in runs:
        before = list(zip(played.effects[:place], played.replies[:place], strict=True))
        assert [reply for _, reply in before if isinstance(reply, Throw)] == []
        [admitted] = [reply for effect, reply in before if isinstance(effect, Admit)]
        run = played.effects[place]
        assert isinstance(run, Run)
        assert (admitted.decision.simulates, admitted.decision.admits) == (
            run.simulated,
            not run.simulated,
        )
        if run.simulated:
            assert "Settle" not in played.steps
        elif isinstance(played.replies[place], Ending):
            settle = played.effects[place + 1]
            assert isinstance(settle, Settle)
            assert settle.ending is played.replies[place]
    if not runs:
        assert played.error is not None


@pytest.mark.promise(1)
@pytest.mark.parametrize("step", [Begin, Consult, Admit, Observe])
@pytest.mark.parametrize("error", INTERRUPTIONS, ids=lambda error: type(error).__name__)
def test_whatever_fails_first_nothing_runs(step: type[Effect[Any]], error: BaseException) -> None:
    """Broken if a failure before the run, at any step and of any kind, lets the tool run or gets lost."""
    played = play(
        govern(CALL, reviewed=False),
        lambda effect: Throw(error) if isinstance(effect, step) else ordinary(ALLOW)(effect),
    )
    assert "Run" not in played.steps
    assert played.error is error


@pytest.mark.promise(6)
@pytest.mark.parametrize("step", [Consult, Admit, Observe])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), asyncio.CancelledError(), SystemExit()])
def test_an_interruption_closes_the_intent(step: type[Effect[Any]], error: BaseException) -> None:
    """Broken if a call interrupted at its admission, whose intent may stand, is left in doubt although it never ran."""
    thrown = iter([Throw(error)])
    played = play(
        govern(CALL, reviewed=False),
        lambda effect: next(thrown, None) if isinstance(effect, step) else ordinary(ALLOW)(effect),
    )
    settle = played.last(Settle)
    assert (settle.ending.outcome, settle.ending.error) == (Outcome.CANCELLED, error)
    assert played.error is error


@pytest.mark.promise(1)
@pytest.mark.parametrize("step", [Consult, Admit])
def test_a_lost_store_is_not_written_to_again(step: type[Effect[Any]]) -> None:
    """Broken if, where nothing was admitted, a second write is tried before the caller hears of the first."""
    lost = errors.StoreUnavailable("down")
    name = step.__name__.lower()
    played = play(govern(CALL, reviewed=False), ordinary(ALLOW, **{name: Throw(lost)}))
    assert "Settle" not in played.steps
    assert played.last(Observe).fact is lost


def test_an_allowed_call_takes_these_steps() -> None:
    """Broken if the order of the steps, which is the security property, changes."""
    played = play(govern(CALL, reviewed=False), ordinary(ALLOW))
    steps = ["Begin", "Consult", "Admit", "Observe", "Run", "Settle", "Observe"]
    assert steps == played.steps
    assert [CALL] * len(steps) == [effect.call for effect in played.effects]
    assert (played.result, played.error) == ("receipt", None)
    assert played.last(Admit).counsel == Counsel(opinions=(ALLOW,))
    assert (played.last(Admit).trace, played.last(Settle).trace) == (TRACE, TRACE)


@pytest.mark.promise(5)
def test_an_answered_call_is_judged_from_the_start() -> None:
    """Broken if, after the answer that was waited for, a call runs by what was heard of it before."""
    again = call_of({"amount": 900, "to": "4111-planted"}, call_id="c-2")
    heard = iter([(ASK,), (ALLOW,)])
    reply = ordinary()

    def answer(effect: Effect[Any]) -> Any:
        if isinstance(effect, Consult):
            return Counsel(opinions=next(heard))
        return again if isinstance(effect, Await) else reply(effect)

    played = play(govern(CALL, reviewed=False), answer)
    judged = ["Begin", "Consult", "Admit", "Observe"]
    assert played.steps == [*judged, "Await", *judged, "Run", "Settle", "Observe"]
    assert [effect.call for effect in played.effects] == [CALL] * 5 + [again] * 7
    assert played.result == "receipt"


@pytest.mark.promise(5)
@pytest.mark.parametrize("second", [(DENY,), (STEER,), (FAULT,), ()])
def test_a_yes_that_was_waited_for_admits_nothing_by_itself(second: tuple[Opinion, ...]) -> None:
    """Broken if a call runs that its judges object to after the answer was waited for."""
    heard = iter([(ASK,), second])

    def answer(effect: Effect[Any]) -> Any:
        if isinstance(effect, Consult):
            return Counsel(opinions=next(heard))
        return CALL if isinstance(effect, Await) else ordinary()(effect)

    played = play(govern(CALL, reviewed=False), answer)
    assert "Run" not in played.steps
    assert isinstance(played.error, errors.InterlockError)


@pytest.mark.promise(1)
@pytest.mark.parametrize("error", [KeyboardInterrupt(), asyncio.CancelledError(), ValueError("x")])
def test_an_interrupted_wait_admits_nothing(error: BaseException) -> None:
    """Broken if a call whose caller no longer waits for the answer runs, or is settled as if it had."""
    played = play(govern(CALL, reviewed=False), ordinary(ASK, **{"await": Throw(error)}))
    assert played.steps == ["Begin", "Consult", "Admit", "Observe", "Await"]
    assert played.error is error


@pytest.mark.promise(1)
@pytest.mark.parametrize(
    ("heard", "kind"),
    [
        ((), Denied),
        ((DENY,), Denied),
        ((ALLOW, DENY), Denied),
        ((ASK, STEER), Steered),
        ((ALLOW, ASK), errors.ApprovalNeeded),
        ((FAULT,), errors.EvaluatorFailed),
        ((ALLOW, FAULT), errors.EvaluatorFailed),
        ((DENY, FAULT), Denied),
    ],
)
def test_a_refused_call_takes_these_steps(
    heard: tuple[Opinion, ...], kind: type[Exception]
) -> None:
    """Broken if a call that is not admitted runs, is settled, or is refused as something else."""
    played = play(govern(CALL, reviewed=False), ordinary(*heard))
    asked = ["Await"] if kind is errors.ApprovalNeeded else []
    assert played.steps == ["Begin", "Consult", "Admit", "Observe", *asked]
    assert type(played.error) is kind
    refused: Any = played.error
    assert refused.call is CALL
    assert refused.decision == admission(CALL, Counsel(opinions=heard)).decision
    assert refused.decision.reason in str(refused)
    assert "planted" not in str(refused)


def test_a_refusal_says_what_to_do() -> None:
    """Broken if the model is not told the better way, or whom to wait for."""
    steered = play(govern(CALL, reviewed=False), ordinary(STEER)).error
    assert isinstance(steered, Steered)
    assert (steered.guidance, steered.suggestions) == ("Ask finance.", ("pay",))
    assert str(steered) == "refund was not run: a wire. Ask finance. Use instead: pay."
    asked = play(govern(CALL, reviewed=False), ordinary(ASK)).error
    assert isinstance(asked, errors.ApprovalNeeded)
    assert asked.ticket == ticket_for(CALL)
    assert "needs approval by ops: large" in str(asked)
    assert "t-1" in str(asked)


def test_an_approved_call_runs() -> None:
    """Broken if a yes that was claimed does not let the call through."""
    yes = admission(CALL, Counsel(opinions=(ASK,)), approved=True)
    played = play(govern(CALL, reviewed=False), ordinary(ASK, admit=yes))
    assert (played.steps.count("Run"), played.result) == (1, "receipt")


@pytest.mark.promise(6)
@pytest.mark.parametrize(
    "lost",
    [errors.StoreUnavailable("down"), errors.Conflict("gone"), ValueError("x"), MemoryError()],
    ids=lambda error: type(error).__name__,
)
def test_a_result_is_not_lost_to_the_books(lost: Exception) -> None:
    """Broken if, once the tool has run, a failure to record it takes its result: the caller would run it again."""
    played = play(govern(CALL, reviewed=False), ordinary(ALLOW, settle=Throw(lost)))
    assert (played.result, played.error) == ("receipt", None)
    assert played.last(Observe).fact is lost


def test_an_interruption_while_settling_is_the_callers() -> None:
    """Broken if Ctrl-C during the last write is swallowed."""
    stop = KeyboardInterrupt()
    assert play(govern(CALL, reviewed=False), ordinary(ALLOW, settle=Throw(stop))).error is stop


@pytest.mark.promise(6)
@pytest.mark.parametrize("outcome", list(Outcome)[1:])
def test_every_ending_is_settled(outcome: Outcome) -> None:
    """Broken if a tool that raises, is cancelled or abandoned leaves no outcome."""
    ending = Ending(outcome=outcome, error=ValueError("x"))
    played = play(govern(CALL, reviewed=False), ordinary(ALLOW, ending=ending))
    assert played.last(Settle).ending is ending
    assert (played.result, played.error) == (None, None)


@pytest.mark.parametrize("flow", [partial(govern, reviewed=False), preview])
@pytest.mark.parametrize("heard", [(ALLOW,), (ASK,), (DENY,)])
def test_a_dropped_flow_asks_for_nothing_more(
    flow: Callable[[Call], Flow], heard: tuple[Opinion, ...]
) -> None:
    """Broken if closing a flow, as garbage collection does, raises RuntimeError or yields once more."""
    whole = play(flow(CALL), ordinary(*heard))
    for stop in range(len(whole.effects) + 1):
        going = flow(CALL)
        for effect, reply in zip(whole.effects[:stop], [None, *whole.replies], strict=False):
            assert going.send(reply) == effect
        going.close()


@pytest.mark.parametrize("error", INTERRUPTIONS[:6], ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("step", [Consult, Admit])
def test_a_flow_dropped_while_it_fails_asks_for_nothing_more(
    step: type[Effect[Any]], error: BaseException
) -> None:
    """Broken if closing a flow that is on its way out raises RuntimeError."""
    going = govern(CALL, reviewed=False)
    answer = ordinary(ALLOW)
    effect = going.send(None)
    while not isinstance(effect, step):
        effect = going.send(answer(effect))
    assert isinstance(going.throw(error), Observe)
    going.close()


@given(st.sampled_from([CALL, FAULTY]), st.data())
def test_replay_takes_the_same_steps(call: Call, data: st.DataObject) -> None:
    """Broken if recorded replies lead anywhere else: replay and backtests would show what did not happen."""
    once = play(govern(call, reviewed=False), anything(data))
    replies = iter(once.replies)
    again = play(govern(call, reviewed=False), lambda _: next(replies))
    assert once.effects == again.effects
    assert (once.result, str(once.error)) == (again.result, str(again.error))
    assert type(once.error) is type(again.error)


@given(st.sampled_from([CALL, FAULTY]), st.data())
def test_looking_ahead_runs_nothing(call: Call, data: st.DataObject) -> None:
    """Broken if asking whether a human must be asked runs the tool, admits the call or uses a yes up."""
    played = play(preview(call), anything(data))
    assert {"Run", "Admit", "Settle"}.isdisjoint(played.steps)


@pytest.mark.parametrize(
    ("heard", "steps"),
    [
        ((ALLOW,), ["Consult"]),
        ((ASK, DENY), ["Consult"]),
        ((), ["Consult"]),
        ((ASK,), ["Consult", "Begin", "Ask", "Observe"]),
    ],
)
def test_looking_ahead_opens_a_ticket_only_where_one_is_needed(
    heard: tuple[Opinion, ...], steps: list[str]
) -> None:
    """Broken if a framework that asks ahead is told to pause where nobody needs to be asked."""
    played = play(preview(CALL), ordinary(*heard))
    assert steps == played.steps
    assert (ticket_for(CALL) if "Ask" in steps else None) == played.result
    assert play(preview(FAULTY), ordinary(ASK)).steps == ["Consult"]


def test_looking_ahead_finds_the_ticket_that_stands() -> None:
    """Broken if a second look opens a second ticket, or shows the first as new."""
    standing = ticket_for(CALL, TicketState.APPROVED)
    played = play(preview(CALL), ordinary(ASK, ask=standing))
    assert (standing, None) == (played.result, played.last(Observe).fact)
