"""Unseen: stands for the trace of a call that nobody can see, since there is no provider and no span around it."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager, nullcontext

from interlock._call import Call
from interlock._replies import Admission
from interlock.events import Recorded, TraceIds

log = logging.getLogger("interlock")

_UNCHANGED = nullcontext()


class Unseen:
    """What stands for the trace of a call that nobody can see: it shows nothing, and costs next to nothing."""

    __slots__ = ("_call",)

    ids: TraceIds | None = None

    def __init__(self, call: Call) -> None:
        """Remember *call*, in case that its outcome is lost."""
        self._call = call

    def begin(self) -> None:
        """Start nothing."""

    def deciding(self) -> AbstractContextManager[None]:
        """Make nothing current."""
        return _UNCHANGED

    def decided(self, admission: Admission) -> None:
        """Show nothing."""

    def undecided(self, error: BaseException) -> None:
        """Show nothing."""

    def running(self, *, attach: bool) -> AbstractContextManager[None]:  # noqa: ARG002 - as CallTrace
        """Make nothing current."""
        return _UNCHANGED

    def settled(self, recorded: Recorded | None) -> None:
        """Show nothing."""

    def lost(self, error: BaseException) -> None:
        """Say in the log that the outcome could not be recorded; the call is in doubt."""
        say_lost(self._call, error)


def say_lost(call: Call, error: BaseException) -> None:
    """Say in the log that *call* is in doubt: it ran, and its outcome could not be recorded."""
    log.error(
        "%s ran, but its outcome could not be recorded (%s). Call %s of session %s is in doubt: "
        "`interlock verify` lists it.",
        call.tool.name,
        error,
        call.id,
        call.session_id,
    )
