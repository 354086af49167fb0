"""
Results: settled when Claude Code tells them, and given to the model as their review leaves them.

Claude Code takes another result or silently keeps its own, so what the model is about to be given is looked at once
more, when all tools of a turn have ended: what is withheld ends the run rather than reach the model.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import msgspec
from claude_agent_sdk import HookMatcher

from interlock import HaltedError, InterlockError
from interlock_claude_agent_sdk import outputs
from interlock_claude_agent_sdk.ongoing import Ongoing
from interlock_claude_agent_sdk.refusals import Ungoverned

Output: TypeAlias = dict[str, Any]
Hook: TypeAlias = Callable[[Any, str | None, Any], Awaitable[Any]]

log = logging.getLogger("interlock")


def said(event: str, **output: Any) -> Output:
    """Return what a hook of *event* says."""
    return {"hookSpecificOutput": {"hookEventName": event, **output}}


class _Review(msgspec.Struct):
    """What a review has left of a result, and the lines that it has taken away."""

    left: Any
    gone: set[str]


class Results:
    """The results of one run."""

    def __init__(
        self, calls: dict[str, Ongoing], stopping: Callable[[InterlockError], Output]
    ) -> None:
        """
        Begin with none.

        Args:
            calls: Those that are under way, by tool use; each is taken out when it is settled.
            stopping: Stops the run, and returns how a hook says so.
        """
        self._calls = calls
        self._stopping = stopping
        self._reviews: dict[str, _Review] = {}
        self._reviewed: dict[str, asyncio.Event] = {}

    async def returned(self, given: Any, _: str | None, __: Any) -> Output:
        """Settle a call that has run, and give the model what its review leaves."""
        use = given["tool_use_id"]
        try:
            return await self._settle(use, given["tool_name"], given.get("tool_response"))
        except Exception as error:
            log.exception("the result of %s could not be settled", given.get("tool_name"))
            return self._stopping(
                Ungoverned(f"a result could not be settled: {type(error).__name__}")
            )
        finally:
            self._event(use).set()

    async def _settle(self, use: str, name: str, response: Any) -> Output:
        call = self._calls.pop(use, None)
        if call is None:
            log.error("%s ran without having been judged", name)
            return self._stopping(Ungoverned(f"{name} ran without having been judged"))
        try:
            left = await call.returned(response)
        except InterlockError as error:
            self._keep(use, response, outputs.withheld(response, str(error)), str(error))
            if isinstance(error, HaltedError):
                return self._stopping(error)
            return self._instead(use, str(error))
        told = call.told
        if told is not None and outputs.is_content(left):
            left, told = [*left, {"type": "text", "text": told}], None
        if left is response or left == response:
            return {} if told is None else said("PostToolUse", additionalContext=told)
        if not outputs.same_shape(response, left):
            told = f"{call.tool.name} ran, and its review left no result that it can have. Do not run it again."
            left = outputs.withheld(response, told)
        self._keep(use, response, left, told or "")
        return self._instead(use, told)

    def _keep(self, use: str, response: Any, left: Any, told: str) -> None:
        gone = outputs.lines(response) - outputs.lines(left) - outputs.lines(told)
        self._reviews[use] = _Review(left=left, gone=gone)

    def _instead(self, use: str, told: str | None) -> Output:
        more = {} if told is None else {"additionalContext": told}
        return said("PostToolUse", updatedToolOutput=self._reviews[use].left, **more)

    async def batch(self, given: Any, _: str | None, __: Any) -> Output:
        """See that the model is given no more of the results than their reviews have left."""
        for one in given.get("tool_calls", ()):
            use, response = one.get("tool_use_id"), one.get("tool_response")
            if use in self._calls:  # no hook has told how it ended
                settled = await self._settle(use, str(one.get("tool_name")), response)
                if settled:
                    return self._stopping(
                        Ungoverned(
                            f"the result of {one.get('tool_name')} could not be reviewed in time"
                        )
                    )
            review = self._reviews.pop(use, None)
            self._reviewed.pop(use, None)
            if review is not None and outputs.leaks(
                response, review.gone, outputs.lines(review.left)
            ):
                return self._stopping(
                    Ungoverned(
                        f"{one.get('tool_name')} takes no other result, so the run was stopped before the model "
                        "was given what is withheld"
                    )
                )
        return {}

    def _event(self, use: str) -> asyncio.Event:
        return self._reviewed.setdefault(use, asyncio.Event())

    def after_review(self, matcher: HookMatcher) -> HookMatcher:
        """Return the host's own hooks of results, made to see only what the review has left."""

        def wrapped(own: Any) -> Hook:
            async def after(given: Any, use: str | None, context: Any) -> Any:
                await self._event(given["tool_use_id"]).wait()
                review = self._reviews.get(given["tool_use_id"])
                if review is None:
                    return await own(given, use, context)
                said = await own({**given, "tool_response": review.left}, use, context)
                specific = dict((said or {}).get("hookSpecificOutput") or {})
                for key in ("updatedToolOutput", "updatedMCPToolOutput"):
                    specific.pop(key, None)
                return {**(said or {}), "hookSpecificOutput": specific} if specific else said

            return after

        return HookMatcher(
            matcher=matcher.matcher,
            hooks=[wrapped(own) for own in matcher.hooks],
            timeout=matcher.timeout,
            on_failure=matcher.on_failure,
        )
