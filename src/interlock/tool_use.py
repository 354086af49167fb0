"""
The tool calls that a model has asked for, run through the flow: for loops that talk to a provider without a framework.

In flow what a model wrote, in the one form that all providers' answers come down to; out flows what the model is to be
told of each, in the same order. Nothing is decided here: `Session.call` decides.
"""

from __future__ import annotations

import inspect
import json
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from types import FunctionType
from typing import Any, TypeAlias

import anyio
import anyio.to_thread
import msgspec
import pydantic

from interlock._call import Tool
from interlock._governed import GovernedFunction, tool_of
from interlock._schema import schema_digest
from interlock._scope import current_call
from interlock._session import Session
from interlock.errors import EvaluatorFailed, InterlockError, Misuse, Refused

log = logging.getLogger("interlock")


class ToolUse(msgspec.Struct, frozen=True, kw_only=True):
    """
    One call of a tool, as a model wrote it.

    Attributes:
        id: The provider's id of the call, by which the model knows the result.
        name: Which tool.
        arguments: Its arguments, as a JSON text or as the object that was read from it.
    """

    id: str
    name: str
    arguments: str | Mapping[str, Any]


class ToolResult(msgspec.Struct, frozen=True, kw_only=True):
    """
    What the model is to be told of one call.

    Attributes:
        id: The id of the call.
        name: Which tool.
        text: What the model reads.
        is_error: Whether it is a refusal or an error instead of what the tool returned.
        error: The refusal, or what the tool raised; None where it returned. An ApprovalNeeded has the `ticket`.
    """

    id: str
    name: str
    text: str
    is_error: bool = False
    error: Exception | None = None


Tools: TypeAlias = Iterable[Callable[..., Any]] | Mapping[str, Callable[..., Any]]
"""Functions, governed or not, by the names that they have themselves or that a mapping gives them."""

OnError: TypeAlias = Callable[[ToolUse, Exception], str]
"""Says what the model is told of an exception of a tool; what it raises instead goes to the host."""


def told(use: ToolUse, error: Exception) -> str:
    """Return what the model is told of *error* unless the host says otherwise: its class and its text."""
    return f"{use.name} failed: {type(error).__name__}: {error}"


def run_tools(
    session: Session, uses: Iterable[ToolUse], *, tools: Tools, on_error: OnError = told
) -> list[ToolResult]:
    """
    Make the calls *uses* in *session*, one after the other, and return what the model is to be told of each.

    What is denied, steered or waits for a human did not run, and its result says why and what to do instead. A tool
    that nobody offered, and arguments that cannot be read, are results too. Arguments are bound by the annotations of
    the function: a model's number becomes a Decimal where one is wanted.

    Args:
        session: An open session.
        uses: What the model wrote.
        tools: The functions that it may call. What `@governed` declared of one is what the policy knows.
        on_error: Says what the model is told of an exception of a tool.

    Raises:
        Misuse: two tools have one name, or one is async: then it is `arun_tools`.
        Undecided: a call could not be judged or recorded, but for a failed evaluator, which the model is told of.
        NotConfigured: the governor has no policy.
    """
    offered = _offered(tools)
    awaited = [one.name for one in offered.values() if one.is_async]
    if awaited:
        raise Misuse(f"{', '.join(awaited)} must be awaited; use `await arun_tools(…)`")
    return [_run(session, use, offered.get(use.name), on_error) for use in uses]


async def arun_tools(
    session: Session, uses: Iterable[ToolUse], *, tools: Tools, on_error: OnError = told
) -> list[ToolResult]:
    """
    Do as `run_tools` does, at the same time for all *uses*; plain functions run in threads.

    It raises as `run_tools` does, of the first call that raises, once all have ended.
    """
    offered = _offered(tools)
    wanted: Sequence[ToolUse] = list(uses)
    results: dict[int, ToolResult] = {}
    raised: dict[int, Exception] = {}

    async def one(number: int, use: ToolUse) -> None:
        try:
            results[number] = await _arun(session, use, offered.get(use.name), on_error)
        except Exception as error:  # noqa: BLE001 - raised below: the others have begun, and are not cut short
            raised[number] = error

    async with anyio.create_task_group() as group:
        for number, use in enumerate(wanted):
            group.start_soon(one, number, use)
    if raised:
        raise raised[min(raised)]
    return [results[number] for number in range(len(wanted))]


