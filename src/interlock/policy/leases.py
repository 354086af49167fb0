"""Leases as a policy writes them, and which of them a call needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from functools import lru_cache
from typing import Annotated, Literal

import msgspec
from pydantic import Field, StrictBool, StrictInt, model_validator

from interlock._call import Call
from interlock._lease import Lease, LeaseClaim, Sharing
from interlock._verdict import Opinion, Verdict
from interlock.policy.matching import MATCHERS, NO_ALIASES, is_about, names_of
from interlock.policy.models import ModelName
from interlock.policy.names import Names, matcher
from interlock.policy.risk import MAX_NAMES
from interlock.policy.values import Duration, Misplaced, Name, OneOrMore, Strict

SHORTEST = timedelta(milliseconds=100)
"""No lease expires sooner: it is renewed three times meanwhile."""

MOST = 10_000
"""No lease has more slots: its holders are one row."""

TERM = timedelta(seconds=30)
"""For how long a lease is held without being renewed where the policy does not say."""


class LeaseDocument(Strict):
    """
    How many calls may run at once, of those that one of each list of names matches.

    `per` may be a list: then each combination has all slots for itself. A call that does not say what it acts on is
    refused by a lease per resource.
    """

    _needs_one_of = MATCHERS

    name: Name
    tools: tuple[Name, ...] | None = Field(default=None, min_length=1)
    labels: tuple[Name, ...] | None = Field(default=None, min_length=1)
    agents: tuple[Name, ...] | None = Field(default=None, min_length=1)
    users: tuple[Name, ...] | None = Field(default=None, min_length=1)
    teams: tuple[Name, ...] | None = Field(default=None, min_length=1)
    orgs: tuple[Name, ...] | None = Field(default=None, min_length=1)
    models: tuple[ModelName, ...] | None = Field(default=None, min_length=1)
    resources: tuple[Name, ...] | None = Field(default=None, min_length=1)
    per: (
        OneOrMore[Literal["tool", "resource", "session", "agent", "user", "team", "org"]] | None
    ) = None
    max_concurrent: Annotated[StrictInt, Field(ge=0, le=MOST)] = 1
    expires: Duration = Field(default=TERM, json_schema_extra={"default": "30s"})
    while_asking: StrictBool = False

    @model_validator(mode="after")
    def _is_sound(self) -> LeaseDocument:
        if self.model_fields_set.isdisjoint(MATCHERS):
            raise ValueError(f"it says of which calls it is by none of: {', '.join(MATCHERS)}")
        if self.per is not None and len(set(self.per)) < len(self.per):
            raise Misplaced("it names something twice", "per")
        if self.expires < SHORTEST:
            raise Misplaced("a lease is held for 100ms at least", "expires")
        return self

    def lease(self) -> Lease:
        """Return the lease that this describes."""
        return Lease(
            name=self.name,
            per=tuple(Sharing(one) for one in self.per or ()),
            max_concurrent=self.max_concurrent,
            expires=self.expires,
            while_asking=self.while_asking,
        )


class _Needed(msgspec.Struct, frozen=True):
    """A lease, and of which calls it is."""

    lease: Lease
    names: Mapping[str, Names]
    resources: Names | None

    def may_be_for(self, tool: str) -> bool:
        return "tools" not in self.names or self.names["tools"](tool)

    def is_for(self, call: Call) -> bool:
        if not is_about(self.names, call):
            return False
        if self.resources is None:
            return True
        if call.resource is None:  # it may be one of them; a lease that needs to know refuses
            return self.lease.lacks(call)
        return self.resources(call.resource)


class Leases:
    """The leases of a policy, made ready."""

    def __init__(
        self, documents: Iterable[LeaseDocument] = (), aliases: Mapping[str, str] = NO_ALIASES
    ) -> None:
        """Make ready what *documents* say; *aliases* are further names of models."""
        self._all = tuple(
            _Needed(
                one.lease(),
                names_of(one, aliases),
                None if one.resources is None else matcher(one.resources),
            )
            for one in documents
        )
        # Bounded, because names of tools may come from outside.
        self._found = lru_cache(maxsize=MAX_NAMES)(self._find)

    def claims(self, call: Call) -> tuple[LeaseClaim, ...]:
        """Return the leases that *call* needs a slot of, but for those that refuse it in any case."""
        if not self._all:  # nearly always
            return ()
        return tuple(
            LeaseClaim(lease, lease.key(call))
            for lease in self._needed(call)
            if lease.max_concurrent and not lease.lacks(call)
        )

    def opinions(self, call: Call) -> list[Opinion]:
        """Return what leases say to *call* whoever else runs."""
        if not self._all:
            return []
        said: list[Opinion] = []
        for lease in self._needed(call):
            if not lease.max_concurrent:
                said.append(_denial(lease, f"lease {lease.name} lets no call run"))
            elif lease.lacks(call):
                why = "is for each resource by itself, and the call does not say what it acts on"
                said.append(_denial(lease, f"lease {lease.name} {why}"))
        return said

    def names(self, call: Call) -> tuple[str, ...]:
        """Return the names of the leases that *call* needs."""
        return tuple(lease.name for lease in self._needed(call))

    def _needed(self, call: Call) -> list[Lease]:
        return [one.lease for one in self._found(call.tool.name) if one.is_for(call)]

    def _find(self, tool: str) -> tuple[_Needed, ...]:
        return tuple(one for one in self._all if one.may_be_for(tool))


def _denial(lease: Lease, reason: str) -> Opinion:
    return Opinion(verdict=Verdict.DENY, reason=reason, author=f"lease:{lease.name}")
