"""Scope: what a governed call finds around it, in the one context variable."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar, Token
from typing import Any, Protocol

import msgspec

from interlock._call import Call, Tool
from interlock._drive import Performer
from interlock.errors import NotConfigured


class Governs(Protocol):
    """What a governed call needs of its session."""

    def performer(
        self, tool: Tool, arguments: Mapping[str, object]
    ) -> tuple[Performer, dict[str, Any]]:
        """Return what performs the call's effects, and the arguments that the tool is to be given."""
        ...


class Scope(msgspec.Struct, frozen=True):
    """
    Where code runs.

    Attributes:
        session: The session that calls are made in.
        call: The governed call that is running; None outside of one.
        judged: Tools of calls that an adapter has admitted, until the governed function of each is reached.
    """

    session: Governs
    call: Call | None = None
    judged: list[Tool] = msgspec.field(default_factory=list)


_scope: ContextVar[Scope | None] = ContextVar("interlock", default=None)


def enter(scope: Scope) -> Token[Scope | None]:
    """Make *scope* current in this thread or task, and in the tasks started from it; return what `leave` wants."""
    return _scope.set(scope)


def leave(token: Token[Scope | None]) -> None:
    """Make current again what was current before `enter`."""
    # What was entered in one context may be left in another, as when a framework finishes a generator of its own in
    # another thread. That one never had the scope, so there is nothing to take back.
    with suppress(ValueError):
        _scope.reset(token)


@contextmanager
def entered(scope: Scope) -> Iterator[None]:
    """Make *scope* current for a `with` block."""
    token = enter(scope)
    try:
        yield
    finally:
        leave(token)


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


def current_call() -> Call | None:
    """Return the governed call that is running here: its id, arguments and identity; None outside of one."""
    scope = _scope.get()
    return None if scope is None else scope.call


def was_judged(tool: Tool) -> bool:
    """Whether the call of *tool* about to be made is the one that an adapter has just admitted: true once."""
    scope = _scope.get()
    if scope is None or tool not in scope.judged:
        return False
    scope.judged.remove(tool)
    return True
