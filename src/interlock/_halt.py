"""Halts: the kill switch. What a halt stops, who may order one, and the answer that says what halting did."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import TypedDict, Unpack

import msgspec

from interlock._budget import Budget
from interlock._call import Call, Identity, is_text
from interlock._halt_scope import HaltScope
from interlock.errors import Misuse
from interlock.events import Recorded


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


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """
    A halt that a policy wants, to be engaged right after the transaction in which that was found out.

    Attributes:
        target: What is to be halted.
        reason: Why, a sentence.
        rule: What in the policy wants it: the key of the tracker that remembers it, or `budget:NAME`.
    """

    target: HaltTarget
    reason: str
    rule: str


def targets_of(call: Call) -> tuple[str, ...]:
    """Return the keys of all that can be halted to stop *call*."""
    found = [HaltTarget(HaltScope.SYSTEM).key]
    for scope, name in _names(call.identity, call.session_id, call.tool.name).items():
        if scope is HaltScope.SESSION:  # whoever halts a session halts those that were opened in it
            found += [HaltTarget(scope, one).key for one in reversed(call.ancestors)]
        if name:
            found.append(HaltTarget(scope, name).key)
    return tuple(found)


def ordered(
    wanted: Iterable[tuple[HaltScope, str, str]],
    who: Identity | None,
    *,
    session_id: str | None,
    tool: str,
) -> tuple[Order, ...]:
    """
    Return the orders to halt what is *wanted*: of which kind, why, and by which rule.

    Whoever has no name of that kind has the session halted instead; where there is none either, nothing is ordered.
    """
    names = {**_names(who, session_id, tool), HaltScope.SYSTEM: ""}
    found: list[Order] = []
    for scope, reason, rule in wanted:
        name = names[scope]
        if name is None or (not name and scope is not HaltScope.SYSTEM):
            scope, name = HaltScope.SESSION, session_id  # noqa: PLW2901 - instead
        if name is not None:
            target = HaltTarget(scope, name)
            found.append(Order(target=target, reason=reason, rule=rule))
    return tuple(found)


def exceeding(budget: Budget) -> tuple[str, str]:
    """Return why and by which rule there is a halt where *budget* is exceeded."""
    return f"budget {budget.name} is exceeded", f"budget:{budget.name}"


def _names(who: Identity | None, session_id: str | None, tool: str) -> dict[HaltScope, str | None]:
    return {
        HaltScope.ORG: None if who is None else who.org,
        HaltScope.TEAM: None if who is None else who.team,
        HaltScope.USER: None if who is None else who.user,
        HaltScope.SESSION: session_id,
        HaltScope.AGENT: None if who is None else who.agent,
        HaltScope.TOOL: tool,
    }
