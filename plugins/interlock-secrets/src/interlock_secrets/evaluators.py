"""The evaluators `secrets`, which objects to calls, and `secrets-in-results`, which redacts what they return."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from interlock import Call, Opinion, Verdict
from interlock.evaluators import Redacted
from interlock_secrets.detector import check_kinds, scanner
from interlock_secrets.texts import Hit, Texts, Unreadable

_MISSING: Final = object()
_NAMED: Final = 3


class _Common(BaseModel):
    """
    What both are told.

    Attributes:
        kinds: Which secrets to look for, such as `github-pat`; all, if left out.
        max_bytes: How long the texts of a call or result may be, all together, as UTF-8; longer ones are not searched.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kinds: frozenset[str] | None = Field(default=None, min_length=1)
    max_bytes: int = Field(default=1_048_576, gt=0, le=8_388_608)

    @field_validator("kinds")
    @classmethod
    def _are_known(cls, kinds: frozenset[str] | None) -> frozenset[str] | None:
        check_kinds(kinds or ())
        return kinds


class SecretsConfig(_Common):
    """
    What the evaluator `secrets` is told.

    Attributes:
        arguments: Paths of arguments, such as `order.note`, that are searched and have to be there; if left out, all
            are searched but those that the tool declares to be secrets.
        verdict: What a secret means.
    """

    arguments: tuple[str, ...] | None = Field(default=None, min_length=1)
    verdict: Literal["ask", "deny"] = "deny"


class SecretsEvaluator:
    """Objects to a call with a secret in its arguments, and denies what it cannot search."""

    Config = SecretsConfig

    def __init__(self, config: SecretsConfig) -> None:
        """Prepare the detector."""
        self._config = config
        self._verdict = Verdict[config.verdict.upper()]
        scanner()

    def evaluate(self, call: Call) -> Opinion | None:
        """Return what to do with *call*; the reason names kinds and paths, never a text."""
        texts = Texts(self._config.max_bytes)
        try:
            self._read(call, texts)
            hits = texts.search(self._config.kinds)
        except Unreadable as problem:
            return _objection(
                Verdict.DENY, f"the arguments cannot be searched for secrets: {problem}"
            )
        return (
            _objection(self._verdict, f"secrets in the arguments: {_listed(hits)}")
            if hits
            else None
        )

    def _read(self, call: Call, texts: Texts) -> None:
        if self._config.arguments is None:
            texts.read(
                {
                    name: value
                    for name, value in call.arguments.items()
                    if name not in call.tool.secrets
                }
            )
            return
        for path in self._config.arguments:
            value = _at(call.arguments, path)
            if value is _MISSING:
                raise Unreadable(f"{path!r} is missing")
            texts.read({path.rpartition(".")[2]: value})


class SecretsInResultsConfig(_Common):
    """
    What the evaluator `secrets-in-results` is told.

    Attributes:
        on_unreadable: What happens to a result that cannot be searched, such as an object or a very long text.
    """

    on_unreadable: Literal["withhold", "pass"] = "withhold"


class SecretsInResults:
    """Redacts secrets in what a call has returned, and withholds what it cannot search."""

    Config = SecretsInResultsConfig
    stage: Literal["after"] = "after"

    def __init__(self, config: SecretsInResultsConfig) -> None:
        """Prepare the detector."""
        self._config = config
        scanner()

    def review(self, call: Call, result: object) -> Opinion | Redacted | None:  # noqa: ARG002 - protocol
        """Return the result without its secrets, None where there are none, or DENY."""
        texts = Texts(self._config.max_bytes)
        try:
            texts.read(result)
        except Unreadable as problem:
            if self._config.on_unreadable == "pass":
                return None
            return _objection(Verdict.DENY, f"the result cannot be searched for secrets: {problem}")
        hits = texts.search(self._config.kinds)
        if not hits:
            return None
        reason = f"secrets in the result: {_listed(hits)}"
        try:
            return Redacted(result=texts.without_secrets(result), reason=reason)
        except Unreadable as problem:
            return _objection(Verdict.DENY, f"{reason}, which is {problem}")


def _objection(verdict: Verdict, reason: str) -> Opinion:
    return Opinion(verdict=verdict, reason=reason, author="secrets")


def _listed(hits: list[Hit]) -> str:
    named = [f"{hit.kind} in {hit.path!r}" if hit.path else hit.kind for hit in hits[:_NAMED]]
    further = len(hits) - len(named)
    return ", ".join(named) + (f" and {further} more" if further else "")


def _at(arguments: object, path: str) -> object:
    """Return what stands at *path*; in a list, a number is the place, from 0."""
    value = arguments
    for key in path.split("."):
        try:
            value = value[int(key)] if isinstance(value, (list, tuple)) else value[key]  # type: ignore[index]
        except (LookupError, TypeError, ValueError):
            return _MISSING
    return value
