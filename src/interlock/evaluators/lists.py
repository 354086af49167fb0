"""The evaluator `list`: a text argument must be in one list, or must not be in another."""

from __future__ import annotations

import unicodedata
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from interlock._call import Call
from interlock._verdict import Opinion, Verdict


class ListConfig(BaseModel):
    """
    What the evaluator `list` is told.

    Attributes:
        argument: The name of a text argument; it must be there.
        allow: The only values that pass; an empty list passes nothing.
        block: Values that do not pass, whatever `allow` says.
        ignore_case: Compare without regard to case, as Unicode folds it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    argument: str = Field(min_length=1)
    allow: frozenset[str] | None = None
    block: frozenset[str] = frozenset()
    ignore_case: bool = False

    @model_validator(mode="after")
    def _lists_something(self) -> Self:
        if self.allow is None and not self.block:
            raise ValueError("give 'allow' or 'block', or both")
        return self


class ListEvaluator:
    """
    Denies a call whose argument is blocked, or is not allowed.

    Both sides are normalised to NFKC, so that a full-width or composed spelling is the same word; what differs after
    that is another word and is not allowed.
    Source: Unicode Standard Annex #15.
    """

    Config = ListConfig

    def __init__(self, config: ListConfig) -> None:
        """Normalise the lists once."""
        self._config = config
        self._allow = (
            None if config.allow is None else {self._normal(word) for word in config.allow}
        )
        self._block = {self._normal(word) for word in config.block}

    def evaluate(self, call: Call) -> Opinion | None:
        """Return DENY or no view."""
        name = self._config.argument
        value = call.arguments.get(name)
        if not isinstance(value, str):
            return self._deny(f"argument {name!r} is not a text, so it is in no list")
        word = self._normal(value)
        if word in self._block:
            return self._deny(f"the value of argument {name!r} is blocked")
        if self._allow is not None and word not in self._allow:
            return self._deny(f"the value of argument {name!r} is not among the allowed ones")
        return None

    def _normal(self, word: str) -> str:
        word = unicodedata.normalize("NFKC", word)
        return unicodedata.normalize("NFKC", word.casefold()) if self._config.ignore_case else word

    @staticmethod
    def _deny(reason: str) -> Opinion:
        return Opinion(verdict=Verdict.DENY, reason=reason, author="evaluator:list")
