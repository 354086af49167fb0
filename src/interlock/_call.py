"""Tool: what is declared once. Call: one attempt to use it, its arguments bound, copied and frozen."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from functools import lru_cache
from typing import Any, Literal

import msgspec
from immutabledict import immutabledict

from interlock import _canonical, _forms, _kinds
from interlock._capture import Capture, Keyed
from interlock._scale import Scale

CallKind = Literal["tool", "model", "handoff"]
"""What a call is of: a tool, a model, or another agent that takes over."""

MAX_MONEY = Decimal(10) ** 18
"""No amount is this large: what is meant as an attack on arithmetic must not reach the books."""


_NOTHING: Mapping[str, Any] = immutabledict()
_NO_LEASES: Mapping[str, int] = immutabledict()


class Risk(Scale):
    """How much harm a call can do: LOW < MEDIUM < HIGH < CRITICAL."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


class Recovery(StrEnum):
    """
    What becomes of a call whose process died before its outcome was recorded.

    HOLD: a human finds out whether it happened. RETRY: it may be made again, as its effect comes about once however
    often it is made. PROBE: its tool is asked.
    """

    HOLD = "hold"
    RETRY = "retry"
    PROBE = "probe"


class Tool(msgspec.Struct, frozen=True, kw_only=True):
    """
    What the host declares of a tool; nothing of it comes from a model.

    Attributes:
        name: What policies, events and spans call it.
        kind: `tool`, `model` or `handoff`.
        resource: The name of the argument that says what the call acts on.
        cost: The name of the argument that holds the cost in US dollars, or a fixed cost.
        risk: MEDIUM unless declared: what is not known to be harmless is not called so.
        labels: Words that rules can match, sorted.
        capabilities: What the tool is able to do, such as `payments.write`, sorted.
        secrets: Names of arguments that are never stored or shown.
        model: Of a model call, the name of the argument that says which model; None: the tool's name is the model's.
        provider: Of a model call, whose model, such as `openai`; None when that is not said.
        schema: The digest of what parameters it takes, of which `schema_digest` makes one; None: not known.
        recovery: What becomes of a call of it whose process died.
        idempotency_key: The names of the arguments that tell one effect of it from another, sorted; none: every call is
            another one.
        capture, capture_result: How much is kept of its arguments, and of its results; None: as its governor says.
    """

    name: str
    kind: CallKind = "tool"
    resource: str | None = None
    cost: str | Decimal | None = None
    risk: Risk = Risk.MEDIUM
    labels: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    model: str | None = None
    provider: str | None = None
    schema: str | None = None
    recovery: Recovery = Recovery.HOLD
    idempotency_key: tuple[str, ...] = ()
    capture: Capture | None = None
    capture_result: Capture | None = None


class Idempotency(msgspec.Struct, frozen=True, kw_only=True):
    """
    What tells that a call was made before.

    Attributes:
        key: SHA-256 over the organisation, the tool and the arguments that are its idempotency key.
        payload: SHA-256 of all arguments, secrets too.
    """

    key: str
    payload: str


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """On whose behalf a session runs. It comes from the host, never from arguments."""

    agent: str
    user: str | None = None
    team: str | None = None
    org: str | None = None


