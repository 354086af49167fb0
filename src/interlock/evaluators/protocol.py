"""The protocol of an evaluator."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol

from pydantic import BaseModel

from interlock._call import Call
from interlock._verdict import Opinion


class Evaluator(Protocol):
    """
    A judge of calls, built once from its configuration.

    The class takes one positional argument, an instance of its `Config`, which is parsed from `with:` in the
    policy. It may be asked from several threads at once.
    """

    @property
    def Config(self) -> type[BaseModel]:  # noqa: N802 - it is a class: nested, or named by an attribute
        """The pydantic model of what `with:` holds."""
        ...

    def evaluate(self, call: Call) -> Opinion | Awaitable[Opinion | None] | None:
        """
        Return an opinion on *call*, or None for no view; sync or async.

        It can make the decision stricter, never looser. Raising, answering anything else or taking longer than the
        policy's `timeout` is a DENY with the evaluator's name and the cause. A sync one runs in a worker thread.
        """
        ...
