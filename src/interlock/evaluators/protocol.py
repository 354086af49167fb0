"""The protocols of evaluators: those that judge a call before it runs, and those that review its result after."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Literal, Protocol, TypeAlias

import msgspec
from pydantic import BaseModel

from interlock._call import Call
from interlock._verdict import Opinion

Stage: TypeAlias = Literal["before", "after"]
"""When an evaluator is asked: about a call before it runs, or about its result afterwards."""


class Evaluator(Protocol):
    """
    A judge of calls, built once from its configuration.

    The class takes one positional argument, an instance of its `Config`, which is parsed from `with:` in the
    policy. It may be asked from several threads at once. A class that says `stage = "after"` is a `Reviewer` instead.
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


class Redacted(msgspec.Struct, frozen=True, kw_only=True):
    """
    A reviewer's answer that puts another result in the place of the one it was shown.

    Attributes:
        result: What the caller is given instead; for a stream, a `Streamed`. It is recorded nowhere.
        reason: A sentence for the record, such as `2 card numbers`. It must not hold what was taken out.
    """

    result: object
    reason: str


class Streamed(msgspec.Struct, frozen=True, kw_only=True):
    """
    What a reviewer is shown of a stream, which is held back until its end.

    Attributes:
        items: All its items, in order.
        returned: What the generator returned after them; None where it returned nothing, as async ones do.
    """

    items: tuple[object, ...]
    returned: object = None


class Reviewer(Protocol):
    """
    An evaluator of the stage `after`: it is shown what a call has returned, before the caller is.

    It is built as an `Evaluator` is. It may withhold or redact a result; it cannot undo what the tool has done.
    """

    @property
    def Config(self) -> type[BaseModel]:  # noqa: N802 - as Evaluator's
        """The pydantic model of what `with:` holds."""
        ...

    @property
    def stage(self) -> Literal["after"]:
        """Says that results are reviewed, not calls."""
        ...

    def review(
        self, call: Call, result: object
    ) -> Opinion | Redacted | Awaitable[Opinion | Redacted | None] | None:
        """
        Return what to do with *result*, which *call* has returned; None or ALLOW for nothing. Sync or async.

        DENY and STEER withhold it. So does ASK: the call has run, and nobody is left to be asked. `Redacted` gives the
        caller another one, and whoever is asked next sees that. Raising, answering anything else or taking longer
        than the policy's `timeout` withholds it, too. *result* is the very object that the tool returned, or what
        the reviewer before has left of it: do not change it. A sync reviewer runs in a worker thread.
        """
        ...