class Edit(msgspec.Struct, frozen=True, kw_only=True):
    """
    That a human has changed the arguments of a call with their yes.

    Attributes:
        by: Who.
        comment: What the last of those said who approved it so.
        changed: The names of the arguments, against the call as it was made.
        tickets: The tickets that were edited, in order; each is used up by the call.
    """

    by: str
    comment: str | None = None
    changed: tuple[str, ...]
    tickets: tuple[str, ...]


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """
    One attempted action, complete before anything judges it and never changed afterwards.

    Attributes:
        id: UUIDv7.
        tool: The declaration.
        session_id: The session it is made in.
        identity: Whose session that is.
        arguments: By name, defaults included, immutable to any depth; the forms are in `_canonical`'s table.
        recorded: The arguments as canonical JSON, secrets replaced by ``{"$secret": true}``, redacted by plugins.
        digest: SHA-256 over agent, arguments (secrets too), org, session, tool and the tool's schema: what a ticket is
            bound to. With a key, that over the arguments is an HMAC.
        resource: What the call acts on, as text; None when the tool declares none, or declares it a secret.
        cost: In US dollars; None when the tool declares no cost.
        model: Which model is asked, for a model call.
        tokens: How many tokens it takes at most; None when it does not say.
        faults: Why the call cannot be judged, a sentence each. A call with a fault is always denied.
        recorded_resource: What is recorded in the place of `resource` where a plugin redacted the arguments.
        leases: By name, the fencing token of each lease that was taken for it, while it runs; see `current_call`.
        leases_lost: Names of those of them that it has lost, as far as that is known here.
        edit: Who has changed its arguments, where a human has.
        idempotency: What tells that it was made before, where its tool says what does.
        ancestors: The ids of the sessions that its session was opened in, the innermost first.
        capture: How much of its arguments is recorded.
        keyed: Whether its digest was made with a key.
    """

    id: str
    tool: Tool
    session_id: str
    identity: Identity
    arguments: Mapping[str, Any]
    recorded: str
    digest: str
    resource: str | None
    cost: Decimal | None
    model: str | None = None
    tokens: int | None = None
    faults: tuple[str, ...] = ()
    recorded_resource: str | None = None
    leases: Mapping[str, int] = _NO_LEASES
    leases_lost: tuple[str, ...] = ()
    edit: Edit | None = None
    idempotency: Idempotency | None = None
    ancestors: tuple[str, ...] = ()
    capture: Capture = Capture.REDACTED
    keyed: bool = False

    @property
    def note(self) -> str | None:
        """What a model is to be told beside the result where a human has changed its call; None where nobody has."""
        if self.edit is None:
            return None
        now: dict[str, Any] = msgspec.json.decode(self.recorded)
        what = msgspec.json.encode({name: now.get(name) for name in self.edit.changed}).decode()
        said = f" ({self.edit.comment})" if self.edit.comment else ""
        return f"Note: {self.edit.by} has changed this call before it ran{said}: {what}"


def describe(
    tool: Tool,
    arguments: Mapping[str, object],
    *,
    call_id: str,
    session_id: str,
    identity: Identity,
    ancestors: tuple[str, ...] = (),
    key: Keyed | None = None,
) -> tuple[Call, dict[str, Any]]:
    """
    Return the call that *arguments* make, and the private copy of them that the tool is to be given.

    Never raises for what the arguments hold: arguments that cannot be copied, digested or priced become
    `Call.faults`, so that the attempt is refused *and* recorded. The copy is then empty.
    """
    faults: tuple[str, ...] = ()
    copied: dict[str, Any] = {}
    seen = _NOTHING
    data: dict[str, _canonical.Tree] = {}
    recorded = b"{}"
    try:
        isolated, view, data = _forms.forms(arguments)
        recorded = _canonical.bounded(data)
        copied, seen = isolated, view
    except _kinds.Unrepresentable as error:
        faults = (f"the arguments cannot be judged: {error}",)
    except Exception as error:  # noqa: BLE001 - whatever a hostile object does when looked at; its text stays out
        faults = (f"the arguments cannot be judged: {type(error).__name__} while reading them",)
    cost: Decimal | None = None
    resource: str | None = None
    try:
        if tool.secrets:
            _check_secrets(tool)
        cost = _cost(tool.cost, seen) if isinstance(tool.cost, str) else tool.cost
        if tool.resource is not None and tool.resource not in tool.secrets:
            resource = _resource(tool.resource, seen)
    except ValueError as error:
        faults += (str(error),)
    before, after = _frame(identity.agent, identity.org, session_id, tool.name, tool.schema)
    digest = _canonical.digest_within(before, recorded, after, key)
    idempotency: Idempotency | None = None
    if tool.idempotency_key and not faults:
        try:
            idempotency = _idempotency(tool, identity, data, recorded, key)
        except ValueError as error:
            faults += (str(error),)
    if tool.secrets and copied:
        recorded = _canonical.encode(_canonical.masked(data, tool.secrets))
    call = Call(
        id=call_id,
        tool=tool,
        session_id=session_id,
        identity=identity,
        arguments=seen,
        recorded=recorded.decode(),
        digest=digest,
        resource=resource,
        cost=cost,
        model=_model(tool, seen) if tool.kind == "model" else None,
        faults=faults,
        idempotency=idempotency,
        ancestors=ancestors,
        keyed=key is not None,
    )
    return call, copied


