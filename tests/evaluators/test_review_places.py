"""Reviews in their place: after the run, before the caller, beside budgets, traces, modes and other calls."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from datetime import timedelta
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from interlock import (
    BudgetExceeded,
    Call,
    Denied,
    Governor,
    Usage,
    Verdict,
    events,
    governed,
    report_usage,
)
from interlock.errors import PluginError, StoreUnavailable
from interlock.evaluators import Redacted
from interlock.testing import ManualClock, Recorder
from tests.callers import Caller, history
from tests.hostile import PATIENCE_S, released
from tests.judges import Config, judge, naming, reviewer
from tests.reviews import SECRET, answering, finished
from tests.samples import opinion
from tests.tracing import Traces

Make = Callable[..., Governor]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_cancellation_during_the_review_lets_nothing_out(backend: str, made: Make) -> None:
    """Broken if cancelling a call while its result is reviewed loses its outcome, or lets the result out."""
    began = threading.Event()
    got: list[Any] = []

    @governed
    async def pay() -> str:
        return SECRET

    async def review(self: Any, call: Call, result: object) -> Any:
        began.set()
        await anyio.sleep_forever()

    governor = made(judge=review, timeout="1h")

    async def main() -> list[events.Event]:
        async with governor.session("s", agent="bot") as session:

            async def calling() -> None:
                got.append(await pay())

            async with anyio.create_task_group() as group:
                group.start_soon(calling)
                while not began.is_set():  # noqa: ASYNC110 - it is set in another thread
                    await anyio.sleep(0.001)
                group.cancel_scope.cancel()
            return history(governor, session.id)

    end = finished([anyio.run(main, backend=backend)])
    assert got == []
    assert (end.outcome, end.withheld) == (events.Outcome.RETURNED, True)
    [said] = end.reviews
    assert "its review was interrupted" in said.reason


def test_an_interruption_of_the_thread_during_the_review_is_the_callers(made: Make) -> None:
    """Broken if Ctrl-C has to wait for a reviewer that hangs, or the call that ran is left without an outcome."""

    def review(self: Any, call: Call, result: object) -> Any:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)  # as Ctrl-C
        released.wait(PATIENCE_S)

    @governed
    def pay() -> str:
        return SECRET

    governor = made(judge=review, timeout="1h")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # some shells have it ignored
    with governor.session("s", agent="bot") as session:
        try:
            with pytest.raises(KeyboardInterrupt):
                pay()
        finally:
            signal.signal(signal.SIGINT, before)
        assert not released.is_set()
        end = finished([history(governor, session.id)])
    assert (end.outcome, end.withheld) == (events.Outcome.RETURNED, True)
    assert "KeyboardInterrupt" in end.reviews[0].reason


@pytest.mark.promise(6)
@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("redacts", [False, True])
def test_a_lost_store_lets_nothing_out(
    redacts: bool, is_async: bool, database: str, governor: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """Broken if a result that was withheld or redacted is given as it was because its outcome cannot be recorded."""
    left = Redacted(result="****", reason="all of it")
    own = {"judge": reviewer(answering(left if redacts else opinion(Verdict.DENY, "no")))}
    made = governor(naming("judge"), evaluators=own)
    ran: list[int] = []

    def effect() -> str:
        ran.append(1)
        with closing(sqlite3.connect(database.removeprefix("sqlite:///"))) as file:
            file.execute("DROP TABLE events")
        return SECRET

    @governed
    def pay() -> str:
        return effect()

    @governed
    async def apay() -> str:
        return effect()

    async def main() -> Any:
        return await apay()

    with suppress(StoreUnavailable), made.session("s", agent="bot"):  # it cannot be closed either
        try:
            got: Any = asyncio.run(main()) if is_async else pay()
        except Denied as error:
            got = error
    assert ran == [1]
    assert "its outcome could not be recorded" in caplog.text
    if redacts:
        assert got == "****"
    else:
        assert str(got) == (
            "pay ran, but its result is withheld: no. Do not run it again.".replace(
                "pay", "apay" if is_async else "pay", 1
            )
        )
        assert got.ran is True


def test_only_its_own_tools_are_reviewed_nested_or_not(governor: Make) -> None:
    """Broken if a call within a call is reviewed by the outer one's reviewers, or reaches it unreviewed."""
    shown: list[tuple[str, object]] = []

    def review(self: Any, call: Call, result: object) -> Any:
        shown.append((call.tool.name, result))
        return Redacted(result="inner, redacted", reason="r")

    policy = naming("judge")
    policy["evaluators"][0]["tools"] = ["inner"]
    made = governor(policy, url="sqlite://", evaluators={"judge": reviewer(review)})

    @governed
    def inner() -> str:
        return SECRET

    @governed
    def outer() -> str:
        return f"<{inner()}>"

    with made.session("s", agent="bot") as session:
        assert outer() == "<inner, redacted>"
        ends = [e for e in history(made, session.id) if isinstance(e, events.CallFinished)]
    assert shown == [("inner", SECRET)]
    assert [(e.tool, bool(e.reviews)) for e in ends] == [("inner", True), ("outer", False)]


def test_both_stages_are_asked_in_their_turn(caller: Caller, governor: Make) -> None:
    """Broken if a reviewer is asked about a call, or a judge about a result, or either after a denial."""
    order: list[str] = []
    own = {
        "before": judge(lambda self, call: order.append(f"before, ran {len(caller.ran)}")),
        "after": reviewer(lambda self, call, result: order.append(f"after, ran {len(caller.ran)}")),
    }
    made = governor(naming("after", "before"), url="sqlite://", evaluators=own)
    caller(made)
    assert order == ["before, ran 0", "after, ran 1"]
    own["before"] = judge(lambda self, call: opinion(Verdict.DENY, "no"))
    error = caller(governor(naming("after", "before"), url="sqlite://", evaluators=own))[0]
    assert (type(error), error.ran, len(order)) == (Denied, False, 2)


