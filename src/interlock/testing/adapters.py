"""AdapterSuite: the tests that every adapter of a framework has to pass, to be inherited by its author's."""

from __future__ import annotations

import functools
import threading
import unittest
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

import anyio

from interlock._call import Call
from interlock._governed import governed
from interlock._verdict import Opinion
from interlock.errors import ApprovalNeeded
from interlock.hookspecs import hookimpl
from interlock.store import tickets
from interlock.testing._checks import check
from interlock.testing._site import Site
from interlock.testing.harness import (
    CAPABILITIES,
    AdapterHarness,
    Capability,
    Ran,
    is_refusal,
    told_of,
)

REASON = "the till is closed"
TOGETHER = 4
"""So many calls are made in one turn."""

ASK = {"tools": ["pay"], "verdict": "ask", "approvers": ["payments-oncall"], "reason": "large"}

_Test = TypeVar("_Test", bound=Callable[["AdapterSuite"], None])


def _needs(capability: Capability) -> Callable[[_Test], _Test]:
    """Skip the test where the harness lacks *capability*, with its reason."""

    def wrap(test: _Test) -> _Test:
        @functools.wraps(test)
        def run(self: AdapterSuite) -> None:
            reason = self.harness.lacks.get(capability)
            if reason is not None:  # every test runner knows this one
                raise unittest.SkipTest(f"{capability}: {reason}")
            test(self)

        return cast("_Test", run)

    return wrap


