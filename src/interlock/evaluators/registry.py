"""Panel: the evaluators that a policy names, built once; asked together of a call, and one by one of its result."""

from __future__ import annotations

import inspect
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
)
from functools import lru_cache, partial
from importlib.metadata import entry_points
from types import MappingProxyType
from typing import Any

import msgspec
from msgspec.structs import replace
from pydantic import ValidationError

from interlock._call import Call
from interlock._entry_points import find_entry_point, load, version_of
from interlock._plugins import fault, valid
from interlock._replies import Reviewed
from interlock._verdict import Opinion, Verdict
from interlock.errors import PluginError, PolicyError
from interlock.evaluators.bench import Bench, Job, Raised
from interlock.evaluators.hearing import Hearing, Inbox, Question, ask
from interlock.evaluators.protocol import Redacted, Stage, Streamed
from interlock.policy import Policy
from interlock.policy.questions import LOOKING_BACK, EvaluatorDocument
from interlock.policy.wording import sentence

GROUP = "interlock.evaluators"
"""The entry-point group in which distributions offer evaluators; ours are there, too."""


class _Offer(msgspec.Struct, frozen=True):
    """An evaluator that is not found by an entry point."""

    kind: type
    version: str | None
    whose: str


class _Redaction(msgspec.Struct, frozen=True):
    """A result that was put in the place of another, and the opinion that stands for that in the record."""

    opinion: Opinion
    result: object


class _Seat(msgspec.Struct, frozen=True):
    author: str
    version: str | None
    evaluator: Any
    stage: Stage
    is_async: bool
    timeout_s: float

    def question(self, call: Call, inbox: Inbox) -> Question[Opinion]:
        """Prepare to ask what is thought of *call*."""
        ask = partial(self.evaluator.evaluate, call)
        return self._question(ask, self._opinion, inbox)

    def question_about(
        self, call: Call, result: object, inbox: Inbox
    ) -> Question[Opinion | _Redaction]:
        """Prepare to ask what to do with *result*, which *call* has returned."""
        ask = partial(self.evaluator.review, call, result)
        return self._question(ask, partial(self._verdict_on, result), inbox)

    def _question(
        self, ask: Callable[[], object], conclude: Callable[[object], object], inbox: Inbox
    ) -> Question[Any]:
        job = Job(ask, conclude, inbox.put, is_async=self.is_async)
        return Question(
            job, self.timeout_s, meaning=self._meaning, silence=partial(fault, self.author)
        )

    def _opinion(self, answer: object) -> Opinion | None:
        """Return what *answer* amounts to, in the name of who gave it."""
        found = valid(answer, self.author)
        if found is None:
            return None
        return replace(found, author=self.author, version=self.version, rule=None)

    def _verdict_on(self, result: object, answer: object) -> Opinion | _Redaction | None:
        """Return what *answer* amounts to, given by a reviewer who was shown *result*."""
        if type(answer) is Redacted:
            return self._redaction(result, answer)
        if not (answer is None or isinstance(answer, Opinion)):
            kind = type(answer).__name__
            return fault(
                self.author, f"answered with a {kind} instead of an Opinion, Redacted or None"
            )
        opinion = self._opinion(answer)
        if opinion is None or opinion.verdict is not Verdict.ASK:
            return opinion
        reason = f"{opinion.reason} (it wants a human to be asked, but the call has run)"
        return replace(opinion, verdict=Verdict.DENY, reason=reason)

    def _redaction(self, result: object, answer: Redacted) -> Opinion | _Redaction | None:
        wrong = _unshowable(answer.result)
        if wrong is None and type(result) is Streamed and not _is_stream(answer.result):
            wrong = "no Streamed with a tuple of items"
        if wrong is not None:
            return fault(self.author, f"answered with a Redacted whose result is {wrong}")
        if type(answer.reason) is not str:
            return fault(self.author, "answered with a Redacted whose reason is no text")
        said = Opinion(verdict=Verdict.ALLOW, reason=answer.reason, author=self.author)
        opinion = self._opinion(said)
        if opinion is None or opinion.fault:
            return opinion
        return _Redaction(opinion, answer.result)

    def _meaning(self, reported: object) -> Any:
        match reported:
            case None | Opinion() | _Redaction():
                return reported
            case Raised(kind="CancelledError"):
                return fault(self.author, "ended without an answer")
            case Raised(kind=kind):
                # It could not judge, so the call must not run, or its result not be given.
                return fault(self.author, f"raised {kind}")
            case _:
                raise TypeError(type(reported).__name__)


