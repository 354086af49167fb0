"""Edit: what an approver puts in the place of a call's arguments, and how the two are told apart."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from interlock import _canonical
from interlock._restored import Unrestorable, restored, unescaped
from interlock._ticket import Ticket

_SECRET = {"$secret": True}


def edited(recorded: str, changes: Mapping[str, object]) -> str | None:
    """
    Return *recorded* arguments as canonical JSON with *changes* made to them; None where they change nothing.

    Raises:
        ValueError: a name is none of the call's, is a secret, or its value cannot be told from its JSON; or all is too
            large. The sentence never holds a value.
    """
    before = by_name(recorded)
    after = dict(before)
    for name, value in changes.items():
        if name not in before:
            raise ValueError(f"there is no argument {name!r}; it has: {', '.join(before)}")
        if before[name] == _SECRET:
            raise ValueError(f"argument {name!r} is a secret, which nobody can change")
        try:
            data = _canonical.tree(value)
            if _canonical.encode(_canonical.tree(restored(data))) != _canonical.encode(data):
                raise Unrestorable("its canonical form stands for something else")
        except ValueError as error:
            raise ValueError(f"argument {name!r} cannot be changed: {error}") from None
        after[name] = data
    if not _differing(before, after):
        return None
    return _canonical.bounded({_escaped(name): data for name, data in after.items()}).decode()


def changed(ticket: Ticket) -> tuple[str, ...]:
    """Return the names of the arguments that an approver has changed."""
    if ticket.edited is None:
        return ()
    return _differing(by_name(ticket.arguments), by_name(ticket.edited))


def changes_of(ticket: Ticket) -> dict[str, Any]:
    """
    Return what an approver has put in the place of which argument.

    Raises:
        ValueError: it cannot be told.
    """
    after = by_name(ticket.edited or ticket.arguments)
    return {name: restored(after[name]) for name in changed(ticket)}


def changes_in(recorded: str, text: str) -> dict[str, Any]:
    """
    Return what *text*, the JSON of all arguments as `recorded` has them, changes of these.

    What is the same stays as the caller gave it, so that secrets and objects may be left as they are shown.

    Raises:
        ValueError: it is not one JSON object, names something twice, leaves something out, adds something, or holds
            what cannot be told from JSON. The sentence never holds a value.
    """
    try:
        given = json.loads(text, object_pairs_hook=_object, parse_constant=_no_number)
    except RecursionError:
        raise ValueError("the arguments are nested too deeply") from None
    except json.JSONDecodeError as error:
        raise ValueError(
            f"the arguments are not JSON: line {error.lineno}, column {error.colno}"
        ) from None
    if not isinstance(given, dict):
        raise ValueError("the arguments are not one JSON object")  # noqa: TRY004 - of the text, not of a type
    before = by_name(recorded)
    after = {unescaped(name): data for name, data in given.items()}
    for what, names in (
        ("is missing", [name for name in before if name not in after]),
        ("is none of the call's", [name for name in after if name not in before]),
    ):
        if names:
            raise ValueError(f"argument {names[0]!r} {what}; it has: {', '.join(before)}")
    found: dict[str, Any] = {}
    for name, data in after.items():
        if not _is_same(data, before[name]):
            try:
                found[name] = restored(data)
            except ValueError as error:
                raise ValueError(f"argument {name!r} cannot be changed: {error}") from None
    return found


def by_name(recorded: str) -> dict[str, Any]:
    """
    Return the canonical JSON of each argument, by name.

    Raises:
        ValueError: the names cannot be written as text.
    """
    data: dict[str, Any] = msgspec.json.decode(recorded)
    if "$map" in data:
        raise ValueError("the names of the arguments cannot be written as text")
    return {unescaped(name): item for name, item in data.items()}


def _differing(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(name for name in before if not _is_same(before[name], after[name]))


def _is_same(one: Any, other: Any) -> bool:
    """Whether two pieces of JSON are the same; to Python 1, 1.0 and True are."""
    return one is other or _written(one) == _written(other)


def _written(data: Any) -> bytes:
    try:
        return msgspec.json.encode(data, order="sorted")
    except (TypeError, ValueError, OverflowError, RecursionError):  # an integer of any length
        return json.dumps(data, sort_keys=True).encode()


def _escaped(name: str) -> str:
    return f"${name}" if name.startswith("$") else name


def _object(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    listed = list(pairs)
    found = dict(listed)
    if len(found) != len(listed):
        raise ValueError("the arguments name something twice")
    return found


def _no_number(_: str) -> float:
    raise ValueError("the arguments hold a number that is not finite")
