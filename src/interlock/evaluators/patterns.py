"""The evaluator `regex`: a text argument must match a pattern, or must have no part that matches one."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictStr, model_validator

from interlock._argument import ArgumentPath, Place
from interlock._call import Call
from interlock._re2 import Pattern, check_work
from interlock._verdict import Opinion, Verdict
from interlock.evaluators._spelling import Illegible, plain

MAX_BYTES = 1_048_576
"""No text is judged that is longer: a call's arguments are no longer either."""

MAX_SPELLED = 131_072
"""
With `block`, no longer: normalising holds the interpreter's lock.

U+FDFA, of three bytes, becomes eighteen characters; this many bytes of it take less than 50 ms.
"""


def _compiles(text: str) -> str:
    Pattern(text)
    return text


Expression = Annotated[StrictStr, Field(min_length=1), AfterValidator(_compiles)]


class RegexConfig(BaseModel):
    """
    What the evaluator `regex` is told.

    Attributes:
        argument: The path of a text argument; it must be there.
        match: The whole text must match one of these; an empty list passes nothing.
        block: No part of the text may match one of these, in any spelling.
        ignore_case: Match without regard to case.
        max_bytes: A text that is longer in UTF-8 is denied.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    argument: ArgumentPath
    match: tuple[Expression, ...] | None = None
    block: tuple[Expression, ...] = ()
    ignore_case: bool = False
    max_bytes: int = Field(65_536, ge=1, le=MAX_BYTES)

    @model_validator(mode="after")
    def _can_be_done(self) -> Self:
        if self.match is None and not self.block:
            raise ValueError("give 'match' or 'block', or both")
        if self.block and self.max_bytes > MAX_SPELLED:
            raise ValueError(f"with 'block', max_bytes is at most {MAX_SPELLED}")
        match, block = self.patterns()
        if match or block:
            size = sum(one.size for one in match) + 2 * sum(one.size for one in block)
            check_work(size, self.max_bytes)
        return self

    def patterns(self) -> tuple[list[Pattern], list[Pattern]]:
        """Return `match` and `block`, compiled."""
        ignore_case = self.ignore_case
        match = [Pattern(text, ignore_case=ignore_case) for text in self.match or ()]
        return match, [Pattern(text, ignore_case=ignore_case) for text in self.block]


class RegexEvaluator:
    """
    Denies a call whose argument does not match, or has a part that is blocked.

    `block` is looked for in the text as it is and as `_spelling.plain` writes it, so that full-width and zero-width
    spellings do not pass; `match` must hold of the text as it is, which is what the tool will be given.
    """

    Config = RegexConfig

    def __init__(self, config: RegexConfig) -> None:
        """Compile the patterns once."""
        self._place = Place(config.argument)
        self._match, self._block = config.patterns()
        self._must_match = config.match is not None
        self._max_bytes = config.max_bytes

    def evaluate(self, call: Call) -> Opinion | None:
        """Return DENY or no view."""
        objection = self._objection(self._place.find(call.arguments))
        if objection is None:
            return None
        reason = f"argument {self._place.name} {objection}"
        return Opinion(verdict=Verdict.DENY, reason=reason, author="evaluator:regex")

    def _objection(self, text: object) -> str | None:
        if not isinstance(text, str):
            return "is missing or no text, so it cannot be matched"
        try:
            forms = [self._encoded(text)]
            if self._block:
                forms.append(self._encoded(plain(text)))
        except UnicodeEncodeError:
            return "is no Unicode text, so it cannot be matched"
        except Illegible as error:
            return f"cannot be matched: it has {error}"
        except OverflowError:
            return f"is longer than {self._max_bytes} bytes, so it is not matched"
        for number, pattern in enumerate(self._block):
            if any(pattern.is_in(form) for form in forms):
                return f"has a part that is blocked (block.{number})"
        if self._must_match and not any(pattern.matches(forms[0]) for pattern in self._match):
            return "matches none of the patterns"
        return None

    def _encoded(self, text: str) -> bytes:
        if len(text) > self._max_bytes:
            raise OverflowError
        data = text.encode()
        if len(data) > self._max_bytes:
            raise OverflowError
        return data
