"""The suite for adapters: whoever breaks a promise fails the test that is for it."""

from __future__ import annotations

import asyncio
import contextvars
import json
import re
import subprocess
import sys
import unittest
from pathlib import Path
from typing import Any, ClassVar

import pytest
from opentelemetry import trace

from interlock import Misuse, Refused, Session, Tool, Undecided, current_call, tool_of
from interlock.testing import AdapterHarness, AdapterSuite, Ran, Script

TESTS = sorted(name for name in vars(AdapterSuite) if name.startswith("test_"))


class Sound(AdapterHarness):
    """A framework of its own, with an adapter that has no fault: it can pause, stream, and be cancelled."""

    patience_s: ClassVar[float] = 5.0

    def run(self, script: Script) -> Ran:
        """Run *script*."""
        return self.awaited(lambda: self.loop(script), script)

    def offer_unknown(self, session: Session) -> None:
        """Refuse."""
        raise Misuse("no such surface")

    async def loop(self, script: Script) -> Ran:
        """Be the framework: make the calls of each turn at once, and tell the model what came of them."""
        told: list[str] = []
        turns = [*script.turns]
        if script.resumed is not None:
            turns.insert(0, tuple((name, sent) for name, sent in json.loads(script.resumed)))
        for turn in turns:
            if script.is_governed and await self.waits(script, turn):
                return Ran(told=tuple(told), paused=json.dumps(turn))
            told += await self.turn(script, turn)
        return Ran(told=tuple(told))

    async def turn(self, script: Script, turn: Any) -> list[str]:
        """Make the calls of one turn."""
        return await asyncio.gather(*(self.made(script, name, sent) for name, sent in turn))

    async def made(self, script: Script, name: str, sent: Any) -> str:
        """Make one call, and say what the model is told."""
        (tool,) = [one for one in script.tools if one.__name__ == name]
        try:
            if script.is_governed:
                return await self.governed(script, tool, sent)
            return str(await tool(**sent))
        except (LookupError, Refused) as error:
            return f"error: {error}"

    async def waits(self, script: Script, turn: Any) -> bool:
        """Whether a human has to say yes before the calls of *turn*."""
        tools = {one.__name__: one for one in script.tools}
        asked = [
            await script.session.aticket(self.declared(tools[name]), sent) for name, sent in turn
        ]
        return any(ticket is not None and ticket.decided_by is None for ticket in asked)

    def declared(self, tool: Any) -> Tool:
        """Return what Interlock knows of *tool*."""
        return tool_of(tool) or Tool(name=tool.__name__)

    async def governed(self, script: Script, tool: Any, sent: Any) -> str:
        """Be the adapter: have Interlock judge one call."""

        async def run(judged: Any) -> str:
            call = current_call()
            note = None if call is None else call.note
            output = await tool(**judged)
            return output if note is None else f"{output} {note}"

        try:
            return str(await script.session.acall(self.declared(tool), sent, run))
        except (Refused, Undecided) as error:
            return self.refused(error)

    def refused(self, error: Exception) -> str:
        """Say what the model is told of a refusal."""
        return str(error)


class SoundSync(Sound):
    """The same with plain functions as tools; what it lacks is said here: it cannot be cancelled."""

    is_async: ClassVar[bool] = False
    lacks: ClassVar[Any] = {"cancel": "it cannot be cancelled", "parallel": "it makes one by one"}
    readme: ClassVar[Any] = Path(__file__)

    def run(self, script: Script) -> Ran:
        """Run *script* with tools that are called where no loop runs."""

        def threaded(tool: Any) -> Any:
            async def awaited(**sent: Any) -> Any:
                return await asyncio.to_thread(tool, **sent)

            awaited.__name__ = tool.__name__
            if tool_of(tool) is not None:
                awaited.__wrapped__ = tool  # type: ignore[attr-defined]
            return awaited

        tools = tuple(threaded(tool) for tool in script.tools)
        kept = {name: getattr(script, name) for name in script.__struct_fields__}
        return super().run(Script(**{**kept, "tools": tools}))

    def declared(self, tool: Any) -> Tool:
        """Look below the thread."""
        return super().declared(getattr(tool, "__wrapped__", tool))

    async def turn(self, script: Script, turn: Any) -> list[str]:
        """Make one by one."""
        return [await self.made(script, name, sent) for name, sent in turn]


