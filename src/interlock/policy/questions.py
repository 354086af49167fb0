"""Questions: an evaluator as a policy names and configures it, for all calls of some tools or in a condition."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Literal

from pydantic import Field, JsonValue, model_validator

from interlock.policy.values import Duration, Misplaced, Name, OneOrMore, Strict

LOOKING_BACK = frozenset({"rate", "sequence"})
"""The evaluators that judge by the books: see `policy.looking_back`."""

TIMEOUT = timedelta(seconds=2)
"""How long an evaluator may take where a policy does not say."""


class EvaluatorDocument(Strict):
    """An evaluator by name, the tools it judges, and its configuration."""

    use: Name
    tools: tuple[Name, ...] = Field(default=("*",), min_length=1)
    timeout: Duration = Field(default=TIMEOUT, json_schema_extra={"default": "2s"})
    with_: Mapping[str, JsonValue] = Field(default_factory=dict, alias="with")


class Question(Strict):
    """An evaluator whose answer a condition compares: by name, with its configuration."""

    evaluator: Name
    timeout: Duration = Field(default=TIMEOUT, json_schema_extra={"default": "2s"})
    with_: Mapping[str, JsonValue] = Field(default_factory=dict, alias="with")
    says: OneOrMore[Literal["allow", "ask", "steer", "deny"]] = ("ask", "steer", "deny")

    @model_validator(mode="after")
    def _can_be_asked(self) -> Question:
        if self.evaluator in LOOKING_BACK:
            raise Misplaced(
                f"{self.evaluator!r} judges by the books and cannot be asked here; there are 'calls' and 'after'",
                "evaluator",
            )
        return self

    @property
    def key(self) -> str:
        """What its answer is found by: the same for conditions that ask the same."""
        asked = self.model_dump(mode="json", by_alias=True, exclude={"says"})
        return json.dumps(asked, sort_keys=True)

    @property
    def document(self) -> EvaluatorDocument:
        """The evaluator as it is built."""
        return EvaluatorDocument.model_validate(
            {
                "use": self.evaluator,
                "timeout": self.timeout,
                "with": self.with_,
            }
        )