class AdapterSuite:
    """
    Tests of an adapter, in the real framework. Inherit from it in a class whose name begins with `Test`.

    Example::

        class Harness(AdapterHarness):
            readme = Path(__file__).parents[1] / "README.md"
            lacks = {"pause": "The framework cannot pause a run."}

            def run(self, script: Script) -> Ran: ...

            def offer_unknown(self, session: Session) -> None: ...


        class TestAdapter(AdapterSuite):
            harness = Harness

    A framework with a sync and an async side has two harnesses, and two such classes.

    Attributes:
        harness: The class of the harness.
    """

    harness: type[AdapterHarness]

    def site(self) -> Site:
        """Return what a test works with: a store, tools, and the harness."""
        return Site(self.harness())

    def test_what_is_lacking_is_explained(self) -> None:
        """Broken if a test is skipped for a reason that the adapter's users cannot read."""
        for name, reason in self.harness.lacks.items():
            check(
                name in CAPABILITIES,
                f"{name!r} can not be lacking; known are {sorted(CAPABILITIES)}",
            )
            readme = self.harness.readme
            check(
                readme is not None,
                "say `readme = …`: what the framework lacks has to be told there",
            )
            text = "" if readme is None else " ".join(readme.read_text("utf-8").split())
            is_told = bool(reason) and " ".join(reason.split()) in text
            check(is_told, f"{readme} has to say why {name!r} is lacking: {reason!r}")

    def test_allowed_call_runs_once(self) -> None:
        """Broken if an allowed call is lost, repeated, changed, kept from the model, or not recorded."""
        with self.site() as site, site.open():
            ran = site.run([site.pay()], _calls("pay", 5))
            _check_ended(ran)
            _same("effects", ["pay 5"], site.effects())
            _told(ran, "pay of 5 is done")
            _same("the books", [("pay", "allow"), ("pay", "returned")], site.booked("pay"))
            site.check_sound()

    def test_denied_call_never_runs_and_the_model_is_told(self) -> None:
        """Broken if a denied call runs, ends the run, or leaves the model without the reason."""
        with self.site() as site, site.open([_deny("pay")]):
            ran = site.run([site.pay()], _calls("pay", 5))
            _same("effects of a denied call", [], site.effects())
            _check_ended(ran)
            _told(ran, REASON)
            _same("the books", [("pay", "deny")], site.booked("pay"))

    def test_call_that_cannot_be_judged_never_runs(self) -> None:
        """Broken if the failure of a judge lets a call through."""
        with self.site() as site, site.open(plugins=[_Broken()]):
            ran = site.run([site.pay()], _calls("pay", 5))
            _same("effects of a call that was not judged", [], site.effects())
            is_said = bool(ran.told) and "ZeroDivisionError" in ran.told[-1]
            check(is_said or is_refusal(ran.error), f"nobody is told why nothing ran: {ran}")

    @_needs("steer")
    def test_steered_call_shows_the_way_and_it_is_taken(self) -> None:
        """Broken if the model does not read guidance and alternatives, or cannot take one in the same run."""
        rule = {
            "tools": ["wire"],
            "verdict": "steer",
            "reason": "wires are final",
            "guidance": "Ask finance.",
            "suggest": ["request"],
        }
        with self.site() as site, site.open([rule]):
            tools = [site.pay("wire"), site.pay("request")]
            ran = site.run(tools, _calls("wire", 1), _calls("request", 1))
            _check_ended(ran)
            _same("effects", ["request 1"], site.effects())
            _same("calls that the model was told of", 2, len(ran.told))
            for part in ("wires are final", "Ask finance.", "request"):
                check(part in ran.told[0], f"the model does not read {part!r}: {ran.told[0]!r}")

    def test_asked_call_waits_for_a_human_and_goes_on_in_another_process(self) -> None:
        """Broken if a call runs before the yes, is lost with the process that made it, or runs twice on one yes."""
        turn = _calls("pay", 900)
        with self.site() as site:
            with site.open([ASK]):
                ran = site.run([site.pay()], turn)
                _same("effects before a human has said yes", [], site.effects())
                _check_waits(ran)
                ticket = site.ticket()
                site.session.pause()
                session_id = site.session.id
                site.governor.write(tickets.approve, ticket.id, by="ann")
            policy, goes_on = site.policy([ASK]), _after(ran, turn)
            resumed = {"session": session_id, "policy": policy, "resumed": ran.paused}
            first, again = site.elsewhere(goes_on, **resumed, times=2).runs
            _same(f"effects in another process, {first}", ["pay 900"], list(first.effects))
            done = any("pay of 900 is done" in text for text in first.told)
            check(done, f"the model is not given the result of the call: {first}")
            _same(f"effects when one yes is used twice, {again}", ["pay 900"], list(again.effects))

    def test_rejected_call_tells_the_model_what_the_human_said(self) -> None:
        """Broken if a human's no runs the call, or keeps the human's words from the model."""
        with self.site() as site, site.open([ASK]):
            ran = site.run([site.pay()], _calls("pay", 900))
            site.governor.write(tickets.deny, site.ticket().id, by="ann", comment="not this one")
            ran = _go_on(site, ran)
            _check_ended(ran)
            _same("effects of a rejected call", [], site.effects())
            _told(ran, "ann")
            _told(ran, "not this one")

    @_needs("edit")
    def test_edited_call_runs_as_the_human_wrote_it_and_says_so(self) -> None:
        """Broken if a call that a human has changed runs as the model made it, or the model is not told."""
        with self.site() as site, site.open([ASK]):
            ran = site.run([site.pay()], _calls("pay", 900))
            ticket = site.ticket()
            site.governor.write(tickets.approve, ticket.id, by="ann", arguments={"amount": 50})
            ran = _go_on(site, ran)
            _check_ended(ran)
            _same("effects of an edited call", ["pay 50"], site.effects())
            _told(ran, "pay of 50 is done")
            _told(ran, "ann has changed")

    @_needs("pause")
    def test_approval_without_a_ticket_runs_nothing(self) -> None:
        """Broken if a run that goes on makes its call though nobody has said yes."""
        with self.site() as site, site.open([ASK]):
            ran = site.run([site.pay()], _calls("pay", 900))
            check(ran.paused is not None, f"the run does not wait for the human: {ran}")
            _go_on(site, ran)
            _same("effects of a call that nobody has approved", [], site.effects())

    @_needs("error")
    def test_exception_of_the_tool_comes_through_unmodified(self) -> None:
        """Broken if governing a tool changes what its failure does to a run, or the books call it a success."""

        async def fails(_: Site, amount: int) -> str:
            raise LookupError(f"no ink for {amount}")

        with self.site() as site, site.open():
            tool = site.tool("print", fails)
            plain = site.run([tool], _calls("print", 5), is_governed=False)
            covered = site.run([tool], _calls("print", 5))
            _same("what the model is told of a failure", plain.told, covered.told)
            _same("what a failure raises", _kind(plain.error), _kind(covered.error))
            _same("effects", ["print 5", "print 5"], site.effects())
            expected = [("print", "allow"), ("print", *site.harness.fails_as)]
            _same("the books", expected, site.booked("print"))

    @_needs("cancel")
    def test_cancelled_call_is_settled(self) -> None:
        """Broken if cancelling a run loses the outcome of the call that was under way."""
        begun = threading.Event()

        async def waits(_: Site, amount: int) -> str:
            begun.set()
            await anyio.sleep_forever()
            raise AssertionError(amount)

        with self.site() as site, site.open():
            tool = site.tool("wait", waits)
            site.run([tool], _calls("wait", 5), cancel_when=begun)
            check(begun.is_set(), "the call that was to be cancelled never ran")
            check(
                site.settled("wait").wait(site.harness.patience_s),
                "the cancelled call is never settled",
            )
            books = [entry[:2] for entry in site.booked("wait")]
            _same("the books", [("wait", "allow"), ("wait", "cancelled")], books)
            site.check_sound()

    @_needs("parallel")
    def test_calls_of_one_turn_run_together_and_are_each_recorded_once(self) -> None:
        """Broken if calls that run at the same time share a decision, swap results, or wait for each other."""
        arrived: list[int] = []

        async def meets(site: Site, amount: int) -> str:
            arrived.append(amount)
            with anyio.fail_after(site.harness.patience_s):
                while len(arrived) < TOGETHER:  # noqa: ASYNC110 - they may be in different loops
                    await anyio.sleep(0.001)
            return f"meet of {amount} is done"

        with self.site() as site, site.open():
            tool = site.tool("meet", meets)
            ran = site.run([tool], _calls("meet", *range(TOGETHER)))
            _check_ended(ran)
            _same("calls that the model was told of", TOGETHER, len(ran.told))
            for amount, text in enumerate(ran.told):
                check(f"meet of {amount} is done" in text, f"call {amount} got the result {text!r}")
            expected = [("meet", "allow")] * TOGETHER + [("meet", "returned")] * TOGETHER
            _same("the books", expected, sorted(site.booked("meet")))
            site.check_sound()

    def test_calls_of_one_turn_share_a_budget_exactly(self) -> None:
        """Broken if calls that the model makes at once spend more, or less, than there is."""
        with self.site() as site, site.open(budgets=[_budget(2)]):
            ran = site.run([site.pay()], _calls("pay", *range(TOGETHER)))
            _check_ended(ran)
            _same("calls that ran on a budget of 2", 2, len(site.effects()))
            done = [text for text in ran.told if "is done" in text]
            _same(f"results among {ran.told}", 2, len(done))

    @_needs("nested")
    def test_governed_function_as_a_tool_is_judged_once(self) -> None:
        """Broken if adapter and decorator both judge a call: it would be booked, charged and asked about twice."""
        with self.site() as site, site.open():
            ran = site.run([governed(site.pay())], _calls("pay", 5))
            _check_ended(ran)
            _same("effects", ["pay 5"], site.effects())
            _same("the books", [("pay", "allow"), ("pay", "returned")], site.booked("pay"))

    @_needs("nested")
    def test_governed_call_inside_a_tool_is_judged_by_itself(self) -> None:
        """Broken if being inside of an allowed tool allows, or judges once too often."""
        with self.site() as site, site.open([_deny("wire")]):
            wire: Any = governed(name=site.harness.name("wire"))(site.pay("wire"))

            async def settles(_: Site, amount: int) -> str:
                answer: Any = wire(amount)
                return str(await answer if site.harness.is_async else answer)

            site.run([site.tool("settle", settles)], _calls("settle", 5))
            _same("effects", ["settle 5"], site.effects())
            _same("the books of the inner call", [("wire", "deny")], site.booked("wire"))
            outer = [entry[:2] for entry in site.booked("settle")]
            expected = [("settle", "allow"), ("settle", site.harness.fails_as[0])]
            _same("the books of the outer call", expected, outer)

    @_needs("streaming")
    def test_streamed_run_is_governed_too(self) -> None:
        """Broken if a run that is streamed takes a way around the adapter."""
        with self.site() as site, site.open([_deny("wire")]):
            tools = [site.pay(), site.pay("wire")]
            turns = (_calls("pay", 5), _calls("wire", 6))
            plain = site.run(tools, *turns)
            streamed = site.run(tools, *turns, is_streamed=True)
            _check_ended(streamed)
            _same("what the model is told when streaming", plain.told, streamed.told)
            _same("effects", ["pay 5", "pay 5"], site.effects())
            expected = [("pay", "allow"), ("pay", "returned"), ("wire", "deny")]
            _same("the books", expected * 2, site.booked("pay", "wire"))

    @_needs("retry")
    def test_call_that_is_made_again_is_judged_again(self) -> None:
        """Broken if the second try of the same call is taken for the first, or runs unjudged."""
        tries: list[int] = []

        async def flaky(_: Site, amount: int) -> str:
            tries.append(amount)
            if len(tries) == 1:
                raise LookupError("try again")
            return f"print of {amount} is done"

        with self.site() as site, site.open():
            tool = site.tool("print", flaky)
            ran = site.run([tool], _calls("print", 5), _calls("print", 5))
            _check_ended(ran)
            _told(ran, "print of 5 is done")
            once = ("print", "allow")
            expected = [once, ("print", *site.harness.fails_as), once, ("print", "returned")]
            _same("the books", expected, site.booked("print"))

    def test_budget_that_is_spent_during_a_run_stops_the_next_call(self) -> None:
        """Broken if a call runs on a budget that the run has spent, or the model is not told."""
        with self.site() as site, site.open(budgets=[_budget(1)]):
            ran = site.run([site.pay()], _calls("pay", 5), _calls("pay", 6))
            _same("effects", ["pay 5"], site.effects())
            is_told = bool(ran.told) and "budget" in ran.told[-1]
            is_said = is_told or (is_refusal(ran.error) and "budget" in told_of(ran.error))
            check(is_said, f"nobody is told that the budget is spent: {ran}")

    @_needs("halt")
    def test_halt_during_a_run_stops_the_next_call(self) -> None:
        """Broken if a call runs after the halt of its tool has returned."""

        async def halts(site: Site, amount: int) -> str:
            halted = functools.partial(_halted, tool=site.harness.name("wire"))
            if site.harness.is_async:
                await halted(site.governor.ahalt)
            else:
                halted(site.governor.halt)
            return f"stop of {amount} is done"

        with self.site() as site, site.open():
            tools = [site.pay("wire"), site.tool("stop", halts)]
            turns = (_calls("wire", 1), _calls("stop", 2), _calls("wire", 3))
            ran = site.run(tools, *turns)
            _same("effects", ["wire 1", "stop 2"], site.effects())
            said = " ".join([*ran.told, told_of(ran.error)])
            check("the till burns" in said, f"nobody is told of the halt: {ran}")

    @_needs("traces")
    def test_spans_are_in_the_hosts_trace_and_no_call_is_shown_twice(self) -> None:
        """Broken if a decision is in another trace than its run, or a call is shown as executed more than once."""
        with self.site() as site:
            policy = site.policy([{**_deny("pay"), "when": {"argument": "amount", "at_least": 9}}])
            turns = [_calls("pay", 5), _calls("pay", 9)]
            found = site.elsewhere(turns, session=None, policy=policy, is_traced=True)
            name = site.harness.name("pay")
            _same("effects", ["pay 5"], site.effects())
            decided = [one for one in found.spans if one["name"].startswith(f"govern {name}")]
            _same("spans of decisions", 2, len(decided))
            executed = [one for one in found.spans if _is_executed(one, name)]
            shown = [one["name"] for one in executed]
            check(
                len(executed) == 1,
                f"one call that ran is shown by {len(executed)} spans of `execute_tool`: {shown}",
            )
            by_id = {one["id"]: one for one in found.spans}
            for one in [*decided, *executed]:
                chain = _chain(one, by_id)
                check(chain[-1] == "host", f"a span is not within the host's: {' < '.join(chain)}")

    @_needs("unknown")
    def test_what_cannot_be_governed_is_refused(self) -> None:
        """Broken if what the adapter does not know goes on ungoverned."""
        with self.site() as site, site.open():
            try:
                site.harness.offer_unknown(site.session)
            except site.harness.refuses_with:
                return
            raise AssertionError("what cannot be governed was let in; refuse it, and name it")