def arguments_in(raw: str | Mapping[str, Any] | None) -> dict[str, Any]:
    """
    Return the arguments that a model wrote as *raw*; an empty text, or None, is no arguments, as providers write it.

    Raises:
        ValueError: it is not one JSON object, repeats a key, or holds a number that is not finite. The sentence
            does not quote it.
    """
    if isinstance(raw, Mapping):
        return dict(raw)
    try:
        found = json.loads(raw, object_pairs_hook=_object) if raw and raw.strip() else {}
        json.dumps(found, allow_nan=False)
    except RecursionError:
        raise ValueError("its arguments are nested too deeply") from None
    except _Repeated:
        raise ValueError("its arguments name something twice") from None
    except ValueError:
        raise ValueError("its arguments are not JSON") from None
    if not isinstance(found, dict):
        raise ValueError("its arguments are not a JSON object")  # noqa: TRY004 - of the text, not of a type
    return found


class _Offered(msgspec.Struct, frozen=True):
    """One tool that the model may call."""

    name: str
    declaration: Tool
    function: Callable[..., Any]
    is_async: bool
    bind: Callable[[Mapping[str, Any]], dict[str, Any]]


def _offered(tools: Tools) -> dict[str, _Offered]:
    listed: Any = tools
    pairs: list[tuple[str | None, Any]] = (
        list(listed.items()) if isinstance(tools, Mapping) else [(None, one) for one in listed]
    )
    found: dict[str, _Offered] = {}
    for given, function in pairs:
        if not callable(function):
            raise Misuse(f"a {type(function).__name__} is no tool; give the function that it runs")
        declared = tool_of(function)
        name = given or (declared.name if declared else getattr(function, "__name__", ""))
        if not name or name in found:
            raise Misuse(f"two tools are called {name!r}, or one has no name; give a mapping")
        signature = inspect.signature(function, eval_str=True)
        is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
            getattr(function, "__call__", None)  # noqa: B004 - of an object that is callable
        )
        declaration = declared or Tool(
            name=name, schema=schema_digest({"signature": str(signature)})
        )
        own: Any = function
        plain = own.__wrapped__ if type(own) is GovernedFunction else own
        # Of nothing but plain functions is it certain that those which are equal are the same.
        bound = _binder_of if type(plain) is FunctionType else _binder_of.__wrapped__
        found[name] = _Offered(name, declaration, function, is_async, bound(name, plain))
    return found


@lru_cache(
    maxsize=128
)  # a loop offers the same tools again and again, and a model takes long to make
def _binder_of(
    name: str, function: Callable[..., Any]
) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    return _binder(name, inspect.signature(function, eval_str=True))


def _binder(
    name: str, signature: inspect.Signature
) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """Return what makes arguments for a function of what a model wrote, defaults included."""
    fields: dict[str, Any] = {}
    extra: Any = "forbid"
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            extra = "allow"
            continue
        if parameter.kind in {parameter.POSITIONAL_ONLY, parameter.VAR_POSITIONAL}:
            raise Misuse(
                f"{name} takes {parameter.name!r} by position, and a model names arguments"
            )
        kind = Any if parameter.annotation is parameter.empty else parameter.annotation
        default = ... if parameter.default is parameter.empty else parameter.default
        fields[parameter.name] = (kind, pydantic.Field(default, alias=parameter.name))
    config = pydantic.ConfigDict(extra=extra, arbitrary_types_allowed=True, protected_namespaces=())
    numbered = {f"field_{number}": pair for number, pair in enumerate(fields.values())}
    model = pydantic.create_model(name, __config__=config, **numbered)
    names = dict(zip(numbered, fields, strict=True))

    def bind(sent: Mapping[str, Any]) -> dict[str, Any]:
        try:
            bound = model.model_validate(sent)
        except pydantic.ValidationError as error:
            wrong = ", ".join(
                f"{'.'.join(map(str, one['loc'])) or name}: {one['msg']}" for one in error.errors()
            )
            raise ValueError(f"its arguments are not what it takes ({wrong})") from None
        values = {own: getattr(bound, field) for field, own in names.items()}
        return {**values, **(bound.model_extra or {})}

    return bind


