"""
Commands: once(), by which an operation that is sent again is not done again.

A queue delivers twice, a client times out and retries: with an id of its own for each command, whatever comes after the
first is answered with what that one returned. Its row is written in the transaction of the operation itself, so that
there is neither an operation without its row nor a row without its operation.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from functools import lru_cache
from typing import Any, Concatenate, ParamSpec, TypeVar

import msgspec
from sqlalchemy import Connection, Row, delete, select, update
from sqlalchemy.exc import SQLAlchemyError

from interlock import _canonical, _forms
from interlock._call import is_text
from interlock.errors import Conflict, Misuse
from interlock.store.statements import Unless, as_stored, now, plain, tables_of
from interlock.store.tables import to_microseconds

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Command(msgspec.Struct, frozen=True):
    """
    What tells that an operation was sent before.

    Attributes:
        id: The sender's own; unique within the tenant and the operation.
        tenant: Whose command it is, as the host has authenticated them: what another tenant sends is another command.
    """

    id: str
    tenant: str | None = None


_MAKE = Unless(lambda tables: tables.commands)


def once(
    connection: Connection,
    command: Command | str,
    operation: Callable[Concatenate[Connection, _P], _T],
    /,
    *args: _P.args,
    **kwargs: _P.kwargs,
) -> _T:
    """
    Do *operation*, unless that was done for the same command before; then return what it returned.

    It goes wherever an operation does: `governor.write(once, "cmd-1", tickets.approve, ticket_id, by="ann")`, `awrite`
    and `join`. Of two at the same time the second waits for the first. An operation that raises has done nothing, and
    may be sent again.

    Args:
        connection: A transaction on the store.
        command: The command, or only its id.
        operation: One whose result is data, such as those of `interlock.store`.
        *args: What it is given.
        **kwargs: Likewise, by name.

    Raises:
        Misuse: the command's id is no text, or the operation's result is nothing that can be kept.
        Conflict: the command was sent before with other arguments; nothing was written.
        Exception: what *operation* raises.
    """
    name, kind = _named(operation)
    given = {"args": list(args), "named": dict(kwargs)}
    result: _T = done(
        connection,
        command,
        name=name,
        kind=kind,
        given=given,
        operation=lambda: operation(connection, *args, **kwargs),
    )
    return result


def done(
    connection: Connection,
    command: Command | str,
    *,
    name: str,
    kind: type[_T],
    given: Mapping[str, object],
    operation: Callable[[], _T],
) -> _T:
    """
    Do as `once` does, for an *operation* that is called *name* and returns a *kind*.

    The command is *given* that, as its sender sees it: not what is found out on the way, such as a price.
    """
    command = Command(command) if isinstance(command, str) else command
    key = _key(command, name)
    payload = _canonical.digest(_canonical.encode(_forms.forms(given)[2]))
    at = to_microseconds(now(connection))
    _MAKE.run(connection, [_row(key, payload, "", at)])
    table, rest = tables_of(connection).commands, plain(connection)
    kept = rest.execute(select(table.c.payload, table.c.result).where(table.c.key == key)).one()
    if kept.payload != payload:
        raise Conflict(f"command {command.id} of {name} was sent before with other arguments")
    if kept.result:
        return msgspec.json.decode(kept.result, type=kind)
    try:
        result = operation()
    except Exception:
        with suppress(SQLAlchemyError):  # a transaction that failed takes the row with it
            rest.execute(delete(table).where(table.c.key == key))
        raise
    written = msgspec.json.encode(result).decode()
    row = _row(key, payload, written, at)
    rest.execute(update(table).where(table.c.key == key).values(result=written, hash=row["hash"]))
    return result


def forget(connection: Connection, *, before: datetime) -> int:
    """Delete the rows of commands that were done before that instant; return how many. They are new if sent again."""
    table = tables_of(connection).commands
    done: int = plain(connection).execute(delete(table).where(table.c.at < before)).rowcount
    return done


def disagreements(connection: Connection) -> list[str]:
    """
    Return a sentence for each row that is not as it was written.

    Nothing follows from a command but what is said to who sends it again, so its row has a hash of its own and is in no
    chain: who can write here can write a row that holds.
    """
    table = tables_of(connection).commands
    return [
        f"command {row.key}: it was changed after it was written: its hash is another"
        for row in connection.execute(as_stored(table).order_by(table.c.key))
        if not _is_sound(row)
    ]


def _is_sound(row: Row[Any]) -> bool:
    with suppress(ArithmeticError, AttributeError, TypeError, ValueError):
        told = _row(row.key, row.payload, row.result, row.at)
        return bool(told["hash"] == row.hash)
    return False


def _row(key: str, payload: str, result: str, at: int) -> dict[str, object]:
    told: Mapping[str, object] = {"at": at, "key": key, "payload": payload, "result": result}
    return {**told, "hash": _canonical.digest(msgspec.json.encode(told, order="sorted"))}


def _key(command: Command, name: str) -> str:
    for what, said in (("id", command.id), ("tenant", command.tenant)):
        if said is not None and not is_text(said):
            raise Misuse(f"the {what} of a command is a text that can be stored")
    if not command.id:
        raise Misuse("a command needs an id: one that its sender makes, and sends again with it")
    return _canonical.digest(msgspec.json.encode([command.tenant, name, command.id]))


@lru_cache(maxsize=256)
def _named(operation: Callable[..., Any]) -> tuple[str, Any]:
    """Return what an operation is called, and the type of what it returns."""
    name = f"{operation.__module__}.{operation.__qualname__}".removeprefix("interlock.store.")
    try:
        kind = typing.get_type_hints(operation)["return"]
        msgspec.json.Decoder(kind)
    except (NameError, KeyError, TypeError):
        raise Misuse(
            f"{name} cannot be done once: it does not say, in its annotation, what data it returns"
        ) from None
    return name, kind
