"""The suite for evaluators: whoever breaks a promise fails the test that is for it, and no other."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from typing import Any, ClassVar

import anyio
import pytest
from pydantic import BaseModel, ConfigDict, Field

from interlock import Call, Decision, Opinion, Verdict
from interlock.evaluators import Redacted
from interlock.testing import EvaluatorSuite, Example, Result

TESTS = sorted(name for name in vars(EvaluatorSuite) if name.startswith("test_"))


class Config(BaseModel):
    """What the evaluators here are told."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    characters: int = Field(gt=0)
    seen: list[str] = []


def no(reason: str, verdict: Verdict = Verdict.DENY, **more: Any) -> Opinion:
    """Object."""
    return Opinion(verdict=verdict, reason=reason, author="me", **more)


class Sound:
    """Denies what is no text, or a long one."""

    Config: Any = Config

    def __init__(self, config: Config) -> None:
        self.config = config

    def evaluate(self, call: Call) -> Any:
        """Judge."""
        return self.judge(call.arguments.get("text"))

    def judge(self, value: Any) -> Any:
        """Judge the argument."""
        if not isinstance(value, str):
            return no("argument text is no text")
        return no("argument text is too long") if len(value) > self.config.characters else None


class SoundAsync(Sound):
    """The same, as a coroutine function."""

    async def evaluate(self, call: Call) -> Any:
        """Judge."""
        await anyio.lowlevel.checkpoint()
        return self.judge(call.arguments.get("text"))


class Suite(EvaluatorSuite):
    """What its examples are."""

    evaluator = Sound
    config: Any = {"characters": 10}  # noqa: RUF012
    judged = ("text",)
    allowed = (Example({"text": "hello"}), Example({"text": "", "other": 5}))
    refused = (Example({"text": "hello, hello"}), Example({"other": 5}))
    bad_configs = ({"characters": 0}, {})


class SoundReviewer:
    """Takes what looks like a card number out of texts, and withholds what is no text."""

    Config: Any = Config
    stage = "after"

    def __init__(self, config: Config) -> None:
        self.config = config

    def review(self, call: Call, result: Any) -> Any:
        """Review."""
        if not isinstance(result, str):
            return no("it is no text")
        text = re.sub("[0-9]{4}", "[card]", result)
        return None if text == result else Redacted(result=text, reason="card numbers")


class AfterSuite(EvaluatorSuite):
    """What its examples are."""

    evaluator = SoundReviewer
    config: Any = {"characters": 10}  # noqa: RUF012
    judged = ("result",)
    bad_configs = ({},)

    def __init__(self) -> None:
        # Anew for each suite: one of the broken ones changes what it is shown.
        self.results = (
            Result(returned="the lamps"),
            Result(returned="card 4111", given="card [card]", arguments={"number": 4}),
            Result(returned=["4111"], withheld=True),
        )


def failing(suite: EvaluatorSuite) -> dict[str, str]:
    """Return which tests fail, and what they say."""
    found = {}
    for name in TESTS:
        try:
            getattr(suite, name)()
        except AssertionError as error:
            found[name] = str(error)
    return found


class Duck:
    """A configuration that is no pydantic model."""

    model_validate = Config.model_validate
    model_fields = Config.model_fields


class NoModel(Sound):
    """Its configuration is not what policies are checked by."""

    Config = Duck


class Lenient(Config):
    """Ignores what it does not know."""

    model_config = ConfigDict(extra="ignore")


class IgnoresKeys(Sound):
    """Ignores misspelt keys."""

    Config = Lenient


class Unchecked(Config):
    """Takes any number."""

    characters: int


class AcceptsAnything(Sound):
    """Accepts a limit of nothing."""

    Config = Unchecked


class TooMild(Sound):
    """Asks where it should deny."""

    def judge(self, value: Any) -> Any:
        """Judge the argument."""
        is_long = isinstance(value, str) and len(value) > self.config.characters
        return no("long", Verdict.ASK) if is_long else super().judge(value)


class Counts(Sound):
    """Looks at what all instances share."""

    count: ClassVar[int] = 0

    def judge(self, value: Any) -> Any:
        """Judge the argument."""
        Counts.count += 1
        answer = super().judge(value)
        return answer and no(f"objection {Counts.count}")


class LooksAtItself(Sound):
    """Answers otherwise in each instance."""

    def judge(self, value: Any) -> Any:
        """Judge the argument."""
        answer = super().judge(value)
        return answer and no(f"objection of {id(self)}")


class MixesCallsUp(Sound):
    """Keeps the value where another thread puts its own."""

    def judge(self, value: Any) -> Any:
        """Judge the argument, or that of whoever came meanwhile."""
        self.value = value
        time.sleep(0.01)
        return super().judge(self.value)


class AnswersTrue(Sound):
    """Answers with what is no answer."""

    def judge(self, value: Any) -> Any:
        """Judge the argument."""
        return True if isinstance(value, frozenset) else super().judge(value)