class Explains(Sound):
    """Lacks something for a reason that nobody can read."""

    lacks: ClassVar[Any] = {"steer": "beyond " + "us"}
    readme: ClassVar[Any] = Path(__file__)


class LacksAnything(Sound):
    """Wants to lack that what is denied does not run."""

    lacks: ClassVar[Any] = {"deny": "it is too hard"}
    readme: ClassVar[Any] = Path(__file__)


class RunsTwice(Sound):
    """Looks first."""

    async def governed(self, script: Script, tool: Any, sent: Any) -> str:
        """Make the call, and make it."""
        await super().governed(script, tool, sent)
        return await super().governed(script, tool, sent)


class BooksNothing(Sound):
    """Forgets to ask."""

    async def governed(self, script: Script, tool: Any, sent: Any) -> str:
        """Make the call."""
        return str(await tool(**sent))


class RunsDenied(Sound):
    """Tells the model no, and runs."""

    async def governed(self, script: Script, tool: Any, sent: Any) -> str:
        """Ask, and make the call anyhow."""
        answer = await super().governed(script, tool, sent)
        if "denied" in answer:
            await tool(**sent)
        return answer


class Silent(Sound):
    """Keeps reasons to itself."""

    def refused(self, error: Exception) -> str:
        """Say little."""
        return "An error occurred."


class EndsTheRun(Sound):
    """Lets refusals end the run."""

    async def made(self, script: Script, name: str, sent: Any) -> str:
        """Raise what says no."""
        (tool,) = [one for one in script.tools if one.__name__ == name]
        told = await self.governed(script, tool, sent)
        if "denied" in told:
            raise RuntimeError(told)
        return told


class RunsUnjudged(Sound):
    """Takes a failure of the judge for a yes."""

    async def governed(self, script: Script, tool: Any, sent: Any) -> str:
        """Ask, and make the call if nobody could answer."""
        answer = await super().governed(script, tool, sent)
        return str(await tool(**sent)) if "could not be judged" in answer else answer


class GivesNoWay(Sound):
    """Tells the model no more than the reason."""

    def refused(self, error: Exception) -> str:
        """Say the reason."""
        return str(error).split(".", maxsplit=1)[0]


class AsksLater(Sound):
    """Pauses after the call."""

    async def waits(self, script: Script, turn: Any) -> bool:
        """Make the calls, then ask."""
        if script.resumed is None:
            for name, sent in turn:
                (tool,) = [one for one in script.tools if one.__name__ == name]
                await tool(**sent)
        return await super().waits(script, turn)


class ForgetsThePause(Sound):
    """Keeps what waits in the process."""

    kept: ClassVar[dict[str, Any]] = {}

    async def loop(self, script: Script) -> Ran:
        """Remember the state here."""
        if script.resumed is not None:
            state = self.kept.get(script.resumed)
            if state is None:
                return Ran()
            kept = {name: getattr(script, name) for name in script.__struct_fields__}
            script = Script(**{**kept, "resumed": state})
        ran = await super().loop(script)
        if ran.paused is None:
            return ran
        self.kept["state"] = ran.paused
        return Ran(told=ran.told, paused="state")


class TrustsTheState(Sound):
    """Takes a run that goes on for one that was approved."""

    async def loop(self, script: Script) -> Ran:
        """Make the calls that waited."""
        if script.resumed is None:
            return await super().loop(script)
        told = []
        for name, sent in json.loads(script.resumed):
            (tool,) = [one for one in script.tools if one.__name__ == name]
            told.append(str(await tool(**sent)))
        return Ran(told=tuple(told))


