"""The stand: an evaluator under a real governor with its books in memory, and a note of all that it answers."""

from __future__ import annotations

import asyncio
import copy
import inspect
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Literal, Self, cast

import msgspec
from pydantic import BaseModel

from interlock._call import Tool
from interlock._governed import governed, tool_of
from interlock._governor import Governor
from interlock._verdict import Opinion
from interlock.events import CallDecided, CallFinished
from interlock.testing.recorder import Recorder

NAME = "under-test"
"""What policies call the evaluator here."""

AUTHOR = f"evaluator:{NAME}"

Way = Literal["sync", "async"]


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """
    What came of one call.

    Attributes:
        ran: Whether the tool has run.
        given: What the caller was given.
        error: What it was given instead: an exception.
        opinions: Those of the evaluator, as they were recorded.
        answers: What it returned.
        raised: What it raised.
    """

    ran: bool
    given: object
    error: Exception | None
    opinions: tuple[Opinion, ...]
    answers: tuple[object, ...]
    raised: tuple[BaseException, ...]

    @property
    def is_silent(self) -> bool:
        """Whether it neither returned nor raised anything of its own."""
        return not self.answers and not any(isinstance(one, Exception) for one in self.raised)

    @property
    def fault(self) -> str | None:
        """What the evaluator did instead of answering; None if it answered, or was not asked."""
        if not any(opinion.fault for opinion in self.opinions):
            return None
        for error in self.raised:
            if not isinstance(error, asyncio.CancelledError):
                return f"it raised {type(error).__name__}: {error}"
        if self.answers:
            return f"it answered with a {type(self.answers[-1]).__name__}"
        return "it gave no answer before its deadline"

    @property
    def said(self) -> list[tuple[str, ...]]:
        """The opinions, as far as they have to be the same each time."""
        return [
            (str(one.verdict), one.reason, str(one.guidance), *one.suggestions, *one.approvers)
            for one in self.opinions
        ]


class _Notes:
    def __init__(self) -> None:
        self.answers: list[object] = []
        self.raised: list[BaseException] = []


class Stand:
    """A governor whose policy has one evaluator judge all calls; a context manager, which closes it."""

    def __init__(
        self, kind: type, config: Mapping[str, Any], *, timeout: str, default: str = "allow"
    ) -> None:
        """
        Build it.

        Raises:
            PolicyError, PluginError: as `Governor` does.
        """
        self.config: BaseModel | None = None
        self._notes = _Notes()
        self._recorder = Recorder()
        document = {"use": NAME, "with": dict(config), "timeout": timeout}
        self._governor = Governor(
            "sqlite://",
            policy={"version": 1, "name": "stand", "default": default, "evaluators": [document]},
            evaluators={NAME: _noting(kind, self) if _can_be_built(kind) else kind},
            plugins=[self._recorder],
        )

    def __enter__(self) -> Self:
        """Return it."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the governor."""
        self._governor.close()

    def call(
        self,
        arguments: Mapping[str, Any],
        tool: Mapping[str, Any],
        returned: object = "done",
        way: Way = "sync",
    ) -> Outcome:
        """Call a tool that returns *returned*, in a session of its own."""
        self._notes = notes = _Notes()
        ran: list[bool] = []
        options = {"name": "tool", **tool}
        given, error, session_id = None, None, ""

        def plain(**_: Any) -> object:
            ran.append(True)
            return returned

        async def coroutine(**_: Any) -> object:
            ran.append(True)
            return returned

        async def acall() -> object:
            nonlocal session_id
            async with self._governor.session("stand", agent="suite") as session:
                session_id = session.id
                return await governed(**options)(_taking(coroutine, arguments))(**arguments)

        try:
            if way == "async":
                given = asyncio.run(acall())
            else:
                with self._governor.session("stand", agent="suite") as session:
                    session_id = session.id
                    given = governed(**options)(_taking(plain, arguments))(**arguments)
        except Exception as raised:  # noqa: BLE001 - what it raised is what is asked for
            error = raised
        return Outcome(
            ran=bool(ran),
            given=given,
            error=error,
            opinions=self._opinions(session_id),
            answers=tuple(notes.answers),
            raised=tuple(notes.raised),
        )

    def settings(self) -> dict[str, Any]:
        """Return the values of the evaluator's configuration, copied."""
        return {} if self.config is None else copy.deepcopy(self.config.model_dump())

    def note(self, answer: object) -> None:
        """Keep what the evaluator returned."""
        self._notes.answers.append(answer)

    def note_error(self, error: BaseException) -> None:
        """Keep what the evaluator raised."""
        self._notes.raised.append(error)

    def _opinions(self, session_id: str) -> tuple[Opinion, ...]:
        found: list[Opinion] = []
        for recorded in list(self._recorder.recorded):
            if recorded.session_id != session_id:
                continue
            match recorded.event:
                case CallDecided(opinions=opinions) | CallFinished(reviews=opinions):
                    found += [opinion for opinion in opinions if opinion.author == AUTHOR]
                case _:
                    pass
        return tuple(found)


def tool_with(options: Mapping[str, Any], arguments: Mapping[str, Any]) -> Tool:
    """Return what is declared of a tool that has those options and takes those arguments."""

    def plain(**_: Any) -> None:
        """Do nothing."""

    found = tool_of(governed(**{"name": "tool", **options})(_taking(plain, arguments)))
    return cast(Tool, found)  # it is governed in the line above


def method_of(kind: type) -> str:
    """Return the name of the method by which an evaluator is asked."""
    return "review" if getattr(kind, "stage", "before") == "after" else "evaluate"


def _taking(function: Any, arguments: Mapping[str, Any]) -> Any:
    """Let *function*, which takes anything, have the signature that takes just these *arguments*."""
    function.__signature__ = inspect.Signature(
        [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in arguments]
    )
    return function


def _can_be_built(kind: object) -> bool:
    return (
        isinstance(kind, type)
        and hasattr(kind, "Config")
        and hasattr(kind, method_of(kind))
        and getattr(kind, "stage", "before") in {"before", "after"}
    )


def _noting(kind: Any, stand: Stand) -> type:
    """Make an evaluator that asks one of *kind*, and has *stand* note what it says."""

    class Noting:
        Config = kind.Config
        stage = getattr(kind, "stage", "before")

        def __init__(self, config: BaseModel) -> None:
            stand.config = config
            self._evaluator = kind(config)

    method = method_of(kind)

    async def noted(awaited: Any) -> object:
        try:
            answer: object = await awaited
        except BaseException as error:
            stand.note_error(error)
            raise
        stand.note(answer)
        return answer

    def ask(self: Any, *asked: object) -> object:
        try:
            answer: object = getattr(self._evaluator, method)(*asked)
        except BaseException as error:
            stand.note_error(error)
            raise
        if inspect.isawaitable(answer):
            return noted(answer)
        stand.note(answer)
        return answer

    async def aask(self: Any, *asked: object) -> object:
        return await noted(getattr(self._evaluator, method)(*asked))

    is_async = inspect.iscoroutinefunction(getattr(kind, method))
    setattr(Noting, method, aask if is_async else ask)
    return Noting


def direct(kind: Any, config: Mapping[str, Any]) -> Any:
    """Return the method by which a new evaluator is asked, without a governor around it."""
    return getattr(kind(kind.Config.model_validate(dict(config))), method_of(kind))
