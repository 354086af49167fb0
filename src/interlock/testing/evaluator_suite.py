"""EvaluatorSuite: the tests that every evaluator has to pass, to be inherited by its author's."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
from pydantic import BaseModel, ValidationError

from interlock._call import Call, Identity, describe
from interlock._verdict import Opinion
from interlock.errors import PluginError, PolicyError
from interlock.evaluators import Redacted
from interlock.testing import _hostile
from interlock.testing._checks import check, check_refused, check_result, check_same
from interlock.testing._loop import blocked
from interlock.testing._stand import NAME, Outcome, Stand, Way, direct, method_of, tool_with
from interlock.testing.examples import Example, Result

THREADS = 8
WAYS: tuple[Way, ...] = ("sync", "async")


class _Asked(msgspec.Struct, frozen=True):
    """One thing to ask the evaluator about, and what a failure calls it."""

    label: str
    arguments: Mapping[str, Any]
    tool: Mapping[str, Any]
    returned: Any = "done"


class EvaluatorSuite:
    """
    Tests of an evaluator, through real governors. Inherit from it in a class whose name begins with `Test`.

    What depends on a fixture can be set on `self` by an autouse fixture instead.

    Attributes:
        evaluator: The class.
        config: What a policy would say in `with:`.
        judged: The names of the arguments that it judges, where bytes, NaN, sets, deep lists and unknown objects have
            to be refused; for `stage = "after"`, `("result",)` if such results have to be withheld. May be empty.
        allowed: Examples that must get no objection.
        refused: Examples that must get one, each with its verdict.
        results: For `stage = "after"`, instead of the two: results, and what the caller has to get.
        bad_configs: Configurations that have to be refused.
        timeout: The deadline of each answer, as in a policy.
    """

    evaluator: type
    config: Mapping[str, Any]
    judged: Sequence[str]
    allowed: Sequence[Example] = ()
    refused: Sequence[Example] = ()
    results: Sequence[Result] = ()
    bad_configs: Sequence[Mapping[str, Any]] = ()
    timeout: str = "10s"

    def test_there_are_enough_examples(self) -> None:
        """Broken if the examples are too few to show anything."""
        for name in ("evaluator", "config", "judged"):
            check(hasattr(self, name), f"say `{name} = …` in the class of the tests")
        check(self.bad_configs, "give `bad_configs` at least one configuration")
        if self._reviews():
            plain = [one for one in self.results if one.given is msgspec.UNSET and not one.withheld]
            check(plain, "give `results` one that the caller gets as it is")
            check(len(plain) < len(self.results), "give `results` one that is redacted or withheld")
            check(set(self.judged) <= {"result"}, "what a reviewer judges is called `result`")
            return
        check(self.allowed, "give `allowed` at least one example")
        check(self.refused, "give `refused` at least one example")
        unknown = set(self.judged) - {name for one in self.allowed for name in one.arguments}
        check(not unknown, f"no example of `allowed` has the arguments {sorted(unknown)}")

    def test_it_is_an_evaluator(self) -> None:
        """Broken if a policy could not name it: there is no `Config`, or nothing to ask it by."""
        kind: Any = self.evaluator
        stage = getattr(kind, "stage", "before")
        check(stage in {"before", "after"}, f"`stage` is 'before' or 'after', not {stage!r}")
        config = getattr(kind, "Config", None)
        is_model = isinstance(config, type) and issubclass(config, BaseModel)
        check(is_model, "`Config` has to be a pydantic model")
        method: Any = getattr(kind, method_of(kind), None)
        check(callable(method), f"it needs a method `{method_of(kind)}`")
        asked = ["self", "call", *(["result"] if self._reviews() else [])]
        try:
            inspect.signature(method).bind(*asked)
        except TypeError as error:
            raise AssertionError(f"`{method_of(kind)}` must take {asked}: {error}") from None
        yields = inspect.isasyncgenfunction(method) or inspect.isgeneratorfunction(method)
        check(not yields, f"`{method_of(kind)}` must return its answer, not yield it")

    def test_its_config_refuses_unknown_keys(self) -> None:
        """Broken if a misspelt key of a policy is ignored, so that what it was to forbid is let through."""
        kind: Any = self.evaluator
        try:
            kind.Config.model_validate({**self.config, "no_such_key": 1})
        except ValidationError:
            return
        raise AssertionError(
            'a key that `Config` does not know is ignored; say `model_config = ConfigDict(extra="forbid")`'
        )

    def test_bad_configs_are_refused(self) -> None:
        """Broken if a wrong configuration is found out at the first call, or never."""
        for number, config in enumerate(self.bad_configs):
            where = f"bad_configs[{number}]"
            try:
                self._stand(config).__exit__(None, None, None)
            except PolicyError as error:
                told = str(error.key).startswith("evaluators.0")
                check(told, f"{where} is refused for something else: {error}")
            except PluginError as error:
                check(error.plugin == NAME, f"{where} is refused for something else: {error}")
            else:
                raise AssertionError(
                    f"{where} was accepted; refuse it in `Config`, or raise in `__init__`"
                )

    def test_examples_get_what_they_should(self) -> None:
        """Broken if an example gets another verdict or result than its author says, in sync or async calls."""
        with self._stand() as stand:
            for way in WAYS:
                for number, one in enumerate(self.allowed):
                    found = stand.call(one.arguments, one.tool, way=way)
                    where = f"allowed[{number}], {way}"
                    check(found.ran, f"{where}: the tool did not run: {found.error}")
                    check(found.error is None, f"{where}: {found.error}")
                for number, one in enumerate(self.refused):
                    found = stand.call(one.arguments, one.tool, way=way)
                    check_refused(found, one.verdict, f"refused[{number}], {way}")
                for number, result in enumerate(self.results):
                    before = repr(result.returned)
                    found = stand.call(result.arguments, result.tool, result.returned, way)
                    check(before == repr(result.returned), f"results[{number}]: it was changed")
                    check_result(found, result, f"results[{number}], {way}")

    def test_the_same_call_gets_the_same_answer(self) -> None:
        """Broken if an answer depends on what was asked before, on the thread, or on the instance."""
        examples = self._examples()
        expected: list[Any] = []
        with self._stand() as one, self._stand() as other:
            expected = [_told(one, asked) for asked in examples]
            for name, stand in (("it was asked again", one), ("another instance was", other)):
                for asked, first in zip(examples, expected, strict=True):
                    check_same(first, _told(stand, asked), asked.label, name)
            found = _from_threads(one, examples)
        for thread in found:
            for number, told in thread:
                label = examples[number].label
                check_same(expected[number], told, label, f"{THREADS} threads asked at once")

    def test_it_answers_with_an_opinion_or_none(self) -> None:
        """Broken if it answers with something that is no answer, which refuses the call as its failure."""
        sound = (Opinion, Redacted) if self._reviews() else (Opinion,)
        with self._stand() as stand:
            for asked in [*self._examples(), *self._hostile()]:
                for answer in _ask(stand, asked).answers:
                    is_sound = answer is None or isinstance(answer, sound)
                    kinds = " or ".join(kind.__name__ for kind in sound)
                    check(
                        is_sound,
                        f"{asked.label}: it answered with a {type(answer).__name__}; "
                        f"return an {kinds}, or None for no objection",
                    )

    def test_its_opinions_hold_no_argument(self) -> None:
        """Broken if what it says holds what it was shown: that is stored, logged, and shown to models."""
        with self._stand() as stand:
            for asked in self._planted():
                outcome = _ask(stand, asked)
                texts = [msgspec.json.encode(one).decode() for one in outcome.opinions]
                for part in map(_hostile.leaked, texts):
                    check(
                        part is None,
                        f"{asked.label}: an opinion holds {part!r}, which was planted there; "
                        "name the argument in `reason`, `guidance` and `suggestions`, not its value",
                    )

    def test_hostile_input_is_answered_in_time(self) -> None:
        """Broken if a large, deep or ill-formed value keeps it beyond its deadline."""
        with self._stand() as stand:
            for asked in self._hostile():
                outcome = _ask(stand, asked)
                is_late = outcome.fault is not None and outcome.is_silent
                check(
                    not is_late,
                    f"{asked.label}: no answer within {self.timeout}; bound the work, and refuse what is larger",
                )

    def test_hostile_input_is_answered_without_raising(self) -> None:
        """Broken if whoever sends an odd value can make it fail, so that people are called for a refusal."""
        with self._stand() as stand:
            for asked in self._hostile():
                for error in _ask(stand, asked).raised:
                    check(
                        not isinstance(error, Exception),
                        f"{asked.label}: it raised {type(error).__name__}; "
                        "check the kind first, and object to what cannot be judged",
                    )

    def test_odd_input_is_refused(self) -> None:
        """Broken if what it cannot judge is let through."""
        with self._stand() as stand:
            for asked in self._odd():
                outcome = _ask(stand, asked)
                check(
                    outcome.error is not None or self._is_redacted(asked, outcome),
                    f"{asked.label}: it was let through; object to what cannot be judged "
                    "(or take the argument out of `judged`)",
                )

    def test_the_event_loop_goes_on(self) -> None:
        """Broken if it holds an event loop, and with it all other calls, while it judges a large text."""
        for asked in self._large():
            call = _call(asked)
            shown = [call, asked.returned] if self._reviews() else [call]
            problem = blocked(_bound(direct(self.evaluator, self.config), shown))
            check(
                problem is None,
                f"{asked.label}: the event loop {problem}; bound the work, give up the interpreter's lock, "
                "or let `evaluate` be no coroutine function if it blocks",
            )

    def test_judging_changes_no_configuration(self) -> None:
        """Broken if a call can change by what the next one is judged."""
        with self._stand() as stand:
            before = stand.settings()
            for asked in [*self._examples(), *self._hostile()]:
                _ask(stand, asked)
                same = before == stand.settings()
                check(
                    same,
                    f"{asked.label}: judging it changed the configuration; keep what changes elsewhere",
                )

    def test_it_never_loosens(self) -> None:
        """Broken if naming it in a policy lets a call run that the policy denies, or wants to ask about."""
        for default in ("deny", "ask"):
            with self._stand(default=default) as stand:
                for asked in self._examples():
                    ran = _ask(stand, asked).ran
                    check(
                        not ran, f"{asked.label}: the tool ran although the policy says {default}"
                    )

    def _reviews(self) -> bool:
        return getattr(self.evaluator, "stage", "before") == "after"

    def _stand(self, config: Mapping[str, Any] | None = None, *, default: str = "allow") -> Stand:
        given = self.config if config is None else config
        return Stand(self.evaluator, given, timeout=self.timeout, default=default)

    def _examples(self) -> list[_Asked]:
        named = (("allowed", self.allowed), ("refused", self.refused))
        found = [
            _Asked(f"{name}[{number}]", one.arguments, one.tool)
            for name, examples in named
            for number, one in enumerate(examples)
        ]
        return found + [
            _Asked(f"results[{number}]", one.arguments, one.tool, one.returned)
            for number, one in enumerate(self.results)
        ]

    def _hostile(self) -> Iterator[_Asked]:
        """The first example, with each hostile value in the place of each argument, or of the result."""
        yield from self._varied(self._examples()[:1], _hostile.hostile())

    def _odd(self) -> Iterator[_Asked]:
        """Each example that is let through, with an odd value in the place of what is judged."""
        passing = [
            _Asked(f"allowed[{number}]", one.arguments, one.tool)
            for number, one in enumerate(self.allowed)
        ]
        if self._reviews():
            passing = self._examples()[:1] if self.judged else []
        yield from self._varied(passing, _hostile.odd(), self.judged)

    def _large(self) -> Iterator[_Asked]:
        sizes = (16_000, 60_000, _hostile.LARGE)
        texts = {f"a text of {size:,} characters": "x" * size for size in sizes}
        yield from self._varied(self._examples()[:1], texts)

    def _planted(self) -> Iterator[_Asked]:
        """Each example with a mark in each of its arguments, and in the result."""
        for one in self._examples():
            for name, value in one.arguments.items():
                for mark in _hostile.planted(value):
                    yield _Asked(
                        f"{one.label}, argument {name!r}",
                        {**one.arguments, name: mark},
                        one.tool,
                        one.returned,
                    )
            if self._reviews():
                for mark in _hostile.planted(one.returned):
                    yield _Asked(f"{one.label}, the result", one.arguments, one.tool, mark)

    def _varied(
        self,
        examples: Sequence[_Asked],
        values: Mapping[str, object],
        names: Sequence[str] | None = None,
    ) -> Iterator[_Asked]:
        for one in examples:
            if self._reviews():
                for label, value in values.items():
                    yield _Asked(f"{label} as the result", one.arguments, one.tool, value)
                continue
            for label, arguments in _hostile.replaced(one.arguments, values, names):
                yield _Asked(f"{one.label} with {label}", arguments, one.tool)

    def _is_redacted(self, asked: _Asked, outcome: Outcome) -> bool:
        return self._reviews() and outcome.given is not asked.returned


def _ask(stand: Stand, asked: _Asked) -> Outcome:
    return stand.call(asked.arguments, asked.tool, asked.returned)


def _told(stand: Stand, asked: _Asked) -> tuple[str, list[tuple[str, ...]]]:
    """What has to be the same each time: how the call ended, and what the evaluator said."""
    outcome = _ask(stand, asked)
    return type(outcome.error).__name__, outcome.said


def _from_threads(stand: Stand, examples: Sequence[_Asked]) -> list[list[tuple[int, Any]]]:
    """Ask about all examples from several threads at once, each beginning with another; return what each was told."""
    started = threading.Barrier(THREADS)
    told: list[list[tuple[int, Any]]] = [[] for _ in range(THREADS)]

    def work(thread: int) -> None:
        started.wait()
        for step in range(len(examples)):
            number = (thread + step) % len(examples)
            told[thread].append((number, _told(stand, examples[number])))

    threads = [threading.Thread(target=work, args=[number]) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    check(all(len(found) == len(examples) for found in told), "a thread ended before it was done")
    return told


def _call(asked: _Asked) -> Call:
    tool = tool_with(asked.tool, asked.arguments)
    identity = Identity(agent="suite")
    return describe(tool, asked.arguments, call_id="c", session_id="s", identity=identity)[0]


def _bound(ask: Any, shown: list[Any]) -> Any:
    """Make a function without parameters out of *ask*, that is a coroutine function if *ask* is."""
    if not inspect.iscoroutinefunction(ask):
        return lambda: ask(*shown)

    async def asking() -> object:
        return await ask(*shown)

    return asking