def test_what_a_review_takes_is_not_the_tools_time(governor: Make) -> None:
    """Broken if a slow reviewer makes its tool look slow in the record."""
    clock = ManualClock()

    @governed
    def pay() -> str:
        clock.advance(timedelta(seconds=1))
        return "receipt"

    own = {"judge": reviewer(lambda self, call, result: clock.advance(timedelta(hours=1)))}
    made = governor(naming("judge"), url="sqlite://", evaluators=own, clock=clock)
    with made.session("s", agent="bot") as session:
        pay()
        assert finished([history(made, session.id)]).duration_us == 1_000_000


def test_a_withheld_result_may_be_an_overrun_too(governor: Make) -> None:
    """Broken if one of the two things that the host must know is lost."""
    policy = naming("judge")
    policy["budgets"] = [
        {"name": "b", "per": "session", "tokens": 5, "on_unknown": "admit", "on_overrun": "raise"}
    ]
    own = {"judge": reviewer(answering(opinion(Verdict.DENY, "no")))}
    made = governor(policy, url="sqlite://", evaluators=own)

    @governed
    def pay() -> str:
        report_usage(Usage(input_tokens=50, output_tokens=0))
        return SECRET

    with made.session("s", agent="bot"), pytest.raises(Denied) as error:
        pay()
    assert isinstance(error.value.__cause__, BudgetExceeded)
    assert error.value.__cause__.ran is True


def test_observing_withholds_nothing(caller: Caller, governor: Make) -> None:
    """Broken if a policy that only observes keeps a result from its caller, changes it, or does not record why."""
    redact = Redacted(result="****", reason="all of it")
    own = {
        "redact": reviewer(answering(redact)),
        "deny": reviewer(answering(opinion(Verdict.DENY, "no"))),
    }
    policy = {**naming("redact", "deny"), "mode": "observe"}
    found = caller(governor(policy, url="sqlite://", evaluators=own))
    assert found[0] is caller.gives
    end = finished(found)
    assert (end.withheld, end.redacted_by) == (False, ())
    assert [one.verdict for one in end.reviews] == [Verdict.ALLOW, Verdict.DENY]


def unfit(**members: Any) -> type:
    """Make a class with these members."""
    return type("Unfit", (), {"Config": Config, **members})


@pytest.mark.promise(1)
@pytest.mark.parametrize(
    "kind",
    [
        unfit(stage="after"),
        unfit(stage="after", evaluate=lambda self, call: None),
        unfit(stage="before", review=lambda self, call, result: None),
        unfit(review=lambda self, call, result: None),
        unfit(stage="during", evaluate=lambda self, call: None),
        unfit(stage=None, evaluate=lambda self, call: None),
        unfit(stage=property(lambda self: "after"), evaluate=None, review=None),
    ],
    ids=["nothing", "after", "before", "none said", "unknown", "no word", "property"],
)
def test_one_that_cannot_do_what_its_stage_needs_is_refused(kind: type, governor: Make) -> None:
    """Broken if a reviewer that cannot review, or whose stage is unknown, is found out at the first call or never."""
    with pytest.raises(PluginError, match="is no evaluator"):
        governor(naming("judge"), url="sqlite://", evaluators={"judge": kind})


@pytest.mark.promise(1)
def test_a_condition_cannot_ask_a_reviewer(governor: Make) -> None:
    """Broken if a rule can depend on the review of a result that there is not yet."""
    rule = {"id": "r", "tools": ["*"], "when": {"evaluator": "judge"}, "verdict": "allow"}
    policy = {"version": 1, "name": "p", "rules": [rule]}
    with pytest.raises(PluginError, match="reviews results"):
        governor(policy, url="sqlite://", evaluators={"judge": reviewer(answering(None))})


@pytest.mark.promise(9)
@pytest.mark.parametrize("is_beside", [False, True])
@pytest.mark.parametrize("redacts", [False, True])
def test_what_was_taken_out_is_nowhere(
    redacts: bool,
    is_beside: bool,
    caller: Caller,
    governor: Make,
    recorder: Recorder,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Broken if a secret that a review kept from the caller is in what it gets, in events, on spans or in the log."""
    traces = Traces()
    answer = (
        Redacted(result="****", reason="1 card")
        if redacts
        else opinion(Verdict.DENY, "a card", author="whoever")
    )
    made = governor(
        naming("judge"),
        url="sqlite://",
        evaluators={"judge": reviewer(answering(answer))},
        plugins=[recorder],
        tracer_provider=traces.provider,
    )
    name = "framework" if is_beside else "app"
    extra = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "pay"}
    with traces.ambient(name, **(extra if is_beside else {})):
        found = caller(made)
    seen = str(found[0]) + "".join(item.body for item in recorder.recorded) + caplog.text
    seen += "".join(span.to_json() for span in traces.finished)
    assert SECRET not in seen
    shown = traces.spans[name if is_beside else "execute_tool pay"].attributes or {}
    said = "redacted_by" if redacts else "withheld_by"
    assert {key: value for key, value in shown.items() if "interlock.result" in key} == {
        f"interlock.result.{said}": ("evaluator:judge",)
    }
