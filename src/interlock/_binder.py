"""
Parameters: how a call of a function is read, and how the copies of its arguments are passed on.

Reading is done by a function that is generated once, at decoration, with the very parameters of the governed one: so
Python itself binds, with its own rules and its own errors, some forty times as fast as `inspect.Signature.bind`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from interlock.errors import Misuse

Bind: TypeAlias = Callable[..., dict[str, Any]]


class Parameters:
    """
    The parameters of a function.

    Attributes:
        names: What they are called, in order.
        declared: They themselves, likewise.
        bound: Called as the function, returns all arguments by the name of their parameter, defaults included.
    """

    def __init__(self, function: Any, called: str) -> None:
        """
        Read the signature of *function*; *called* is the name that errors use.

        Raises:
            Misuse: it has none.
        """
        try:
            signature = inspect.signature(function)
        except (ValueError, TypeError) as error:
            raise Misuse(
                f"{called} has no signature to bind arguments by ({error}); wrap it in a function that has one"
            ) from error
        parameter = inspect.Parameter
        found = signature.parameters.values()
        self.declared = tuple(found)
        self.names = tuple(signature.parameters)
        self.bound: Bind = _generated(signature, called) or _interpreted(signature, called)
        self._positional = _of(found, parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        self._named = _of(found, parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        self._rest = "".join(_of(found, parameter.VAR_POSITIONAL))
        self._others = "".join(_of(found, parameter.VAR_KEYWORD))

    def placed(
        self, copied: dict[str, Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Sequence[Any], dict[str, Any]]:
        """
        Return the copies as the originals were given: by position what came by position, by name what came by name.

        Defaults are left to the function: one that keeps state in a default must find it again.
        """
        if not copied:  # there are no arguments, or they cannot be judged, and then they go nowhere
            return args, kwargs
        if not kwargs and len(args) <= len(self._positional):
            values = [*copied.values()]
            del values[len(args) :]  # what is taken by position stands first
            return values, kwargs
        taken = self._positional[: len(args)]
        placed = [copied[name] for name in taken]
        if len(args) > len(taken):
            placed.extend(copied[self._rest])
        if not kwargs:
            return placed, kwargs
        return placed, {
            name: copied[name] if name in self._named else copied[self._others][name]
            for name in kwargs
        }


def _of(found: Any, *kinds: object) -> tuple[str, ...]:
    return tuple(parameter.name for parameter in found if parameter.kind in kinds)


def _generated(signature: inspect.Signature, called: str) -> Bind | None:
    """Return a function with *signature* that returns its arguments by name; None if there is no way to write it."""
    parameters = list(signature.parameters.values())
    if not all(parameter.name.isidentifier() for parameter in parameters):
        return None
    # Nothing but names gets into the source: of the defaults, which are looked up once, only their places.
    defaults = {f"_{place}": parameter.default for place, parameter in enumerate(parameters)}
    bare = signature.replace(
        parameters=[
            parameter.replace(annotation=parameter.empty)
            if parameter.default is parameter.empty
            else parameter.replace(annotation=parameter.empty, default=_Place(f"_{place}"))
            for place, parameter in enumerate(parameters)
        ],
        return_annotation=inspect.Signature.empty,
    )
    found = ", ".join(f"{parameter.name!r}: {parameter.name}" for parameter in parameters)
    scope: dict[str, Any] = {"__builtins__": {}, **defaults}
    try:
        exec(f"def bound{bare}: return {{{found}}}", scope)  # noqa: S102 - as dataclasses and namedtuple do
    except SyntaxError:  # a signature made by hand may have names that Python reserves
        return None
    bound = scope["bound"]
    if set(bound.__code__.co_varnames) != set(signature.parameters):
        return None  # or spellings that Python takes for others (NFKC)
    bound.__qualname__ = called  # for the text of its errors
    result: Bind = bound
    return result


class _Place(str):
    """A default, written in a signature as the name of where it is found."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def _interpreted(signature: inspect.Signature, called: str) -> Bind:
    def bound(*args: Any, **kwargs: Any) -> dict[str, Any]:
        try:
            found = signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{called}() {error}") from None
        found.apply_defaults()
        return found.arguments

    return bound
