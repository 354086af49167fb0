"""Halts: the kill switch. What a halt stops, and the answer that says what halting did."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import TypedDict, Unpack

import msgspec

from interlock._call import Call, is_text
from interlock.errors import Misuse
from interlock.events import Recorded


class HaltScope(StrEnum):
    """What a halt stops: everything, or all calls of one organisation, team, user, session, agent or tool."""

    SYSTEM = "system"
    ORG = "org"
    TEAM = "team"
    USER = "user"
    SESSION = "session"
    AGENT = "agent"
    TOOL = "tool"


class Named(TypedDict, total=False):
    """
    What is to be halted, named by exactly one of these.

    `system` is everything; the others are all calls of that organisation, team, user, session (by its id), agent or
    tool.
    """

    system: bool
    org: str | None
    team: str | None
    user: str | None
    session: str | None
    agent: str | None
    tool: str | None


class HaltTarget(msgspec.Struct, frozen=True):
    """
    What is halted.

    Attributes:
        scope: Of what kind it is.
        name: Which one; empty for the system.
    """

    scope: HaltScope
    name: str = ""

    @classmethod
    def of(cls, **named: Unpack[Named]) -> HaltTarget:
        """
        Return the one target that is named.

        Raises:
            Misuse: none is named, or more than one, or a name is no text that can be stored.
        """
        unknown = sorted(named.keys() - {scope.value for scope in HaltScope})
        names = {scope: named.get(scope.value) for scope in HaltScope}
        is_system = names.pop(HaltScope.SYSTEM)
        said = [cls(scope, name) for scope, name in names.items() if name is not None]  # type: ignore[arg-type]
        said += [cls(HaltScope.SYSTEM)] if is_system else []
        if len(said) != 1 or unknown:
            raise Misuse(
                "say what is halted by exactly one of system=True, org=, team=, user=, session=, agent=, tool="
                + (f"; there is no {' and no '.join(unknown)}=" if unknown else "")
            )
        if said[0].scope is not HaltScope.SYSTEM and not (said[0].name and is_text(said[0].name)):
            raise Misuse(
                f"the name of the {said[0].scope} to be halted must be text that can be stored"
            )
        return said[0]

    @property
    def key(self) -> str:
        """The target as one text, by which its halts are found."""
        return f"{self.scope.value}:{self.name}"

    def __str__(self) -> str:
        return f"{self.scope.value} {self.name}".strip()


class Halt(msgspec.Struct, frozen=True, kw_only=True):
    """
    One halt: until it is released, no call that its target covers is admitted.

    Attributes:
        id: UUIDv7.
        target: What it stops.
        reason, by, engaged_at: Why, by whom and when it was engaged; aware UTC.
        released_at, released_by, release_reason: Likewise for its release; None while it stands.
    """

    id: str
    target: HaltTarget
    reason: str
    by: str
    engaged_at: datetime
    released_at: datetime | None = None
    released_by: str | None = None
    release_reason: str | None = None

    @property
    def stands(self) -> bool:
        """Whether it stops anything."""
        return self.released_at is None

    def covers(self, call: Call) -> bool:
        """Whether it stops *call*."""
        return self.stands and self.target.key in targets_of(call)


class Halted(msgspec.Struct, frozen=True, kw_only=True):
    """
    What halting did.

    Attributes:
        halt: The halt that stands.
        durable: Whether it is written down and binds every process. Else the store did not answer, and the halt binds
            this process alone.
        engaged: Whether it was engaged by this very request; else it stood already.
        running: How many calls that it covers were admitted before it and have not finished, in all processes; None
            where the store could not be asked.
        recorded: The event in the session, where it is a session that was halted.
    """

    halt: Halt
    durable: bool
    engaged: bool
    running: int | None
    recorded: Recorded | None = None


def targets_of(call: Call) -> tuple[str, ...]:
    """Return the keys of all that can be halted to stop *call*."""
    who = call.identity
    named = {
        HaltScope.ORG: who.org,
        HaltScope.TEAM: who.team,
        HaltScope.USER: who.user,
        HaltScope.SESSION: call.session_id,
        HaltScope.AGENT: who.agent,
        HaltScope.TOOL: call.tool.name,
    }
    found = [HaltTarget(scope, name).key for scope, name in named.items() if name]
    return (HaltTarget(HaltScope.SYSTEM).key, *found)
