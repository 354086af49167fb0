"""@governed: puts the flow around a function, and leaves everything else about it as it was."""

from __future__ import annotations

import copy
import functools
import inspect
import types
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from typing import Any, SupportsIndex, TypeVar, cast, overload

import wrapt

from interlock import _bodies
from interlock._binder import Parameters
from interlock._call import CallKind, Risk, Tool
from interlock._capture import Capture
from interlock._declared import declared
from interlock._fit import placed
from interlock._recovery import Probe
from interlock._scope import Scope, current_scope, session_for, was_judged
from interlock._usage import Estimate
from interlock.errors import Misuse

_F = TypeVar("_F", bound=Callable[..., Any])

_RECEIVERS = (("self",), ("cls",), ("mcs",))


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
    model: str | None = None,
    provider: str | None = None,
    estimate: Estimate | None = None,
    idempotency_key: str | Iterable[str] = (),
    simulate: Callable[..., Any] | None = None,
    idempotent: bool = False,
    probe: Probe | None = None,
    capture: Capture | str | None = None,
    capture_result: Capture | str | None = None,
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
        options: By keyword, as follows.
        name: What policies, events and spans call it; the function's own name by default.
        kind: `tool`, `model` or `handoff`.
        resource: The name of the argument that says what the call acts on.
        cost: The name of the argument that holds the cost in US dollars, or a fixed cost.
        risk: `low`, `medium`, `high` or `critical`.
        labels: Words that rules can match.
        capabilities: What the tool is able to do, such as `payments.write`.
        secrets: Names of arguments that are never stored or shown; not what `cost` or `model` names, which is recorded.
        model: Of a model call, the name of the argument that says which model; where it has an argument `model`, that.
        provider: Of a model call, whose model, such as `openai`; it helps to find the price.
        estimate: What a call uses at most: a `Usage`, or a function of the arguments by name that returns one.
        idempotency_key: The name of the argument, or the names of those, that tell one effect of the tool from another,
            such as the id of an order. A call with the same ones in the same organisation runs once: made again it
            returns what the first returned, unless that raised. See docs/how-to/call-once.md.
        simulate: What is run instead in a dry run, with the same arguments: a function of the same kind, without
            effects. Without one nothing is run, and None returned.
        idempotent: Whether its effect comes about once, however often the same call is made: where its process dies
            while it runs, recovery lets it be made again.
        probe: A function of an `Interrupted` that says whether a call happened whose process died: True, False, or
            None where it cannot tell. Recovery asks it, where it is given the tool. Without either, a human is asked.
        capture: How much is kept of the arguments: `none`, `digest`, `redacted` or `full`; as the governor says by
            default. A call of which less than `redacted` is kept is denied where a human would have to be asked.
        capture_result: Likewise of what it returns.

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


class BoundGovernedFunction(wrapt.BoundFunctionWrapper[..., Any]):
    """A governed function as it is found on an object or a class."""

    def __init__(self, *args: Any, **named: Any) -> None:
        """Be made by wrapt; or anew of its function and what it is found on, as `weakref.WeakMethod` makes methods."""
        if len(args) == len(("__func__", "__self__")) and not named:
            args = _again(*args)
        super().__init__(*args, **named)

    @property
    def __func__(self) -> Any:
        """What a method has the plain function for: the governed one. That of a class method is plain here, too."""
        plain: Any = self.__wrapped__
        return self._self_parent if self._self_binding == "function" else plain.__func__

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle as methods do: as an attribute of what they are found on."""
        return getattr, (self._found_on(), self.__name__)

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[object, ...]:
        """Pickle as methods do."""
        return self.__reduce__()

    def __copy__(self) -> BoundGovernedFunction:
        """Return itself, as copying a method does but for its identity."""
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        """Return the same method of a copy of its object, as copying a method does."""
        return getattr(copy.deepcopy(self._found_on(), memo), self.__name__)

    def _found_on(self) -> Any:
        bound_to = getattr(self.__wrapped__, "__self__", None)
        return self._self_owner if bound_to is None else bound_to


class GovernedFunction(wrapt.FunctionWrapper[..., Any]):
    """A governed function. `tool_of` finds its declaration; everything else is the function's."""

    __bound_function_wrapper__ = BoundGovernedFunction

    def __init__(self, function: Any, wrapper: Any, tool: Tool, probe: Probe | None = None) -> None:
        super().__init__(function, wrapper)
        self._self_probe = probe
        # Not annotated in the class: `__annotations__` would then be the class's instead of the function's.
        self._self_tool = tool

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
    return next((one for one in _said(function, "_self_tool") if isinstance(one, Tool)), None)


def probe_of(function: object) -> Probe | None:
    """Return who says of an interrupted call of *function* whether it happened; None: nobody."""
    found = (one for one in _said(function, "_self_probe") if one is not None)
    return cast("Probe | None", next(found, None))


def _said(function: object, attribute: str) -> Iterator[object]:
    """Give what *function*, and each that it is made of, has under the name *attribute*."""
    seen: set[int] = set()
    while function is not None and id(function) not in seen:
        yield getattr(function, attribute, None)
        seen.add(id(function))
        function = _next(function)


