"""Models: which models who may use: tiers of them, and access by organisation, team, user, agent and risk."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from interlock._call import Call, Identity, Risk
from interlock._memory import named
from interlock._model_names import canonical_model, model_pattern
from interlock._verdict import Opinion, Verdict
from interlock.policy.risk import MAX_NAMES
from interlock.policy.values import Level, Misplaced, Name, Strict


def _matchable(pattern: str) -> str:
    model_pattern(pattern)
    return pattern


ModelName = Annotated[Name, AfterValidator(_matchable)]
"""A model's name, or a glob of names as they are compared."""


class AccessDocument(Strict):
    """Who may use a tier, and up to which risk of the call; all that is given must hold."""

    tier: Name
    orgs: tuple[Name, ...] | None = Field(default=None, min_length=1)
    teams: tuple[Name, ...] | None = Field(default=None, min_length=1)
    users: tuple[Name, ...] | None = Field(default=None, min_length=1)
    agents: tuple[Name, ...] | None = Field(default=None, min_length=1)
    max_risk: Level = "critical"

    def admits(self, identity: Identity, risk: Risk) -> bool:
        """Whether this lets a call of that *risk* through that is made for *identity*."""
        wanted = (
            (self.orgs, identity.org),
            (self.teams, identity.team),
            (self.users, identity.user),
            (self.agents, identity.agent),
        )
        return risk <= Risk(self.max_risk) and all(
            patterns is None or (name is not None and named(patterns, name))
            for patterns, name in wanted
        )


class ModelsDocument(Strict):
    """
    Tiers of models, and who may use them.

    `tiers` gives each model, by name or glob, its tier. A tier that `access` names is for whom it lets through; a tier
    that it does not name is for everybody. A model without a tier is only for whom every restricted tier is open, and
    for nobody when none is restricted. `aliases` gives further names of models.
    """

    tiers: Mapping[ModelName, Name] = Field(min_length=1)
    access: tuple[AccessDocument, ...] = ()
    aliases: Mapping[Name, Name] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _names_tiers(self) -> ModelsDocument:
        known = sorted(set(self.tiers.values()))
        for access in self.access:
            if access.tier not in known:
                raise ValueError(
                    f"access names the tier {access.tier!r}, in which there is no model; "
                    f"there are: {', '.join(known)}"
                )
        for key, given in (("tiers", self.tiers), ("aliases", self.aliases)):
            meant: dict[str, str] = {}
            for name, value in given.items():
                if meant.setdefault(model_pattern(name), value) != value:
                    raise Misplaced(f"{name!r} is here twice, by two of its names", key, name)
        return self


class Models:
    """The models section of a policy, made ready."""

    def __init__(self, document: ModelsDocument) -> None:
        """Make ready what *document* says."""
        self._tiers = tuple(
            (model_pattern(pattern), tier) for pattern, tier in document.tiers.items()
        )
        self._aliases = {
            canonical_model(alias): canonical_model(name)
            for alias, name in document.aliases.items()
        }
        self._access: dict[str, list[AccessDocument]] = {}
        for access in document.access:
            self._access.setdefault(access.tier, []).append(access)
        self.tier_of = lru_cache(maxsize=MAX_NAMES)(self._find)

    def opinion(self, call: Call, risk: Risk) -> Opinion | None:
        """Return what is said to *call*, if it is one of a model; None: nothing stands against it."""
        if call.tool.kind != "model":
            return None
        tier = self.tier_of(call.model) if call.model else None
        if tier is not None:
            restricted = [tier] if tier in self._access else []
        elif self._access:
            restricted = list(self._access)
        else:
            return _denial("the policy does not know this model")
        closed = [
            name
            for name in restricted
            if not any(access.admits(call.identity, risk) for access in self._access[name])
        ]
        if not closed:
            return None
        if tier is None:
            return _denial("the policy does not know this model, and not every tier is open")
        return _denial(f"models of tier {tier} are not open to this identity at risk {risk}")

    def canonical(self, name: str) -> str:
        """Return the name by which a model is compared, aliases resolved."""
        known = canonical_model(name)
        return self._aliases.get(known, known)

    def _find(self, name: str) -> str | None:
        """The tier of a model; the exact name counts before globs, and of those the first."""
        known = self.canonical(name)
        exact = dict(reversed(self._tiers)).get(known)
        if exact is not None:
            return exact
        return next((tier for pattern, tier in self._tiers if fnmatchcase(known, pattern)), None)


def _denial(reason: str) -> Opinion:
    return Opinion(
        verdict=Verdict.DENY,
        reason=reason,
        author="models",
        guidance="Use a model of a tier that is open to you.",
    )
