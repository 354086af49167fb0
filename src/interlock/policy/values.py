"""What every part of a policy is made of: strict models, names, durations."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, ClassVar, Self

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
    WithJsonSchema({"type": "string", "pattern": "^[0-9]{1,9}(ms|[smhd])$"}),
]
Name = Annotated[str, Field(min_length=1, max_length=200)]


class Strict(BaseModel):
    """A part of a policy. It has no unknown key and no empty one: `when:` with nothing after it is not "always"."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    _may_be_null: ClassVar[frozenset[str]] = frozenset()

    @model_validator(mode="after")
    def _is_filled_in(self) -> Self:
        for name, field in type(self).model_fields.items():
            given = name in self.model_fields_set and name not in self._may_be_null
            if given and getattr(self, name) is None:
                raise ValueError(f"{(field.alias or name)!r} is empty; fill it in or leave it out")
        return self
