"""Names: what lists of exact names and globs match, compiled once."""

from __future__ import annotations

import re
from collections.abc import Callable
from fnmatch import translate
from typing import TypeAlias

Names: TypeAlias = Callable[[str], bool]

_GLOB = re.compile(r"[*?\[]")


def matcher(patterns: tuple[str, ...]) -> Names:
    """Return a function that says whether one of *patterns*, exact or globs, matches a name; case counts."""
    exact = frozenset(pattern for pattern in patterns if not _GLOB.search(pattern))
    globs = [re.compile(translate(pattern)).match for pattern in patterns if _GLOB.search(pattern)]
    if not globs:
        return exact.__contains__
    if any(pattern == "*" for pattern in patterns):
        return lambda _: True
    return lambda name: name in exact or any(glob(name) for glob in globs)
