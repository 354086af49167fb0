"""The evaluator `list`: a text argument must be in one list, or must not be in another."""

from __future__ import annotations

from typing import Self
from unicodedata import is_normalized, normalize

from pydantic import BaseModel, ConfigDict, model_validator

from interlock._argument import ArgumentPath, Place
from interlock._call import Call
from interlock._verdict import Opinion, Verdict
from interlock.evaluators._spelling import Illegible, check_legible, folded, hides, looks, plain

MAX_CHARACTERS = 16_384
"""A value that is longer is no word, and is denied."""


class ListConfig(BaseModel):
    """
    What the evaluator `list` is told.

    Attributes:
        argument: The path of a text argument; it must be there.
        allow: The only values that pass; an empty list passes nothing.
        block: Values that do not pass, whatever `allow` says, in any spelling and any case.
        ignore_case: Compare with `allow` without regard to case, as Unicode folds it.
        beyond_ascii: Without `allow`, whether values may have characters that are not ASCII.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    argument: ArgumentPath
    allow: frozenset[str] | None = None
    block: frozenset[str] = frozenset()
    ignore_case: bool = False
    beyond_ascii: bool = False

    @model_validator(mode="after")
    def _lists_something(self) -> Self:
        if self.allow is None and not self.block:
            raise ValueError("give 'allow' or 'block', or both")
        for word in (self.allow or frozenset()) | self.block:
            if len(word) > MAX_CHARACTERS:
                raise ValueError(f"a word has at most {MAX_CHARACTERS} characters")
            check_legible(word)
        return self


class ListEvaluator:
    """
    Denies a call whose argument is blocked, or is not allowed.

    The two are compared in opposite ways, each to be on the safe side. What is allowed is that very word: the same
    code points, composed or not, and only where asked without regard to case; a word in full-width or zero-width
    spelling is another one. What is blocked is whatever may be taken for the word: after NFKC, without characters that
    show nothing, without regard to case, and with the look-alikes of ASCII made one. Look-alikes beyond ASCII cannot be
    told, so where there is nothing but a list of blocked words, what is not ASCII by then is denied unless
    `beyond_ascii`.
    """

    Config = ListConfig

    def __init__(self, config: ListConfig) -> None:
        """Prepare the lists once."""
        self._place = Place(config.argument)
        self._allow = None if config.allow is None else frozenset(_forms(config.allow))
        self._folded = {folded(word) for word in config.allow or () if config.ignore_case}
        self._block = frozenset(
            look for word in config.block for look in looks(word) | looks(word.upper())
        )
        self._beyond_ascii = config.beyond_ascii

    def evaluate(self, call: Call) -> Opinion | None:
        """Return DENY or no view."""
        objection = self._objection(self._place.find(call.arguments))
        if objection is None:
            return None
        reason = f"argument {self._place.name} {objection}"
        return Opinion(verdict=Verdict.DENY, reason=reason, author="evaluator:list")

    def _objection(self, value: object) -> str | None:
        if not isinstance(value, str):
            return "is missing or no text, so it is in no list"
        if len(value) > MAX_CHARACTERS:
            return f"is longer than {MAX_CHARACTERS} characters, so it is no word"
        try:
            if self._block and not self._block.isdisjoint(looks(value)):
                return "has a value that is blocked"
            if self._allow is not None:
                return (
                    None if self._is_allowed(value) else "has a value that is not among the allowed"
                )
            if not (self._beyond_ascii or plain(value).isascii()):
                return (
                    "has characters beyond ASCII, among which a look-alike of a blocked word cannot be told; "
                    "'beyond_ascii: true' would accept them"
                )
        except Illegible as error:
            return f"cannot be compared: it has {error}"
        return None

    def _is_allowed(self, value: str) -> bool:
        if self._allow is None or value in self._allow:
            return True
        if not self._folded:
            return False
        check_legible(value)
        # Other spellings are not to be folded away together with case.
        is_plain = is_normalized("NFKC", value) or is_normalized("NFKD", value)
        return is_plain and not hides(value) and folded(value) in self._folded


def _forms(words: frozenset[str]) -> set[str]:
    """The *words*, and each composed and decomposed: canonically equivalent text is the same text."""
    return {
        form for word in words for form in (word, normalize("NFC", word), normalize("NFD", word))
    }