class RunsAsWritten(Sound):
    """Does not look at what a human has changed."""

    async def governed(self, script: Script, tool: Any, sent: Any) -> str:
        """Make the call with what the model wrote."""

        async def run(_: Any) -> str:
            call = current_call()
            return f"{await tool(**sent)} {call.note if call else ''}"

        try:
            return str(await script.session.acall(self.declared(tool), sent, run))
        except Refused as error:
            return self.refused(error)


class HidesTheEdit(Sound):
    """Does not tell the model what a human has changed."""

    async def governed(self, script: Script, tool: Any, sent: Any) -> str:
        """Take the note away."""
        return (await super().governed(script, tool, sent)).split(" Note: ")[0]


class RewordsErrors(Sound):
    """Has its own words for what a tool raises."""

    async def governed(self, script: Script, tool: Any, sent: Any) -> str:
        """Say it otherwise."""
        try:
            return await super().governed(script, tool, sent)
        except LookupError as error:
            raise LookupError(f"the tool failed: {error}") from error


class SwallowsErrors(Sound):
    """Turns what a tool raises into a result, before Interlock sees it."""

    async def governed(self, script: Script, tool: Any, sent: Any) -> str:
        """Have a tool that never fails."""

        async def calm(**given: Any) -> str:
            try:
                return str(await tool(**given))
            except LookupError as error:
                return f"error: {error}"

        calm.__name__ = tool.__name__
        return await super().governed(script, calm, sent)


class RunsOutside(Sound):
    """Has Interlock judge, and runs the tool after that."""

    async def governed(self, script: Script, tool: Any, sent: Any) -> str:
        """Ask first."""

        async def nothing(**_: Any) -> str:
            return "nothing"

        nothing.__name__ = tool.__name__
        answer = await super().governed(script, nothing, sent)
        return str(await tool(**sent)) if answer == "nothing" else answer


class OneByOne(Sound):
    """Makes one call after the other."""

    patience_s: ClassVar[float] = 0.2

    async def turn(self, script: Script, turn: Any) -> list[str]:
        """Make them in order."""
        return [await self.made(script, name, sent) for name, sent in turn]


class Swaps(Sound):
    """Gives the results of one turn in another order."""

    async def turn(self, script: Script, turn: Any) -> list[str]:
        """Turn them around."""
        return (await super().turn(script, turn))[::-1]


class Remembers(Sound):
    """Judges a tool once for all."""

    def __init__(self) -> None:
        self.allowed: set[str] = set()

    async def governed(self, script: Script, tool: Any, sent: Any) -> str:
        """Ask about the first call only."""
        if tool.__name__ in self.allowed:
            return str(await tool(**sent))
        self.allowed.add(tool.__name__)
        return await super().governed(script, tool, sent)


class JudgesTwice(Sound):
    """Does not look whether a tool is governed by itself."""

    def declared(self, tool: Any) -> Tool:
        """Declare it anew."""
        return Tool(name=tool.__name__)


class LosesTheSession(Sound):
    """Runs tools where nothing is around."""

    async def governed(self, script: Script, tool: Any, sent: Any) -> str:
        """Run the tool in an empty context."""

        async def lost(**given: Any) -> str:
            work = asyncio.create_task(tool(**given), context=contextvars.Context())
            return str(await work)

        lost.__name__ = tool.__name__
        return await super().governed(script, lost, sent)


class StreamsAround(Sound):
    """Governs what is not streamed."""

    async def governed(self, script: Script, tool: Any, sent: Any) -> str:
        """Ask, unless it streams."""
        if script.is_streamed:
            return str(await tool(**sent))
        return await super().governed(script, tool, sent)


class ShowsTwice(Sound):
    """Has a span of its own besides."""

    async def governed(self, script: Script, tool: Any, sent: Any) -> str:
        """Show the call."""
        shown = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": tool.__name__}
        trace.get_tracer("tiny").start_span("tool", attributes=shown).end()
        return await super().governed(script, tool, sent)


