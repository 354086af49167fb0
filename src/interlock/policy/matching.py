"""Matching: by which names a part of a policy says of which calls it speaks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from interlock._call import Call
from interlock._model_names import canonical_model, model_pattern
from interlock.policy.names import Names, matcher

MATCHERS = ("tools", "labels", "agents", "users", "teams", "orgs", "models", "resources")
"""The keys by which a part says of which calls it speaks."""

# What it may be about besides tools and resources, and where a call says that. Which rules can speak of a call is
# remembered by the tool's name and by those of these that any rule of the policy names.
ABOUT: Mapping[str, Callable[[Call], str | tuple[str, ...] | None]] = {
    "labels": lambda call: call.tool.labels,
    "agents": lambda call: call.identity.agent,
    "users": lambda call: call.identity.user,
    "teams": lambda call: call.identity.team,
    "orgs": lambda call: call.identity.org,
    "models": lambda call: canonical_model(call.model) if call.model else None,
}

NO_ALIASES: Mapping[str, str] = MappingProxyType({})


def names_of(document: Any, aliases: Mapping[str, str] = NO_ALIASES) -> dict[str, Names]:
    """Return, by each key of `ABOUT`, and `tools`, that *document* fills in, whether it is about a name."""
    return {
        key: matcher(_models(names, aliases) if key == "models" else names)
        for key in ("tools", *ABOUT)
        if (names := getattr(document, key)) is not None
    }


def is_about(names: Mapping[str, Names], call: Call) -> bool:
    """Whether lists of *names* match *call*; one without the name does not."""
    for key, matches in names.items():
        found = call.tool.name if key == "tools" else ABOUT[key](call)
        some = found if isinstance(found, tuple) else (found,)
        if not any(name is not None and matches(name) for name in some):
            return False
    return True


def _models(patterns: tuple[str, ...], aliases: Mapping[str, str]) -> tuple[str, ...]:
    """The names of models that *patterns* mean, as names are compared, aliases included."""
    found = tuple(map(model_pattern, patterns))
    meant = matcher(found)
    others = [alias for alias, name in aliases.items() if meant(canonical_model(name))]
    return (*found, *map(canonical_model, others))
