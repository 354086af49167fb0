"""The condition `cel` of Interlock's policies: expressions in the Common Expression Language, bounded and pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from typing import Final

import cel

__all__ = [
    "MAX_LENGTH",
    "MAX_MACROS",
    "MAX_NESTING",
    "MAX_OPERATORS",
    "MAX_ROUNDS",
    "MAX_WORK",
    "TooExpensive",
    "compile_expression",
]

MAX_LENGTH: Final = 4096
"""Characters of an expression."""

MAX_NESTING: Final = 16
"""How deep brackets may stand in each other."""

MAX_OPERATORS: Final = 256
"""
How many operators, dots and brackets an expression may have.

The engine recurses for each, and where the stack of a thread ends, so does the process.
"""

MAX_MACROS: Final = 2
"""How many macros (`all`, `exists`, `map`, …) an expression may have: each may run through a list, within another."""

MAX_ROUNDS: Final = 100_000
"""How often the inside of the macros may be evaluated, at most."""

MAX_WORK: Final = 100_000_000
"""Rounds, times the size of what a round may look at: items of containers and characters of texts."""

NAMES: Final = frozenset(
    ["arguments", "cost", "identity", "mode", "model", "resource", "risk", "tool"]
)
"""What an expression may look at."""

# Texts and comments; a backslash escapes nothing in a raw text.
_TEXT = re.compile(
    r"//[^\n]*"
    r"""|\b(?:[rR][bB]?|[bB][rR])(?:"{3}.*?"{3}|'{3}.*?'{3}|"[^"\n]*"|'[^'\n]*')"""
    r"""|"{3}(?:[^\\]|\\.)*?"{3}|'{3}(?:[^\\]|\\.)*?'{3}|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'""",
    re.DOTALL,
)
_MACRO = re.compile(r"\.\s*(?:all|exists|exists_one|existsOne|map|filter)\s*\(\s*(\w+)")
_FIXED_PATTERN = re.compile(r"\.\s*matches\s*\(\s*''\s*\)")
_FUNCTIONS: Final = frozenset(
    [
        *("size", "contains", "startsWith", "endsWith", "matches", "has"),
        *("string", "int", "uint", "double", "bool", "bytes", "type", "dyn"),
        *(
            "timestamp",
            "duration",
            "getFullYear",
            "getMonth",
            "getDate",
            "getDayOfMonth",
            "getDayOfWeek",
        ),
        *("getDayOfYear", "getHours", "getMinutes", "getSeconds", "getMilliseconds", "min", "max"),
    ]
)


class TooExpensive(RuntimeError):
    """The arguments are too large for the macros of the expression, so whether it holds is not told."""


def compile_expression(expression: str) -> Callable[[Mapping[str, object]], object]:
    """
    Compile *expression*; the entry point `cel` in the group `interlock.conditions`.

    Returns:
        A function of the facts about a call, which returns True or False; or raises where that cannot be told, be it
        for a name that is missing, types that cannot be compared, an answer that is no bool, or `TooExpensive`.

    Raises:
        ValueError: it is wrong, can never be a bool, or its cost has no bound; the message says why.
    """
    if len(expression) > MAX_LENGTH:
        raise ValueError(f"the expression is longer than {MAX_LENGTH} characters")
    bare = _TEXT.sub("''", expression)
    _check_nesting(bare)
    program = _parsed(expression)
    macros = list(_MACRO.finditer(bare))
    if len(macros) > MAX_MACROS:
        raise ValueError(
            f"the expression has more than {MAX_MACROS} macros, so its cost has no bound"
        )
    if len(re.findall(r"\bmatches\b", bare)) != len(_FIXED_PATTERN.findall(bare)):
        raise ValueError("matches() takes one text that is written out: text.matches('…')")
    _check_names(program, {name for macro in macros for name in macro.groups() if name})
    if not program.variables():
        _check_constant(program)
    rounds_of_itself = bare.count(",") + 1

    def holds(facts: Mapping[str, object]) -> object:
        """Tell whether the expression holds."""
        if macros:
            _check_size(facts, len(macros), rounds_of_itself)
        answer = _evaluated(program, facts)
        if answer is True or answer is False:
            return answer
        raise TypeError(f"the expression is a {type(answer).__name__}, not a bool")

    return holds


def _parsed(expression: str) -> cel.Program:
    try:
        return cel.compile(expression)
    except (KeyboardInterrupt, SystemExit):
        raise
    except ValueError as error:
        raise ValueError(f"no CEL expression: {_first_line(error)}") from None
    except BaseException as error:  # noqa: BLE001 - a panic of the engine is no Exception
        raise ValueError(f"the CEL engine cannot take it: {type(error).__name__}") from None


def _evaluated(program: cel.Program, facts: Mapping[str, object]) -> object:
    try:
        return program.execute(dict(facts))
    except (Exception, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as panic:  # noqa: BLE001 - of the engine, and no Exception
        raise RuntimeError(f"the CEL engine failed: {type(panic).__name__}") from None


def _check_nesting(bare: str) -> None:
    depth = operators = 0
    for character in bare:
        if character in "([{":
            depth += 1
            if depth > MAX_NESTING:
                raise ValueError(f"the expression is nested deeper than {MAX_NESTING} brackets")
        elif character in ")]}":
            depth -= 1
        operators += character in ".+-*/%<>=!&|?([{"
    # `in` is an operator, too.
    if operators + len(re.findall(r"\bin\b", bare)) > MAX_OPERATORS:
        raise ValueError(
            f"the expression has more than {MAX_OPERATORS} operators, dots and brackets"
        )


def _check_names(program: cel.Program, bound: AbstractSet[str]) -> None:
    # Types, such as `int` in type(x) == int, are variables to the engine.
    unknown = sorted(set(program.variables()) - NAMES - bound - _FUNCTIONS)
    if unknown:
        known = ", ".join(sorted(NAMES))
        raise ValueError(
            f"{unknown[0]!r} is no name that an expression can look at; there are: {known}"
        )
    named = {
        name for name in program.functions() if name.isidentifier() and not name.startswith("_")
    }
    if foreign := sorted(named - _FUNCTIONS):
        raise ValueError(f"{foreign[0]}() is no function that a condition can use")


def _check_constant(program: cel.Program) -> None:
    try:
        answer = _evaluated(program, {})
    except Exception as error:  # noqa: BLE001 - whatever the engine raises
        raise ValueError(f"the expression always fails: {_first_line(error)}") from None
    if not isinstance(answer, bool):
        raise ValueError(f"the expression is always a {type(answer).__name__}, not a bool")  # noqa: TRY004


def _check_size(facts: Mapping[str, object], macros: int, itself: int) -> None:
    """Refuse what could take long: the engine cannot be stopped once it runs."""
    items, characters = itself, 0
    left = [*facts.values()]
    while left:
        value = left.pop()
        if isinstance(value, (str, bytes)):
            characters += len(value)
        elif isinstance(value, Mapping):
            items += len(value)
            left += [*value.keys(), *value.values()]
        elif isinstance(value, (list, tuple, set, frozenset)):
            items += len(value)
            left += value
    rounds = items**macros
    if rounds > MAX_ROUNDS or rounds * (items + characters) > MAX_WORK:
        raise TooExpensive(f"{items} items are too many for {macros} macros")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0]
