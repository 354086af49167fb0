"""Panel: the evaluators that a policy names, built once and asked together."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache, partial
from importlib.metadata import entry_points
from queue import Empty, SimpleQueue
from types import MappingProxyType
from typing import Any

import anyio
import anyio.lowlevel
import msgspec
from msgspec.structs import replace
from pydantic import ValidationError

from interlock._call import Call
from interlock._plugins import fault, find_entry_point, load, valid, version_of
from interlock._verdict import Opinion, Verdict
from interlock.errors import PluginError, PolicyError
from interlock.evaluators.bench import Bench, Job, Raised
from interlock.evaluators.protocol import Evaluator
from interlock.policy import Policy
from interlock.policy.document import EvaluatorDocument

GROUP = "interlock.evaluators"
"""The entry-point group in which distributions offer evaluators; ours are there, too."""


class _Seat(msgspec.Struct, frozen=True):
    author: str
    version: str | None
    evaluator: Evaluator
    is_async: bool
    timeout_s: float

    def opinion(self, answer: object) -> Opinion | None:
        """Return what *answer* amounts to, in the name of who gave it."""
        found = valid(answer, self.author)
        if found is None:
            return None
        return replace(found, author=self.author, version=self.version)


class Panel:
    """The evaluators of one policy, and the bench on which they sit."""

    def __init__(self, policy: Policy, own: Mapping[str, type] = MappingProxyType({})) -> None:
        """
        Find and build every evaluator that *policy* names: among the host's *own*, then among those installed.

        Raises:
            PluginError: one is missing, offered twice, does not import or is no evaluator.
            PolicyError: its configuration is wrong.
        """
        self._policy = policy
        self._seats = tuple(
            _seat(item, number, own) for number, item in enumerate(policy.document.evaluators)
        )
        self._bench = Bench()
        # As bounded as the policy's own memory of names, and for its reason.
        self._seats_for = lru_cache(maxsize=4096)(self._find_seats)

    def is_needed(self, call: Call) -> bool:
        """Whether any evaluator judges calls like this."""
        return bool(self._seats_for(call.tool.name))

    async def opinions(self, call: Call) -> list[Opinion]:
        """
        Ask all that judge *call*, at the same time, each within its deadline; return what they think.

        The first DENY is enough, and a deadline that passes is one: the others are then cancelled, no longer heard,
        and not waited for.
        """
        inbox = _Inbox()
        questions = [
            _Question(seat, _job(seat, call, inbox)) for seat in self._seats_for(call.tool.name)
        ]
        began = anyio.current_time()
        try:
            for question in questions:
                self._bench.start(question.job)
            return await _heard(questions, inbox, began)
        finally:
            for question in questions:
                if not question.is_answered:
                    self._bench.abandon(question.job)

    def close(self) -> None:
        """Cancel whoever is still at work, and stop. Calling it again does nothing."""
        self._bench.close()

    def _find_seats(self, tool: str) -> tuple[_Seat, ...]:
        wanted = self._policy.evaluators_for(tool)
        pairs = zip(self._policy.document.evaluators, self._seats, strict=True)
        return tuple(seat for item, seat in pairs if any(item is one for one in wanted))


class _Inbox:
    """Where answers arrive from other threads, to be awaited in the event loop that made it: asyncio's or trio's."""

    def __init__(self) -> None:
        self._answers: SimpleQueue[tuple[Job, object]] = SimpleQueue()
        self._event = anyio.Event()
        loop = anyio.lowlevel.current_token().native_token
        self._soon: Any = getattr(loop, "call_soon_threadsafe", None) or loop.run_sync_soon  # type: ignore[attr-defined]

    def put(self, job: Job, answer: object) -> None:
        """Deliver *answer*, from any thread, and never wait."""
        self._answers.put((job, answer))
        with suppress(RuntimeError):  # the loop is closed, so nobody waits there any more
            self._soon(self._wake)

    def _wake(self) -> None:
        self._event.set()

    def taken(self) -> list[tuple[Job, object]]:
        """Return what has arrived."""
        found = []
        with suppress(Empty):
            while True:
                found.append(self._answers.get_nowait())
        return found

    async def wait(self, seconds: float) -> None:
        """Wait until something arrives, for so long at most."""
        with anyio.move_on_after(seconds):
            await self._event.wait()
        self._event = anyio.Event()


class _Question:
    def __init__(self, seat: _Seat, job: Job) -> None:
        self.seat = seat
        self.job = job
        self.is_answered = False

    def silence(self) -> Opinion:
        """Return what it means that the deadline has passed."""
        limit = f"{self.seat.timeout_s:g} s"
        if self.job.began:
            return fault(self.seat.author, f"gave no answer within {limit}")
        return fault(
            self.seat.author, f"could not be asked within {limit}: others hold every place"
        )


async def _heard(questions: list[_Question], inbox: _Inbox, began: float) -> list[Opinion]:
    heard: list[Opinion] = []
    waiting = {question.job: question for question in questions}
    while waiting:
        first = min(question.seat.timeout_s for question in waiting.values())
        await inbox.wait(began + first - anyio.current_time())
        for job, answer in inbox.taken():
            question = waiting.pop(job)
            question.is_answered = True
            opinion = _opinion(question.seat, answer)
            if opinion is not None:
                heard.append(opinion)
                if opinion.verdict is Verdict.DENY:
                    return heard
        passed = anyio.current_time() - began
        late = [q for q in waiting.values() if q.seat.timeout_s <= passed]
        if late:
            return heard + [question.silence() for question in late]
    return heard


def _job(seat: _Seat, call: Call, inbox: _Inbox) -> Job:
    ask = partial(seat.evaluator.evaluate, call)
    return Job(ask, seat.opinion, inbox.put, is_async=seat.is_async)


def _opinion(seat: _Seat, answer: object) -> Opinion | None:
    match answer:
        case None | Opinion():
            return answer
        case Raised(kind="CancelledError"):
            return fault(seat.author, "ended without an answer")
        case Raised(kind=kind):
            # It could not judge, so the call must not run.
            return fault(seat.author, f"raised {kind}")
        case _:
            raise TypeError(type(answer).__name__)


def _seat(item: EvaluatorDocument, number: int, own: Mapping[str, type]) -> _Seat:
    kind, version = _found(item.use, own)
    if not (isinstance(kind, type) and hasattr(kind, "Config") and hasattr(kind, "evaluate")):
        raise PluginError(
            f"{item.use!r}, from {version or 'the host'}, is no evaluator: it needs `Config` and `evaluate`",
            plugin=item.use,
            distribution=version,
        )
    try:
        config = kind.Config.model_validate(dict(item.with_))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(["evaluators", str(number), "with", *map(str, first["loc"])])
        raise PolicyError(str(first["msg"]).removeprefix("Value error, "), key=key) from None
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
        is_async=inspect.iscoroutinefunction(evaluator.evaluate),
        timeout_s=item.timeout.total_seconds(),
    )


def _unusable(name: str, version: str | None, error: Exception) -> PluginError:
    return PluginError(
        f"{name!r}, from {version or 'the host'}, cannot be built from its configuration: "
        f"{type(error).__name__}: {error}",
        plugin=name,
        distribution=version,
    )


def _found(name: str, own: Mapping[str, type]) -> tuple[Any, str | None]:
    installed = bool(entry_points(group=GROUP, name=name))
    if name in own and installed:
        raise PluginError(
            f"the host's evaluator {name!r} has the name of an installed one; rename it, "
            "so that it is certain which judges",
            plugin=name,
        )
    if name in own:
        return own[name], None
    point = find_entry_point(GROUP, name)
    return load(point), version_of(point.dist)