class Leaks(Sound):
    """Quotes the end of the value."""

    def judge(self, value: Any) -> Any:
        """Judge the argument."""
        answer = super().judge(value)
        return answer and no(f"{str(value)[-7:]!r} is too long")


class LeaksInGuidance(Sound):
    """Quotes the value, in capitals, to the model."""

    def judge(self, value: Any) -> Any:
        """Judge the argument."""
        answer = super().judge(value)
        if isinstance(value, str) and answer is not None:
            return no("too long", guidance=f"Shorten {value.upper()}.")
        return answer


class LeaksOtherArguments(Sound):
    """Quotes an argument that it does not judge."""

    def evaluate(self, call: Call) -> Any:
        """Judge."""
        answer = super().evaluate(call)
        return answer and no(f"other is {call.arguments.get('other')}")


class Hangs(SoundAsync):
    """Never answers about sets."""

    async def evaluate(self, call: Call) -> Any:
        """Judge."""
        if call.arguments.get("text") == frozenset({1}):
            await anyio.sleep_forever()
        return await super().evaluate(call)


class Raises(Sound):
    """Counts on there being no numbers."""

    def judge(self, value: Any) -> Any:
        """Judge the argument."""
        return no("too long") if isinstance(value, float) and len(value) else super().judge(value)  # type: ignore[arg-type]


class GivesUp(Sound):
    """Lets through what it cannot judge."""

    def judge(self, value: Any) -> Any:
        """Judge the argument."""
        if value is None:
            return no("missing")
        try:
            return no("too long") if len(value) > self.config.characters else None
        except TypeError:
            return None


class SleepsInTheLoop(SoundAsync):
    """Blocks the loop that it shares."""

    async def evaluate(self, call: Call) -> Any:
        """Judge."""
        if len(str(call.arguments.get("text", ""))) == 60_000:
            time.sleep(2)  # noqa: ASYNC251 - that is what is wrong with it
        return await super().evaluate(call)


class HoldsTheInterpreter(Sound):
    """Does in one instruction what no other thread can interrupt."""

    def judge(self, value: Any) -> Any:
        """Judge the argument."""
        if isinstance(value, str) and len(value) == 60_000:
            sum(range(30_000_000))
        return super().judge(value)


class Remembers(Sound):
    """Writes into its configuration."""

    def judge(self, value: Any) -> Any:
        """Judge the argument."""
        self.config.seen.append("one")
        return super().judge(value)


class Tampers(Sound):
    """Makes every question to a human a yes."""

    def judge(self, value: Any) -> Any:
        """Judge the argument."""
        admits = property(lambda decision: decision.verdict <= Verdict.ASK)
        Decision.admits = admits  # type: ignore[assignment,method-assign]
        return super().judge(value)


class Copies(SoundReviewer):
    """Puts an equal object in the place of the result."""

    def review(self, call: Call, result: Any) -> Any:
        """Review."""
        answer = super().review(call, result)
        is_plain = answer is None and isinstance(result, str)
        return Redacted(result="".join([*result]), reason="copied") if is_plain else answer


class Changes(SoundReviewer):
    """Changes the result itself."""

    def review(self, call: Call, result: Any) -> Any:
        """Review."""
        if isinstance(result, list) and result == ["4111"]:
            result.append("seen")
        return super().review(call, result)


class ReleasesLists(SoundReviewer):
    """Gives up on lists."""

    def review(self, call: Call, result: Any) -> Any:
        """Review."""
        return None if type(result) is list and result == ["4111"] else super().review(call, result)


class LeaksTheResult(SoundReviewer):
    """Quotes what it withholds."""

    def review(self, call: Call, result: Any) -> Any:
        """Review."""
        answer = super().review(call, result)
        if type(result) is list and len(result) == 1 and type(result[0]) is str:
            return no(f"{result} is no text")
        return answer


class ReleasesOddResults(SoundReviewer):
    """Gives up on what is no text."""

    def review(self, call: Call, result: Any) -> Any:
        """Review."""
        return None if isinstance(result, bytes) else super().review(call, result)


class OpinesOddly(SoundReviewer):
    """Answers with the new result itself."""

    def review(self, call: Call, result: Any) -> Any:
        """Review."""
        return "nothing" if isinstance(result, set) else super().review(call, result)


