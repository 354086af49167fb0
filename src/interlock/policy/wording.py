"""Wording: what pydantic has against a document, as a sentence with the remedy, and where."""

from __future__ import annotations

import re
from collections.abc import Collection
from difflib import get_close_matches
from typing import Any

from interlock.policy.values import Misplaced


def further(problem: Any) -> tuple[int | str, ...]:
    """Return the keys that a model itself adds to the location of *problem*, an item of `ValidationError.errors`."""
    error = problem.get("ctx", {}).get("error")
    return error.keys if isinstance(error, Misplaced) else ()


def sentence(problem: Any, known: Collection[str]) -> str:
    """Return what is wrong by *problem*, and what to do; *known* are the keys that one may have meant."""
    match problem["type"]:
        case "extra_forbidden":
            key = str(problem["loc"][-1])  # may be a key of another place
            close = get_close_matches(key, [one for one in known if one != key], n=1)
            hint = (
                f"did you mean {close[0]!r}?" if close else f"the language has {', '.join(known)}"
            )
            return f"unknown key here; {hint}"
        case "missing":
            return "this key is missing; add it"
        case "value_error":
            return str(problem["msg"]).removeprefix("Value error, ")
        case _:
            said = str(problem["msg"]).replace("Input should", "this should")
            said = said.replace("String should", "this text should")
            said = said.replace("Dictionary should", "this mapping should")
            said = re.sub(r"dictionary( or instance of \w+)?", "mapping", said)
            said = said.replace(" after validation", "")
            return said.replace("Tuple should", "this list should").replace("tuple", "list")