class _Broken:
    """A plugin that cannot judge what is no model call."""

    @hookimpl
    def interlock_opinion(self, call: Call) -> Opinion | None:
        if call.tool.kind == "model":
            return None
        raise ZeroDivisionError


def _calls(tool: str, *amounts: int) -> tuple[tuple[str, Mapping[str, Any]], ...]:
    """One turn: a call of *tool* for each of *amounts*."""
    return tuple((tool, {"amount": amount}) for amount in amounts)


def _halted(halt: Callable[..., Any], *, tool: str) -> Any:
    return halt(tool=tool, reason="the till burns", by="ann")


def _deny(tool: str) -> dict[str, Any]:
    return {"tools": [tool], "verdict": "deny", "reason": REASON}


def _budget(calls: int) -> dict[str, Any]:
    return {"name": "per-run", "per": "session", "tools": ["pay"], "calls": calls}


def _after(ran: Ran, turn: Any) -> tuple[Any, ...]:
    """What the model wants once a human has answered: it calls again only where its run was over."""
    return () if ran.paused is not None else (turn,)


def _go_on(site: Site, ran: Ran) -> Ran:
    """Let the run go on whose call of `pay` a human was asked about."""
    return site.run([site.pay()], *_after(ran, _calls("pay", 900)), resumed=ran.paused)


