"""The public names: these and no others, each with a text that says what it is."""

from __future__ import annotations

import inspect
import types
import typing
from typing import Any

import pytest

import interlock
from interlock import _governed, errors, events, hookspecs, testing
from interlock._declared import declared

NAMES = [
    "AlreadyDone",
    "Answer",
    "ApprovalNeeded",
    "BudgetExceeded",
    "Call",
    "Decision",
    "Denied",
    "Evaluator",
    "Feed",
    "Governor",
    "Grant",
    "HaltedError",
    "Identity",
    "InProgress",
    "InterlockError",
    "Interrupted",
    "KeyReused",
    "LeaseLost",
    "LeaseTaken",
    "Misuse",
    "Opinion",
    "Policy",
    "Refused",
    "Risk",
    "Session",
    "Steered",
    "Ticket",
    "Tool",
    "Undecided",
    "Usage",
    "Verdict",
    "ask",
    "configure",
    "current_call",
    "current_session",
    "governed",
    "hookimpl",
    "report_usage",
    "schema_digest",
    "session",
    "tool_of",
    "wait",
]


def test_the_names_are_these() -> None:
    """Broken if a name is added, removed or renamed: users import them, so that is a decision."""
    assert sorted(NAMES) == NAMES
    assert interlock.__all__ == NAMES


def test_nothing_else_is_in_reach() -> None:
    """Broken if a name that is not promised can be imported from the top by accident."""
    found = {
        name
        for name, value in vars(interlock).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    # A function and a class stand where a module of the same name would.
    assert found == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_each_says_what_it_is(name: str) -> None:
    """Broken if `help(interlock.NAME)` has nothing to say, or says what its base class says."""
    value = getattr(interlock, name)
    text = inspect.cleandoc(value.__doc__ or "")
    assert len(text) > 20
    if inspect.isclass(value):
        assert text not in {inspect.cleandoc(base.__doc__ or "") for base in value.__mro__[1:]}


def test_checkers_know_every_option_of_governed() -> None:
    """Broken if an option works, and users' type checkers and editors say that there is none of that name."""
    _bare, with_options = typing.get_overloads(interlock.governed)
    taken = {
        *inspect.signature(_governed._govern).parameters,
        *inspect.signature(declared).parameters,
    }
    assert taken - {"function", "options", "parameters"} == {
        *inspect.signature(with_options).parameters
    }


def members(value: Any) -> list[tuple[str, Any]]:
    """The public methods and properties that a class defines itself."""
    return [
        (name, member)
        for name, member in vars(value).items()
        if not name.startswith("_")
        and (inspect.isroutine(member) or isinstance(member, (property, classmethod, staticmethod)))
    ]


@pytest.mark.parametrize("module", [interlock, errors, events, hookspecs, testing])
def test_each_part_says_what_it_does(module: Any) -> None:
    """Broken if a method that users call has no docstring."""
    silent = [
        f"{value.__name__}.{name}"
        for value in vars(module).values()
        if inspect.isclass(value) and value.__module__.startswith("interlock")
        for name, member in members(value)
        if not inspect.getdoc(member)
    ]
    assert silent == []