class Panel:
    """The evaluators of one policy, and the bench on which they sit; `heard` and `aheard` take on its hearings."""

    def __init__(
        self,
        policy: Policy,
        own: Mapping[str, type] = MappingProxyType({}),
        offered: Mapping[str, tuple[type, str | None]] = MappingProxyType({}),
    ) -> None:
        """
        Find and build every evaluator that *policy* names: the host's *own*, *offered* by plugins, or installed.

        Raises:
            PluginError: one is missing, offered twice, does not import, is no evaluator, or cannot answer a condition.
            PolicyError: its configuration is wrong.
        """
        if taken := LOOKING_BACK.intersection(own):
            name = min(taken)
            raise PluginError(
                f"the host's evaluator {name!r} has the name of a built-in one; rename it",
                plugin=name,
            )
        known = _known(own, offered)
        self._policy = policy
        self._seats = tuple(
            _seat(item, f"evaluators.{number}", known)
            for number, item in enumerate(policy.document.evaluators)
            if item in policy.evaluators
        )
        self._asked = {
            key: _before(_seat(item, f"evaluator {item.use!r} in a condition", known), item.use)
            for key, item in policy.questions.items()
        }
        self._has_reviewers = any(seat.stage == "after" for seat in self._seats)
        self._bench = Bench()
        # As bounded as the policy's own memory of names, and for its reason.
        self._seats_for = lru_cache(maxsize=4096)(self._find_seats)

    def is_needed(self, call: Call) -> bool:
        """Whether any evaluator judges calls like this before they run."""
        return bool(self._seats_for(call.tool.name)[0])

    def reviews(self, call: Call) -> bool:
        """Whether any evaluator reviews what calls like this return."""
        return self._has_reviewers and bool(self._seats_for(call.tool.name)[1])

    def opinions(self, call: Call, inbox: Inbox) -> Hearing[list[Opinion]]:
        """
        Ask all that judge *call*, at the same time, each within its deadline; return what they think.

        The first DENY is enough, and a deadline that passes is one: the others are then cancelled, no longer heard,
        and not waited for.
        """
        questions = [seat.question(call, inbox) for seat in self._seats_for(call.tool.name)[0]]
        yield from ask(self._bench, questions, until=_denies)
        return [question.answer for question in questions if question.answer is not None]

    def answers(
        self, call: Call, keys: Iterable[str], inbox: Inbox
    ) -> Hearing[dict[str, Opinion | None]]:
        """Ask the evaluators that conditions name, by `Question.key`, as `opinions` does, and wait for each."""
        questions = {key: self._asked[key].question(call, inbox) for key in keys}
        yield from ask(self._bench, list(questions.values()))
        return {key: question.answer for key, question in questions.items()}

    def review(self, call: Call, result: object, inbox: Inbox) -> Hearing[Reviewed]:
        """
        Ask all that review what *call* returns, in the policy's order, each within its deadline; return what is left.

        Each is shown what the one before has left of *result*. The first DENY ends it.
        """
        problem = _unshowable(result)
        if problem is not None:
            reason = f"it is {problem}, so it cannot be reviewed"
            said = Opinion(verdict=Verdict.DENY, reason=reason, author="interlock", fault=True)
            return Reviewed(opinions=(said,))
        opinions: list[Opinion] = []
        redacted_by: list[str] = []
        for seat in self._seats_for(call.tool.name)[1]:
            question = seat.question_about(call, result, inbox)
            yield from ask(self._bench, [question])
            answer = question.answer
            if isinstance(answer, _Redaction):
                result = answer.result
                redacted_by.append(seat.author)
                opinions.append(answer.opinion)
            elif answer is not None:
                opinions.append(answer)
                if _denies(answer):
                    break
        return Reviewed(result=result, opinions=tuple(opinions), redacted_by=tuple(redacted_by))

    def close(self) -> None:
        """Cancel whoever is still at work, and stop. Calling it again does nothing."""
        self._bench.close()

    def _find_seats(self, tool: str) -> tuple[tuple[_Seat, ...], tuple[_Seat, ...]]:
        """Return who judges calls of *tool*, and who reviews their results."""
        wanted = self._policy.evaluators_for(tool)
        pairs = zip(self._policy.evaluators, self._seats, strict=True)
        found = [seat for item, seat in pairs if any(item is one for one in wanted)]
        return (
            tuple(seat for seat in found if seat.stage == "before"),
            tuple(seat for seat in found if seat.stage == "after"),
        )


