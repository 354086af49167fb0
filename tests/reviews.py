"""Reviews for the tests: what reviewers answer, and what the history says of a call that was reviewed."""

from __future__ import annotations

import inspect
from typing import Any

from interlock import Call, events

SECRET = "4111-planted"
"""What must not get out where a reviewer took it out."""


def as_review(evaluate: Any) -> Any:
    """Make a function that reviews as *evaluate* judges."""
    if inspect.iscoroutinefunction(evaluate):

        async def areview(self: Any, call: Call, result: object) -> Any:
            return await evaluate(self, call)

        return areview
    return lambda self, call, result: evaluate(self, call)


def answering(answer: Any) -> Any:
    """Make a review that answers that."""
    return lambda self, call, result: answer


def finished(found: list[Any]) -> events.CallFinished:
    """The one end of a call in the history at the end of what a `Caller` returns."""
    [end] = [event for event in found[-1] if isinstance(event, events.CallFinished)]
    return end
