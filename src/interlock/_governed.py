"""@governed: puts the flow around a function, and leaves everything else about it as it was."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any, SupportsIndex, TypeVar, overload

import wrapt

from interlock import _bodies
from interlock._call import CallKind, Risk, Tool, money
from interlock._scope import Scope, session_for, was_judged
from interlock.errors import Misuse

_F = TypeVar("_F", bound=Callable[..., Any])


@overload
def governed(function: _F, /) -> _F: ...
@overload
def governed(
    *,
    name: str | None = None,
    kind: CallKind = "tool",
    resource: str | None = None,
    cost: str | Decimal | int | None = None,
    risk: Risk | str = Risk.MEDIUM,
    labels: Iterable[str] = (),
    capabilities: Iterable[str] = (),
    secrets: Iterable[str] = (),
) -> Callable[[_F], _F]: ...
def governed(function: Any = None, /, **options: Any) -> Any:
    """
    Govern *function*: it runs only when the current session's governor has decided, and recorded, that it may.

    Works on functions, coroutine functions, generators, async generators, methods, class and static methods (on
    either side of their decorators), callable objects, partials and lambdas. Signature, result, exceptions,
    streaming and cancellation stay the tool's own; the tool is given a private copy of its arguments, equal in
    value, so that what was judged is what runs.

    Args:
        function: What to govern, when used bare.
        options: By keyword:
        name: What policies, events and spans call it; the function's own name by default.
        kind: `tool`, `model` or `handoff`.
        resource: The name of the argument that says what the call acts on.
        cost: The name of the argument that holds the cost in US dollars, or a fixed cost.
        risk: `low`, `medium`, `high` or `critical`.
        labels: Words that rules can match.
        capabilities: What the tool is able to do, such as `payments.write`.
        secrets: Names of arguments that are never stored or shown.

    The governed function raises, besides what it raises itself:
        Refused: the call is denied, steered elsewhere, or a human must say yes first.
        Undecided: the call could not be judged or recorded.
        NotConfigured: there is no session, or its governor has no policy.

    In none of these cases did the tool run.

    Raises:
        Misuse: *function* is a class, has no readable signature, is governed already, or has no argument that an
            option names.
    """
    if function is None:
        return functools.partial(_govern, **options)
    return _govern(function, **options)


class GovernedFunction(wrapt.FunctionWrapper[..., Any]):
    """A governed function. `tool_of` finds its declaration; everything else is the function's."""

    _self_tool: Tool

    def __reduce__(self) -> str:
        """Pickle by name, as functions are."""
        return str(self.__qualname__)

    def __reduce_ex__(self, protocol: SupportsIndex) -> str:
        """Pickle by name, as functions are."""
        return self.__reduce__()

    def __copy__(self) -> GovernedFunction:
        """Return itself, as copying a function does."""
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> GovernedFunction:
        """Return itself, as copying a function does."""
        return self


def tool_of(function: object) -> Tool | None:
    """Return what was declared of *function* with `@governed`; None when it is not governed."""
    seen: set[int] = set()
    while function is not None and id(function) not in seen:
        tool = getattr(function, "_self_tool", None)
        if isinstance(tool, Tool):
            return tool
        seen.add(id(function))
        function = (
            getattr(function, "_self_parent", None)
            or getattr(function, "__wrapped__", None)
            or getattr(function, "__func__", None)
        )
    return None


def _govern(
    function: Any,
    *,
    name: str | None = None,
    kind: CallKind = "tool",
    resource: str | None = None,
    cost: str | Decimal | int | None = None,
    risk: Risk | str = Risk.MEDIUM,
    labels: Iterable[str] = (),
    capabilities: Iterable[str] = (),
    secrets: Iterable[str] = (),
) -> GovernedFunction:
    plain = _unwrapped(function)
    called: str = name or getattr(plain, "__name__", None) or type(plain).__name__
    if inspect.isclass(function) or not (callable(plain) or callable(function)):
        raise Misuse(f"{called} is no function; put @governed on its functions and methods")
    if tool_of(function) is not None:
        raise Misuse(f"{called} is governed already; remove one of the two @governed")
    tool = Tool(
        name=called,
        kind=kind,
        resource=resource,
        cost=cost if cost is None or isinstance(cost, str) else money(cost),
        risk=_risk(risk, called),
        labels=tuple(sorted(labels)),
        capabilities=tuple(sorted(capabilities)),
        secrets=tuple(sorted(secrets)),
    )
    signature = _signature(plain, called)
    _check_names(tool, signature)
    bound_signature: inspect.Signature | None = None
    shape = _shape(plain)

    def wrapper(
        wrapped: Any, _instance: object, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        nonlocal bound_signature
        if was_judged(tool):
            return wrapped(*args, **kwargs)
        while isinstance(wrapped, functools.partial):  # what it holds is judged like the rest
            args, kwargs = (*wrapped.args, *args), {**wrapped.keywords, **kwargs}
            wrapped = wrapped.func
        if wrapped is plain:
            expected = signature
        else:  # a method: the same without its first parameter, whatever the instance
            expected = bound_signature = bound_signature or _signature(wrapped, called)
        try:
            bound = expected.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{called}() {error}") from None
        whole = inspect.BoundArguments(expected, dict(bound.arguments))
        whole.apply_defaults()
        session = session_for(called)
        performer, copied = session.performer(tool, whole.arguments)
        # Defaults are judged, and left to the function: one that keeps state in a default must find it again.
        bound.arguments.update({name: copied[name] for name in bound.arguments if name in copied})
        return shape(performer, Scope(session, performer.call), wrapped, (bound.args, bound.kwargs))

    result = GovernedFunction(function, wrapper)
    result._self_tool = tool  # noqa: SLF001 - what begins so stays on the wrapper
    return result


def _unwrapped(function: Any) -> Any:
    """The function in a class or static method or a partial."""
    while isinstance(function, (classmethod, staticmethod, functools.partial)):
        function = function.func if isinstance(function, functools.partial) else function.__func__
    return function


def _shape(function: Any) -> Callable[..., Any]:
    """How calls of *function* run, settled once: the kind of its own code, or of its class's `__call__`."""
    code = function if inspect.isroutine(function) else type(function).__call__
    for is_kind, shape in (
        (inspect.isasyncgenfunction, _bodies.call_async_generator),
        (inspect.iscoroutinefunction, _bodies.call_coroutine),
        (inspect.isgeneratorfunction, _bodies.call_generator),
    ):
        if is_kind(function) or is_kind(code):
            return shape
    return _bodies.call_function


def _signature(function: Any, name: str) -> inspect.Signature:
    try:
        return inspect.signature(function)
    except (ValueError, TypeError) as error:
        raise Misuse(
            f"{name} has no signature to bind arguments by ({error}); wrap it in a function that has one"
        ) from error


def _check_names(tool: Tool, signature: inspect.Signature) -> None:
    parameters = signature.parameters
    cost = tool.cost if isinstance(tool.cost, str) else None
    for option, named in (
        ("resource", tool.resource),
        ("cost", cost),
        *(("secrets", s) for s in tool.secrets),
    ):
        if named is not None and named not in parameters:
            raise Misuse(
                f"{tool.name}: {option}={named!r} names no argument; it has: {', '.join(parameters) or 'none'}"
            )


def _risk(risk: Risk | str, name: str) -> Risk:
    try:
        return risk if isinstance(risk, Risk) else Risk(risk)
    except ValueError:
        raise Misuse(
            f"{name}: risk={risk!r} is none of {', '.join(r.value for r in Risk)}"
        ) from None
