"""
Ongoing: one governed call while Claude Code makes it, from its judging to its outcome.

Claude Code asks before it runs a tool, and says afterwards how that went, in two callbacks that know nothing of each
other. Between them the call is a task of its own, in which `Session.acall` waits for the outcome: so it is judged,
held, halted, reviewed and settled as any other call.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from contextvars import Context, ContextVar, copy_context
from typing import Any, TypeVar

from interlock import HaltedError, Session, Tool, Usage, current_call, report_usage
from interlock_claude_agent_sdk.refusals import ToolFailed

_T = TypeVar("_T")

_current: ContextVar[Ongoing | None] = ContextVar("interlock_claude_agent_sdk", default=None)


class NotRun(Exception):
    """The call was judged and is not made, which is no refusal: a dry run, or it was made before."""


class Ongoing:
    """
    One call.

    Attributes:
        tool: What is called.
        arguments: With what it was judged, and may run: what a human has changed is in them.
        told: What the model is to be told beside the result; None: nothing.
    """

    def __init__(
        self,
        session: Session,
        tool: Tool,
        arguments: Mapping[str, Any],
        *,
        estimate: Usage | None = None,
        on_halt: Callable[[HaltedError], None] | None = None,
    ) -> None:
        """Describe the call; nothing is judged yet."""
        self.tool = tool
        self.arguments: dict[str, Any] = dict(arguments)
        self.told: str | None = None
        self._session = session
        self._estimate = estimate
        self._on_halt = on_halt
        self._context: Context | None = None
        self._task: asyncio.Task[Any] | None = None
        self._inside: asyncio.Task[Any] | None = None
        self._usage: Usage | None = None
        self._failure: Exception | None = None

    async def begin(self) -> dict[str, Any]:
        """
        Have the call judged, and return the arguments that it may run with.

        Raises:
            InterlockError: it may not run.
            NotRun: this is a dry run, or the very call was made before and must not be made again.
        """
        loop = asyncio.get_running_loop()
        self._admitted: asyncio.Future[None] = loop.create_future()
        self._ended: asyncio.Future[Any] = loop.create_future()
        self._task = loop.create_task(self._make(), name=f"interlock {self.tool.name}")
        self._task.add_done_callback(self._done)
        try:
            await asyncio.wait({self._task, self._admitted}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:  # Claude Code no longer wants to know
            await self.cancel()
            raise
        if not self._admitted.done():
            given = self._task.result()  # raises what refused it
            if self._session.mode == "dry_run":
                raise NotRun(f"This is a dry run: {self.tool.name} was not run.")
            raise NotRun(
                f"{self.tool.name} was not run again: this call was made before, and then it gave: {_text(given)}"
            )
        return self.arguments

    async def returned(self, result: _T, usage: Usage | None = None) -> _T:
        """
        Say that the tool has given *result*; return what its review leaves of it.

        Raises:
            InterlockError: the result is withheld; the sentence says why.
        """
        self._usage = usage
        if not self._ended.done():
            self._ended.set_result(result)
        left: _T = await self._outcome()
        return left

    async def raised(self, error: str, usage: Usage | None = None) -> None:
        """
        Say that the tool has failed, and how.

        Raises:
            InterlockError: a halt has ended the call.
        """
        self._usage = usage
        failure = self._failure or ToolFailed(error)
        if not self._ended.done():
            self._ended.set_exception(failure)
        try:
            await self._outcome()
        except BaseException as found:
            if found is not failure:
                raise

    async def cancel(self, usage: Usage | None = None) -> None:
        """Say that the call was broken off; nothing is raised for it."""
        self._usage = usage
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def carry(self, make: Callable[[], Awaitable[_T]]) -> _T:
        """Await *make* where the call is the current one, so that a governed function in it is judged once."""
        loop = asyncio.get_running_loop()
        if self._context is not None:
            self._context.run(_current.set, self)
        inside = loop.create_task(_awaited(make), context=self._context)
        self._inside = inside
        return await inside

    def note(self, failure: Exception) -> None:
        """Remember what the tool has raised: Claude Code will say that it has failed, and with which text."""
        if not isinstance(failure, StopIteration):  # which no task can be ended by
            self._failure = failure

    @property
    def is_over(self) -> bool:
        """Whether it has an outcome, or was refused."""
        return self._task is None or self._task.done()

    async def _make(self) -> Any:
        return await self._session.acall(
            self.tool, self.arguments, self._run, estimate=self._estimate
        )

    async def _run(self, judged: dict[str, Any]) -> Any:
        call = current_call()
        self.arguments, self.told = judged, None if call is None else call.note
        self._context = copy_context()
        self._admitted.set_result(None)
        try:
            return await self._ended
        finally:
            if self._usage is not None:
                report_usage(self._usage)

    async def _outcome(self) -> Any:
        if self._task is None:
            raise RuntimeError("the call was not begun")
        return await asyncio.shield(self._task)

    def _done(self, task: asyncio.Task[Any]) -> None:
        error = None if task.cancelled() else task.exception()
        if self._inside is not None and not self._inside.done():
            self._inside.cancel()
        was_made = self._admitted.done()
        if was_made and isinstance(error, HaltedError) and self._on_halt is not None:
            self._on_halt(error)


def current() -> Ongoing | None:
    """Return the call that a tool of this process is running in."""
    return _current.get()


def _text(given: Any) -> str:
    """Return what a model reads of what an earlier call gave."""
    if isinstance(given, list) and all(isinstance(one, dict) and "text" in one for one in given):
        return " ".join(str(one["text"]) for one in given)
    return given if isinstance(given, str) else json.dumps(given, default=str)


async def _awaited(make: Callable[[], Awaitable[_T]]) -> _T:
    return await make()