def is_text(value: object) -> bool:
    """Whether *value* is text that every store can hold: without null characters and lone surrogates."""
    if not isinstance(value, str) or "\0" in value:  # which Postgres cannot hold
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def money(value: object) -> Decimal:
    """
    Return *value* as an exact amount; a float is taken through its text, so 0.1 is one tenth.

    Raises:
        ValueError: not an int, float, Decimal or decimal text; not finite; negative; `MAX_MONEY` or more.
    """
    if type(value) is Decimal and value.is_finite() and 0 <= value < MAX_MONEY:
        return value.copy_abs()  # as below, for what most amounts are
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal, str)):
        raise ValueError(f"not an amount of money: {type(value).__name__}")  # noqa: TRY004
    try:
        amount = Decimal(str(value) if isinstance(value, (float, str)) else value)
    except InvalidOperation:
        raise ValueError("not an amount of money: text that is no number") from None
    if not amount.is_finite():
        raise ValueError("not an amount of money: not finite")
    if amount < 0:
        raise ValueError("not an amount of money: negative")
    if amount >= MAX_MONEY:
        raise ValueError(f"not an amount of money: {MAX_MONEY:,} or more")
    return (
        amount.copy_abs()
    )  # without the sign of a negative zero, and without rounding to a context


def digest_of(
    recorded: str,
    *,
    tool: str,
    schema: str | None,
    session_id: str,
    identity: Identity,
    key: Keyed | None = None,
) -> str:
    """Return `Call.digest` of a call whose arguments are *recorded* as they were: nothing masked, nothing redacted."""
    before, after = _frame(identity.agent, identity.org, session_id, tool, schema)
    return _canonical.digest_within(before, recorded.encode(), after, key)


@lru_cache(maxsize=1024, typed=True)
def _frame(
    agent: str, org: str | None, session_id: str, tool: str, schema: str | None
) -> tuple[bytes, bytes]:
    """
    Return what stands before and after the digest of the arguments in what `Call.digest` is over.

    That is the canonical JSON of an object of six; all else in it is the same for every call of a tool in a session.
    """
    given = {"agent": agent, "org": org, "schema": schema, "session": session_id, "tool": tool}
    trees = {name: _canonical.tree(value) for name, value in given.items()}
    before = _canonical.encode({"agent": trees.pop("agent")})
    return before[:-1] + b',"arguments":"', b'",' + _canonical.encode(trees)[1:]


def _check_secrets(tool: Tool) -> None:
    """Refuse a tool that was declared by hand, past `@governed`, so that a secret of its calls would be recorded."""
    for option, name in (("cost", tool.cost), ("model", tool.model)):
        if name is not None and name in tool.secrets:
            raise ValueError(
                f"argument {name!r} is declared as the {option}, which is recorded, and as a secret"
            )


def _idempotency(
    tool: Tool,
    identity: Identity,
    data: Mapping[str, _canonical.Tree],
    recorded: bytes,
    key: Keyed | None,
) -> Idempotency:
    missing = [name for name in tool.idempotency_key if data.get(name) is None]
    if missing:
        raise ValueError(f"argument {missing[0]!r}, declared as the idempotency key, is missing")
    within = _canonical.encode(
        {
            "key": {name: data[name] for name in tool.idempotency_key},
            "org": _canonical.tree(identity.org),
            "tool": _canonical.tree(tool.name),
        }
    )
    if key is not None:
        within, recorded = key(within).encode(), key(recorded).encode()
    return Idempotency(key=_canonical.digest(within), payload=_canonical.digest(recorded))


def _cost(name: str, arguments: Mapping[str, Any]) -> Decimal:
    try:
        return money(arguments[name])
    except KeyError:
        raise ValueError(f"argument {name!r}, declared as the cost, is missing") from None
    except ValueError as error:
        raise ValueError(f"argument {name!r}, declared as the cost, is {error}") from None


def _model(tool: Tool, arguments: Mapping[str, object]) -> str:
    if tool.model is None:
        return tool.name
    named = None if tool.model in tool.secrets else arguments.get(tool.model)
    # What is no text names no model, and matches none that a policy or a budget allows.
    return named.encode("utf-8", "backslashreplace").decode() if type(named) is str else ""


def _resource(name: str, arguments: Mapping[str, object]) -> str | None:
    value = arguments.get(name)
    if type(value) is str and value.isascii():
        return value
    try:
        # A lone surrogate cannot be stored, so it is written as an escape.
        return None if value is None else str(value).encode("utf-8", "backslashreplace").decode()
    except Exception as error:  # noqa: BLE001 - whatever a foreign __str__ raises
        raise ValueError(
            f"argument {name!r}, declared as the resource, has no text: {type(error).__name__}"
        ) from None
