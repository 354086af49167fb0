"""declared(): what `@governed` is told of a function, checked, as its `Tool`."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

from interlock._call import CallKind, Recovery, Risk, Tool, money
from interlock._capture import Capture, capture_of
from interlock._schema import parameters_digest
from interlock.errors import Misuse


def declared(
    name: str,
    parameters: Sequence[inspect.Parameter],
    *,
    kind: CallKind = "tool",
    resource: str | None = None,
    cost: str | Decimal | int | None = None,
    risk: Risk | str = Risk.MEDIUM,
    labels: Iterable[str] = (),
    capabilities: Iterable[str] = (),
    secrets: Iterable[str] = (),
    model: str | None = None,
    provider: str | None = None,
    idempotency_key: str | Iterable[str] = (),
    idempotent: bool = False,
    probe: object = None,
    capture: Capture | str | None = None,
    capture_result: Capture | str | None = None,
) -> Tool:
    """
    Return the declaration of the tool *name*, which takes *parameters*; the options are those of `governed`.

    Raises:
        Misuse: an option names no parameter, or makes no sense.
    """
    names = [parameter.name for parameter in parameters]
    if kind == "model" and model is None and "model" in names:
        model = "model"
    tool = Tool(
        name=name,
        kind=kind,
        resource=resource,
        cost=_cost(cost, name),
        risk=_risk(risk, name),
        labels=tuple(sorted(labels)),
        capabilities=tuple(sorted(capabilities)),
        secrets=tuple(sorted(secrets)),
        model=model,
        provider=provider,
        schema=parameters_digest(parameters),
        recovery=_recovery(idempotent, probe, name),
        idempotency_key=_listed(idempotency_key),
        capture=None if capture is None else capture_of(capture, "capture"),
        capture_result=None
        if capture_result is None
        else capture_of(capture_result, "capture_result"),
    )
    _check_names(tool, names)
    return tool


def _check_names(tool: Tool, names: Sequence[str]) -> None:
    cost = tool.cost if isinstance(tool.cost, str) else None
    for option, named in (
        ("resource", tool.resource),
        ("cost", cost),
        ("model", tool.model),
        *(("secrets", s) for s in tool.secrets),
        *(("idempotency_key", name) for name in tool.idempotency_key),
    ):
        if named is not None and named not in names:
            raise Misuse(
                f"{tool.name}: {option}={named!r} names no argument; it has: {', '.join(names) or 'none'}"
            )
        if option in {"cost", "model"} and named in tool.secrets:
            raise Misuse(
                f"{tool.name}: argument {named!r} is a secret, and what {option}= names is recorded; "
                "take it out of one of the two"
            )


def _listed(names: str | Iterable[str]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(sorted(names))


def _cost(cost: Any, name: str) -> str | Decimal | None:
    if cost is None or isinstance(cost, str):
        return cost
    try:
        return money(cost)
    except ValueError as error:
        raise Misuse(f"{name}: cost is {error}") from None


def _recovery(idempotent: object, probe: object, name: str) -> Recovery:
    if idempotent and probe is not None:
        raise Misuse(
            f"{name}: say idempotent= or probe=; what may be made again need not be asked about"
        )
    if probe is None:
        return Recovery.RETRY if idempotent else Recovery.HOLD
    if not callable(probe) or inspect.iscoroutinefunction(probe):
        raise Misuse(f"{name}: probe= is no plain function of an Interrupted")
    return Recovery.PROBE


def _risk(risk: Risk | str, name: str) -> Risk:
    try:
        return risk if isinstance(risk, Risk) else Risk(risk)
    except ValueError:
        raise Misuse(
            f"{name}: risk={risk!r} is none of {', '.join(r.value for r in Risk)}"
        ) from None
