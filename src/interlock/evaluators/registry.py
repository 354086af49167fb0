"""Panel: the evaluators that a policy names, built once and asked together."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Mapping
from importlib.metadata import entry_points
from types import MappingProxyType
from typing import Any

import anyio
import anyio.to_thread
import msgspec
from msgspec.structs import replace
from pydantic import ValidationError

from interlock._call import Call
from interlock._plugins import fault, find_entry_point, load, valid, version_of
from interlock._verdict import Opinion, Verdict
from interlock.errors import PluginError, PolicyError
from interlock.evaluators.protocol import Evaluator
from interlock.policy import Policy
from interlock.policy.document import EvaluatorDocument

GROUP = "interlock.evaluators"
"""The entry-point group in which distributions offer evaluators; ours are there, too."""


class _Seat(msgspec.Struct, frozen=True):
    author: str
    version: str | None
    evaluator: Evaluator
    timeout_s: float


class _Raised(msgspec.Struct, frozen=True):
    kind: str


class Panel:
    """The evaluators of one policy."""

    def __init__(self, policy: Policy, own: Mapping[str, type] = MappingProxyType({})) -> None:
        """
        Find and build every evaluator that *policy* names: among the host's *own*, then among those installed.

        Raises:
            PluginError: one is missing, offered twice, does not import or is no evaluator.
            PolicyError: its configuration is wrong.
        """
        self._policy = policy
        self._seats = {
            id(item): _seat(item, n, own) for n, item in enumerate(policy.document.evaluators)
        }

    def is_needed(self, call: Call) -> bool:
        """Whether any evaluator judges calls like this."""
        return bool(self._policy.evaluators_for(call.tool.name))

    async def opinions(self, call: Call) -> list[Opinion]:
        """
        Ask all that judge *call*, at the same time, each within its deadline; return what they think.

        The first DENY is enough: the others are then cancelled and no longer heard.
        """
        seats = [self._seats[id(item)] for item in self._policy.evaluators_for(call.tool.name)]
        answers: dict[int, Opinion | None] = {}

        async def hear(number: int, seat: _Seat) -> None:
            opinion = await _ask(seat, call)
            if opinion is not None:
                opinion = replace(opinion, author=seat.author, version=seat.version)
            answers[number] = opinion
            if opinion is not None and opinion.verdict is Verdict.DENY:
                group.cancel_scope.cancel()

        async with anyio.create_task_group() as group:
            for number, seat in enumerate(seats):
                group.start_soon(hear, number, seat)
        heard = [opinion for opinion in answers.values() if opinion is not None]
        if not any(opinion.verdict is Verdict.DENY for opinion in heard):
            # Only a DENY cancels, so whoever has not answered left without a word, and silence is no consent.
            silent = [seat for number, seat in enumerate(seats) if number not in answers]
            heard += [fault(seat.author, "ended without an answer") for seat in silent]
        return heard


async def _ask(seat: _Seat, call: Call) -> Opinion | None:
    try:
        with anyio.fail_after(seat.timeout_s):
            answer: object = await _evaluate(seat.evaluator, call)
    except TimeoutError:
        return fault(seat.author, f"gave no answer within {seat.timeout_s:g} s")
    except anyio.get_cancelled_exc_class():
        raise
    except BaseException as error:
        if (
            isinstance(error, KeyboardInterrupt)
            and threading.current_thread() is threading.main_thread()
        ):
            raise  # somebody's Ctrl-C; in any other thread it is the evaluator's own
        # It could not judge, so the call must not run.
        return fault(seat.author, f"raised {type(error).__name__}")
    if isinstance(answer, _Raised):
        return fault(seat.author, f"raised {answer.kind}")
    return valid(answer, seat.author)


async def _evaluate(evaluator: Evaluator, call: Call) -> object:
    if inspect.iscoroutinefunction(evaluator.evaluate):
        return await evaluator.evaluate(call)
    answer = await anyio.to_thread.run_sync(_answer, evaluator, call, abandon_on_cancel=True)
    return await answer if inspect.isawaitable(answer) else answer


def _answer(evaluator: Evaluator, call: Call) -> object:
    try:
        return evaluator.evaluate(call)
    except BaseException as error:  # noqa: BLE001 - raised in a coroutine, GeneratorExit and others would mean more
        return _Raised(type(error).__name__)


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
    return _Seat(f"evaluator:{item.use}", version, evaluator, item.timeout.total_seconds())


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
