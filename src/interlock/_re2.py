"""
Patterns: regular expressions that no text can make slow.

They are compiled once, when a policy is read, by RE2: what it does not support is an error, and there is no other
engine to fall back to. RE2 takes time in proportion to the size of the program times that of the text, and lets other
threads run meanwhile. Whoever judges text bounds that product by `MAX_WORK`.

Source: https://github.com/google/re2/wiki/WhyRE2 and https://github.com/google/re2/wiki/Syntax
"""

from __future__ import annotations

from typing import Any

import re2  # type: ignore[import-untyped]

MAX_WORK = 2**27
"""
Instructions times bytes that may be spent on one judgement: about a second where RE2 is at its slowest.

RE2 simulates every instruction for every byte, 5 to 15 ns each, when a pattern has too many states to be remembered;
else it takes one step for each byte.
"""

_MAX_MEMORY = 8 * 2**20  # RE2's own default, for the program and for the states that it remembers


class Pattern:
    """
    A compiled regular expression.

    Attributes:
        size: How many instructions it has.
    """

    def __init__(self, text: str, *, ignore_case: bool = False) -> None:
        """
        Compile *text*.

        Raises:
            ValueError: it is no regular expression, too large, or uses what RE2 does not support; the message says so.
        """
        options = re2.Options()
        options.max_mem = _MAX_MEMORY
        options.case_sensitive = not ignore_case
        options.never_capture = True  # nobody asks for groups, and finding them is the slow part
        options.log_errors = False
        try:
            self._compiled: Any = re2.compile(text, options)
        except re2.error as error:
            [why] = error.args or ("",)
            said = why.decode("utf-8", "replace") if isinstance(why, bytes) else str(why)
            raise ValueError(
                f"not a regular expression of RE2, which has no look-around and no back-references: {said}"
            ) from None
        except UnicodeEncodeError:
            raise ValueError("not a regular expression: half of a surrogate pair") from None
        self.size: int = self._compiled.programsize

    def matches(self, text: bytes) -> bool:
        """Whether all of *text*, in UTF-8, matches."""
        return self._compiled.fullmatch(text) is not None

    def is_in(self, text: bytes) -> bool:
        """Whether any part of *text*, in UTF-8, matches."""
        return self._compiled.search(text) is not None


def check_work(patterns: int, max_bytes: int) -> None:
    """
    Check that patterns of so many instructions in all may judge texts of so many bytes.

    Raises:
        ValueError: it would be too much work; the message says how much is possible.
    """
    if patterns * max_bytes > MAX_WORK:
        raise ValueError(
            f"patterns of {patterns} instructions judge at most {MAX_WORK // patterns} bytes; "
            "lower max_bytes, or simplify them"
        )