def _run(session: Session, use: ToolUse, tool: _Offered | None, on_error: OnError) -> ToolResult:
    notes: list[str] = []
    raised: list[BaseException] = []

    def run(judged: dict[str, Any]) -> Any:
        notes.extend(_note())
        try:
            return found.function(**judged)
        except BaseException as error:
            raised.append(error)
            raise

    try:
        found, arguments = _bound(use, tool)
    except ValueError as error:
        return _unreadable(use, error)
    try:
        result = session.call(found.declaration, arguments, run)
    except Exception as error:  # noqa: BLE001 - sorted there
        return _failed(use, error, raised, on_error)
    return _returned(use, result, notes)


async def _arun(
    session: Session, use: ToolUse, tool: _Offered | None, on_error: OnError
) -> ToolResult:
    notes: list[str] = []
    raised: list[BaseException] = []

    async def run(judged: dict[str, Any]) -> Any:
        notes.extend(_note())
        try:
            if found.is_async:
                result = await found.function(**judged)
            else:
                result = await anyio.to_thread.run_sync(lambda: found.function(**judged))
            return await result if isinstance(result, Awaitable) else result
        except BaseException as error:
            raised.append(error)
            raise

    try:
        found, arguments = _bound(use, tool)
    except ValueError as error:
        return _unreadable(use, error)
    try:
        result = await session.acall(found.declaration, arguments, run)
    except Exception as error:  # noqa: BLE001 - sorted there
        return _failed(use, error, raised, on_error)
    return _returned(use, result, notes)


def _bound(use: ToolUse, tool: _Offered | None) -> tuple[_Offered, dict[str, Any]]:
    if tool is None:
        raise ValueError("there is no such tool")
    return tool, tool.bind(arguments_in(use.arguments))


def _note() -> list[str]:
    call = current_call()
    note = None if call is None else call.note
    return [] if note is None else [note]


def _unreadable(use: ToolUse, error: ValueError) -> ToolResult:
    log.info("a model's call of %s was not run: %s", use.name, error)
    return ToolResult(
        id=use.id,
        name=use.name,
        text=f"{use.name} was not run: {error}.",
        is_error=True,
        error=error,
    )


def _failed(
    use: ToolUse, error: Exception, raised: list[BaseException], on_error: OnError
) -> ToolResult:
    """
    Return *error* as what the model is told.

    Raises:
        Exception: *error* itself, where it says that nothing can be judged.
    """
    is_tools_own = bool(raised) and error is raised[0]
    refused = isinstance(error, (Refused, EvaluatorFailed))
    if isinstance(error, InterlockError) and not refused:
        raise error
    text = str(error) if refused or not is_tools_own else on_error(use, error)
    return ToolResult(id=use.id, name=use.name, text=text, is_error=True, error=error)


def _returned(use: ToolUse, result: object, notes: Sequence[str]) -> ToolResult:
    return ToolResult(id=use.id, name=use.name, text="\n\n".join([_text(result), *notes]))


def _text(result: object) -> str:
    if isinstance(result, str):
        return result
    try:
        return pydantic.TypeAdapter(Any).dump_json(result).decode()
    except ValueError:  # what has no JSON, such as an object of the host's
        return str(result)


class _Repeated(ValueError):
    pass


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _Repeated
    return found
