"""The evaluator `egress`: a URL in an argument must lead to a granted host, to do there what is granted."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from interlock._argument import ArgumentPath, Place
from interlock._call import Call
from interlock._verdict import Opinion, Verdict
from interlock.evaluators._grants import Grant, Grants, capability_of, is_capability
from interlock.evaluators._url import Unclear, parse


class EgressConfig(BaseModel):
    """
    What the evaluator `egress` is told.

    Attributes:
        grants: Where requests may go, and what they may do there.
        argument: The path of the text argument that is the URL; it must be there.
        method_argument: The path of the one that is the HTTP method; None if the method is no argument.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    grants: tuple[Grant, ...] = Field(min_length=1)
    argument: ArgumentPath = "url"
    method_argument: ArgumentPath | None = None


class EgressEvaluator:
    """
    Denies a call unless one grant covers the destination of its URL and all that the call is able to do.

    That is every capability which the tool declares, and `read` or `write` for the HTTP method where the method is an
    argument. What is no URL, or one that clients could read differently, is denied.
    """

    Config = EgressConfig

    def __init__(self, config: EgressConfig) -> None:
        """Index the grants once."""
        self._grants = Grants(config.grants)
        self._url = Place(config.argument)
        self._method = None if config.method_argument is None else Place(config.method_argument)

    def evaluate(self, call: Call) -> Opinion | None:
        """Return DENY or no view."""
        objection = self._objection(call)
        if objection is None:
            return None
        return Opinion(verdict=Verdict.DENY, reason=objection, author="evaluator:egress")

    def _objection(self, call: Call) -> str | None:
        capabilities = frozenset(call.tool.capabilities)
        if not capabilities:
            return (
                "the tool declares no capabilities, so no grant can cover it; "
                "its author declares them: @governed(capabilities=['read'])"
            )
        if not all(is_capability(word) for word in capabilities):
            return (
                "the tool declares a capability that is not made of a-z, 0-9 and '.', '-', '_' "
                "in between"
            )
        if self._method is not None:
            method = self._method.find(call.arguments)
            needed = capability_of(method) if isinstance(method, str) else None
            if needed is None:
                return f"argument {self._method.name} is no HTTP method that can be granted"
            capabilities |= {needed}
        url = self._url.find(call.arguments)
        if not isinstance(url, str):
            return f"argument {self._url.name} is missing or no text, so it is no URL"
        try:
            destination = parse(url)
        except Unclear as error:
            return f"the URL in argument {self._url.name} cannot be judged: {error}"
        found = self._grants.find(destination, capabilities)
        return f"the URL in argument {self._url.name}: {found}" if isinstance(found, str) else None