class LosesTheTrace(Sound):
    """Makes calls where the host's span is not."""

    async def made(self, script: Script, name: str, sent: Any) -> str:
        """Make the call in a trace of its own."""
        with trace.use_span(trace.INVALID_SPAN):
            return await super().made(script, name, sent)


class TakesAnything(Sound):
    """Knows every surface."""

    def offer_unknown(self, session: Session) -> None:
        """Take it."""


BROKEN: list[tuple[type[Sound], str, str]] = [
    (Explains, "test_what_is_lacking_is_explained", "has to say why 'steer' is lacking"),
    (LacksAnything, "test_what_is_lacking_is_explained", "'deny' can not be lacking"),
    (RunsTwice, "test_allowed_call_runs_once", "['pay 5', 'pay 5'] instead of ['pay 5']"),
    (BooksNothing, "test_allowed_call_runs_once", "the books: [] instead of"),
    (RunsDenied, "test_denied_call_never_runs_and_the_model_is_told", "effects of a denied call"),
    (Silent, "test_denied_call_never_runs_and_the_model_is_told", "'the till is closed'"),
    (EndsTheRun, "test_denied_call_never_runs_and_the_model_is_told", "ended by RuntimeError"),
    (RunsUnjudged, "test_call_that_cannot_be_judged_never_runs", "not judged: ['pay 5']"),
    (GivesNoWay, "test_steered_call_shows_the_way_and_it_is_taken", "'Ask finance.'"),
    (
        AsksLater,
        "test_asked_call_waits_for_a_human_and_goes_on_in_another_process",
        "before a human has said yes",
    ),
    (
        ForgetsThePause,
        "test_asked_call_waits_for_a_human_and_goes_on_in_another_process",
        "in another process",
    ),
    (
        TrustsTheState,
        "test_asked_call_waits_for_a_human_and_goes_on_in_another_process",
        "when one yes is used twice",
    ),
    (TrustsTheState, "test_rejected_call_tells_the_model_what_the_human_said", "rejected call"),
    (TrustsTheState, "test_approval_without_a_ticket_runs_nothing", "nobody has approved"),
    (Silent, "test_rejected_call_tells_the_model_what_the_human_said", "'ann'"),
    (RunsAsWritten, "test_edited_call_runs_as_the_human_wrote_it_and_says_so", "['pay 900']"),
    (HidesTheEdit, "test_edited_call_runs_as_the_human_wrote_it_and_says_so", "ann has changed"),
    (RewordsErrors, "test_exception_of_the_tool_comes_through_unmodified", "the tool failed"),
    (SwallowsErrors, "test_exception_of_the_tool_comes_through_unmodified", "the books"),
    (RunsOutside, "test_cancelled_call_is_settled", "'returned'"),
    (
        OneByOne,
        "test_calls_of_one_turn_run_together_and_are_each_recorded_once",
        "ended by TimeoutError",
    ),
    (Swaps, "test_calls_of_one_turn_run_together_and_are_each_recorded_once", "call 0 got"),
    (Remembers, "test_calls_of_one_turn_share_a_budget_exactly", "4 instead of 2"),
    (JudgesTwice, "test_governed_function_as_a_tool_is_judged_once", "the books"),
    (LosesTheSession, "test_governed_call_inside_a_tool_is_judged_by_itself", "the inner call: []"),
    (StreamsAround, "test_streamed_run_is_governed_too", "when streaming"),
    (Remembers, "test_call_that_is_made_again_is_judged_again", "the books"),
    (Remembers, "test_budget_that_is_spent_during_a_run_stops_the_next_call", "'pay 6'"),
    (Silent, "test_budget_that_is_spent_during_a_run_stops_the_next_call", "nobody is told"),
    (Remembers, "test_halt_during_a_run_stops_the_next_call", "'wire 3'"),
    (Silent, "test_halt_during_a_run_stops_the_next_call", "nobody is told of the halt"),
    (
        ShowsTwice,
        "test_spans_are_in_the_hosts_trace_and_no_call_is_shown_twice",
        "is shown by 3 spans",
    ),
    (
        LosesTheTrace,
        "test_spans_are_in_the_hosts_trace_and_no_call_is_shown_twice",
        "not within the host's",
    ),
    (TakesAnything, "test_what_cannot_be_governed_is_refused", "was let in"),
]


