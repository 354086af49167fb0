"""Containment: whether names that one list of patterns matches are all matched by another; never yes without proof."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from functools import lru_cache


def covers(wide: Iterable[str], narrow: Iterable[str]) -> bool:
    """Whether every name that one of *narrow* matches is matched by one of *wide*; False where that is not certain."""
    patterns = tuple(wide)
    return all(any(contains(pattern, one) for pattern in patterns) for one in narrow)


@lru_cache(maxsize=65536)
def contains(wide: str, narrow: str) -> bool:
    """Whether every name that *narrow* matches is matched by *wide*; False where that is not certain."""
    if wide == narrow or (wide and not wide.strip("*")):
        return True
    if not is_glob(narrow):
        return fnmatchcase(narrow, wide)
    if "[" in wide or "[" in narrow:  # what sets of characters have in common is not looked into
        return False
    return _matches(wide, narrow)


def is_glob(pattern: str) -> bool:
    """Whether *pattern* matches other names than itself."""
    return any(mark in pattern for mark in "*?[")


def _matches(wide: str, narrow: str) -> bool:
    """Whether *wide* matches *narrow* where only `*` matches its `*`, and only `*` or `?` its `?`."""
    reached = {0}
    for mark in wide:
        if mark == "*":
            reached = set(range(min(reached), len(narrow) + 1))
        elif mark == "?":
            reached = {at + 1 for at in reached if at < len(narrow) and narrow[at] != "*"}
        else:
            reached = {at + 1 for at in reached if at < len(narrow) and narrow[at] == mark}
        if not reached:
            return False
    return len(narrow) in reached