def _same(what: str, expected: Any, actual: Any) -> None:
    check(expected == actual, f"{what}: {actual!r} instead of {expected!r}")


def _told(ran: Ran, part: str) -> None:
    check(ran.told, f"the model was told nothing: {ran}")
    check(part in ran.told[-1], f"the model does not read {part!r}, but {ran.told[-1]!r}")


def _check_ended(ran: Ran) -> None:
    check(
        ran.error is None, f"the run was ended by {type(ran.error).__name__}: {told_of(ran.error)}"
    )
    check(ran.paused is None, "the run waits for a human")


def _check_waits(ran: Ran) -> None:
    is_told = bool(ran.told) and "approval" in ran.told[-1]
    waits = ran.paused is not None or is_told or isinstance(ran.error, ApprovalNeeded)
    check(waits, f"neither the host nor the model is told that a human is asked: {ran}")


def _kind(error: BaseException | None) -> tuple[str, str] | None:
    return None if error is None else (type(error).__name__, told_of(error))


def _is_executed(span: Mapping[str, Any], tool: str) -> bool:
    shown: Mapping[str, str] = span["attributes"]
    is_run = shown.get("gen_ai.operation.name") == "execute_tool"
    return is_run and shown.get("gen_ai.tool.name") == tool


def _chain(span: Mapping[str, Any], by_id: Mapping[int, Mapping[str, Any]]) -> list[str]:
    """The names of *span* and of those around it."""
    names = [str(span["name"])]
    while span["parent"] is not None and span["parent"] in by_id:
        span = by_id[span["parent"]]
        names.append(str(span["name"]))
    return names