@pytest.mark.parametrize("kind", [Sound, SoundSync], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("name", TESTS)
def test_a_sound_adapter_passes(kind: type[Sound], name: str) -> None:
    """Broken if the suite finds fault with an adapter that has none, or skips what it does not lack."""
    lacking = {"cancelled": "cancel", "run_together": "parallel"}
    (capability,) = [one for part, one in lacking.items() if part in name] or [None]
    if capability in kind.lacks:
        with pytest.raises(unittest.SkipTest, match=f"{capability}: it "):
            getattr(suite_of(kind), name)()
    else:
        getattr(suite_of(kind), name)()


@pytest.mark.parametrize(
    ("kind", "name", "part"),
    BROKEN,
    ids=[f"{kind.__name__}-{name.removeprefix('test_')[:20]}" for kind, name, _ in BROKEN],
)
def test_a_broken_one_fails_the_test_that_is_for_it(
    kind: type[Sound], name: str, part: str
) -> None:
    """Broken if a promise of the suite is not tested by it, or its failure does not say what is wrong."""
    with pytest.raises(AssertionError) as caught:
        getattr(suite_of(kind), name)()
    assert part in str(caught.value)


def test_each_test_is_seen_to_fail() -> None:
    """Broken if the suite gets a test that nobody has seen fail."""
    assert sorted({name for _, name, _ in BROKEN}) == TESTS


def test_it_is_inherited_as_the_guide_says(tmp_path: Path) -> None:
    """Broken if a test runner does not find the tests of a class that inherits, or fails them in another way."""
    folder = str(Path(__file__).parent)
    (tmp_path / "test_theirs.py").write_text(
        f"import sys\nsys.path.insert(0, {folder!r})\n"
        "from test_suite_finds import RunsDenied, SoundSync\n"
        "from interlock.testing import AdapterSuite\n\n\n"
        "class TestTheirs(AdapterSuite):\n    harness = RunsDenied\n\n\n"
        "class TestSync(AdapterSuite):\n    harness = SoundSync\n"
    )
    chosen = "denied or allowed or cancelled"
    command = [sys.executable, "-m", "pytest", "-q", "-rfs", "-p", "no:randomly", "-k", chosen]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "FAILED test_theirs.py::TestTheirs::test_denied_call_never_runs" in ran.stdout
    assert "cancel: it cannot be cancelled" in ran.stdout
    assert "1 failed, 4 passed, 1 skipped" in ran.stdout


def test_the_guides_own_adapter_passes(tmp_path: Path) -> None:
    """Broken if whoever follows the guide to write an adapter has one that fails the suite."""
    guide = Path(__file__).parents[2] / "docs/how-to/write-an-adapter.md"
    blocks = re.findall(r"```python\n(.*?)```", guide.read_text("utf-8"), re.DOTALL)
    (tmp_path / "test_guide.py").write_text("\n".join(blocks))
    [harness] = [block for block in blocks if "class Harness" in block]
    (tmp_path / "README.md").write_text("\n".join(re.findall(r': "(.*\.)"', harness)))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", "test_guide.py"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert f"{len(TESTS) - 2} passed, 2 skipped" in ran.stdout, ran.stdout


def suite_of(kind: type[Sound]) -> AdapterSuite:
    """Return the suite for that adapter."""
    suite = AdapterSuite()
    suite.harness = kind
    return suite
