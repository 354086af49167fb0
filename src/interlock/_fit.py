"""Fit: whether arguments that a human has written can be given to a function, and how they are passed on."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Collection, Mapping
from typing import Any, TypeAlias

from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError

Placed: TypeAlias = tuple[tuple[Any, ...], dict[str, Any]]


def placed(
    function: Any,
    arguments: Mapping[str, Any],
    changed: Collection[str],
    before: Mapping[str, Any],
) -> Placed:
    """
    Return how *function* is called with *arguments*, all of them by the name of their parameter.

    What was *changed* must be of the type that its parameter is annotated with, where the value *before* was, and else
    of that one's type: no value is converted, since what was written is what runs.

    Raises:
        ValueError: they do not fit. The sentence names the parameter, and never holds the value.
    """
    signature = inspect.signature(function)
    if set(arguments) != set(signature.parameters):
        raise ValueError(f"the tool takes {', '.join(signature.parameters) or 'no arguments'}")
    hints = _hints(function)
    for name in changed:
        _check(signature, name, arguments[name], before.get(name), hints.get(name))
    bound = inspect.BoundArguments(
        signature,
        {name: arguments[name] for name in signature.parameters},
    )
    return bound.args, bound.kwargs


def _check(signature: inspect.Signature, name: str, value: Any, before: Any, hint: Any) -> None:
    parameter = signature.parameters[name]
    if parameter.kind is parameter.VAR_POSITIONAL:
        if not isinstance(value, tuple):
            raise ValueError(f"argument {name!r} is the rest of the positions, and takes a tuple")
        for item in value:
            _check_type(name, item, _NOTHING, hint)
    elif parameter.kind is parameter.VAR_KEYWORD:
        taken = {
            one.name
            for one in signature.parameters.values()
            if one.kind in {one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY}
        }
        if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
            raise ValueError(f"argument {name!r} is the rest of the names, and takes an object")
        if taken & value.keys():
            raise ValueError(f"argument {name!r} holds a name that is a parameter of its own")
        for item in value.values():
            _check_type(name, item, _NOTHING, hint)
    else:
        _check_type(name, value, before, hint)


_NOTHING = object()


def _check_type(name: str, value: Any, before: Any, hint: Any) -> None:
    objection = _objection(hint, value)
    if objection is None:
        return
    # Callers may be looser than the annotation; then whoever changes the value may be as loose as they.
    if (
        before is not _NOTHING
        and type(value) is type(before)
        and _objection(hint, before) is not None
    ):
        return
    raise ValueError(f"argument {name!r} is not what the tool takes: {objection}")


def _objection(hint: Any, value: Any) -> str | None:
    """Return why *value* is not of the type *hint*; None where it is, or where nobody can say."""
    if hint is None:
        return None
    try:
        adapter = TypeAdapter(hint, config=_config(hint))
        adapter.validate_python(value, strict=True)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        # What a validator of the host's says may hold the value.
        own = first["type"] in {"value_error", "assertion_error"}
        said = "a validator objects" if own else first["msg"][:1].lower() + first["msg"][1:]
        return ": ".join([*map(str, first["loc"]), said])
    except (PydanticUserError, NameError, TypeError, AttributeError):
        return None
    return None


def _config(hint: Any) -> ConfigDict | None:
    try:
        TypeAdapter(hint)
    except PydanticUserError:  # some class that pydantic does not know: then `isinstance` decides
        return ConfigDict(arbitrary_types_allowed=True)
    except (NameError, TypeError, AttributeError):
        return None
    return None


def _hints(function: Any) -> dict[str, Any]:
    """Return the annotations by parameter; those that cannot be resolved are left out."""
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    if not inspect.isroutine(function):
        function = getattr(type(function), "__call__", function)  # noqa: B004 - its annotations
    try:
        return typing.get_type_hints(function, include_extras=True)
    except Exception:  # noqa: BLE001 - a name that only exists while types are checked
        return {}
