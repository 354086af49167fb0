"""Scope: what a governed call finds around it, in the one context variable."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar, Token
from typing import Any, Protocol

import msgspec

from interlock._call import Call, Tool
from interlock._perform import Performer
from interlock._usage import Estimate, Usage
from interlock.errors import Misuse, NotConfigured


class Governs(Protocol):
    """What a governed call needs of its session."""

    def performer(
        self, tool: Tool, arguments: Mapping[str, object], estimate: Estimate | None = None
    ) -> tuple[Performer, dict[str, Any]]:
        """Return what performs the call's effects, and the arguments that the tool is to be given."""
        ...


class Scope(msgspec.Struct, frozen=True):
    """
    Where code runs.

    Attributes:
        session: The session that calls are made in.
        performer: Of the governed call that is running; None outside of one.
        judged: Tools of calls that an adapter has admitted, until the governed function of each is reached.
    """

    session: Governs
    performer: Performer | None = None
    judged: list[Tool] = msgspec.field(default_factory=list)


_scope: ContextVar[Scope | None] = ContextVar("interlock", default=None)


def enter(scope: Scope) -> Token[Scope | None]:
    """Make *scope* current in this thread or task, and in the tasks started from it; return what `leave` wants."""
    return _scope.set(scope)


def leave(token: Token[Scope | None], scope: Scope | None = None) -> None:
    """Make current again what was current before `enter` of *scope*."""
    # What was entered in one context may be left in another, as when a framework finishes a generator of its own in
    # another thread. That one never had the scope, so there is nothing to take back, unless it came there by `steps`.
    try:
        _scope.reset(token)
    except ValueError:
        if scope is not None and _scope.get() is scope:
            _scope.set(None if token.old_value is Token.MISSING else token.old_value)


class entered:  # noqa: N801 - used as a function is
    """Make *scope* current for a `with` block."""

    __slots__ = ("_scope", "_token")

    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    def __enter__(self) -> None:
        self._token = _scope.set(self._scope)

    def __exit__(self, *_: object) -> None:
        leave(self._token)


class steps:  # noqa: N801 - used as a function is
    """
    Make *scope* current for each step of a stream, in a `with` block each, and not between them.

    What the stream itself has entered in a step and not left, such as a session, is current again in the next.
    """

    __slots__ = ("_scope", "_token")

    def __init__(self, scope: Scope) -> None:
        self._scope: Scope | None = scope

    def __enter__(self) -> None:
        self._token = _scope.set(self._scope)

    def __exit__(self, *_: object) -> None:
        self._scope = _scope.get()
        leave(self._token)


def session_for(name: str) -> Governs:
    """
    Return the current session, for a call of the tool *name*.

    Raises:
        NotConfigured: there is none.
    """
    scope = _scope.get()
    if scope is None:
        raise NotConfigured(
            f"{name} is governed and was called outside any session, so it did not run. Open one around the call: "
            "`with governor.session(name, agent=…):`. A thread does not inherit it: enter "
            "`session.attach()` there, or start the thread with `contextvars.copy_context().run`."
        )
    return scope.session


def current_scope() -> Scope | None:
    """Return what is around; None outside any session."""
    return _scope.get()


def current_call() -> Call | None:
    """
    Return the governed call that is running here: its id, arguments and identity; None outside of one.

    Its `leases` are the fencing tokens of those that were taken for it; its `leases_lost` are those that it no longer
    holds, so a tool that takes long asks again now and then.
    """
    scope = _scope.get()
    return None if scope is None or scope.performer is None else scope.performer.shown()


def report_usage(usage: Usage) -> None:
    """
    Say what the governed call that is running here has really used, so that its budgets are charged the truth.

    What is reported last counts; it is booked when the call ends, however it ends.

    Raises:
        Misuse: no governed call is running here.
    """
    scope = _scope.get()
    if scope is None or scope.performer is None:
        raise Misuse(
            "no governed call is running here, so there is nothing to report usage of; "
            "outside of one there is governor.record_usage(…)"
        )
    scope.performer.report(usage)


def was_judged(tool: Tool) -> bool:
    """Whether the call of *tool* about to be made is the one that an adapter has just admitted: true once."""
    scope = _scope.get()
    if scope is None or tool not in scope.judged:
        return False
    scope.judged.remove(tool)
    return True