def _next(function: object) -> object:
    """Return what *function* is made of."""
    return (
        getattr(function, "_self_parent", None)
        or getattr(function, "__wrapped__", None)
        or getattr(function, "__func__", None)
        or _within(function)
    )


def _govern(
    function: Any,
    *,
    name: str | None = None,
    estimate: Estimate | None = None,
    simulate: Any = None,
    probe: Any = None,
    **options: Any,
) -> GovernedFunction:
    plain = _unwrapped(function)
    called: str = name or getattr(plain, "__name__", None) or type(plain).__name__
    if inspect.isclass(function) or not (callable(plain) or callable(function)):
        raise Misuse(f"{called} is no function; put @governed on its functions and methods")
    if tool_of(function) is not None:
        raise Misuse(f"{called} is governed already; remove one of the two @governed")
    reader = _Reader(plain, called)
    parameters = reader.parameters
    taken = parameters.declared[1:] if reader.is_method else parameters.declared
    tool = declared(called, taken, probe=probe, **options)
    shape = _shape(plain)
    if simulate is not None and not (callable(simulate) and _shape(simulate) is shape):
        raise Misuse(
            f"{called}: simulate= is another kind of function than the tool; make both plain functions, coroutine "
            "functions, generators or async generators"
        )
    if tool.idempotency_key and shape in _STREAMS:
        raise Misuse(f"{called}: a stream cannot be given again, so idempotency_key= is not for it")
    names = getattr(plain, "__name__", called), getattr(plain, "__qualname__", called)

    def wrapper(
        wrapped: Any, _instance: object, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        around = current_scope()
        if around is not None and around.judged and was_judged(tool):
            return wrapped(*args, **kwargs)
        expected = parameters
        if wrapped is not plain or reader.is_method:
            wrapped, args, kwargs, expected = reader.found(wrapped, args, kwargs)
        arguments = expected.bound(*args, **kwargs)
        session = session_for(called) if around is None else around.session
        performer, copied = session.performer(tool, arguments, estimate)
        performer.stand_in = simulate
        performer.lay = functools.partial(placed, wrapped)
        scope = Scope(session, performer)
        running = shape(performer, scope, wrapped, expected.placed(copied, args, kwargs))
        if shape is not _bodies.call_function:  # warnings and debuggers then name the tool
            running.__name__, running.__qualname__ = names
        return running

    return GovernedFunction(function, wrapper, tool, probe)


class _Reader:
    """
    How calls of one function are read, whatever it is found on.

    Attributes:
        parameters: Of the function itself.
        is_method: Whether it takes what it is found on first.
    """

    def __init__(self, plain: Any, called: str) -> None:
        self.parameters = Parameters(plain, called)
        self.is_method = _is_method(plain, self.parameters)
        self._plain = plain
        self._called = called
        self._bound: Parameters | None = None

    def found(
        self, wrapped: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Any, tuple[Any, ...], dict[str, Any], Parameters]:
        """Return what is called, with what, and its parameters, given what wrapt found and was given."""
        while isinstance(wrapped, functools.partial):  # what it holds is judged like the rest
            given = functools.partial(_given, *wrapped.args, **wrapped.keywords)
            (args, kwargs), wrapped = given(*args, **kwargs), wrapped.func
        if self.is_method and wrapped is self._plain and args and args[0] is not None:
            # Called by what stands between it and its class, such as another decorator: bind it as the class would.
            wrapped, args = types.MethodType(self._plain, args[0]), args[1:]
        if wrapped is self._plain:
            return wrapped, args, kwargs, self.parameters
        # A method: the same without its first parameter, whatever the instance.
        self._bound = self._bound or Parameters(wrapped, self._called)
        return wrapped, args, kwargs, self._bound


def _again(function: Any, found_on: Any) -> tuple[Any, ...]:
    """What a governed method is made of, given its `__func__` and what it is found on."""
    if isinstance(function, GovernedFunction):
        bound: Any = function.__get__(found_on, type(found_on))
    else:  # a class method's is plain
        bound = getattr(found_on, function.__name__, None)
        if not isinstance(bound, BoundGovernedFunction) or bound.__func__ is not function:
            raise TypeError(f"{function!r} is no governed method of {found_on!r}")
    parts = ("instance", "wrapper", "enabled", "binding", "parent", "owner")
    return bound.__wrapped__, *(getattr(bound, f"_self_{part}") for part in parts)


def _within(function: Any) -> object:
    """What a partial calls, or an object that can be called."""
    if isinstance(function, functools.partial):
        return function.func
    is_object = callable(function) and not (
        inspect.isroutine(function) or inspect.isclass(function)
    )
    return type(function).__call__ if is_object else None


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


def _given(*args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What a partial passes on, whatever the rules of its Python are."""
    return args, kwargs


def _is_method(function: Any, parameters: Parameters) -> bool:
    """Whether *function* was written in the body of a class and takes what it is found on first, by the usual name."""
    place = getattr(function, "__qualname__", "").rpartition(".")[0]
    in_class = bool(place) and not place.endswith("<locals>")
    return in_class and inspect.isfunction(function) and parameters.names[:1] in _RECEIVERS


_STREAMS = (_bodies.call_generator, _bodies.call_async_generator)
