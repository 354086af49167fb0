"""What every part of a policy is made of: strict models, names, durations."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import timedelta
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    WithJsonSchema,
    model_validator,
)

LONGEST = timedelta(days=3650)
"""No duration is longer: added to any date of this millennium, it is still a date."""

_UNITS = {"ms": "milliseconds", "s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def _duration(value: object) -> timedelta:
    found = re.fullmatch(r"([0-9]{1,9})(ms|[smhd])", value) if isinstance(value, str) else None
    if found is not None:
        value = timedelta(**{_UNITS[found[2]]: int(found[1])})
    if not isinstance(value, timedelta):
        raise ValueError("write a number and a unit: 500ms, 90s, 15m, 1h or 7d")  # noqa: TRY004 - pydantic's way
    if not timedelta(0) < value <= LONGEST:
        raise ValueError(
            f"a duration is longer than nothing and no longer than {LONGEST.days} days"
        )
    if value % timedelta(milliseconds=1):
        raise ValueError("a duration is a whole number of milliseconds")
    return value


def _written_duration(value: timedelta) -> str:
    milliseconds = value // timedelta(milliseconds=1)
    return f"{milliseconds}ms" if milliseconds % 1_000 else f"{milliseconds // 1_000}s"


Duration = Annotated[
    timedelta,
    BeforeValidator(_duration),
    PlainSerializer(_written_duration, return_type=str),
    WithJsonSchema({"type": "string", "pattern": "^(?=[0-9]*[1-9])[0-9]{1,9}(ms|[smhd])$"}),
]
Level = Literal["low", "medium", "high", "critical"]
"""A word of the scale of risk."""

Name = Annotated[str, Field(min_length=1, max_length=200)]


def _zone(value: object) -> str:
    try:
        return ZoneInfo(str(value)).key
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("no time zone; write an IANA name such as Europe/Berlin or UTC") from None


Zone = Annotated[str, BeforeValidator(_zone)]
_T = TypeVar("_T")


class _SingleOrList:
    """In the schema: one of the items, or a list of them."""

    @staticmethod
    def __get_pydantic_json_schema__(core: Any, handler: Any) -> dict[str, Any]:
        listed: dict[str, Any] = handler(core)
        return {"anyOf": [listed["items"], listed]}


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


OneOrMore = Annotated[tuple[_T, ...], Field(min_length=1), BeforeValidator(_listed), _SingleOrList]
"""Several, written as a list, or one, written by itself."""


class Misplaced(ValueError):
    """What is wrong with a part of a document, and where in it, by the keys as they are written."""

    def __init__(self, message: str, *keys: str | int) -> None:
        super().__init__(message)
        self.keys = keys


def _but_null(alternatives: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return [one for one in alternatives if one != {"type": "null"}]


class Strict(BaseModel):
    """A part of a policy. It has no unknown key and no empty one: `when:` with nothing after it is not "always"."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    _may_be_null: ClassVar[frozenset[str]] = frozenset()
    _needs_one_of: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def __get_pydantic_json_schema__(cls, core: Any, handler: Any) -> dict[str, Any]:
        """Say what validators say: what is left out is not null, and one of some keys has to be there."""
        found: dict[str, Any] = handler(core)
        schema = handler.resolve_ref_schema(found)
        schema.pop("title", None)
        for name, field in cls.model_fields.items():
            said = schema["properties"][field.alias or name]
            said.pop("title", None)
            if said.get("default", ...) is None:
                del said["default"]
            if name not in cls._may_be_null and (others := _but_null(said.get("anyOf", ()))):
                del said["anyOf"]
                said |= others[0] if len(others) == 1 else {"anyOf": others}
        if cls._needs_one_of:
            schema["anyOf"] = [{"required": [key]} for key in cls._needs_one_of]
        return found

    @model_validator(mode="after")
    def _is_filled_in(self) -> Self:
        for name, field in type(self).model_fields.items():
            given = name in self.model_fields_set and name not in self._may_be_null
            if given and getattr(self, name) is None:
                key = field.alias or name
                raise Misplaced(f"{key!r} is empty; fill it in or leave it out", key)
        return self