BROKEN: list[tuple[type, str, str]] = [
    (NoModel, "test_it_is_an_evaluator", "pydantic"),
    (IgnoresKeys, "test_its_config_refuses_unknown_keys", "forbid"),
    (AcceptsAnything, "test_bad_configs_are_refused", "bad_configs[0] was accepted"),
    (TooMild, "test_examples_get_what_they_should", "refused[0], sync: it said ask"),
    (Counts, "test_the_same_call_gets_the_same_answer", "asked again"),
    (LooksAtItself, "test_the_same_call_gets_the_same_answer", "another instance"),
    (MixesCallsUp, "test_the_same_call_gets_the_same_answer", "8 threads"),
    (AnswersTrue, "test_it_answers_with_an_opinion_or_none", "answered with a bool"),
    (Leaks, "test_its_opinions_hold_no_argument", "argument 'text'"),
    (LeaksInGuidance, "test_its_opinions_hold_no_argument", "argument 'text'"),
    (LeaksOtherArguments, "test_its_opinions_hold_no_argument", "argument 'other'"),
    (Hangs, "test_hostile_input_is_answered_in_time", "a frozenset as 'text'"),
    (Raises, "test_hostile_input_is_answered_without_raising", "NaN as 'text'"),
    (GivesUp, "test_odd_input_is_refused", "NaN as 'text'"),
    (SleepsInTheLoop, "test_the_event_loop_goes_on", "while a thread woke"),
    (HoldsTheInterpreter, "test_the_event_loop_goes_on", "of processor time"),
    (Remembers, "test_judging_changes_no_configuration", "changed the configuration"),
    (Tampers, "test_it_never_loosens", "the policy says ask"),
    (Copies, "test_examples_get_what_they_should", "another object"),
    (Changes, "test_examples_get_what_they_should", "was changed"),
    (ReleasesLists, "test_examples_get_what_they_should", "was to be withheld"),
    (LeaksTheResult, "test_its_opinions_hold_no_argument", "the result"),
    (ReleasesOddResults, "test_odd_input_is_refused", "bytes as the result"),
    (OpinesOddly, "test_it_answers_with_an_opinion_or_none", "answered with a str"),
]


@pytest.mark.parametrize("kind", [Sound, SoundAsync, SoundReviewer], ids=lambda kind: kind.__name__)
def test_a_sound_evaluator_passes(kind: type) -> None:
    """Broken if the suite finds fault with an evaluator that has none."""
    assert failing(suite_of(kind)) == {}


@pytest.mark.parametrize(("kind", "name", "part"), BROKEN, ids=[row[0].__name__ for row in BROKEN])
def test_a_broken_one_fails_the_test_that_is_for_it(
    kind: type, name: str, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Broken if a promise of the suite is not tested by it, or its failure does not say what is wrong."""
    monkeypatch.setattr(Decision, "admits", Decision.admits)
    found = failing(suite_of(kind))
    assert [*found] == [name], found
    assert part in found[name]


def suite_of(kind: Any) -> EvaluatorSuite:
    """Return the suite for that evaluator."""
    suite: EvaluatorSuite = AfterSuite() if hasattr(kind, "stage") else Suite()
    suite.evaluator = kind
    if kind is Hangs:
        suite.timeout = "2s"
    return suite


EMPTY: list[tuple[type[EvaluatorSuite], str, Any, str]] = [
    (Suite, "allowed", (), "`allowed`"),
    (Suite, "refused", (), "`refused`"),
    (Suite, "bad_configs", (), "`bad_configs`"),
    (Suite, "judged", ("txt",), "'txt'"),
    (AfterSuite, "results", (Result(returned="a"),), "redacted or withheld"),
    (AfterSuite, "results", (Result(returned=5, withheld=True),), "as it is"),
    (AfterSuite, "judged", ("text",), "`result`"),
]


@pytest.mark.parametrize(("kind", "name", "value", "part"), EMPTY)
def test_a_suite_without_examples_fails(
    kind: type[EvaluatorSuite], name: str, value: Any, part: str
) -> None:
    """Broken if a suite that shows nothing passes."""
    suite = kind()
    setattr(suite, name, value)
    with pytest.raises(AssertionError, match=re.escape(part)):
        suite.test_there_are_enough_examples()


@pytest.mark.parametrize("name", ["evaluator", "config", "judged"])
def test_what_is_missing_is_told(name: str) -> None:
    """Broken if whoever forgets an attribute is told something else."""

    class Bare(EvaluatorSuite):
        evaluator = Sound
        config: Any = {"characters": 10}  # noqa: RUF012
        judged = ("text",)

    delattr(Bare, name)
    with pytest.raises(AssertionError, match=f"say `{name} = "):
        Bare().test_there_are_enough_examples()


def test_every_test_of_the_suite_is_proved() -> None:
    """Broken if a test is added to the suite that no broken evaluator fails."""
    proved = {name for _, name, _ in BROKEN} | {"test_there_are_enough_examples"}
    assert sorted(proved) == TESTS


def test_it_needs_no_test_runner() -> None:
    """Broken if a host that uses the clock or the recorder has to install pytest."""
    script = (
        "import sys, interlock.testing; print('pytest' in sys.modules, '_pytest' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["False", "False"]


def test_it_counts_under_optimisation() -> None:
    """Broken if the suite checks nothing under `python -O`."""
    script = (
        "from interlock.testing import EvaluatorSuite\n"
        "try:\n    EvaluatorSuite().test_there_are_enough_examples()\n"
        "except AssertionError as error:\n    print(error)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-O", "-c", script], capture_output=True, text=True, check=True
    )
    assert ran.stdout == "say `evaluator = …` in the class of the tests\n"
