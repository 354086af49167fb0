"""What recovery finds of processes that are gone, what it makes of it, and what it asks a tool."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, TypeAlias

import msgspec

from interlock._call import Recovery


class Interrupted(msgspec.Struct, frozen=True, kw_only=True):
    """
    A call whose process is gone, as it was recorded, for the tool that is asked whether it happened.

    Attributes:
        call_id: The call's id, which `current_call()` gave the tool while it ran.
        session_id: The session that it was made in.
        tool: The tool's name.
        arguments: By name, as they were; what cannot be told from the record, such as a secret, is its canonical JSON.
        resource: What it acts on; None where the tool declares none.
        cost_usd: What it was declared to cost; None where it was not.
        admitted_at: When it was let through; aware UTC.
    """

    call_id: str
    session_id: str
    tool: str
    arguments: Mapping[str, Any]
    resource: str | None
    cost_usd: Decimal | None
    admitted_at: datetime


Probe: TypeAlias = Callable[[Interrupted], bool | None]
"""Says whether a call happened; None: it cannot tell."""


class InDoubt(msgspec.Struct, frozen=True, kw_only=True):
    """
    A call that was let through, of which no outcome is recorded.

    Attributes:
        call_id, session_id, tool: Which.
        admitted_at: When it was let through; aware UTC.
        rule: What its tool declares for it.
        doubted_at: Since when recovery knows that its process is gone; None: not yet.
    """

    call_id: str
    session_id: str
    tool: str
    admitted_at: datetime
    rule: Recovery
    doubted_at: datetime | None = None


class Recovered(msgspec.Struct, frozen=True, kw_only=True):
    """
    What one run of recovery has done; in a dry run, what it would do.

    Attributes:
        lost: The ids of owners declared lost: processes that have not been heard of for their term.
        doubted: Calls that a human has to look at, from now on in doubt.
        retried: Calls that may be made again.
        happened, not_happened: Calls whose tool has said so.
        paused: The ids of sessions that those processes had open, and that can be resumed.
        stuck_calls: Calls of living processes that run for longer than the policy finds good.
        stuck_sessions: The ids of sessions of living processes, likewise.
        halted: The ids of the sessions that were halted for one of these.
        unreadable: The ids of calls whose rows are damaged, which were left as they are: `interlock verify` says how.
        joined: How many rows of counters were put into others.
        dry_run: Whether nothing was done.
    """

    lost: tuple[str, ...] = ()
    doubted: tuple[InDoubt, ...] = ()
    retried: tuple[InDoubt, ...] = ()
    happened: tuple[InDoubt, ...] = ()
    not_happened: tuple[InDoubt, ...] = ()
    paused: tuple[str, ...] = ()
    stuck_calls: tuple[InDoubt, ...] = ()
    stuck_sessions: tuple[str, ...] = ()
    halted: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()
    joined: int = 0
    dry_run: bool = False

    @property
    def changed(self) -> bool:
        """Whether anything but counters was changed, or would be."""
        found = (self.lost, self.doubted, self.retried, self.happened, self.not_happened)
        return any((*found, self.paused, self.stuck_calls, self.stuck_sessions, self.halted))


class Escalation(msgspec.Struct, frozen=True, kw_only=True):
    """
    When a policy finds that something is stuck in a process that lives, and whether its session is then halted.

    Attributes:
        call_stuck_after: For how long a call may run; None: for ever.
        session_stuck_after: For how long a session may be open at a time; None: for ever.
        halts: Whether the session is halted.
        by: In whose name.
    """

    call_stuck_after: timedelta | None = None
    session_stuck_after: timedelta | None = None
    halts: bool = False
    by: str = "interlock"