def _denies(opinion: Opinion) -> bool:
    return opinion.verdict is Verdict.DENY and not opinion.observed


def _unshowable(result: object) -> str | None:
    """Return what *result* is, if showing it would use it up or it comes into being only later; else None."""
    if isinstance(result, (Iterator, AsyncIterator, Awaitable)):
        return f"a {type(result).__name__}, whose content comes only when it is used"
    return None


def _is_stream(result: object) -> bool:
    return type(result) is Streamed and type(result.items) is tuple


def _before(seat: _Seat, name: str) -> _Seat:
    if seat.stage == "after":
        raise PluginError(
            f"{name!r} reviews results, so a condition, which is about a call that has not run, cannot ask it; "
            "name it under `evaluators:`",
            plugin=name,
            distribution=seat.version,
        )
    return seat


def _seat(item: EvaluatorDocument, where: str, known: Mapping[str, _Offer]) -> _Seat:
    kind, version = _found(item.use, known)
    stage: Stage = "after" if getattr(kind, "stage", "before") == "after" else "before"
    method = "review" if stage == "after" else "evaluate"
    if not (
        isinstance(kind, type)
        and hasattr(kind, "Config")
        and hasattr(kind, method)
        and getattr(kind, "stage", stage) == stage
    ):
        raise PluginError(
            f"{item.use!r}, from {version or 'the host'}, is no evaluator: it needs `Config` and `evaluate`, or "
            '`Config`, `review` and `stage = "after"`',
            plugin=item.use,
            distribution=version,
        )
    try:
        config = kind.Config.model_validate(dict(item.with_))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join([where, "with", *map(str, first["loc"])])
        raise PolicyError(sentence(first, sorted(kind.Config.model_fields)), key=key) from None
    except Exception as error:
        raise _unusable(item.use, version, error) from error
    try:
        evaluator = kind(config)
    except Exception as error:
        raise _unusable(item.use, version, error) from error
    return _Seat(
        author=f"evaluator:{item.use}",
        version=version,
        evaluator=evaluator,
        stage=stage,
        is_async=inspect.iscoroutinefunction(getattr(evaluator, method)),
        timeout_s=item.timeout.total_seconds(),
    )


def _unusable(name: str, version: str | None, error: Exception) -> PluginError:
    return PluginError(
        f"{name!r}, from {version or 'the host'}, cannot be built from its configuration: "
        f"{type(error).__name__}: {error}",
        plugin=name,
        distribution=version,
    )


def _known(
    own: Mapping[str, type], offered: Mapping[str, tuple[type, str | None]]
) -> dict[str, _Offer]:
    """Return the host's evaluators and those of its plugins, which have different names."""
    if twice := offered.keys() & own.keys():
        name = min(twice)
        raise PluginError(
            f"the host's evaluator {name!r} has the name of one that a plugin offers; rename it, "
            "so that it is certain which judges",
            plugin=name,
            distribution=offered[name][1],
        )
    if taken := LOOKING_BACK.intersection(offered):
        name = min(taken)
        raise PluginError(
            f"a plugin's evaluator {name!r} has the name of a built-in one; rename it",
            plugin=name,
            distribution=offered[name][1],
        )
    return {
        **{name: _Offer(kind, None, "the host's") for name, kind in own.items()},
        **{name: _Offer(kind, version, "a plugin's") for name, (kind, version) in offered.items()},
    }


def _found(name: str, known: Mapping[str, _Offer]) -> tuple[Any, str | None]:
    installed = bool(entry_points(group=GROUP, name=name))
    if name in known:
        offer = known[name]
        if installed:
            raise PluginError(
                f"{offer.whose} evaluator {name!r} has the name of an installed one; rename it, "
                "so that it is certain which judges",
                plugin=name,
                distribution=offer.version,
            )
        return offer.kind, offer.version
    point = find_entry_point(GROUP, name)
    return load(point), version_of(point.dist)
